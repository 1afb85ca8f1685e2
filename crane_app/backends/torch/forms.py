"""What the native library multiplies by, told without PyTorch, which takes seconds to import."""

from __future__ import annotations

import math

from crane_app.contract import DType
from crane_app.host import Scheme
from crane_app.library.weighing import width
from crane_app.media.files.gguf_groups import regrouping

LIBRARY = "crane_app.backends.torch._native"
FORMS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_0", "Q4_K", "Q6_K", "A4_BF16", "A4_F16", "A8_BF16", "A8_F16")
BLOCKS = ("Q8_0", "Q4_0", "Q5_0", "Q4_K", "Q6_K")  # of GGUF
GROUPS = {(4, "bfloat16"): "A4_BF16", (4, "float16"): "A4_F16", (8, "bfloat16"): "A8_BF16", (8, "float16"): "A8_F16"}
GPU_SIZES = (16, 32)  # of the groups that blocks become there
STRIP = 16  # rows that are multiplied together
# Columns and bytes of a tile of a strip: csrc/strips.h, tile_bytes.
TILES = {"Q8_0": (64, 1088), "Q5_0": (64, 704), "Q4_0": (64, 576), "Q4_K": (256, 2368), "Q6_K": (256, 3392)}
TILES |= {"A4_BF16": (64, 576), "A4_F16": (64, 576), "A8_BF16": (64, 1088), "A8_F16": (64, 1088)}


def named(scheme: Scheme) -> bool:
    """Whether one of FORMS is a matrix packed in this way."""
    if scheme.kind == "affine":
        return scheme.size % 64 == 0 and (scheme.bits, scheme.dtype) in GROUPS
    return scheme.kind in BLOCKS


def strips(scheme: Scheme, shape: tuple[int, ...]) -> int:
    """Bytes that the library's own order of such a matrix, or of each of such experts, takes."""
    columns, nbytes = TILES[GROUPS[scheme.bits, scheme.dtype] if scheme.kind == "affine" else scheme.kind]
    *experts, rows, inputs = shape
    return math.prod(experts) * -(-rows // STRIP) * -(-inputs // columns) * nbytes


def on_gpu(scheme: Scheme, shape: tuple[int, ...], dtype: DType) -> int:
    """Bytes on a GPU, where experts are expanded and blocks are groups."""
    if len(shape) > 2:
        return math.prod(shape) * width(dtype)
    return regrouping(scheme, GPU_SIZES).nbytes(shape)

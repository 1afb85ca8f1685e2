"""What the native library multiplies by, told without PyTorch, which takes seconds to import."""

from __future__ import annotations

import math

from crane_app.contract import DType
from crane_app.host import Scheme
from crane_app.library.weighing import width
from crane_app.media.files.gguf_groups import regrouping

LIBRARY = "crane_app.backends.torch._native"
BLOCKS = ("Q8_0", "Q4_0", "Q5_0", "Q4_1", "Q5_1", "IQ4_NL", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS")  # of GGUF
FORMS = ("F32", "F16", "BF16", *BLOCKS, "A4_BF16", "A4_F16", "A8_BF16", "A8_F16")
GROUPS = {(4, "bfloat16"): "A4_BF16", (4, "float16"): "A4_F16", (8, "bfloat16"): "A8_BF16", (8, "float16"): "A8_F16"}
GPU_SIZES = (16, 32)  # of the groups that blocks become there
STRIP = 16  # rows that are multiplied together
# Columns and bytes of a tile of a strip: csrc/strips.h, tile_bytes.
TILES = {"Q8_0": (64, 1088), "Q5_0": (64, 704), "Q4_0": (64, 576), "Q4_1": (64, 640), "Q5_1": (64, 768)}
TILES |= {"IQ4_NL": (64, 576), "Q2_K": (256, 1600), "Q3_K": (256, 1856), "Q4_K": (256, 2368), "Q5_K": (256, 2880)}
TILES |= {"Q6_K": (256, 3392), "IQ4_XS": (256, 2240)}
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

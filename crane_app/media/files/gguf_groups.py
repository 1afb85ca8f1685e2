"""GGUF's block types as affine groups: the same numbers, or the nearest where a backend has no such groups.

Types of one or two scales for 16 or 32 numbers are affine groups to the last bit. Those that look their numbers up in
a table (IQ) are not. Layouts: see gguf_blocks.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from crane_app.host import Blocks, DType, Groups, HostTensor, Scheme
from crane_app.media.files import gguf_blocks as ggml
from crane_app.media.files.groups import grouped, numbers, packed
from crane_app.media.files.packed import cut, joined, rows_of

PIECE = 1 << 20  # numbers converted at once
Parts = tuple[
    np.ndarray, np.ndarray, np.ndarray
]  # q uint8 [N, block]; scales and biases float32 [N, groups of a block]


def _centred(q: np.ndarray, scale: np.ndarray, middle: int) -> Parts:
    """Numbers scale * (q - middle)."""
    return q, scale, scale * np.float32(-middle)


def _q2_k(b: np.ndarray) -> Parts:
    scales = b[:, :16]
    scale, least = ggml.half(b, 80) * (scales & 15).astype(np.float32), ggml.half(b, 82) * (scales >> 4)
    return ggml.split(b[:, 16:80], 2, 32), scale, -least.astype(np.float32)


def _q3_k(b: np.ndarray) -> Parts:
    scales = ggml.split(b[:, 96:104], 4, 8) | ggml.split(b[:, 104:108], 2, 4) << np.uint8(4)
    scale = ggml.half(b, 108) * (scales.astype(np.float32) - 32)
    return _centred(ggml.split(b[:, 32:96], 2, 32) | ggml.split(b[:, :32], 1, 32) << np.uint8(2), scale, 4)


def _q4_k(b: np.ndarray) -> Parts:
    scale, least = ggml.scales_k(b)
    return ggml.split(b[:, 16:], 4, 32), scale[:, :, 0], -least[:, :, 0]


def _q5_k(b: np.ndarray) -> Parts:
    scale, least = ggml.scales_k(b)
    q = ggml.split(b[:, 48:], 4, 32) | ggml.split(b[:, 16:48], 1, 32) << np.uint8(4)
    return q, scale[:, :, 0], -least[:, :, 0]


def _q6_k(b: np.ndarray) -> Parts:
    q = ggml.split(b[:, :128], 4, 64) | ggml.split(b[:, 128:192], 2, 32) << np.uint8(4)
    return _centred(q, ggml.half(b, 208) * b[:, 192:208].view(np.int8).astype(np.float32), 32)


# Type -> bits, numbers of a group, and what is in the blocks.
AFFINE: dict[str, tuple[int, int, Callable[[np.ndarray], Parts]]] = {
    "Q4_0": (4, 32, lambda b: _centred(ggml.split(b[:, 2:], 4, 16), ggml.half(b, 0), 8)),
    "Q4_1": (4, 32, lambda b: (ggml.split(b[:, 4:], 4, 16), ggml.half(b, 0), ggml.half(b, 2))),
    "Q5_0": (5, 32, lambda b: _centred(ggml.fifth(b, 2), ggml.half(b, 0), 16)),
    "Q5_1": (5, 32, lambda b: (ggml.fifth(b, 4), ggml.half(b, 0), ggml.half(b, 2))),
    "Q8_0": (8, 32, lambda b: _centred(b[:, 2:] ^ np.uint8(128), ggml.half(b, 0), 128)),
    "Q2_K": (2, 16, _q2_k),
    "Q3_K": (3, 16, _q3_k),
    "Q4_K": (4, 32, _q4_k),
    "Q5_K": (5, 32, _q5_k),
    "Q6_K": (6, 16, _q6_k),
}
# Bits of the nearest groups of 32, for what is not in AFFINE or has groups of 16: two or more than the type itself has.
NEAREST = {"Q2_K": 5, "Q3_K": 6, "Q6_K": 8, "IQ1_S": 5, "IQ1_M": 5, "IQ2_XXS": 5, "IQ2_XS": 5, "IQ2_S": 5}
NEAREST |= {"IQ3_XXS": 6, "IQ3_S": 6, "IQ4_NL": 8, "IQ4_XS": 8}


def exact(kind: str) -> Scheme | None:
    """The groups that hold a type to the last bit; None where none do."""
    if kind not in AFFINE:
        return None
    bits, size, _ = AFFINE[kind]
    return Scheme("affine", bits, size, "float16" if ggml.form_of(kind).block == 32 else "float32")


def regrouping(scheme: Scheme, sizes: Collection[int], dtype: DType = "float32") -> Scheme:
    """The groups that `regrouped` makes of blocks of this scheme; itself if it is no blocks, or groups already."""
    held = exact(scheme.kind)
    if held is not None and held.size in sizes:
        return held
    return Scheme("affine", NEAREST[scheme.kind], 32, dtype) if scheme.kind in NEAREST else scheme


def regrouped(blocks: Blocks, sizes: Collection[int], dtype: DType = "float32") -> tuple[Groups, float]:
    """The blocks as groups of one of `sizes` and what that changed: the RMS of the changes by that of the numbers.

    Types of AFFINE lose nothing: their scales are float32 where no float16 holds them. Others have scales in `dtype`.
    """
    bits, size, read = AFFINE.get(blocks.kind, (0, 0, None))
    if read is None or size not in sizes:
        return _nearest(blocks, dtype)
    form = ggml.form_of(blocks.kind)
    flat = blocks.data.reshape(-1, form.nbytes)
    q = np.empty((len(flat), form.block // 32 * bits), np.uint32)
    scale, bias = (np.empty((len(flat), form.block // size), np.float32) for _ in range(2))
    step = PIECE // form.block
    with np.errstate(over="ignore", invalid="ignore"):  # damaged scales
        for at in range(0, len(flat), step):
            fields, scale[at : at + step], bias[at : at + step] = read(flat[at : at + step])
            q[at : at + step] = packed(np.ascontiguousarray(fields), bits)
    lead = blocks.shape[:-1]
    held = [_held(each.reshape(*lead, -1), form.block) for each in (scale, bias)]
    if held[0].dtype != held[1].dtype:
        held = [HostTensor(each.array.astype(np.float32), "float32") for each in held]
    return Groups(q.reshape(*lead, -1), held[0], held[1], size, bits), 0.0


def _held(x: np.ndarray, block: int) -> HostTensor:
    """Scales as float16 where that is how the type has them: in blocks of 32."""
    if block == 32:
        with np.errstate(over="ignore"):
            narrow = x.astype(np.float16)
        if np.array_equal(narrow.astype(np.float32), x, equal_nan=True):
            return HostTensor(narrow, "float16")
    return HostTensor(x, "float32")


def _nearest(blocks: Blocks, dtype: DType) -> tuple[Groups, float]:
    """Groups of 32 by rounding each number again, some rows at a time."""
    width, lead = blocks.shape[-1], blocks.shape[:-1]
    flat = blocks.of([blocks.data.reshape(-1, blocks.data.shape[-1])])
    step, parts, lost, whole = max(PIECE // width, 1), [], 0.0, 0.0
    for at in range(0, len(flat.data), step):
        x = rows_of(cut(flat, slice(at, at + step)))
        near = grouped(x, 32, NEAREST[blocks.kind], dtype)
        lost += float(np.square(numbers(near) - x, dtype=np.float64).sum())
        whole += float(np.square(x, dtype=np.float64).sum())
        parts.append(near)
    near = joined(parts)
    return near.of([x.reshape(*lead, -1) for x in near.arrays]), (lost / whole) ** 0.5 if whole else 0.0

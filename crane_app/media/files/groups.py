"""Affine groups in mlx's layout: a number is scale * q + bias, scale and bias shared by a group of a row.

Source: quantize and dequantize of mlx/ops.cpp; tests hold this to mlx.core.quantize and dequantize.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crane_app.host import DType, Groups
from crane_app.media.files.halves import narrowed, widened

BITS = (2, 3, 4, 5, 6, 8)
LEAST = np.float32(1e-7)  # scale of a group whose numbers are all the same


def unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """uint32 [..., W] -> the numbers of `bits` bits in it, uint8 [..., 32 W / bits]."""
    stream = np.ascontiguousarray(packed).view(np.uint8)
    if bits == 8:
        return stream
    if 8 % bits == 0:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        fields = stream[..., None] >> shifts & np.uint8((1 << bits) - 1)
        return fields.reshape(*stream.shape[:-1], -1)
    # Fields that cross bytes: as many of them as are whole bytes (8 of 5 bits, 4 of 6), in one uint64.
    nbytes, count = (3, 4) if bits == 6 else (bits, 8)
    runs = stream.reshape(*stream.shape[:-1], -1, nbytes)
    words = np.zeros(runs.shape[:-1], np.uint64)
    for i in range(nbytes):
        words |= runs[..., i].astype(np.uint64) << np.uint64(8 * i)
    shifts = np.arange(count, dtype=np.uint64) * np.uint64(bits)
    fields = (words[..., None] >> shifts & np.uint64((1 << bits) - 1)).astype(np.uint8)
    return fields.reshape(*stream.shape[:-1], -1)


def packed(q: np.ndarray, bits: int) -> np.ndarray:
    """uint8 [..., I] below 2 ** bits -> uint32 [..., I * bits / 32]; the reverse of `unpacked`."""
    if bits == 8:
        return np.ascontiguousarray(q).view("<u4")
    nbytes, count = (1, 8 // bits) if 8 % bits == 0 else (3, 4) if bits == 6 else (bits, 8)
    runs = q.reshape(*q.shape[:-1], -1, count)
    words = np.zeros(runs.shape[:-1], np.uint64 if nbytes > 1 else np.uint8)
    for i in range(count):
        words |= runs[..., i].astype(words.dtype) << words.dtype.type(bits * i)
    stream = words[..., None].view(np.uint8)[..., :nbytes]
    return np.ascontiguousarray(stream.reshape(*q.shape[:-1], -1)).view("<u4")


def numbers(groups: Groups) -> np.ndarray:
    """What the groups say, float32 of their shape: two roundings a number, no more."""
    q = unpacked(groups.packed, groups.bits)
    parts = q.reshape(*q.shape[:-1], -1, groups.size).astype(np.float32)
    parts *= widened(groups.scales)[..., None]
    parts += widened(groups.biases)[..., None]
    return parts.reshape(groups.shape)


def grouped(x: np.ndarray, size: int, bits: int, dtype: DType) -> Groups:
    """The groups nearest to x, float32 [..., I], their scales and biases in `dtype`; as mlx.core.quantize chooses.

    The end of a group's range that is further from 0 is hit exactly, and so is 0 itself where the range has it.
    """
    parts = x.reshape(*x.shape[:-1], -1, size)
    steps = np.float32((1 << bits) - 1)
    least, most = parts.min(-1), parts.max(-1)
    down = np.abs(least) > np.abs(most)
    scale: Any = np.maximum((most - least) / steps, LEAST)
    scale = np.where(down, scale, -scale)
    edge = np.where(down, least, most)
    zero = np.rint(edge / scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(zero != 0, edge / zero, scale).astype(np.float32)
    bias = np.where(zero != 0, edge, np.float32(0))
    q = parts - bias[..., None]
    q /= scale[..., None]
    np.rint(q, out=q)
    np.clip(q, 0, steps, out=q)
    held = [narrowed(each.astype(np.float32), dtype) for each in (scale, bias)]
    return Groups(packed(q.astype(np.uint8).reshape(x.shape), bits), held[0], held[1], size, bits)

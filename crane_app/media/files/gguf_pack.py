"""Plain numbers into GGUF's blocks: Q4_0, Q5_0, Q8_0, Q6_K.

Formulas: quantize_row_q4_0_ref, q5_0, q8_0 and q6_K with make_qx_quants of ggml-quants.c; the first three to the last
bit, the last with fewer trials of a scale. The result is unpacked by gguf_blocks.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crane_app.host import Blocks, HostTensor, Packed, Scheme
from crane_app.media.files.gguf_blocks import form_of
from crane_app.media.files.halves import widened
from crane_app.media.files.pack import each_piece, pack

TRIALS = (0.0, -0.9, -0.6, -0.3, 0.3, 0.6, 0.9)  # by which the steps of a Q6_K scale differ from 32
LEAST = 1e-15  # no number of a group is larger: ggml's GROUP_MAX_EPS
Rows = np.ndarray


def pack_blocks(host: HostTensor, kind: str) -> Blocks:
    """A matrix [O, I] or experts [X, O, I] in blocks of `kind`; I is whole blocks."""
    form, width = form_of(kind), host.shape[-1]
    rows = host.array.reshape(-1, width)
    out = np.empty((len(rows), width // form.block * form.nbytes), np.uint8)

    def piece(here: slice) -> None:
        x = widened(HostTensor(rows[here], host.dtype)).reshape(-1, form.block)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            out[here] = PACK[kind](np.ascontiguousarray(x)).reshape(-1, out.shape[1])

    each_piece(len(rows), width, piece)
    return Blocks(kind, out.reshape(*host.shape[:-1], -1), host.shape)


def packed(host: HostTensor, scheme: Scheme) -> Packed:
    """A matrix or experts in blocks or in groups, as the scheme says."""
    return pack(host, scheme) if scheme.kind == "affine" else pack_blocks(host, scheme.kind)


def _inverse(d: np.ndarray) -> np.ndarray:
    inverse: np.ndarray = np.where(d == 0, np.float32(0), np.float32(1) / d)
    return inverse


def _nibbles(q: np.ndarray) -> np.ndarray:
    """32 numbers below 16 in 16 bytes: the first half lies in the low bits."""
    packed: np.ndarray = q[:, :16] | q[:, 16:] << np.uint8(4)
    return packed


def _signed(x: Rows, middle: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale float16 [N, 1] and numbers 0 ... 2 middle - 1 of blocks; what is largest becomes 0 exactly."""
    most = np.take_along_axis(x, np.abs(x).argmax(-1, keepdims=True), -1)
    d = most / np.float32(-middle)
    q = np.trunc(x * _inverse(d) + np.float32(middle + 0.5)).astype(np.uint8).clip(0, 2 * middle - 1)
    return d.astype("<f2"), q


def _q4_0(x: Rows) -> np.ndarray:
    d, q = _signed(x, 8)
    return np.concatenate([d.view(np.uint8), _nibbles(q)], -1)


def _q5_0(x: Rows) -> np.ndarray:
    d, q = _signed(x, 16)
    high = np.packbits(q >> np.uint8(4), axis=-1, bitorder="little")
    return np.concatenate([d.view(np.uint8), high, _nibbles(q & np.uint8(15))], -1)


def _q8_0(x: Rows) -> np.ndarray:
    d = np.abs(x).max(-1, keepdims=True) / np.float32(127)
    scaled = x * _inverse(d)
    whole = np.floor(np.abs(scaled))
    q = np.sign(scaled) * (whole + np.floor(2 * (np.abs(scaled) - whole)))  # roundf: halves away from 0
    return np.concatenate([d.astype("<f2").view(np.uint8), q.astype(np.int8).view(np.uint8)], -1)


def _q6_k(x: Rows) -> np.ndarray:
    groups = x.reshape(-1, 16, 16)
    scales = _scales(groups)
    most = np.take_along_axis(scales, np.abs(scales).argmax(-1, keepdims=True), -1)
    inverse = np.where(np.abs(most) < LEAST, np.float32(0), np.float32(-128) / most)
    d = _inverse(inverse).astype("<f2")
    small = np.minimum(np.rint(inverse * scales), 127).astype(np.int8)
    steps = (d.astype(np.float32) * small.astype(np.float32))[..., None]
    q = np.clip(np.rint(groups * _inverse(steps)), -32, 31).astype(np.int8) + np.int8(32)
    q = q.view(np.uint8).reshape(-1, 2, 4, 32)
    low, high = q & np.uint8(15), q >> np.uint8(4)
    ql = np.concatenate([low[:, :, 0] | low[:, :, 2] << np.uint8(4), low[:, :, 1] | low[:, :, 3] << np.uint8(4)], -1)
    qh = high[:, :, 0] | high[:, :, 1] << np.uint8(2) | high[:, :, 2] << np.uint8(4) | high[:, :, 3] << np.uint8(6)
    count = len(x)
    return np.concatenate([ql.reshape(count, 128), qh.reshape(count, 64), small.view(np.uint8), d.view(np.uint8)], -1)


def _scales(groups: np.ndarray) -> np.ndarray:
    """The scale of each group [N, 16] with the least error, where large numbers weigh more."""
    most = np.take_along_axis(groups, np.abs(groups).argmax(-1, keepdims=True), -1)
    weights = groups * groups
    best = scale = np.zeros(groups.shape[:-1], np.float32)
    for trial in TRIALS:
        q = np.clip(np.rint(groups * (np.float32(-(32 + trial)) * _inverse(most))), -32, 31)
        along, square = (weights * groups * q).sum(-1), (weights * q * q).sum(-1)
        better = (square > 0) & (along * along > best * square)
        fit = np.where(square > 0, along * _inverse(square), np.float32(0))
        scale, best = np.where(better, fit, scale), np.where(better, fit * along, best)
    return np.where(np.abs(most[..., 0]) < LEAST, np.float32(0), scale)


PACK: dict[str, Callable[[Rows], np.ndarray]] = {"Q4_0": _q4_0, "Q5_0": _q5_0, "Q8_0": _q8_0, "Q6_K": _q6_k}

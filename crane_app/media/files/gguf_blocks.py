"""The block formats of GGUF's tensors, unpacked to float32: what the bits of each type mean.

Formulas and layouts: ggml-quants.c and ggml-common.h of ggml, whose order of operations is kept, so that every result
is the same to the last bit. Knows nothing of files or names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crane_app.host import TYPES

GRIDS = Path(__file__).parents[2] / "assets" / "gguf" / "grids.npz"
LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
DELTA = np.float32(0.125)
# Seven signs are stored; the eighth makes the number of minus signs even.
SIGNS = np.array([index | (index.bit_count() & 1) << 7 for index in range(128)], np.uint8)

Blocks = npt.NDArray[np.uint8]  # [N, bytes of a block]
Numbers = npt.NDArray[np.float32]  # [N, numbers of a block]
Unpack = Callable[[Blocks], Numbers]


@dataclass(frozen=True)
class Form:
    """One type: `block` numbers in `nbytes` bytes. unpack: None where the numbers lie there as they are, or unread."""

    name: str
    block: int
    nbytes: int
    unpack: Unpack | None = None


def half(blocks: Blocks, at: int) -> Numbers:
    """The float16 at byte `at` of each block, as float32 [N, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _words(blocks: Blocks, start: int, end: int, kind: str) -> np.ndarray:
    """Bytes start:end of each block as little-endian numbers."""
    return np.ascontiguousarray(blocks[:, start:end]).view(kind)


def split(packed: Blocks, bits: int, run: int) -> Blocks:
    """Fields of `bits` in runs of `run` bytes: all lowest fields of a run come first, then all next ones. [N, -1]."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    fields = (packed.reshape(len(packed), -1, 1, run) >> shifts) & np.uint8((1 << bits) - 1)
    return fields.reshape(len(packed), -1)


def _q4_0(b: Blocks) -> Numbers:
    return half(b, 0) * (split(b[:, 2:], 4, 16).astype(np.float32) - np.float32(8))


def _q4_1(b: Blocks) -> Numbers:
    return half(b, 0) * split(b[:, 4:], 4, 16).astype(np.float32) + half(b, 2)


def fifth(b: Blocks, at: int) -> Numbers:
    """32 numbers of 5 bits: the high bits are 4 bytes at `at`, the low halves follow."""
    high = np.unpackbits(b[:, at : at + 4], axis=1, bitorder="little")
    return (split(b[:, at + 4 :], 4, 16) | high << np.uint8(4)).astype(np.float32)


def _q5_0(b: Blocks) -> Numbers:
    return half(b, 0) * (fifth(b, 2) - 16)


def _q5_1(b: Blocks) -> Numbers:
    return half(b, 0) * fifth(b, 4) + half(b, 2)


def _q8_0(b: Blocks) -> Numbers:
    return b[:, 2:].view(np.int8).astype(np.float32) * half(b, 0)


def _q2_k(b: Blocks) -> Numbers:
    scales, numbers = b[:, :16], split(b[:, 16:80], 2, 32).reshape(-1, 16, 16).astype(np.float32)
    scale = (half(b, 80) * (scales & 15).astype(np.float32))[:, :, None]
    least = (half(b, 82) * (scales >> 4).astype(np.float32))[:, :, None]
    return (scale * numbers - least).reshape(len(b), 256)


def _q3_k(b: Blocks) -> Numbers:
    scales = split(b[:, 96:104], 4, 8) | split(b[:, 104:108], 2, 4) << np.uint8(4)
    scale = half(b, 108) * (scales.astype(np.float32) - 32)
    high = split(b[:, :32], 1, 32) ^ 1  # a bit that is set means that nothing is taken off
    numbers = split(b[:, 32:96], 2, 32).astype(np.float32) - (high << np.uint8(2)).astype(np.float32)
    return (scale[:, :, None] * numbers.reshape(-1, 16, 16)).reshape(len(b), 256)


def scales_k(b: Blocks) -> tuple[Numbers, Numbers]:
    """The eight scales and minima of Q4_K and Q5_K, 6 bits each in bytes 4:16, times their float16; [N, 8, 1]."""
    first, second, mixed = b[:, 4:8], b[:, 8:12], b[:, 12:16]
    scales = np.concatenate([first & 63, (mixed & 15) | ((first >> 2) & 48)], axis=1)
    minima = np.concatenate([second & 63, (mixed >> 4) | ((second >> 2) & 48)], axis=1)
    scale, least = half(b, 0) * scales.astype(np.float32), half(b, 2) * minima.astype(np.float32)
    return scale[:, :, None], least[:, :, None]


def _q4_k(b: Blocks) -> Numbers:
    scale, least = scales_k(b)
    return (scale * split(b[:, 16:], 4, 32).reshape(-1, 8, 32).astype(np.float32) - least).reshape(len(b), 256)


def _q5_k(b: Blocks) -> Numbers:
    scale, least = scales_k(b)
    numbers = split(b[:, 48:], 4, 32) | split(b[:, 16:48], 1, 32) << np.uint8(4)
    return (scale * numbers.reshape(-1, 8, 32).astype(np.float32) - least).reshape(len(b), 256)


def _q6_k(b: Blocks) -> Numbers:
    numbers = split(b[:, :128], 4, 64) | split(b[:, 128:192], 2, 32) << np.uint8(4)
    scale = half(b, 208) * b[:, 192:208].view(np.int8).astype(np.float32)
    numbers = (numbers.astype(np.float32) - 32).reshape(-1, 16, 16)
    return (scale[:, :, None] * numbers).reshape(len(b), 256)


@cache
def _grid(name: str) -> Numbers:
    """A table of ggml-common.h as float32 [entries, 4 or 8]."""
    with np.load(GRIDS, allow_pickle=False) as grids:
        table: Numbers = grids[name].astype(np.float32)
    return table


def _signs(bits: Blocks) -> Numbers:
    """Bytes [N, S] -> [N, 8 S] of 1 and -1, the lowest bit first."""
    return np.where(np.unpackbits(bits, axis=1, bitorder="little") == 0, np.float32(1), np.float32(-1))


def _signed(scale: Numbers, grid: Numbers, signs: Numbers) -> Numbers:
    """scale [N, G] for equal parts of the 256 numbers, each of the grid with its sign."""
    count = len(scale)
    parts = scale[:, :, None] * grid.reshape(count, scale.shape[1], -1) * signs.reshape(count, scale.shape[1], -1)
    return parts.reshape(count, 256)


def _packed_signs(words: npt.NDArray[np.uint32]) -> Numbers:
    """Four times seven signs in each uint32 [N, 8], as [N, 256]."""
    index = (words[:, :, None] >> np.array([0, 7, 14, 21], np.uint32)) & np.uint32(127)
    return _signs(SIGNS[index.reshape(len(words), -1)])


def _iq2_xxs(b: Blocks) -> Numbers:
    words = _words(b, 2, 66, "<u4").reshape(len(b), 8, 2)
    scale = half(b, 0) * (np.float32(0.5) + (words[:, :, 1] >> 28).astype(np.float32)) * np.float32(0.25)
    index = np.ascontiguousarray(words[:, :, 0]).view(np.uint8)
    return _signed(scale, _grid("iq2_xxs")[index], _packed_signs(words[:, :, 1]))


def _scales_4(scales: Blocks) -> Numbers:
    """Two scales of four bits in each byte, the lower one first; float32 [N, 2 S]."""
    return split(scales, 4, 1).astype(np.float32)


def _iq2_xs(b: Blocks) -> Numbers:
    words = _words(b, 2, 66, "<u2")
    scale = half(b, 0) * (np.float32(0.5) + _scales_4(b[:, 66:74])) * np.float32(0.25)
    return _signed(scale, _grid("iq2_xs")[words & 511], _signs(SIGNS[words >> 9]))


def _iq2_s(b: Blocks) -> Numbers:
    scale = half(b, 0) * (np.float32(0.5) + _scales_4(b[:, 74:82])) * np.float32(0.25)
    index = b[:, 2:34].astype(np.uint16) | split(b[:, 66:74], 2, 1).astype(np.uint16) << np.uint16(8)
    return _signed(scale, _grid("iq2_s")[index], _signs(b[:, 34:66]))


def _iq3_xxs(b: Blocks) -> Numbers:
    words = _words(b, 66, 98, "<u4")
    scale = half(b, 0) * (np.float32(0.5) + (words >> 28).astype(np.float32)) * np.float32(0.5)
    return _signed(scale, _grid("iq3_xxs")[b[:, 2:66]], _packed_signs(words))


def _iq3_s(b: Blocks) -> Numbers:
    scale = half(b, 0) * (1 + 2 * _scales_4(b[:, 106:110]))
    index = b[:, 2:66].astype(np.uint16) | split(b[:, 66:74], 1, 1).astype(np.uint16) << np.uint16(8)
    return _signed(scale, _grid("iq3_s")[index], _signs(b[:, 74:106]))


def _iq1_s(b: Blocks) -> Numbers:
    high = _words(b, 34, 50, "<u2")
    scale = half(b, 0) * (2 * ((high >> 12) & 7) + 1).astype(np.float32)
    delta: Numbers = np.where((high & 0x8000) == 0, DELTA, -DELTA)
    more = (high[:, :, None] >> np.array([0, 3, 6, 9], np.uint16)) & np.uint16(7)
    index = b[:, 2:34].astype(np.uint16) | more.reshape(len(b), 32) << np.uint16(8)
    grid = _grid("iq1_s")[index].reshape(len(b), 8, 32)
    parts: Numbers = scale[:, :, None] * (grid + delta[:, :, None])
    return parts.reshape(len(b), 256)


def _iq1_m(b: Blocks) -> Numbers:
    words = _words(b, 48, 56, "<u2")
    pieces = (words & 0xF000) >> np.array([12, 8, 4, 0], np.uint16)  # the float16 lies in the four top nibbles
    whole = np.bitwise_or.reduce(pieces, axis=1, keepdims=True).view("<f2").astype(np.float32)
    scales = ((words[:, :, None] >> np.array([0, 3, 6, 9], np.uint16)) & np.uint16(7)).reshape(len(b), 16)
    scale = whole * (2 * scales + 1).astype(np.float32)
    high = split(b[:, 32:48], 4, 1)
    index = b[:, :32].astype(np.uint16) | (high & 7).astype(np.uint16) << np.uint16(8)
    delta = np.where((high & 8) == 0, DELTA, -DELTA)
    grid = _grid("iq1_s")[index] + delta[:, :, None]
    return (scale[:, :, None, None] * grid.reshape(len(b), 16, 2, 8)).reshape(len(b), 256)


def _iq4_nl(b: Blocks) -> Numbers:
    return half(b, 0) * LEVELS[split(b[:, 2:], 4, 16)]


def _iq4_xs(b: Blocks) -> Numbers:
    high = (_words(b, 2, 4, "<u2") >> np.arange(0, 16, 2, dtype=np.uint16)) & np.uint16(3)
    scales = split(b[:, 4:8], 4, 1) | high.astype(np.uint8) << np.uint8(4)
    scale = half(b, 0) * (scales.astype(np.float32) - 32)
    numbers = LEVELS[split(b[:, 8:], 4, 16)].reshape(-1, 8, 32)
    return (scale[:, :, None] * numbers).reshape(len(b), 256)


UNPACK: dict[str, Unpack] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ2_XXS": _iq2_xxs,
    "IQ2_XS": _iq2_xs,
    "IQ3_XXS": _iq3_xxs,
    "IQ1_S": _iq1_s,
    "IQ4_NL": _iq4_nl,
    "IQ3_S": _iq3_s,
    "IQ2_S": _iq2_s,
    "IQ4_XS": _iq4_xs,
    "IQ1_M": _iq1_m,
}
# enum ggml_type -> its form. Those without `unpack` after BF16 are known by size and not read.
FORMS = {number: Form(*sizes, UNPACK.get(sizes[0])) for number, sizes in TYPES.items()}


def form_of(name: str) -> Form:
    """The type of that name."""
    return next(form for form in FORMS.values() if form.name == name)

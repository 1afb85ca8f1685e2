"""A checkpoint's tensors on the host: plain numbers, or packed in fewer bits the way their file packs them.

Nothing here is unpacked: what the bits mean is in media/files (gguf_blocks.py, groups.py). O rows of I numbers each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

DType = Literal["float32", "float16", "bfloat16"]
# How keys and values are kept: in the dtype, or as int8 with a float32 scale for each key and each value, which is
# 127ths of its largest number.
KVCache = Literal["auto", "int8"]
# What --quantize can be -> bits of a number. It is affine groups of GROUP, as mlx-lm makes them, ...
QUANTS = {"q4": 4, "q5": 5, "q6": 6, "q8": 8}
GROUP = 64
# ... or the blocks of GGUF in files of that kind, and where a processor has kernels for these; the next where rows are
# no whole blocks.
KINDS = {"q4": ("Q4_0",), "q5": ("Q5_0",), "q6": ("Q6_K", "Q8_0"), "q8": ("Q8_0",)}
# GGUF's types of tensors: number in a file -> name, numbers of a block and its bytes. Source: ggml's ggml.h and
# ggml-common.h.
# fmt: off
TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
# fmt: on
SIZES = {name: (block, nbytes) for name, block, nbytes in TYPES.values()}


@dataclass(frozen=True)
class HostTensor:
    """A tensor on the host. `bfloat16` is held as its bits in uint16, since numpy has no such type."""

    array: np.ndarray
    dtype: DType

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def nbytes(self) -> int:
        return self.array.nbytes


@dataclass(frozen=True)
class Scheme:
    """How a matrix is packed: ggml's name of a block type, or "affine" with bits, group size and the scales' dtype.

    Two matrices of one scheme and width can be joined.
    """

    kind: str
    bits: int = 0
    size: int = 0
    dtype: DType = "float32"

    def __str__(self) -> str:
        return self.kind if self.kind != "affine" else f"{self.bits} bits in groups of {self.size}"

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a matrix or of experts of this shape, whose rows are whole blocks or groups."""
        numbers = math.prod(shape)
        if self.kind != "affine":
            block, nbytes = SIZES[self.kind]
            return numbers // block * nbytes
        return numbers * self.bits // 8 + numbers // self.size * 2 * (4 if self.dtype == "float32" else 2)


def groups_of(shape: tuple[int, ...], dtype: str, bits: int) -> Scheme | None:
    """How a matrix is packed in `bits` bits: in groups of GROUP, else of 32; None if its rows are no whole groups."""
    size = next((size for size in (GROUP, 32) if len(shape) > 1 and shape[-1] % size == 0), 0)
    return Scheme("affine", bits, size, dtype) if size else None  # type: ignore[arg-type]


@dataclass(frozen=True)
class Blocks:
    """A matrix [O, I], or experts [X, O, I], in blocks of GGUF.

    kind: ggml's name of the type, as in TYPES: "Q4_0", "Q6_K".
    data: uint8 [..., O, bytes of a row]; a row is whole blocks, so rows may be moved, cut and joined.
    """

    kind: str
    data: np.ndarray
    shape: tuple[int, ...]

    @property
    def scheme(self) -> Scheme:
        return Scheme(self.kind)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What it is made of, all with the same axes but the last."""
        return (self.data,)

    def of(self, arrays: Sequence[np.ndarray]) -> Blocks:
        """The same scheme with other `arrays`: some of the rows, or more of them."""
        return Blocks(self.kind, arrays[0], (*arrays[0].shape[:-1], self.shape[-1]))

    @property
    def nbytes(self) -> int:
        return self.data.nbytes


@dataclass(frozen=True)
class Stretch:
    """Where the rows of tensor `name` begin in a file, which must still have its stamp: inode, size, time of change."""

    name: str
    file: Path
    stamp: tuple[int, int, int]
    start: int


class Lying(Blocks):
    """Blocks of a matrix that still lie in their file: read whenever they are asked for, and not kept.

    heads: the rows of each head lie in pairs (0, half), (1, half + 1) ...; 0: they lie in their order. read: all rows
    in their order, uint8 [rows, bytes of a row].
    """

    places: tuple[Stretch, ...]
    heads: int
    read: Callable[[], np.ndarray]

    def __init__(
        self, kind: str, shape: tuple[int, ...], place: Stretch, read: Callable[[], np.ndarray], heads: int = 0
    ) -> None:
        vars(self).update(kind=kind, shape=shape, places=(place,), read=read, heads=heads)

    @property
    def data(self) -> np.ndarray:
        return self.read()

    @property
    def nbytes(self) -> int:
        return self.scheme.nbytes(self.shape)


@dataclass(frozen=True)
class Groups:
    """A matrix [O, I], or experts [X, O, I], in affine groups, the way mlx lays them out.

    Number i of a row is scales[i // size] * q + biases[i // size] with q of `bits` bits (2, 3, 4, 5, 6 or 8).
    packed: uint32 [..., O, I * bits / 32], a row's q as one little-endian stream of bits, the lowest first.
    scales, biases: [..., O, I / size]. Source: mlx.core.quantize.
    """

    packed: np.ndarray
    scales: HostTensor
    biases: HostTensor
    size: int
    bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.packed.shape[:-1], self.scales.shape[-1] * self.size)

    @property
    def scheme(self) -> Scheme:
        return Scheme("affine", self.bits, self.size, self.scales.dtype)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What it is made of, all with the same axes but the last."""
        return self.packed, self.scales.array, self.biases.array

    def of(self, arrays: Sequence[np.ndarray]) -> Groups:
        """The same scheme with other `arrays`: some of the rows, or more of them."""
        packed, scales, biases = arrays
        dtype = self.scheme.dtype
        return Groups(packed, HostTensor(scales, dtype), HostTensor(biases, dtype), self.size, self.bits)

    @property
    def nbytes(self) -> int:
        return self.packed.nbytes + self.scales.nbytes + self.biases.nbytes


class LyingGroups(Groups):
    """Groups of a matrix that still lie in files: read whenever they are asked for, and not kept.

    places, read: of its arrays in their order, and array number i.
    """

    places: tuple[Stretch, ...]
    read: Callable[[int], np.ndarray]

    def __init__(
        self, scheme: Scheme, shape: tuple[int, ...], places: Sequence[Stretch], read: Callable[[int], np.ndarray]
    ) -> None:
        vars(self).update(_scheme=scheme, _shape=shape, places=tuple(places), read=read)
        vars(self).update(size=scheme.size, bits=scheme.bits)

    @property
    def packed(self) -> np.ndarray:
        return self.read(0)

    @property
    def scales(self) -> HostTensor:
        return HostTensor(self.read(1), self.scheme.dtype)

    @property
    def biases(self) -> HostTensor:
        return HostTensor(self.read(2), self.scheme.dtype)

    @property
    def scheme(self) -> Scheme:
        return cast(Scheme, vars(self)["_scheme"])

    @property
    def shape(self) -> tuple[int, ...]:
        return cast("tuple[int, ...]", vars(self)["_shape"])

    @property
    def nbytes(self) -> int:
        return self.scheme.nbytes(self.shape)


Packed = Blocks | Groups
Host = HostTensor | Blocks | Groups

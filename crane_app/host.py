"""A checkpoint's tensors on the host: plain numbers, or packed in fewer bits the way their file packs them.

Nothing here is unpacked: what the bits mean is in media/files (gguf_blocks.py, groups.py). O rows of I numbers each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True)
class Blocks:
    """A matrix [O, I], or experts [X, O, I], in blocks of GGUF.

    kind: ggml's name of the type, as in FORMS of media/files/gguf_blocks.py: "Q4_0", "Q6_K".
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

    def pieces(self, rows: int) -> Iterator[np.ndarray]:
        """The data of a matrix, so many rows after the others."""
        return (self.data[at : at + rows] for at in range(0, self.shape[0], rows))

    @property
    def nbytes(self) -> int:
        return self.data.nbytes


class Lying(Blocks):
    """Blocks of a matrix that still lie in their file: read whenever they are asked for, and not kept.

    read: first row, rows -> uint8 [rows, bytes of a row]. nbytes: of all.
    """

    nbytes: int = 0
    read: Callable[[int, int], np.ndarray]

    def __init__(self, kind: str, shape: tuple[int, ...], nbytes: int, read: Callable[[int, int], np.ndarray]) -> None:
        vars(self).update(kind=kind, shape=shape, nbytes=nbytes, read=read)

    @property
    def data(self) -> np.ndarray:
        return self.read(0, self.shape[0])

    def pieces(self, rows: int) -> Iterator[np.ndarray]:
        return (self.read(at, min(rows, self.shape[0] - at)) for at in range(0, self.shape[0], rows))


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
        dtype = self.scales.dtype
        return Groups(packed, HostTensor(scales, dtype), HostTensor(biases, dtype), self.size, self.bits)

    @property
    def nbytes(self) -> int:
        return self.packed.nbytes + self.scales.nbytes + self.biases.nbytes


Packed = Blocks | Groups
Host = HostTensor | Blocks | Groups

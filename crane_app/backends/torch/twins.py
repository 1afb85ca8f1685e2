"""Packed matrices in plain numpy and torch: slow, and what is right for every native kernel.

A product expands some rows at a time in float32, rounds them to the backend's dtype and multiplies; so it is the
product of the expanded matrix, without ever holding it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from crane_app.backends.torch import plain
from crane_app.host import Groups, HostTensor, Packed
from crane_app.media.files.packed import cut, rows_of

PIECE = 1 << 22  # numbers expanded at once


class HostTwin:
    """A packed matrix as it came, in the host's memory. See leaf.Matrix."""

    def __init__(self, packed: Packed, dtype: torch.dtype):
        self.packed, self.dtype = packed.of(packed.arrays), dtype
        self.shape, self.nbytes = packed.shape, packed.nbytes

    def times(self, x: torch.Tensor) -> torch.Tensor:
        return _times(x, self.shape, self._dense)

    def rows(self, index: torch.Tensor) -> torch.Tensor:
        return self._dense(index.numpy())

    def _dense(self, rows: slice | np.ndarray) -> torch.Tensor:
        return torch.from_numpy(rows_of(cut(self.packed, rows))).to(self.dtype)


class GroupTwin:
    """Affine groups in torch's own words, for any device. See leaf.Matrix."""

    def __init__(self, groups: Groups, dtype: torch.dtype, device: torch.device):
        self.shape, self.dtype = groups.shape, dtype
        self.size, self.bits = groups.size, groups.bits
        self.stream = torch.from_numpy(np.ascontiguousarray(groups.packed).view(np.uint8)).to(device)
        self.scales, self.biases = (_floats(each).to(device) for each in (groups.scales, groups.biases))
        self.nbytes = sum(x.nbytes for x in (self.stream, self.scales, self.biases))

    def times(self, x: torch.Tensor) -> torch.Tensor:
        return _times(x, self.shape, self.rows)

    def rows(self, index: slice | torch.Tensor) -> torch.Tensor:
        q = _fields(self.stream[index], self.bits)
        groups = q.view(len(q), -1, self.size).float()
        scales, biases = (each[index].float()[..., None] for each in (self.scales, self.biases))
        return groups.mul_(scales).add_(biases).view(len(q), -1).to(self.dtype)


def _times(x: torch.Tensor, shape: tuple[int, ...], dense: Callable[[slice], torch.Tensor]) -> torch.Tensor:
    """x [N, I] times the matrix [O, I] transposed, some rows of it at a time."""
    outputs, inputs = shape
    step = max(PIECE // inputs, 1)
    parts = [plain.linear(x, dense(slice(at, at + step))) for at in range(0, outputs, step)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _floats(host: HostTensor) -> torch.Tensor:
    array = np.ascontiguousarray(host.array)
    if host.dtype == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _fields(stream: torch.Tensor, bits: int) -> torch.Tensor:
    """uint8 [R, bytes] -> the numbers of `bits` bits in it, the lowest bits first; [R, I]."""
    if bits == 8:
        return stream
    if 8 % bits == 0:
        return torch.stack([stream >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)], -1).flatten(1)
    nbytes, count = (3, 4) if bits == 6 else (bits, 8)
    runs = stream.view(len(stream), -1, nbytes).long()
    words = sum(runs[..., i] << 8 * i for i in range(nbytes))
    return torch.stack([words >> bits * i & (1 << bits) - 1 for i in range(count)], -1).flatten(1)

"""Keys and values on PyTorch: each row owns its tensors [G, capacity, D], grown in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from crane_app.backends.rows import Rows, blocks
from crane_app.contract import BLOCK, Layout
from crane_app.errors import NotEnoughMemory

BITS = {2: torch.int16, 4: torch.int32}  # how values of so many bytes travel through numpy, which has no bfloat16


@dataclass
class Row:
    """One row: keys[layer], values[layer]; None for a memory that is not filled yet.

    pointers: where they begin, int64 [2, layers]; None until it is asked for.
    """

    capacity: int
    keys: list[torch.Tensor | None] = field(default_factory=list)
    values: list[torch.Tensor | None] = field(default_factory=list)
    pointers: np.ndarray | None = None


class Cache(Rows):
    """See contract.Cache. Windows keep all their keys."""

    def __init__(self, layout: Layout, dtype: torch.dtype, device: torch.device, budget: int):
        super().__init__(layout, dtype.itemsize, budget)
        self.dtype, self.device = dtype, device
        self.rows: dict[int, Row] = {}

    def room(self, row: int) -> int:
        self.length(row)
        return self.rows[row].capacity

    def nbytes(self) -> int:
        rows = sum(t.nbytes for row in self.rows.values() for t in (*row.keys, *row.values) if t is not None)
        return rows + self._kept_nbytes()

    def addresses(self, row: int) -> np.ndarray:
        """int64 [layers, 2]: where the row's keys and values begin; they move when it grows."""
        held = self.rows[row]
        return np.array([(k.data_ptr(), v.data_ptr()) for k, v in zip(held.keys, held.values, strict=True)])

    def pointers(self, row: int) -> np.ndarray:
        """Where the row's keys and values of each layer begin in memory, int64 [2, layers]; 0 where there are none."""
        held = self.rows[row]
        if held.pointers is None:
            kept = [[0 if t is None else t.data_ptr() for t in tensors] for tensors in (held.keys, held.values)]
            held.pointers = np.array(kept, np.int64)
        return held.pointers

    def memorise(self, row: int, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Fill a memory slot with keys and values [G, C, D]; raises NotEnoughMemory."""
        self._afford(keys.nbytes + values.nbytes)
        held = self.rows[row]
        held.keys[layer], held.values[layer], held.pointers = keys.contiguous(), values.contiguous(), None

    def _allocate(self, row: int, length: int) -> None:
        capacity = blocks(length)
        self._afford(capacity * self.position_nbytes())
        fresh = Row(capacity)
        for kept in (fresh.keys, fresh.values):
            kept.extend(None if s.kind == "memory" else self._zeros(s.heads, capacity, s.dim) for s in self.layout)
        self.rows[row] = fresh

    def _grow(self, row: int, length: int) -> None:
        held, capacity, kept = self.rows[row], blocks(length), self._lengths[row]
        self._afford((capacity - held.capacity) * self.position_nbytes())
        for tensors in (held.keys, held.values):
            for layer, slot in enumerate(self.layout):
                if slot.kind != "memory":
                    wider = self._zeros(slot.heads, capacity, slot.dim)
                    wider[:, :kept] = tensors[layer][:, :kept]
                    tensors[layer] = wider
        held.capacity, held.pointers = capacity, None

    def _free(self, row: int) -> None:
        del self.rows[row]

    def _copy(self, row: int, start: int) -> list[torch.Tensor]:
        """Of each layer [2, G, BLOCK, D]."""
        held, cut = self.rows[row], slice(start, start + BLOCK)
        try:
            return [torch.stack([k[:, cut], v[:, cut]]) for k, v in zip(held.keys, held.values, strict=True)]
        except RuntimeError as error:
            raise NotEnoughMemory("No memory is left to keep a part of this conversation.") from error

    def _write(self, row: int, start: int, blocks: list[list[torch.Tensor]]) -> None:
        held = self.rows[row]
        for i, block in enumerate(blocks):
            cut = slice(start + i * BLOCK, start + (i + 1) * BLOCK)
            for k, v, both in zip(held.keys, held.values, block, strict=True):
                k[:, cut], v[:, cut] = both[0], both[1]

    def _bits(self, block: list[torch.Tensor]) -> tuple[np.ndarray, ...]:
        return tuple(both.view(BITS[both.itemsize]).cpu().numpy() for both in block)

    def _from_bits(self, layers: Sequence[np.ndarray]) -> list[torch.Tensor]:
        try:
            return [torch.from_numpy(bits).to(self.device).view(self.dtype) for bits in layers]
        except RuntimeError as error:
            raise NotEnoughMemory("No memory is left for what is kept of this conversation.") from error

    def _double(self, source: int, row: int, length: int) -> None:
        one, other = self.rows[source], self.rows[row]
        for k, v, into_k, into_v in zip(one.keys, one.values, other.keys, other.values, strict=True):
            into_k[:, :length], into_v[:, :length] = k[:, :length], v[:, :length]

    def _read(self, row: int, length: int) -> tuple[np.ndarray, ...]:
        held = self.rows[row]
        layers = (torch.stack([k[:, :length], v[:, :length]]) for k, v in zip(held.keys, held.values, strict=True))
        return tuple(both.view(BITS[both.itemsize]).cpu().numpy() for both in layers)

    def _restore(self, row: int, layers: tuple[np.ndarray, ...]) -> None:
        held = self.rows[row]
        for k, v, bits in zip(held.keys, held.values, layers, strict=True):
            both = torch.from_numpy(bits).to(self.device).view(self.dtype)
            k[:, : both.shape[2]], v[:, : both.shape[2]] = both[0], both[1]

    def _zeros(self, heads: int, capacity: int, dim: int) -> torch.Tensor:
        try:
            return torch.zeros(heads, capacity, dim, dtype=self.dtype, device=self.device)
        except RuntimeError as error:  # torch.OutOfMemoryError on CUDA, a plain RuntimeError on CPU
            raise NotEnoughMemory(f"No memory is left for {capacity} positions of this conversation.") from error

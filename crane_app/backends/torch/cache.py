"""Keys and values on PyTorch: each row owns its tensors [G, capacity, D], grown in blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from crane_app.backends.rows import Rows, blocks
from crane_app.backends.torch.pages import Pages
from crane_app.contract import BLOCK, Layout, Slot
from crane_app.errors import DeviceLost, NotEnoughMemory

BITS = {
    1: torch.int8,
    2: torch.int16,
    4: torch.int32,
}  # how values of so many bytes travel through numpy, which has no bfloat16


@dataclass
class Row:
    """One row: keys[layer], values[layer]; None for a memory that is not filled yet.

    key_scales, value_scales: float32 [G, capacity] of each layer where the cache has any, else empty.
    pointers: where keys and values begin, int64 [2, layers]; None until it is asked for.
    """

    capacity: int
    keys: list[torch.Tensor | None] = field(default_factory=list)
    values: list[torch.Tensor | None] = field(default_factory=list)
    key_scales: list[torch.Tensor | None] = field(default_factory=list)
    value_scales: list[torch.Tensor | None] = field(default_factory=list)
    pointers: np.ndarray | None = None

    def lists(self) -> tuple[list[torch.Tensor | None], ...]:
        return self.keys, self.values, self.key_scales, self.value_scales

    def pairs(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of each layer, then their scales; of a row without memories."""
        yield from zip(self.keys, self.values, strict=True)  # type: ignore[misc]
        yield from zip(self.key_scales, self.value_scales, strict=True)  # type: ignore[misc]


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
        rows = sum(t.nbytes for row in self.rows.values() for kept in row.lists() for t in kept if t is not None)
        return rows + self._kept_nbytes()

    def write(self, row: int, layer: int, start: int, k: torch.Tensor, v: torch.Tensor) -> None:
        """Put k, v [G, L, D] where the row's positions from `start` on are."""
        held, cut = self.rows[row], slice(start, start + k.shape[1])
        held.keys[layer][:, cut], held.values[layer][:, cut] = k, v

    def read(self, row: int, layer: int, first: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [G, S, D] of positions first..end in the backend's dtype."""
        held = self.rows[row]
        return held.keys[layer][:, first:end], held.values[layer][:, first:end]

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
        self.rows[row] = self._fresh(capacity)

    def _fresh(self, capacity: int) -> Row:
        """A row with its arrays, all zero."""
        row, pages = Row(capacity), self._pages(capacity)
        for kept in (row.keys, row.values):
            kept.extend(None if s.kind == "memory" else self._zeros(pages, capacity, s) for s in self.layout)
        return row

    def _grow(self, row: int, length: int) -> None:
        held, capacity, kept = self.rows[row], blocks(length), self._lengths[row]
        self._afford((capacity - held.capacity) * self.position_nbytes())
        layers = [layer for layer, slot in enumerate(self.layout) if slot.kind != "memory"]
        held.pointers, pages = None, self._pages(capacity)
        try:
            for layer in layers:
                self._widen(held, layer, capacity, kept, pages)
        except NotEnoughMemory as error:
            self._narrow(held, layers, kept, error)
            raise
        held.capacity = capacity

    def _narrow(self, held: Row, layers: list[int], kept: int, error: NotEnoughMemory) -> None:
        """The layers of a row that could not be widened as they were. DeviceLost if there is not even room for that."""
        pages = self._pages(held.capacity)
        try:
            for layer in layers:
                if any(tensors[layer].shape[1] != held.capacity for tensors in (held.keys, held.values)):
                    self._widen(held, layer, held.capacity, kept, pages)
        except NotEnoughMemory:
            raise DeviceLost(f"{error} It cannot go on; send it once more.") from error

    def _widen(self, held: Row, layer: int, capacity: int, kept: int, pages: Pages | None) -> None:
        """Give a layer room for more positions; the first `kept` stay."""
        slot = self.layout[layer]
        for tensors in (held.keys, held.values):
            wider = self._zeros(pages, capacity, slot)
            wider[:, :kept] = tensors[layer][:, :kept]
            tensors[layer] = wider

    def _free(self, row: int) -> None:
        del self.rows[row]

    def _copy(self, row: int, start: int) -> list[torch.Tensor]:
        """Of each layer [2, G, BLOCK, D], then of its scales [2, G, BLOCK]."""
        held, cut = self.rows[row], slice(start, start + BLOCK)
        try:
            return [torch.stack([k[:, cut], v[:, cut]]) for k, v in held.pairs()]
        except RuntimeError as error:
            raise NotEnoughMemory("No memory is left to keep a part of this conversation.") from error

    def _write(self, row: int, start: int, blocks: list[list[torch.Tensor]]) -> None:
        held = self.rows[row]
        for i, block in enumerate(blocks):
            cut = slice(start + i * BLOCK, start + (i + 1) * BLOCK)
            for (k, v), both in zip(held.pairs(), block, strict=True):
                k[:, cut], v[:, cut] = both[0], both[1]

    def _bits(self, block: list[torch.Tensor]) -> tuple[np.ndarray, ...]:
        return tuple(both.view(BITS[both.itemsize]).cpu().numpy() for both in block)

    def _from_bits(self, layers: Sequence[np.ndarray]) -> list[torch.Tensor]:
        numbers = torch.int8 if self._scale else self.dtype
        try:
            return [
                torch.from_numpy(bits).to(self.device).view(numbers if bits.ndim == 4 else torch.float32)
                for bits in layers
            ]
        except RuntimeError as error:
            raise NotEnoughMemory("No memory is left for what is kept of this conversation.") from error

    def _double(self, source: int, row: int, length: int) -> None:
        one, other = self.rows[source], self.rows[row]
        for (k, v), (into_k, into_v) in zip(one.pairs(), other.pairs(), strict=True):
            into_k[:, :length], into_v[:, :length] = k[:, :length], v[:, :length]

    def _read(self, row: int, length: int) -> tuple[np.ndarray, ...]:
        layers = (torch.stack([k[:, :length], v[:, :length]]) for k, v in self.rows[row].pairs())
        return tuple(both.view(BITS[both.itemsize]).cpu().numpy() for both in layers)

    def _restore(self, row: int, layers: tuple[np.ndarray, ...]) -> None:
        for (k, v), bits in zip(self.rows[row].pairs(), layers, strict=True):
            both = torch.from_numpy(bits).to(self.device).view(k.dtype)
            k[:, : both.shape[2]], v[:, : both.shape[2]] = both[0], both[1]

    def _pages(self, capacity: int) -> Pages | None:
        """What a row of so many positions lies in, apart from all others: it is given back with the row."""
        return Pages(capacity * self.position_nbytes()) if self.device.type == "cpu" else None

    def _zeros(self, pages: Pages | None, capacity: int, slot: Slot) -> torch.Tensor:
        shape = slot.heads, capacity, slot.dim
        return self._memory(pages, capacity, math.prod(shape) * self.dtype.itemsize).view(self.dtype).view(shape)

    def _memory(self, pages: Pages | None, positions: int, nbytes: int) -> torch.Tensor:
        """int8 [nbytes], all zero."""
        try:
            if pages is not None:
                return torch.from_numpy(pages.take(nbytes).view(np.int8))
            return torch.zeros(nbytes, dtype=torch.int8, device=self.device)
        except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError on CUDA is a RuntimeError
            raise NotEnoughMemory(f"No memory is left for {positions} positions of this conversation.") from error


class Int8Cache(Cache):
    """Keys and values as int8 with a float32 scale each, as host.KVCache has it; memories stay in the dtype.

    The scales lie behind the numbers of all heads, where csrc/crane.h looks for them.
    """

    _scale = 4

    def __init__(self, layout: Layout, dtype: torch.dtype, device: torch.device, budget: int):
        super().__init__(layout, dtype, device, budget)
        self._itemsize = 1

    def write(self, row: int, layer: int, start: int, k: torch.Tensor, v: torch.Tensor) -> None:
        held, cut = self.rows[row], slice(start, start + k.shape[1])
        held.keys[layer][:, cut], held.key_scales[layer][:, cut] = quantised(k)
        held.values[layer][:, cut], held.value_scales[layer][:, cut] = quantised(v)

    def read(self, row: int, layer: int, first: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        held = self.rows[row]
        keys = held.keys[layer][:, first:end] * held.key_scales[layer][:, first:end, None]
        values = held.values[layer][:, first:end] * held.value_scales[layer][:, first:end, None]
        return keys.to(self.dtype), values.to(self.dtype)

    def _fresh(self, capacity: int) -> Row:
        row, pages = Row(capacity), self._pages(capacity)
        for slot in self.layout:
            for kept, scales in ((row.keys, row.key_scales), (row.values, row.value_scales)):
                found = (None, None) if slot.kind == "memory" else self._both(pages, capacity, slot)
                kept.append(found[0])
                scales.append(found[1])
        return row

    def _widen(self, held: Row, layer: int, capacity: int, kept: int, pages: Pages | None) -> None:
        slot = self.layout[layer]
        for lists in ((held.keys, held.key_scales), (held.values, held.value_scales)):
            for tensors, wider in zip(lists, self._both(pages, capacity, slot), strict=True):
                wider[:, :kept] = tensors[layer][:, :kept]
                tensors[layer] = wider

    def _both(self, pages: Pages | None, capacity: int, slot: Slot) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers [G, capacity, D] and scales [G, capacity] in one piece of memory."""
        count = slot.heads * capacity
        whole = self._memory(pages, capacity, count * (slot.dim + self._scale))
        numbers, scales = whole[: count * slot.dim], whole[count * slot.dim :]
        return numbers.view(slot.heads, capacity, slot.dim), scales.view(torch.float32).view(slot.heads, capacity)


def quantised(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x [..., D] as int8 in 127ths of its largest number, and what one of them is worth, float32 [...]."""
    wide = x.float()
    most = wide.abs().amax(-1)
    inverse = torch.where(most > 0, 127.0 / most, 0.0)
    return (wide * inverse[..., None]).round().to(torch.int8), most / 127.0

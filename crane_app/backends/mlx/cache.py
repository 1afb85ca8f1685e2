"""Keys and values on MLX: rows of equal capacity share slabs [slots, G, capacity, D], one pair a layer.

A row's capacity is a power of two of blocks that depends on its own length alone, so the kernel that reads it, and with
it the row's result, does not depend on its neighbours; and all rows of a slab decode in one attention call.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mlx.core as mx

from crane_app.backends.rows import Rows
from crane_app.contract import BLOCK, Layout


@dataclass
class Slab:
    """Rows of one capacity. keys[layer], values[layer]: [slots, G, capacity, D], None for memories. taken: slot -> row.

    stale: free slots that hold a closed row's contents. They are cleared before they are used again: attention masks
    what lies past a row's length, but 0 times a NaN left there is NaN.
    """

    capacity: int
    keys: list[mx.array | None]
    values: list[mx.array | None]
    taken: list[int | None] = field(default_factory=list)
    stale: set[int] = field(default_factory=set)

    def clear(self, slot: int) -> None:
        for array in (*self.keys, *self.values):
            if array is not None:
                array[slot] = 0
        self.stale.discard(slot)


class Cache(Rows):
    """See contract.Cache. Windows keep all their keys."""

    def __init__(self, layout: Layout, dtype: mx.Dtype, budget: int):
        super().__init__(layout, dtype.size, budget)
        self.dtype = dtype
        self.slabs: dict[int, Slab] = {}
        self.homes: dict[int, tuple[Slab, int]] = {}
        self.memories: dict[tuple[int, int], tuple[mx.array, mx.array]] = {}

    def room(self, row: int) -> int:
        self.length(row)
        return self.homes[row][0].capacity

    def nbytes(self) -> int:
        slabs = sum(a.nbytes for slab in self.slabs.values() for a in (*slab.keys, *slab.values) if a is not None)
        return slabs + sum(k.nbytes + v.nbytes for k, v in self.memories.values())

    def truncate(self, row: int, length: int) -> None:
        """See contract.Cache; what is cut is cleared, for the reason that Slab gives."""
        held = self.length(row)
        super().truncate(row, length)
        if length < held:
            slab, slot = self.homes[row]
            for array in (*slab.keys, *slab.values):
                if array is not None:
                    array[slot, :, length:held] = 0

    def memorise(self, row: int, layer: int, keys: mx.array, values: mx.array) -> None:
        """Fill a memory slot with keys and values [1, G, C, D]; raises NotEnoughMemory."""
        self._afford(keys.nbytes + values.nbytes)
        self.memories[row, layer] = keys, values

    def arrays(self) -> list[mx.array]:
        """Everything a step may have written."""
        held = [a for slab in self.slabs.values() for a in (*slab.keys, *slab.values) if a is not None]
        return held + [a for pair in self.memories.values() for a in pair]

    def _allocate(self, row: int, length: int) -> None:
        self.homes[row] = self._slot(row, capacity(length))

    def _grow(self, row: int, length: int) -> None:
        old, place = self.homes[row]
        new, slot = self._slot(row, capacity(length))
        kept = self._lengths[row]
        for source, target in ((old.keys, new.keys), (old.values, new.values)):
            for layer, array in enumerate(source):
                if array is not None and kept:
                    target[layer][slot, :, :kept] = array[place, :, :kept]
        self.homes[row] = new, slot
        self._vacate(old, place)

    def _free(self, row: int) -> None:
        slab, slot = self.homes.pop(row)
        self._vacate(slab, slot)
        for key in [key for key in self.memories if key[0] == row]:
            del self.memories[key]

    def _slot(self, row: int, size: int) -> tuple[Slab, int]:
        """A free slot among rows of this capacity; their slab doubles when it is full."""
        slab = self.slabs.get(size)
        if slab is None or None not in slab.taken:
            more = len(slab.taken) if slab is not None else 1
            self._afford(more * size * self.position_nbytes())
            slab = self._widen(slab, size, more)
        slot = slab.taken.index(None)
        slab.taken[slot] = row
        if slot in slab.stale:
            slab.clear(slot)
        return slab, slot

    def _widen(self, slab: Slab | None, size: int, more: int) -> Slab:
        def fresh() -> list[mx.array | None]:
            return [
                None if s.kind == "memory" else mx.zeros((more, s.heads, size, s.dim), self.dtype) for s in self.layout
            ]

        if slab is None:
            slab = self.slabs[size] = Slab(size, fresh(), fresh())
        else:
            for held in (slab.keys, slab.values):
                held[:] = [None if a is None else mx.concatenate([a, b]) for a, b in zip(held, fresh(), strict=True)]
        slab.taken += [None] * more
        return slab

    def _vacate(self, slab: Slab, slot: int) -> None:
        """Free a slot; a slab that is three quarters empty moves its rows together and halves or more."""
        slab.taken[slot] = None
        slab.stale.add(slot)
        live = [i for i, row in enumerate(slab.taken) if row is not None]
        if not live:
            del self.slabs[slab.capacity]
        elif 4 * len(live) <= len(slab.taken):
            spare = live + live
            for held in (slab.keys, slab.values):
                held[:] = [None if a is None else a[mx.array(spare)] for a in held]
            slab.taken = [slab.taken[i] for i in live] + [None] * len(live)
            slab.stale = set(range(len(live), len(slab.taken)))
            for place, row in enumerate(slab.taken[: len(live)]):
                self.homes[row] = slab, place


def capacity(length: int) -> int:
    """The smallest power of two of blocks that holds `length` positions."""
    return BLOCK << max(-(-length // BLOCK) - 1, 0).bit_length()

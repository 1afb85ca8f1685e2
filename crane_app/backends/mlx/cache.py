"""Keys and values on MLX: rows of equal capacity share slabs [slots, G, capacity, D], one pair a layer.

A row's capacity is a power of two of blocks that depends on its own length alone, so the kernel that reads it, and with
it the row's result, does not depend on its neighbours; and all rows of a slab decode in one attention call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from crane_app.backends.rows import Rows
from crane_app.contract import BLOCK, Layout
from crane_app.errors import NotEnoughMemory

BITS = {1: mx.int8, 2: mx.int16, 4: mx.int32}  # how values of so many bytes travel through numpy, which has no bfloat16


@dataclass
class Slab:
    """Rows of one capacity. keys[layer], values[layer]: [slots, G, capacity, D], None for memories. taken: slot -> row.

    scales: empty, or of keys and of values, [layer]: float32 [slots, G, capacity].
    stale: free slots that hold a closed row's contents. They are cleared before they are used again: attention masks
    what lies past a row's length, but 0 times a NaN left there is NaN.
    """

    capacity: int
    keys: list[mx.array | None]
    values: list[mx.array | None]
    scales: tuple[list[mx.array | None], ...] = ()
    taken: list[int | None] = field(default_factory=list)
    stale: set[int] = field(default_factory=set)

    def lists(self) -> tuple[list[mx.array | None], ...]:
        return (self.keys, self.values, *self.scales)

    def arrays(self) -> list[mx.array]:
        return [array for held in self.lists() for array in held if array is not None]

    def pairs(self) -> list[tuple[mx.array, mx.array]]:
        """Keys and values of each layer, then their scales; of a slab without memories."""
        return [*zip(self.keys, self.values, strict=True), *(zip(*self.scales, strict=True) if self.scales else ())]

    def replace(self, lists: Iterable[list[mx.array | None]]) -> None:
        """Hold these from now on, all of them or, where one cannot be made, none."""
        for held, other in zip(self.lists(), list(lists), strict=True):
            held[:] = other

    def clear(self, slot: int) -> None:
        for array in self.arrays():
            array[slot] = 0
        self.stale.discard(slot)

    def write(self, layer: int, place: tuple[Any, ...], k: mx.array, v: mx.array) -> None:
        """Put k, v [..., D] at a place [slots, G, capacity]."""
        if not self.scales:
            self.keys[layer][place], self.values[layer][place] = k, v
            return
        for held, scales, x in zip((self.keys, self.values), self.scales, (k, v), strict=True):
            held[layer][place], scales[layer][place] = quantised(x)

    def read(self, layer: int, place: Any, dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
        """Keys and values at a place [slots, G, capacity]."""
        keys, values = self.keys[layer][place], self.values[layer][place]
        if not self.scales:
            return keys, values
        of_keys, of_values = (scales[layer][place][..., None] for scales in self.scales)
        return (keys * of_keys).astype(dtype), (values * of_values).astype(dtype)


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
        slabs = sum(a.nbytes for slab in self.slabs.values() for a in slab.arrays())
        return slabs + sum(k.nbytes + v.nbytes for k, v in self.memories.values()) + self._kept_nbytes()

    def most(self) -> int:
        size = BLOCK
        while 2 * size * self.position_nbytes() <= self.budget:
            size *= 2
        return size if size * self.position_nbytes() <= self.budget else 0

    def affords(self, length: int) -> bool:
        size = capacity(length)
        free = None in self.slabs[size].taken if size in self.slabs else False
        return free or self._live_nbytes() + size * self.position_nbytes() <= self.budget

    def truncate(self, row: int, length: int) -> None:
        """See contract.Cache; what is cut is cleared, for the reason that Slab gives."""
        held = self.length(row)
        super().truncate(row, length)
        if length < held:
            slab, slot = self.homes[row]
            for array in slab.arrays():
                array[slot, :, length:held] = 0

    def memorise(self, row: int, layer: int, keys: mx.array, values: mx.array) -> None:
        """Fill a memory slot with keys and values [1, G, C, D]; raises NotEnoughMemory."""
        self._afford(keys.nbytes + values.nbytes)
        self.memories[row, layer] = keys, values

    def arrays(self) -> list[mx.array]:
        """Everything a step may have written."""
        held = [a for slab in self.slabs.values() for a in slab.arrays()]
        return held + [a for pair in self.memories.values() for a in pair]

    def _allocate(self, row: int, length: int) -> None:
        self.homes[row] = self._slot(row, capacity(length))

    def _grow(self, row: int, length: int) -> None:
        old, place = self.homes[row]
        size = capacity(length)
        if size not in self.slabs and sum(other is not None for other in old.taken) == 1:
            self._stretch(row, size)
            return
        new, slot = self._slot(row, size)
        old, place = self.homes[row]  # a squeeze may have moved it
        kept = self._lengths[row]
        for source, target in zip(old.arrays(), new.arrays(), strict=True):
            if kept:
                target[slot, :, :kept] = source[place, :, :kept]
        self.homes[row] = new, slot
        self._vacate(old, place)

    def _stretch(self, row: int, size: int) -> None:
        """Make the slab of a row that has it to itself longer, a layer at a time: both are never held as a whole."""
        slab, _ = self.homes[row]
        self._afford((size - slab.capacity) * self.position_nbytes())
        slot, old = slab.taken.index(row), slab.capacity
        try:
            for held in slab.lists():
                for layer, array in enumerate(held):
                    if array is not None:
                        with short_of(f"{size} positions"):
                            more = mx.zeros((1, array.shape[1], size - old, *array.shape[3:]), array.dtype)
                            longer = mx.concatenate([array[slot : slot + 1], more], axis=2)
                            mx.eval(longer)
                        held[layer] = longer
        except NotEnoughMemory:
            for held in slab.lists():  # as they were, by views, which need no memory
                held[:] = [a if a is None else a[:, :, :old] if a.shape[2] > old else a[slot : slot + 1] for a in held]
            raise
        else:
            del self.slabs[old]
            self.slabs[size], slab.capacity = slab, size
        finally:
            slab.taken, slab.stale = [row], set()
            self.homes[row] = slab, 0

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
            if self.nbytes() + more * size * self.position_nbytes() > self.budget:
                more = 1
            self._afford(more * size * self.position_nbytes())
            with short_of(f"{size} positions"):
                slab = self._widen(self.slabs.get(size), size, more)
        slot = slab.taken.index(None)
        slab.taken[slot] = row
        if slot in slab.stale:
            slab.clear(slot)
        return slab, slot

    def _widen(self, slab: Slab | None, size: int, more: int) -> Slab:
        fresh = self._fresh(size, more)
        if slab is None:
            slab = self.slabs[size] = fresh
        else:
            slab.replace(
                [None if a is None else mx.concatenate([a, b]) for a, b in zip(held, added, strict=True)]
                for held, added in zip(slab.lists(), fresh.lists(), strict=True)
            )
        slab.taken += [None] * more
        return slab

    def _fresh(self, size: int, slots: int) -> Slab:
        """A slab that is all zero and in which nothing is taken yet, not even as free."""

        def zeros(dtype: mx.Dtype, scales: bool = False) -> list[mx.array | None]:
            return [
                None if s.kind == "memory" else mx.zeros((slots, s.heads, size, *([] if scales else [s.dim])), dtype)
                for s in self.layout
            ]

        if self._scale:
            scales = zeros(mx.float32, scales=True), zeros(mx.float32, scales=True)
            return Slab(size, zeros(mx.int8), zeros(mx.int8), scales)
        return Slab(size, zeros(self.dtype), zeros(self.dtype))

    def _vacate(self, slab: Slab, slot: int) -> None:
        """Free a slot; a slab that is three quarters empty moves its rows together and halves or more."""
        slab.taken[slot] = None
        slab.stale.add(slot)
        live = sum(row is not None for row in slab.taken)
        if 4 * live <= len(slab.taken):
            with suppress(NotEnoughMemory):  # to be done another time
                self._gather(slab, spare=live)

    def _gather(self, slab: Slab, spare: int) -> None:
        """Move a slab's rows together and leave `spare` free slots behind them; a slab without rows goes."""
        live = [i for i, row in enumerate(slab.taken) if row is not None]
        if not live:
            del self.slabs[slab.capacity]
            return
        with short_of("moving the rows"):
            places = mx.array((live + live)[: len(live) + spare])
            slab.replace([None if a is None else a[places] for a in held] for held in slab.lists())
        slab.taken = [slab.taken[i] for i in live] + [None] * spare
        slab.stale = set(range(len(live), len(slab.taken)))
        for place, row in enumerate(slab.taken[: len(live)]):
            self.homes[row] = slab, place

    def _afford(self, nbytes: int) -> None:
        """What is short is sought in free slots first."""
        if self.nbytes() + nbytes > self.budget:
            self._squeeze()
        super()._afford(nbytes)

    def _squeeze(self) -> None:
        """Give back all free slots."""
        for slab in list(self.slabs.values()):
            if None in slab.taken:
                self._gather(slab, spare=0)

    def _live_nbytes(self) -> int:
        """Bytes that would be left after a squeeze."""
        free = sum(slab.capacity * slab.taken.count(None) for slab in self.slabs.values())
        return self.nbytes() - free * self.position_nbytes()

    def _copy(self, row: int, start: int) -> list[mx.array]:
        """Of each layer [2, G, BLOCK, D], then of its scales [2, G, BLOCK].

        Computed at once: a slice that waits would have the slab copied.
        """
        (slab, slot), cut = self.homes[row], slice(start, start + BLOCK)
        with short_of("what is kept"):
            block = [mx.stack([k[slot, :, cut], v[slot, :, cut]]) for k, v in slab.pairs()]
            mx.async_eval(block)
        return block

    def _write(self, row: int, start: int, blocks: list[list[mx.array]]) -> None:
        (slab, slot), end = self.homes[row], start + BLOCK * len(blocks)
        whole = [parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=2) for parts in zip(*blocks, strict=True)]
        for (keys, values), both in zip(slab.pairs(), whole, strict=True):
            keys[slot, :, start:end] = both[0]
            values[slot, :, start:end] = both[1]

    def _bits(self, block: list[mx.array]) -> tuple[np.ndarray, ...]:
        return tuple(np.array(both.view(BITS[both.itemsize])) for both in block)

    def _from_bits(self, layers: Sequence[np.ndarray]) -> list[mx.array]:
        numbers = mx.int8 if self._scale else self.dtype
        with short_of("what is kept"):
            return [mx.array(bits).view(numbers if bits.ndim == 4 else mx.float32) for bits in layers]

    def _double(self, source: int, row: int, length: int) -> None:
        """Both may be in one slab: the stack is a buffer of its own, so that the slab need not be copied."""
        (one, place), (other, slot) = self.homes[source], self.homes[row]
        copies = [mx.stack([k[place, :, :length], v[place, :, :length]]) for k, v in one.pairs()]
        for both, (keys, values) in zip(copies, other.pairs(), strict=True):
            keys[slot, :, :length] = both[0]
            values[slot, :, :length] = both[1]

    def _read(self, row: int, length: int) -> tuple[np.ndarray, ...]:
        slab, slot = self.homes[row]
        layers = (mx.stack([k[slot, :, :length], v[slot, :, :length]]) for k, v in slab.pairs())
        return tuple(np.array(both.view(BITS[both.itemsize])) for both in layers)

    def _restore(self, row: int, layers: tuple[np.ndarray, ...]) -> None:
        slab, slot = self.homes[row]
        for (keys, values), bits in zip(slab.pairs(), layers, strict=True):
            with short_of("what was set aside"):
                both = mx.array(bits).view(keys.dtype)
            keys[slot, :, : both.shape[2]] = both[0]
            values[slot, :, : both.shape[2]] = both[1]


class Int8Cache(Cache):
    """Keys and values as int8 with a float32 scale each, as host.KVCache has it; memories stay in the dtype."""

    _scale = 4

    def __init__(self, layout: Layout, dtype: mx.Dtype, budget: int):
        super().__init__(layout, dtype, budget)
        self._itemsize = 1


@contextmanager
def short_of(what: str) -> Iterator[None]:
    """What MLX raises when memory is out becomes NotEnoughMemory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise NotEnoughMemory(f"No memory is left for {what} of this conversation.") from error


def quantised(x: mx.array) -> tuple[mx.array, mx.array]:
    """x [..., D] as int8 in 127ths of its largest number, and what one of them is worth, float32 [...]."""
    wide = x.astype(mx.float32)
    most = mx.abs(wide).max(-1)
    inverse = mx.where(most > 0, 127.0 / most, 0.0)
    return mx.round(wide * inverse[..., None]).astype(mx.int8), most / 127.0


def capacity(length: int) -> int:
    """The smallest power of two of blocks that holds `length` positions."""
    return BLOCK << max(-(-length // BLOCK) - 1, 0).bit_length()

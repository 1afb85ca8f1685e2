"""The rows of a cache as the host sees them: ids, lengths, room. Subclasses hold the arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from crane_app.contract import BLOCK, Layout, Saved
from crane_app.errors import NotEnoughMemory


class Rows(ABC):
    """Bookkeeping shared by the caches. `budget` is the most bytes the cache may hold; itemsize: bytes of a number."""

    _scale = 0  # bytes beside the numbers of each key and each value

    def __init__(self, layout: Layout, itemsize: int, budget: int):
        self.layout = layout
        self.budget = budget
        self.claim: Callable[[int], None] = lambda nbytes: None
        self._itemsize = itemsize
        self._lengths: dict[int, int] = {}
        self._next = 0
        self.shares = all(slot.kind != "memory" for slot in layout)
        self._kept: dict[int, tuple[int, Any]] = {}  # where a block begins, and what `_copy` gave
        self._blocks = 0

    def open(self, reserve: int) -> int:
        row = self._next
        self._allocate(row, max(reserve, 1))
        self._next += 1
        self._lengths[row] = 0
        return row

    def reserve(self, row: int, length: int) -> None:
        self.length(row)
        if length > self.room(row):
            self._grow(row, length)

    def length(self, row: int) -> int:
        if row not in self._lengths:
            raise ValueError(f"there is no row {row}")
        return self._lengths[row]

    def advance(self, row: int, new: int) -> None:
        """A step has written `new` positions; called by the backend alone."""
        self._lengths[row] += new

    def truncate(self, row: int, length: int) -> None:
        if not 0 <= length <= self.length(row):
            raise ValueError(f"row {row} holds {self.length(row)} positions; it cannot be cut to {length}")
        self._lengths[row] = length

    def close(self, row: int) -> None:
        self.length(row)
        del self._lengths[row]
        self._free(row)

    def most(self) -> int:
        return self.budget // max(self.position_nbytes() * BLOCK, 1) * BLOCK

    def affords(self, length: int) -> bool:
        return self.nbytes() + blocks(length) * self.position_nbytes() <= self.budget

    def keep(self, row: int, start: int) -> int:
        if start % BLOCK or not 0 <= start <= self.length(row) - BLOCK:
            raise ValueError(f"row {row} holds {self.length(row)} positions; it has no block at {start}")
        self._afford(BLOCK * self.position_nbytes())
        self._kept[self._blocks] = start, self._copy(row, start)
        self._blocks += 1
        return self._blocks - 1

    def paste(self, row: int, kept: Sequence[int]) -> None:
        length = self.length(row)
        if length + BLOCK * len(kept) > self.room(row):
            raise ValueError(f"row {row} has no room for {len(kept)} blocks behind {length} positions")
        for i, block in enumerate(kept):
            if self._kept.get(block, (-1,))[0] != length + i * BLOCK:
                raise ValueError(f"there is no kept block {block} for position {length + i * BLOCK}")
        self._write(row, length, [self._kept[block][1] for block in kept])
        self._lengths[row] = length + BLOCK * len(kept)

    def export(self, block: int) -> tuple[np.ndarray, ...]:
        return self._bits(self._kept[block][1])

    def adopt(self, start: int, layers: Sequence[np.ndarray]) -> int:
        wanted: list[Any] = [((2, s.heads, BLOCK, s.dim), self._itemsize) for s in self.layout]
        wanted += [((2, s.heads, BLOCK), self._scale) for s in self.layout if self._scale]
        if start % BLOCK or [(layer.shape, layer.itemsize) for layer in layers] != wanted:
            raise ValueError(f"this is no block of this cache for position {start}")
        self._afford(BLOCK * self.position_nbytes())
        self._kept[self._blocks] = start, self._from_bits(layers)
        self._blocks += 1
        return self._blocks - 1

    def fork(self, source: int, row: int) -> None:
        length, before = self.length(source), self.length(row)
        if length > self.room(row):
            raise ValueError(f"row {row} has room for {self.room(row)} positions; it cannot be a copy of {length}")
        self._double(source, row, length)
        self._lengths[row] = max(before, length)
        self.truncate(row, length)

    def drop(self, block: int) -> None:
        if block not in self._kept:
            raise ValueError(f"there is no kept block {block}")
        del self._kept[block]

    def save(self, row: int) -> Saved:
        length = self.length(row)
        return Saved(length, self.room(row), self._read(row, length))

    def load(self, saved: Saved) -> int:
        row = self.open(saved.room)
        try:
            self._restore(row, saved.layers)
        except Exception:
            self.close(row)
            raise
        self._lengths[row] = saved.length
        return row

    def _kept_nbytes(self) -> int:
        return len(self._kept) * BLOCK * self.position_nbytes()

    def position_nbytes(self) -> int:
        """Bytes of one position of one row over all layers."""
        return sum(2 * s.heads * (s.dim * self._itemsize + self._scale) for s in self.layout if s.kind != "memory")

    def _afford(self, nbytes: int) -> None:
        self.claim(nbytes)
        if self.nbytes() + nbytes > self.budget:
            held, limit = self.nbytes() / 2**20, self.budget / 2**20
            raise NotEnoughMemory(
                f"The cache needs {nbytes / 2**20:.0f} MiB more and holds {held:.0f} of its {limit:.0f} MiB. "
                "Shorten the conversation or close another one."
            )

    @abstractmethod
    def room(self, row: int) -> int: ...

    @abstractmethod
    def nbytes(self) -> int: ...

    @abstractmethod
    def _allocate(self, row: int, length: int) -> None: ...

    @abstractmethod
    def _grow(self, row: int, length: int) -> None: ...

    @abstractmethod
    def _free(self, row: int) -> None: ...

    # Of caches that share:

    def _copy(self, row: int, start: int) -> Any:
        """A block of the row as `_write` takes it."""
        raise ValueError("this cache shares nothing")

    def _write(self, row: int, start: int, blocks: list[Any]) -> None:
        """Blocks into the row, one behind the other. What fails has written nothing, here and in `_double`."""
        raise ValueError("this cache shares nothing")

    def _bits(self, block: Any) -> tuple[np.ndarray, ...]:
        """What `_copy` gave, on the host."""
        raise ValueError("this cache shares nothing")

    def _from_bits(self, layers: Sequence[np.ndarray]) -> Any:
        """What `_copy` would give for these bits."""
        raise ValueError("this cache shares nothing")

    def _double(self, source: int, row: int, length: int) -> None:
        """The first positions of one row into another."""
        raise ValueError("this cache shares nothing")

    def _read(self, row: int, length: int) -> tuple[np.ndarray, ...]:
        """As contract.Saved has it."""
        raise ValueError("this cache shares nothing")

    def _restore(self, row: int, layers: tuple[np.ndarray, ...]) -> None:
        """What `_read` gave, into an empty row."""
        raise ValueError("this cache shares nothing")


def blocks(length: int) -> int:
    """Positions rounded up to whole blocks."""
    return -(-length // BLOCK) * BLOCK

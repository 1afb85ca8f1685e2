"""The rows of a cache as the host sees them: ids, lengths, room. Subclasses hold the arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod

from crane_app.contract import BLOCK, Layout
from crane_app.errors import NotEnoughMemory


class Rows(ABC):
    """Bookkeeping shared by the caches. `budget` is the most bytes the cache may hold."""

    def __init__(self, layout: Layout, itemsize: int, budget: int):
        self.layout = layout
        self.budget = budget
        self._itemsize = itemsize
        self._lengths: dict[int, int] = {}
        self._next = 0

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

    def position_nbytes(self) -> int:
        """Bytes of one position of one row over all layers."""
        return sum(2 * s.heads * s.dim * self._itemsize for s in self.layout if s.kind != "memory")

    def _afford(self, nbytes: int) -> None:
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


def blocks(length: int) -> int:
    """Positions rounded up to whole blocks."""
    return -(-length // BLOCK) * BLOCK

"""What the rows of a model hold on the device, and how they share and keep it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np

BLOCK = 256  # rows grow in blocks of this many positions, and prompts are cut on this grid


@dataclass(frozen=True)
class Slot:
    """What one layer keeps for one row.

    `full` keeps all keys; `window` may drop keys older than `window` positions (0: no limit);
    `memory` is filled once by `Ops.remember` and read by `Ops.recall` (cross-attention).
    """

    kind: Literal["full", "window", "memory"]
    heads: int
    dim: int
    window: int = 0


Layout = tuple[Slot, ...]


@dataclass(frozen=True)
class Saved:
    """A row on the host: its length, its room, and each layer's keys and values [2, G, length, D] as bits.

    Of an int8 cache the scales of all layers, [2, G, length] each, follow behind.
    """

    length: int
    room: int
    layers: tuple[np.ndarray, ...]

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)


class Cache(Protocol):
    """What the rows of one model hold on the device. Only the device thread calls it.

    Lengths are known on the host; no method but `save` and `export` reads the device. A row id stays valid until
    `close`, the id of a kept block until `drop`. budget: the most bytes it may hold; a smaller one takes nothing away.
    shares: it has all from `keep` to `load`. claim: called with the bytes that it is about to take of its budget, so
    that whoever has borrowed of what was free gives it back before.
    """

    layout: Layout
    budget: int
    shares: bool
    claim: Callable[[int], None]

    def open(self, reserve: int) -> int:
        """A new empty row with room for `reserve` positions; raises NotEnoughMemory before anything is taken."""

    def reserve(self, row: int, length: int) -> None:
        """Make room for at least `length` positions, in whole blocks; what is cached stays. The only growth."""

    def room(self, row: int) -> int:
        """Positions the row can hold without growing."""

    def length(self, row: int) -> int:
        """Positions cached."""

    def truncate(self, row: int, length: int) -> None:
        """Forget all positions from `length` on; asking for more than is cached is a ValueError."""

    def close(self, row: int) -> None:
        """Give the row's memory back."""

    def most(self) -> int:
        """Positions that one row could hold if there were nothing else in the budget."""

    def affords(self, length: int) -> bool:
        """Whether a new row could have room for `length` positions now."""

    def keep(self, row: int, start: int) -> int:
        """A copy of the row's BLOCK positions from `start` on, which outlives it; its id. Raises NotEnoughMemory."""

    def paste(self, row: int, kept: Sequence[int]) -> None:
        """Append copies of kept blocks to a row that has the room; the same bits as where they were made."""

    def export(self, block: int) -> tuple[np.ndarray, ...]:
        """A kept block on the host, of each layer [2, G, BLOCK, D] as bits, which nobody may change. Waits."""

    def adopt(self, start: int, layers: Sequence[np.ndarray]) -> int:
        """A kept block for position `start` from what `export` gave, to the bit; its id.

        Raises ValueError if it is none of this cache, NotEnoughMemory.
        """

    def fork(self, source: int, row: int) -> None:
        """Make a row that has the room a copy of another, to the bit; what it held is gone."""

    def drop(self, block: int) -> None:
        """Give a kept block's memory back."""

    def save(self, row: int) -> Saved:
        """The row on the host. Waits."""

    def load(self, saved: Saved) -> int:
        """A new row like the one that was saved, to the bit; raises NotEnoughMemory before anything is taken."""

    def nbytes(self) -> int:
        """Exact bytes held on the device for all rows and kept blocks."""

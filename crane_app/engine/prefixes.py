"""Beginnings of rows that are kept when their rows have gone, so that a later prompt computes only what is new.

A prefix is a chain of blocks cut at the grid's lines; each is known by all the tokens up to its end. Chains share what
they have in common, and the block that was used longest ago and has none behind it goes first.

A block remembers how it was made. One of a prompt, on a chain of such, is to the bit what any request would compute.
One with generated tokens in it is what decoding gave: the same on MLX, up to 1e-6 away on PyTorch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np

from crane_app.contract import BLOCK, Cache
from crane_app.errors import NotEnoughMemory

Reuse = Literal["all", "prompts", "none"]  # which blocks are kept: prompts, those that a prompt made
PART = 4  # kept blocks take at most this part of what the budget holds


@dataclass(frozen=True)
class Kept:
    """A block in the cache. exact: made of a prompt, on exact ones."""

    block: int
    exact: bool


class Prefixes:
    """The kept blocks of one model's cache, by the keys that `keys` gives. The least recently used stands first."""

    def __init__(self, cache: Cache):
        self._cache = cache
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, chain: Sequence[bytes], start: int, exact: bool) -> list[Kept]:
        """What is kept of a chain from its block `start` on, without a gap; with `exact`, exact blocks alone."""
        found: list[Kept] = []
        for key in chain[start:]:
            kept = self._kept.get(key)
            if kept is None or (exact and not kept.exact):
                break
            found.append(kept)
        self._touch(chain[: start + len(found)])
        return found

    def keep(self, row: int, chain: Sequence[bytes], index: int, exact: bool) -> None:
        """Keep the row's block `index` of this chain if there is room, if need be in place of older ones."""
        self._hold(chain, index, exact, lambda: self._cache.keep(row, index * BLOCK))

    def adopt(self, chain: Sequence[bytes], index: int, layers: tuple[np.ndarray, ...], exact: bool) -> Kept | None:
        """Keep the block `index` of this chain as Cache.export gave it; None where there is no room."""
        self._hold(chain, index, exact, lambda: self._cache.adopt(index * BLOCK, layers))
        return self._kept.get(chain[index])

    def get(self, key: bytes) -> Kept | None:
        return self._kept.get(key)

    def _hold(self, chain: Sequence[bytes], index: int, exact: bool, make: Callable[[], int]) -> None:
        before = chain[index - 1] if index else None
        if not self._cache.shares or chain[index] in self._kept or (before is not None and before not in self._kept):
            return
        most = self._cache.most() // BLOCK // PART
        while True:
            if len(self._kept) < most:
                try:
                    block = make()
                    break
                except NotEnoughMemory:
                    pass
            if next(iter(self._kept), before) == before or not self.shed():
                return  # nothing is left but what this block stands on
        self._kept[chain[index]] = Kept(block, exact)
        self._touch(chain[:index])

    def shed(self) -> bool:
        """Let go of the block that was used longest ago; False if there is none."""
        if not self._kept:
            return False
        _, kept = self._kept.popitem(last=False)
        self._cache.drop(kept.block)
        return True

    def make_room(self, length: int) -> None:
        """Let go of blocks until a row of that length has room, or none is left."""
        while not self._cache.affords(length) and self.shed():
            pass

    def clear(self) -> None:
        while self.shed():
            pass

    def _touch(self, chain: Sequence[bytes]) -> None:
        """The end first, so that a block never goes before those behind it."""
        for key in reversed(chain):
            if key in self._kept:
                self._kept.move_to_end(key)


def whole(tokens: np.ndarray, chain: Sequence[bytes], salt: str = "") -> tuple[bytes, ...]:
    """What all of tokens int32 [L] are known by while they are computed; chain: the keys of their blocks."""
    return (*chain[-1:], tokens[len(chain) * BLOCK :].tobytes(), salt.encode())


def keys(tokens: np.ndarray, known: Sequence[bytes] = (), salt: str = "") -> list[bytes]:
    """For each whole block of tokens int32 [L] what it and all before it are known by; `known` are the first.

    Without the salt nobody can have the keys of the same tokens.
    """
    found, secret = list(known), blake2b(salt.encode()).digest() if salt else b""
    for start in range(len(found) * BLOCK, len(tokens) - BLOCK + 1, BLOCK):
        before = found[-1] if found else b""
        found.append(blake2b(before + tokens[start : start + BLOCK].tobytes(), digest_size=16, key=secret).digest())
    return found

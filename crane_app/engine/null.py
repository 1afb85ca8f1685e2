"""A runner without a model: tokens from a table, rows that only count, faults on demand. For tests and benchmarks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from crane_app.backends.draw import plan_draw
from crane_app.backends.plan import host_step
from crane_app.backends.rows import Rows, blocks
from crane_app.contract import BLOCK, Drawn, Layout, Pending, Result, Sampling, Slot, Work
from crane_app.engine.thought import FORCE

LAYOUT: Layout = (Slot("full", 1, 1),)


class NullCache(Rows):
    """Rows of one float32 head of size one. written: the tokens of each row's positions, in place of keys."""

    def __init__(self, budget: int):
        super().__init__(LAYOUT, 4, budget)
        self.written: dict[int, list[int]] = {}
        self._rooms: dict[int, int] = {}

    def room(self, row: int) -> int:
        self.length(row)
        return self._rooms[row]

    def nbytes(self) -> int:
        return sum(self._rooms.values()) * self.position_nbytes() + self._kept_nbytes()

    def truncate(self, row: int, length: int) -> None:
        super().truncate(row, length)
        del self.written[row][length:]

    def _allocate(self, row: int, length: int) -> None:
        self._afford(blocks(length) * self.position_nbytes())
        self._rooms[row], self.written[row] = blocks(length), []

    def _grow(self, row: int, length: int) -> None:
        self._afford((blocks(length) - self._rooms[row]) * self.position_nbytes())
        self._rooms[row] = blocks(length)

    def _free(self, row: int) -> None:
        del self._rooms[row], self.written[row]

    def _copy(self, row: int, start: int) -> list[int]:
        return self.written[row][start : start + BLOCK]

    def _write(self, row: int, start: int, blocks: list[list[int]]) -> None:
        self.written[row][start:] = chain.from_iterable(blocks)

    def _bits(self, block: list[int]) -> tuple[np.ndarray, ...]:
        return (np.broadcast_to(np.array(block, np.int32)[None, None, :, None], (2, 1, BLOCK, 1)),)

    def _from_bits(self, layers: Sequence[np.ndarray]) -> list[int]:
        return list(map(int, layers[0][0, 0, :, 0]))

    def _double(self, source: int, row: int, length: int) -> None:
        self.written[row][:] = self.written[source][:length]

    def _read(self, row: int, length: int) -> tuple[np.ndarray, ...]:
        return (np.array(self.written[row][:length], np.int32),)

    def _restore(self, row: int, layers: tuple[np.ndarray, ...]) -> None:
        self.written[row][:] = layers[0].tolist()


def _may(allowed: np.ndarray | None, token: int) -> bool:
    return allowed is None or bool(allowed[token // 32] >> np.uint32(token % 32) & np.uint32(1))


@dataclass
class NullPending:
    """tokens: drawn for each row, none for a middle chunk. fault: raised instead of being read."""

    tokens: dict[int, tuple[int, ...]]
    fault: Exception | None = None

    def read(self) -> Result:
        if self.fault is not None:
            raise self.fault
        return Result(tuple(tuple(map(Drawn, drawn)) for drawn in self.tokens.values()))


@dataclass
class NullRunner:
    """table(token, position) is the token after `token` at that position: what a row gives depends on the row alone.

    Choice c takes the token that is c further on, and one that a bias or a mask forbids gives way to the next.
    One that is forced is drawn.
    on_launch, on_read: called with the works; what they raise is the step's fault.
    """

    table: Callable[[int, int], int]
    vocabulary: int = 2**31 - 1
    budget: int = 2**40
    batched: bool = True
    on_launch: Callable[[Sequence[Work]], None] = lambda works: None
    on_read: Callable[[Sequence[Work]], None] = lambda works: None
    layout: Layout = LAYOUT

    def __post_init__(self) -> None:
        self.cache = NullCache(self.budget)

    def launch(self, work: Sequence[Work], previous: Pending | None = None, keep_logits: bool = False) -> NullPending:
        host = host_step(self.cache, work, self.vocabulary)
        plan_draw(work, [span.start for span in host.whole])
        self.on_launch(work)
        tokens: dict[int, tuple[int, ...]] = {}
        for item, span in zip(work, host.whole, strict=True):
            given = [self._carried(item.row, previous)] if item.tokens is None else item.tokens.tolist()
            if item.fork is None:
                self.cache.written[item.row] += given
                self.cache.advance(item.row, span.new)
            else:
                self.cache.fork(item.fork, item.row)
                given = self.cache.written[item.row][-1:]
            last = list(enumerate(given, self.cache.length(item.row) - len(given) + 1))[len(given) - item.logits :]
            drawn = [self._draw(token, position, item) for position, token in last]
            tokens[item.row] = tuple(drawn if item.given is None else item.given.tolist())
        try:
            self.on_read(work)
        except Exception as error:
            return NullPending(tokens, error)
        return NullPending(tokens)

    def embed(self, item: Work) -> np.ndarray:
        """States [L, 2]: each token and its position."""
        (span,) = host_step(self.cache, [item], self.vocabulary).whole
        assert item.tokens is not None
        self.cache.written[span.row] += item.tokens.tolist()
        self.cache.advance(span.row, span.new)
        return np.stack([item.tokens, np.arange(span.start, span.start + span.new)], -1).astype(np.float32)

    def _draw(self, given: int, position: int, item: Work) -> int:
        token, draw, allowed = self.table(given, position), item.draw or Sampling(), item.allowed
        if allowed is None and not (draw.choice or draw.logit_bias):
            return token
        token = (token + draw.choice) % self.vocabulary
        called_for = max(draw.logit_bias, key=draw.logit_bias.__getitem__, default=token)
        if draw.logit_bias.get(called_for, 0.0) >= FORCE:
            return called_for
        while draw.logit_bias.get(token) == -math.inf or not _may(allowed, token):
            token = (token + 1) % self.vocabulary
        return token

    def _carried(self, row: int, previous: Pending | None) -> int:
        assert isinstance(previous, NullPending), "a carried token needs the step that drew it"
        return previous.tokens[row][-1]

"""What a text may go on with, looked up in the text itself, and whether guessing so pays on this machine.

A guess costs a span for each of its tokens and is right or dropped: what is drawn never depends on it.
Source: prompt lookup decoding, github.com/apoorvumang/prompt-lookup-decoding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

LAST = 3  # tokens that must have stood there before
FIRST, MOST = 4, 16  # tokens of a guess: at first, and when guesses turn out right
ROWS = 4  # rows in a step up to which its device has time to spare
AGAIN, SELDOM = 64, 1024  # steps after which what was slower is tried once more: at first, and at most
NOTHING = np.zeros(0, np.int32)
NEWEST = 0.2  # weight of the newest measurement
TRIES = 4  # steps of a way after which it is judged


def draft(tokens: np.ndarray, most: int) -> np.ndarray:
    """Up to `most` tokens that once followed the last ones of tokens int32 [L]; none where these are new."""
    if most <= 0 or len(tokens) <= LAST:
        return tokens[:0]
    last, before = tokens[-LAST:], tokens[:-1]
    same = np.ones(len(before) - LAST + 1, bool)
    for i in range(LAST):
        same &= before[i : len(before) - LAST + 1 + i] == last[i]
    ends = np.flatnonzero(same) + LAST
    if not len(ends):
        return tokens[:0]
    long = ends[ends + most <= len(tokens)]
    start = long[-1] if len(long) else ends[0]
    return tokens[start : start + most]


class Way(IntEnum):
    """How a step went on: token by token, with drafts that were looked up, with some that a draft model wrote.

    READING: with a draft model that read what it had missed, which tells nothing of the others.
    """

    PLAIN, FOUND, WRITTEN, READING = range(4)


@dataclass
class Cost:
    """What steps of one way took, in seconds and in tokens, older ones counting less; how many there were."""

    seconds: float = 0.0
    tokens: float = 0.0
    count: int = 0

    def add(self, seconds: float, tokens: int) -> None:
        self.seconds = (1 - NEWEST) * self.seconds + seconds
        self.tokens = (1 - NEWEST) * self.tokens + tokens
        self.count += 1

    def below(self, other: Cost) -> bool:
        """Whether a token costs less."""
        return self.seconds * other.tokens < other.seconds * self.tokens


@dataclass
class Gain:
    """What a token costs in each way, by how many rows decode together; measured as they run."""

    clock: Callable[[], float] = time.perf_counter
    _costs: dict[tuple[int, Way], Cost] = field(default_factory=dict)
    _refused: dict[Way, int] = field(default_factory=dict)
    _patience: dict[Way, int] = field(default_factory=dict)
    _guessed: int = 0  # steps since a plain one was measured
    _last: float = 0.0

    def worth(self, rows: int, way: Way = Way.FOUND) -> bool:
        """Whether to guess that way in the next step.

        What was slower is tried anew later, and after twice as long each time; what is faster is left out for a step
        now and then, so that the other cost stays true.
        """
        plain, guessed = self._costs.get((rows, Way.PLAIN)), self._costs.get((rows, way))
        if rows > ROWS or plain is None:
            return False
        if guessed is None or guessed.count < TRIES:
            return self._guessed < AGAIN
        if guessed.below(plain):
            self._patience[way] = AGAIN
            return self._guessed < AGAIN
        self._refused[way] = self._refused.get(way, 0) + 1
        patience = self._patience.get(way, AGAIN)
        if self._refused[way] < patience:
            return False
        self._refused[way], self._patience[way] = 0, min(2 * patience, SELDOM)
        del self._costs[rows, way]
        return True

    def note(self, rows: int, way: Way, tokens: int, launched: float) -> None:
        """A step in which rows decode has been read; `launched` is when it was, on our clock."""
        now = self.clock()
        self._costs.setdefault((rows, way), Cost()).add(now - max(launched, self._last), max(tokens, 1))
        self._last = now
        self._guessed = 0 if way is Way.PLAIN else self._guessed + 1

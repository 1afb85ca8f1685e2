"""Where the tokens come from that a row tries several of in a step: what was said before, or a small model that goes
ahead.

Whatever they are, what is drawn never depends on them. The small model's rows are borrowed of what the large one leaves
free, and go as soon as anybody wants it; it reads again what it has missed, a piece a step, before it writes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from crane_app.contract import BLOCK, Cache, Pending, Runner, Sampling, Work
from crane_app.engine import lookup
from crane_app.engine.lookup import Gain, Way
from crane_app.engine.sequence import Sequence

log = logging.getLogger(__name__)
READS = BLOCK  # tokens that a draft model reads in a step at most, of all rows together
REST = 64  # steps without drafts after memory was short or one failed; twice as many each time that one fails again,
DOUBLED = 6  # so many times


class Draft(NamedTuple):
    """Tokens int32 [K] that a row may go on with, and whose they are."""

    tokens: np.ndarray
    way: Way


@dataclass
class Drafts:
    """By row what it tries next. way: how the step goes on even if none is tried."""

    of: dict[Sequence, Draft] = field(default_factory=dict)
    way: Way = Way.PLAIN


NONE = Drafts()


class Lookups:
    """Drafts from a row's own text. tried, right: tokens of drafts that a model wrote. nbytes: what its rows hold."""

    tried = right = nbytes = 0

    def drafts(self, rows: list[Sequence], gain: Gain) -> Drafts:
        """What to try in the next step, for rows that all share it."""
        drafts = Drafts()
        if gain.worth(len(rows)):
            for sequence in rows:
                found = lookup.draft(sequence.known, sequence.foresight)
                if len(found):
                    drafts.of[sequence] = Draft(found, Way.FOUND)
        return drafts

    def leave(self, sequence: Sequence) -> None:
        """It has no row any more."""

    def shed(self) -> None:
        """Give back all memory but that of weights."""

    def give_way(self) -> None:
        """The same because others need it, and take none for a while."""


@dataclass
class Line:
    """The draft model's row for one choice.

    draw: how the choice draws, as far as that hangs on the last token alone. held: tokens of the choice that are in it.
    start, written: where its last draft began, and all it wrote there. offered: how many of those are tried.
    """

    row: int
    draw: Sampling
    held: int = 0
    start: int = 0
    written: list[int] = field(default_factory=list)
    offered: int = 0


class Drafter(Lookups):
    """Drafts from what was said before, else by a small model of the same tokens. Only the device thread calls it.

    cache: of the large model, which takes back what is lent whenever it grows. others: bytes that others borrow of the
    same memory. context, vocabulary: positions and ids that both models have.
    """

    def __init__(self, runner: Runner, cache: Cache, context: int, vocabulary: int, name: str = "The draft model"):
        self.runner, self.cache, self.name = runner, runner.cache, name
        self.context, self.vocabulary = context, vocabulary
        self.others: Callable[[], int] = lambda: 0
        self.tried = self.right = self.nbytes = 0
        self._lender, self._lines = cache, dict[Sequence, Line]()
        self._rest = self._faults = 0
        cache.claim = self._claim

    def drafts(self, rows: list[Sequence], gain: Gain) -> Drafts:
        drafts = super().drafts(rows, gain)
        pays = not self._rests() and gain.worth(len(rows), Way.WRITTEN)
        for sequence in rows:
            sequence.led = False
        if pays:
            try:
                self._lead([s for s in rows if s not in drafts.of and s.foresight], drafts)
            except Exception as error:
                self._fail(error)
            self._weigh()
        return drafts

    def leave(self, sequence: Sequence) -> None:
        sequence.led = False
        line = self._lines.pop(sequence, None)
        if line is not None:
            self._settle(sequence, line)
            self._close(line)
            self._weigh()

    def shed(self) -> None:
        for sequence in list(self._lines):
            self.leave(sequence)

    def give_way(self) -> None:
        if self._lines:
            self.shed()
            self._rest = REST
            log.info("%s gives its memory to conversations and rests", self.name)

    def _claim(self, nbytes: int) -> None:
        """So many bytes are about to be taken of what is lent."""
        if nbytes > self._free():
            self.give_way()

    # Rows

    def _free(self) -> int:
        """Bytes that nobody has, or has borrowed."""
        lender = self._lender
        return lender.budget - lender.nbytes() - self.cache.nbytes() - self.others()

    def _lead(self, rows: Iterable[Sequence], drafts: Drafts) -> None:
        """Write what each of these rows may go on with, if nothing of it is in flight and its line is up to date."""
        share, ready = READS, []
        for sequence in rows:
            known = sequence.known
            count = min(sequence.foresight, self.context - len(known))
            if count <= 0 or known.max() >= self.vocabulary:
                continue
            line = self._line(sequence, len(known) + count)
            behind = len(known) - line.held
            if behind > share:
                if share:
                    self._read(line, known[line.held : line.held + share])
                share, drafts.way = 0, Way.READING
                continue
            sequence.led, share = True, share - behind
            if not sequence.flying:
                ready.append((sequence, line, count))
        if ready:
            for sequence, tokens in self._write(ready).items():
                drafts.of[sequence] = Draft(tokens, Way.WRITTEN)
            self._faults = 0

    def _line(self, sequence: Sequence, length: int) -> Line:
        """The choice's line without what was wrong, with room for so many positions."""
        line = self._lines.get(sequence)
        if line is None or self.cache.room(line.row) < length:
            self.cache.budget = self.cache.nbytes() + max(self._free(), 0)
        if line is None:
            line = self._lines[sequence] = Line(self.cache.open(length), self._draw(sequence))
        self._settle(sequence, line)
        if self.cache.length(line.row) > line.held:
            self.cache.truncate(line.row, line.held)
        self.cache.reserve(line.row, length)
        return line

    def _settle(self, sequence: Sequence, line: Line) -> None:
        """Note how much of its last draft was right; of the choice's last token it never holds anything."""
        said = sequence.known[line.start :]
        right = next((i for i, (a, b) in enumerate(zip(line.written, said, strict=False)) if a != b), len(said))
        self.tried += line.offered
        self.right += min(right, line.offered)
        line.held = min(line.held, line.start + right if line.written else line.held, len(sequence.known) - 1)
        line.written, line.offered = [], 0

    def _draw(self, sequence: Sequence) -> Sampling:
        """Its own way with its own noise, under which models that are alike draw alike."""
        asked = sequence.resolved.sampling
        bias = {token: by for token, by in asked.logit_bias.items() if 0 <= token < self.vocabulary}
        free = replace(asked, repetition_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0)
        return replace(free, choice=sequence.choice, logit_bias=bias)

    def _close(self, line: Line) -> None:
        try:
            self.cache.close(line.row)
        except Exception:
            log.exception("a row of %s could not be closed", self.name)

    def _weigh(self) -> None:
        self.nbytes = self.cache.nbytes()

    # Steps

    def _read(self, line: Line, tokens: np.ndarray) -> None:
        """Take in a piece of what was said."""
        self.runner.launch([Work(line.row, tokens.copy(), logits=0)]).read()
        line.held += len(tokens)

    def _write(self, ready: list[tuple[Sequence, Line, int]]) -> Mapping[Sequence, np.ndarray]:
        """So many tokens of each, side by side: each step is launched on the one before, all are read at the end."""
        steps: list[tuple[list[Line], Pending]] = []
        for i in range(max(count for _, _, count in ready)):
            going = [(sequence, line) for sequence, line, count in ready if i < count]
            works = [Work(line.row, None if i else s.known[line.held :].copy(), draw=line.draw) for s, line in going]
            steps.append(([line for _, line in going], self.runner.launch(works, steps[-1][1] if i else None)))
        for lines, pending in steps:
            for line, (drawn,) in zip(lines, pending.read().drawn, strict=True):
                line.written.append(drawn.token)
        return {sequence: self._offered(sequence, line) for sequence, line, _ in ready}

    def _offered(self, sequence: Sequence, line: Line) -> np.ndarray:
        """What is tried of what was written: nothing behind an end, and only ids that both models have."""
        line.start = len(sequence.known)
        line.held = line.start + len(line.written) - 1
        found = line.written
        ends = (i for i, t in enumerate(found) if t in sequence.resolved.stop_ids or t >= self.vocabulary)
        end = next(ends, len(found))
        line.offered = end + (end < len(found) and found[end] < self.vocabulary)
        return np.array(found[: line.offered], np.int32)

    # When it fails

    def _rests(self) -> bool:
        self._rest = max(self._rest - 1, 0)
        return self._rest > 0

    def _fail(self, error: Exception) -> None:
        """Its rows are given up; the large model goes on as if it were not there."""
        self.shed()
        self._rest = REST << min(self._faults, DOUBLED)
        self._faults += 1
        log.warning("%s rests for %d steps: %s", self.name, self._rest, error)

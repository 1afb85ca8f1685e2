"""Who runs next on one model: prompts in chunks on the fixed grid, mixed with one token of every row that is ready.

Plain Python: knows the Runner's contract, no tensor library and no clock. The next step is launched before the last is
read; a token drawn past an end is dropped and the row closed when it has been read.
"""

from __future__ import annotations

import logging
from bisect import insort
from collections.abc import Sequence as Many
from dataclasses import dataclass
from itertools import chain

from crane_app.contract import BLOCK, Drawn, Pending, Runner, Work
from crane_app.engine.request import LANES
from crane_app.engine.sequence import Sequence
from crane_app.errors import CraneError, DeviceLost, NotEnoughMemory

log = logging.getLogger(__name__)

MOST_ROWS = 64
STEP_TOKENS = 2 * BLOCK  # prompt tokens a step takes at most; what a decoding row waits for


@dataclass
class Launched:
    """A step on the device and whose it is; lengths are the rows' before it."""

    pending: Pending
    works: list[Work]
    sequences: list[Sequence]
    lengths: list[int]


@dataclass
class Failed:
    """A step that could not be launched or read, set back already."""

    sequences: list[Sequence]
    error: Exception


class Scheduler:
    """The rows of one model. Only the device thread calls it; others may read its numbers.

    cache_nbytes: keys and values of all rows after the last step.
    """

    def __init__(self, runner: Runner, most_rows: int = MOST_ROWS, step_tokens: int = STEP_TOKENS):
        self.runner = runner
        self.cache = runner.cache
        self.most_rows = most_rows if runner.batched else 1
        self.step_tokens = step_tokens
        self.waiting: list[Sequence] = []  # the one that is due first in front
        self.running: list[Sequence] = []
        self.steps = self.tokens = self.cache_nbytes = 0
        self._flight: Launched | None = None

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running or self._flight)

    @property
    def lane(self) -> int:
        """The place in LANES of the most urgent choice."""
        return min((LANES.index(s.lane) for s in chain(self.running, self.waiting)), default=len(LANES))

    def add(self, sequence: Sequence) -> None:
        """A choice to make; it is admitted when there is room."""
        insort(self.waiting, sequence, key=lambda s: s.due)

    def step(self) -> None:
        """Launch the next step, then read the one before."""
        self._sweep()
        self._admit()
        before, self._flight = self._flight, None
        failed = self._launch(before)
        if before is not None:
            failed = self._read(before) or failed
        if failed is not None:
            self._alone(failed)
        self._sweep()
        if not self.runner.batched:
            self._weigh()  # an adapted row grows as it is filled

    def _admit(self) -> None:
        """Give the waiting choices a row each in the order of their dues, as long as there is room."""
        while self.waiting and len(self.running) < self.most_rows:
            sequence = self.waiting[0]
            if sequence.finish is None and not self._open(sequence):
                return
            self.running.append(self.waiting.pop(0))

    def _open(self, sequence: Sequence) -> bool:
        """A row for it; False when it must wait for others to end. With nobody to wait for it fails."""
        try:
            sequence.slot = self.cache.open(len(sequence.prompt) + min(sequence.limit, BLOCK))
        except NotEnoughMemory as error:
            if any(other.slot is not None for other in self.running):
                return False
            sequence.end("error", known(error))
        except Exception as error:
            sequence.end("error", known(error))
        else:
            sequence.room = self.cache.room(sequence.slot)
            self._weigh()
        return True

    def _launch(self, before: Launched | None) -> Failed | None:
        works, sequences, lengths = self._plan()
        if not works:
            return None
        try:
            pending = self.runner.launch(works, None if before is None else before.pending)
        except Exception as error:
            self._set_back(works, sequences, lengths)
            return Failed(sequences, error)
        self.steps += 1
        self._flight = Launched(pending, works, sequences, lengths)
        return None

    def _plan(self) -> tuple[list[Work], list[Sequence], list[int]]:
        """A token of every ready row, and chunks of prompts up to the step's share, the one due first before others."""
        works: list[Work] = []
        sequences: list[Sequence] = []
        lengths: list[int] = []
        prompts = []
        for sequence in self.running:
            if sequence.finish is not None:
                continue
            if sequence.prefilling:
                prompts.append(sequence)
            elif sequence.ready:
                length = sequence.length
                if length < sequence.room or self._grow(sequence, length + 1):
                    lengths.append(length)
                    works.append(sequence.step())
                    sequences.append(sequence)
        share = self.step_tokens
        if len(prompts) > 1:
            prompts.sort(key=lambda s: s.due)
        for sequence in prompts:
            start, end = sequence.launched, sequence.cut
            if end - start <= share or share == self.step_tokens:
                share -= end - start
                lengths.append(start)
                works.append(sequence.chunk())
                sequences.append(sequence)
        return works, sequences, lengths

    def _grow(self, sequence: Sequence, length: int) -> bool:
        """Room for `length` positions; a row that cannot have it fails alone."""
        assert sequence.slot is not None
        try:
            self.cache.reserve(sequence.slot, length)
        except Exception as error:
            sequence.end("error", known(error))
            return False
        sequence.room = self.cache.room(sequence.slot)
        self._weigh()
        return True

    def _read(self, launched: Launched) -> Failed | None:
        try:
            result = launched.pending.read()
        except Exception as error:
            # What was launched on top of it never happened either.
            for step in (self._flight, launched):
                if step is not None:
                    self._set_back(step.works, step.sequences, step.lengths)
            self._flight = None
            return Failed(launched.sequences, error)
        for sequence, drawn in zip(launched.sequences, result.drawn, strict=True):
            if drawn:
                self._take(sequence, drawn[0])
        return None

    def _take(self, sequence: Sequence, drawn: Drawn) -> None:
        self.tokens += 1
        try:
            sequence.take(drawn)
        except Exception as error:
            log.exception("a token could not be taken")
            sequence.fail(CraneError(f"The reply could not be put into text ({type(error).__name__}: {error})."))

    def _set_back(self, works: Many[Work], sequences: Many[Sequence], lengths: Many[int]) -> None:
        """As it was before a step."""
        for work, sequence, length in zip(works, sequences, lengths, strict=True):
            sequence.flying -= bool(work.logits)
            sequence.launched = min(sequence.launched, length)
            if sequence.slot is not None and self.cache.length(sequence.slot) > length:
                self.cache.truncate(sequence.slot, length)

    def _alone(self, failed: Failed) -> None:
        """Run each row of a failed step by itself, so that only the row at fault ends with an error."""
        log.warning("a step of %d rows failed", len(failed.sequences), exc_info=failed.error)
        for sequence in failed.sequences:
            if sequence.finish is not None or sequence.slot is None:
                continue
            if len(failed.sequences) == 1:
                sequence.end("error", known(failed.error))
                continue
            length = sequence.length
            work = sequence.chunk() if sequence.prefilling else sequence.step()
            try:
                drawn = self.runner.launch([work]).read().drawn[0]
            except Exception as error:
                self._set_back([work], [sequence], [length])
                sequence.end("error", known(error))
            else:
                self.steps += 1
                if drawn:
                    self._take(sequence, drawn[0])

    def _sweep(self) -> None:
        """Close the rows of choices that have ended and have nothing in flight."""
        ended = [s for s in self.running if s.finish is not None and not self._flying(s)]
        for sequence in ended:
            if sequence.slot is not None:
                self.cache.close(sequence.slot)
                sequence.slot = None
        if ended:
            self.running = [s for s in self.running if s not in ended]
            self._weigh()

    def _flying(self, sequence: Sequence) -> bool:
        return self._flight is not None and any(s is sequence for s in self._flight.sequences)

    def _weigh(self) -> None:
        self.cache_nbytes = self.cache.nbytes()

    def close(self) -> None:
        """Forget everything; the caller has ended the choices."""
        self._flight = None
        for sequence in self.running:
            if sequence.slot is not None:
                self.cache.close(sequence.slot)
                sequence.slot = None
        self.running, self.waiting = [], []
        self._weigh()


def known(error: BaseException) -> CraneError:
    """The error as a sentence for the one whose row it was; without its frames, which hold on to the device."""
    if isinstance(error, CraneError):
        return type(error)(str(error))
    return DeviceLost(f"The device failed under this request ({type(error).__name__}: {error}).")

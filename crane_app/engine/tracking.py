"""One request or job under way: its stream, its choices, its times; it sees to the one End."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping

from crane_app.engine.request import LANES, End, Event, Piece, Reason, Stream, Usage, failed
from crane_app.engine.sequence import Sequence

QUEUE = 1024  # requests and jobs under way at once; more are refused
LONGEST = 10**6  # seconds, of a deadline


class Tracked:
    """`do` runs a command on the device thread; `forget` is called once, when it has ended. model: what it needs."""

    def __init__(
        self,
        id: str,
        do: Callable[[Callable[[], None]], None],
        forget: Callable[[], object],
        model: str | None = None,
    ):
        self.model = model
        self.stream = Stream(id, lambda: do(self.cancel))
        self.forget = forget
        self.sequences: list[Sequence] = []
        self.on_cancel: Callable[[], None] = lambda: None
        self.submitted = time.monotonic()
        self.due = math.inf  # when it ends as cancelled, on the clock of `submitted`
        self.admitted = self.first = 0.0
        self.ended = False
        self._lock = threading.Lock()

    def put(self, event: Event) -> None:
        self.stream.put(event)

    def piece(self, piece: Piece) -> None:
        """A choice's output; with the last choice's finish comes the End."""
        if piece.tokens and not self.first:
            self.first = time.monotonic()
        self.stream.put(piece)
        if piece.finish is not None and all(s.finish is not None for s in self.sequences):
            self.end(self._ending())

    def _ending(self) -> End:
        """Of several choices the worst word counts."""
        reasons = {s.finish for s in self.sequences}
        error = next((s.error for s in self.sequences if s.error is not None), None)
        if error is not None:
            return failed(error, self.usage())
        order: tuple[Reason, ...] = ("error", "cancelled", "length", "stop")
        return End(next(reason for reason in order if reason in reasons), self.usage())

    def usage(self) -> Usage:
        """Counts so far; seconds from submission."""
        now, sequences = time.monotonic(), self.sequences
        return Usage(
            prompt_tokens=len(sequences[0].prompt) if sequences else 0,
            cached_tokens=sequences[0].cached if sequences else 0,
            output_tokens=sum(s.made for s in sequences),
            queued_s=max(self.admitted - self.submitted, 0.0),
            first_s=max(self.first - self.submitted, 0.0),
            total_s=now - self.submitted,
            seed=sequences[0].resolved.sampling.seed if sequences else None,
        )

    def cancel(self) -> None:
        """End it now, on the device thread: its rows leave at the next step, its job is closed."""
        if self.ended:
            return
        self.on_cancel()
        for sequence in self.sequences:
            sequence.end("cancelled")
        self.end(End("cancelled", self.usage()))

    def end(self, end: End) -> None:
        """Say the End, once; from any thread."""
        with self._lock:
            if self.ended:
                return
            self.ended = True
        self.stream.put(end)
        self.forget()


def refusal(tracked: Mapping[str, Tracked], id: str, lane: str, deadline: float | None) -> str:
    """Why an engine with these under way cannot take another; '' if it can."""
    if id in tracked:
        return f"A request with the id {id} is under way already."
    if lane not in LANES:
        return f"There is no lane '{lane}'. Use one of: {', '.join(LANES)}."
    if deadline is not None and not 0 <= deadline <= LONGEST:
        return f"deadline must be a number of seconds from 0 to {LONGEST}, not {deadline!r:.60}."
    if len(tracked) >= QUEUE:
        return f"The engine has {QUEUE} requests under way and takes no more. Try again in a moment."
    return ""

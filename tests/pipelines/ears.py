"""Stand-ins for hearing: an engine that writes what a test says, and a finder that takes loudness for speech."""

from __future__ import annotations

import numpy as np

from crane_app.engine.request import End, Job, Part, Stream, failed
from crane_app.media.sound import BLOCK, RATE


def speech(seconds: float, loudness: float = 0.5) -> np.ndarray:
    return np.full(round(seconds * RATE), loudness, np.float32)


def pause(seconds: float) -> np.ndarray:
    return np.full(round(seconds * RATE), 1e-3, np.float32)  # a room is never quite silent


def blocks(*parts: np.ndarray):
    samples = np.concatenate(parts)
    for first in range(0, len(samples), BLOCK):
        yield samples[first : first + BLOCK]


class LoudFinder:
    """Speech is what is louder than 0.1; it ends after `silence` seconds, and `pad` seconds of them are kept."""

    def __init__(self, silence: float = 0.4, pad: float = 0.1, longest: float = 30.0):
        self.silence, self.pad, self.longest = (round(x * RATE) for x in (silence, pad, longest))
        self.at = 0
        self.start: int | None = None
        self.quiet: int | None = None

    def push(self, block: np.ndarray) -> list[tuple[str, int]]:
        at, self.at = self.at, self.at + BLOCK
        if float(np.abs(block).max()) > 0.1:
            self.quiet = None
            if self.start is None:
                self.start = at
                return [("start", max(0, at - self.pad))]
            if at - self.start > self.longest:
                self.start = None
                return [("end", at)]
            return []
        if self.start is None:
            return []
        self.quiet = at if self.quiet is None else self.quiet
        if self.at - self.quiet >= self.silence:
            self.start = None
            return [("end", self.quiet + self.pad)]
        return []

    def finish(self, samples: int | None = None) -> list[tuple[str, int]]:
        return [] if self.start is None else [("end", self.at if samples is None else samples)]


class Ears:
    """An engine for jobs of kind `transcribe`; `writes` makes the text of the samples, or raises.

    With `held`, a job waits until `let`. `jobs`, `cancelled`, and the streams are there to be looked at.
    """

    def __init__(self, writes=lambda samples: f"{len(samples) / RATE:.1f}", held: bool = False):
        self.writes, self.held = writes, held
        self.jobs: list[Job] = []
        self.streams: list[Stream] = []
        self.cancelled: list[int] = []

    def open(self, job: Job) -> Stream:
        assert (job.kind, job.lane) == ("transcribe", "dictation")
        assert job.inputs.dtype == np.float32
        number = len(self.jobs)
        stream = Stream(str(number), lambda: self._cancel(number))
        self.jobs.append(job)
        self.streams.append(stream)
        if not self.held:
            self.let(number)
        return stream

    def let(self, number: int = -1) -> None:
        """Finish a job."""
        stream = self.streams[number]
        try:
            text = self.writes(self.jobs[number].inputs)
        except Exception as error:
            stream.put(failed(error))
            return
        stream.put(Part({"text": text, "tokens": [len(text), 2]}))
        stream.put(End("stop"))

    def _cancel(self, number: int) -> None:
        self.cancelled.append(number)
        self.streams[number].put(End("cancelled"))

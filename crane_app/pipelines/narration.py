"""Spoken sentences out of the speaker, with speed and volume that may change while they are heard.

A pause is a narration that was stopped: the listener keeps the sentence, and a new narration begins there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crane_app.media.stretch import blocks
from crane_app.pipelines.speech import Reading, Spoken
from crane_app.platform.speaker import Output

TOGETHER = 4  # blocks of the stretching, about 50 ms: what a stop or a change of volume may lag behind


class Opens(Protocol):
    """A speaker, or a stand-in that only notes what it is given."""

    def open(self, rate: int) -> Output: ...


@dataclass(frozen=True)
class Moment:
    """What is heard: the sentence's place among those read, and seconds of its own sound, passed and in all."""

    index: int
    seconds: float
    length: float


class Narration:
    def __init__(self, reading: Reading, speaker: Opens, speed: float = 1.0, volume: float = 1.0) -> None:
        """speed: times faster; volume: 0 to 1. Both may be set at any time, from any thread."""
        self.speed, self.volume = speed, volume
        self._reading, self._speaker = reading, speaker
        self._stopped = threading.Event()
        self._heard = volume  # of the last block

    def stop(self) -> None:
        """Fall silent within a block, from any thread."""
        self._stopped.set()
        self._reading.close()

    def moments(self) -> Iterator[Moment]:
        """Play; one moment at each sentence's start and after each block. Raises CraneError where there is no sound."""
        output: Output | None = None
        try:
            for index, spoken in enumerate(self._reading):
                if self._stopped.is_set():
                    return
                length = len(spoken.samples) / spoken.rate
                yield Moment(index, 0.0, length)
                if output is None or output.rate != spoken.rate:
                    if output is not None:
                        output.finish()
                    output = self._speaker.open(spoken.rate)
                for block, reached in _grouped(spoken, lambda: self.speed):
                    if self._stopped.is_set():
                        return
                    output.write(self._loud(block))
                    yield Moment(index, reached / spoken.rate, length)
            if output is not None and not self._stopped.is_set():
                output.finish()
        finally:
            self._reading.close()
            if output is not None:
                output.drop()

    def _loud(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """The block at the volume now, approached without a step that would click."""
        before, self._heard = self._heard, self.volume
        gain: NDArray[np.float32] = np.linspace(before, self._heard, len(block), dtype=np.float32)
        return block * gain


def _grouped(spoken: Spoken, speed: Callable[[], float]) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Blocks of about 50 ms, each with the sample of the sentence that was reached."""
    group: list[NDArray[np.float32]] = []
    reached = 0
    for block, reached in blocks(spoken.samples, spoken.rate, speed):
        group.append(block)
        if len(group) == TOGETHER:
            yield np.concatenate(group), reached
            group = []
    if group:
        yield np.concatenate(group), reached

"""Blocks of sound in, stretches of speech out: what one person says between two pauses.

Holds the sound of what is being said and a moment before it, however long the recording is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crane_app.media.sound import BLOCK, RATE, Sound
from crane_app.media.vad import BLOCKS, SpeechFinder

LOOK_BACK_S = 2.0  # how far back a beginning may lie that is only now certain

# Speech models lose words at hard cuts, so a pause must be longer than the package's 100 ms, and its silence stays with
# the words; 30 s is what Moonshine was trained on.
PAUSE_MS = 400
LEAST_MS = 150
LONGEST_S = 30


class Finder(Protocol):
    """media.vad.SpeechFinder, or a stand-in."""

    def push(self, block: NDArray[np.float32]) -> Sequence[tuple[str, int]]: ...
    def finish(self, samples: int | None = None) -> Sequence[tuple[str, int]]: ...


@dataclass(frozen=True)
class Utterance:
    """Speech from `start` to `end` seconds of the recording: float32 [n] at RATE."""

    start: float
    end: float
    samples: NDArray[np.float32]


def speech_finder() -> Finder:
    """Finds speech with pauses as long as dictation needs them."""
    return SpeechFinder(
        RATE, min_speech_ms=LEAST_MS, min_silence_ms=PAUSE_MS, speech_pad_ms=PAUSE_MS, max_speech_s=LONGEST_S
    )


class Utterances:
    """Cuts one recording; `samples` counts what it was given."""

    def __init__(self, finder: Finder | None = None) -> None:
        self._finder = finder or speech_finder()
        self._kept: list[NDArray[np.float32]] = []
        self._first = 0  # the recording's sample with which `_kept` begins
        self._start: int | None = None
        self.samples = 0

    @property
    def speaking(self) -> bool:
        return self._start is not None

    @property
    def seconds(self) -> float:
        """Of what is being said, so far."""
        return 0.0 if self._start is None else (self.samples - self._start) / RATE

    def so_far(self) -> Utterance | None:
        """What is being said."""
        return None if self._start is None else self._between(self._start, self.samples)

    def push(self, block: NDArray[np.float32]) -> list[Utterance]:
        """What `block` float32 [BLOCK], or fewer for the recording's last one, brings to an end."""
        self._kept.append(block)
        self.samples += len(block)
        whole = block if len(block) == BLOCK else np.pad(block, (0, BLOCK - len(block)))
        return self._cut(self._finder.push(whole))

    def finish(self) -> list[Utterance]:
        """What the end of the recording brings to an end."""
        return self._cut(self._finder.finish(self.samples))

    def _cut(self, events: Sequence[tuple[str, int]]) -> list[Utterance]:
        ended: list[Utterance] = []
        for what, sample in events:
            if what == "start":
                self._start = max(sample, self._first)
            elif self._start is not None:
                ended.append(self._between(self._start, min(sample, self.samples)))
                self._start = None
        # After a cut the next beginning may lie as far back as the speech was long; it is told with the next block.
        if not events:
            self._forget(self.samples - round(LOOK_BACK_S * RATE) if self._start is None else self._start)
        return ended

    def _between(self, start: int, end: int) -> Utterance:
        samples = np.concatenate(self._kept)[start - self._first : end - self._first]
        return Utterance(start / RATE, end / RATE, samples)

    def _forget(self, before: int) -> None:
        drop = 0
        while drop < len(self._kept) and self._first + len(self._kept[drop]) <= before:
            self._first += len(self._kept[drop])
            drop += 1
        del self._kept[:drop]


def speech_times(sound: Sound) -> tuple[list[tuple[float, float]], float]:
    """Where speech begins and ends, in seconds, by the defaults of Silero VAD; and the length of the sound."""
    rate = sound.rate if sound.rate in BLOCKS else RATE
    finder = SpeechFinder(rate)
    events, samples = [], 0
    for block in sound.blocks(rate, finder.block):
        samples += len(block)
        events += finder.push(np.pad(block, (0, finder.block - len(block))))
    events += finder.finish(samples)
    times = [round(sample / rate, 3) for _, sample in events]
    return list(zip(times[::2], times[1::2], strict=True)), samples / rate

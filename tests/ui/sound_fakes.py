"""Voices, loudspeakers and microphones that make no sound and hear none."""

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from crane_app.platform.voices import Voice
from crane_app.platform.voices.process import Sound

RATE = 16_000
PATIENCE_S = 20
DEVICES = (SimpleNamespace(name="Studio", default=True), SimpleNamespace(name="Headset", default=False))


class FakeVoice:
    """Says every sentence in a tenth of a second of silence per word."""

    name = "fake"

    def voices(self):
        return (Voice("alba", "Alba", "en-gb"), Voice("rosa", "Rosa", "de"))

    def render(self, text, _voice):
        return Silence(len(text.split()) * RATE // 10)


class Silence:
    """As platform.voices.process.Rendering, of so many samples."""

    def __init__(self, length: int):
        self._length = length

    def sound(self):
        return Sound(np.zeros(self._length, np.float32), RATE)

    def cancel(self):
        pass


class FakeSpeaker:
    """Takes sound at once; from the block numbered `held_at` on it waits for `let()`."""

    def __init__(self, held_at: int | None = None):
        self.rate, self.blocks, self.held_at = RATE, 0, held_at
        self._gate = threading.Event()

    def let(self) -> None:
        self._gate.set()

    def open(self, rate):
        self.rate = rate
        return self

    def write(self, _block):
        self.blocks += 1
        if self.held_at is not None and self.blocks > self.held_at:
            self._gate.wait(PATIENCE_S)

    def finish(self):
        pass

    def drop(self):
        pass


class FakeMicrophone:
    """Hears silence until it is closed."""

    def __init__(self, name: str):
        self.name, self.closed = name, threading.Event()

    def blocks(self, until):
        while not until.is_set() and not self.closed.is_set():
            until.wait(0.02)
            yield np.zeros(512, np.float32)

    def close(self):
        self.closed.set()


def played(_path: Path):
    """A sound file that is over at once."""
    yield 0.0

"""A voice and a speaker that do what a test tells them to."""

from __future__ import annotations

import threading

import numpy as np

from crane_app.errors import Cancelled
from crane_app.platform.voices import Voice
from crane_app.platform.voices.process import Sound

RATE = 1000


class FakeTeller:
    """Says each letter as ten samples; with `held`, only what is let go. `faults`: what goes wrong with a text."""

    name = "fake"

    def __init__(self) -> None:
        self.begun: list[tuple[str, str]] = []
        self.cancelled: list[str] = []
        self.faults: dict[str, Exception] = {}
        self.rates: dict[str, int] = {}
        self.held = False
        self.gate = threading.Semaphore(0)
        self.at_once = self.most_at_once = 0

    def voices(self) -> tuple[Voice, ...]:
        return Voice("anna", "Anna", "de-de"), Voice("kyoko", "Kyoko", "ja-jp"), Voice("alex", "Alex", "en-us")

    def render(self, text: str, voice: str) -> FakeRendering:
        self.begun.append((text, voice))
        return FakeRendering(self, text)


class FakeRendering:
    def __init__(self, teller: FakeTeller, text: str) -> None:
        self.teller, self.text = teller, text
        self.stopped = threading.Event()

    def sound(self) -> Sound:
        teller = self.teller
        teller.at_once += 1
        teller.most_at_once = max(teller.most_at_once, teller.at_once)
        while teller.held and not teller.gate.acquire(timeout=0.01):
            if self.stopped.is_set():
                break
        teller.at_once -= 1
        if self.stopped.is_set():
            raise Cancelled("stopped")
        if self.text in teller.faults:
            raise teller.faults[self.text]
        samples = np.full(10 * len(self.text), 0.5, np.float32)
        return Sound(samples, teller.rates.get(self.text, RATE))

    def cancel(self) -> None:
        self.stopped.set()
        self.teller.cancelled.append(self.text)


class FakeSpeaker:
    """Notes what it is given, and does what a test says after so many blocks; with `held`, it takes what is let."""

    def __init__(self) -> None:
        self.outputs: list[FakeOutput] = []
        self.then: dict[int, object] = {}
        self.held = False
        self.gate = threading.Semaphore(0)
        self.refuses: Exception | None = None

    def open(self, rate: int) -> FakeOutput:
        if self.refuses is not None:
            raise self.refuses
        self.outputs.append(FakeOutput(self, rate))
        return self.outputs[-1]

    @property
    def heard(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.float32), *(block for each in self.outputs for block in each.blocks)])


class FakeOutput:
    def __init__(self, speaker: FakeSpeaker, rate: int) -> None:
        self.speaker, self.rate = speaker, rate
        self.blocks: list[np.ndarray] = []
        self.ended = ""

    def write(self, block: np.ndarray) -> None:
        while self.speaker.held and not self.speaker.gate.acquire(timeout=0.01):
            if self.ended:
                return
        self.blocks.append(block)
        does = self.speaker.then.pop(len(self.blocks), None)
        if does is not None:
            does()

    def finish(self) -> None:
        self.ended = "finished"

    def drop(self) -> None:
        self.ended = self.ended or "dropped"

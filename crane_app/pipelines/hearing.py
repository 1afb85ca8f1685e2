"""One stretch of speech on its way through the engine, and what comes back."""

from __future__ import annotations

import queue
from dataclasses import dataclass

from crane_app.engine.interface import EngineLike
from crane_app.engine.request import End, Job, Part, Stream, error_of
from crane_app.errors import Cancelled, CraneError
from crane_app.pipelines.utterances import Utterance

STOPPED = "The engine stopped before everything was written."


@dataclass(frozen=True)
class Ear:
    """An engine, and the name under which it has a speech model."""

    engine: EngineLike
    model: str


@dataclass(frozen=True)
class Written:
    """What a speech model made of an utterance."""

    text: str
    tokens: tuple[int, ...]


class Hearing:
    """A job of kind `transcribe`; max_tokens None leaves the length to the model. What fails is told by `wait`."""

    def __init__(self, ear: Ear, utterance: Utterance, max_tokens: int | None = None) -> None:
        self.utterance = utterance
        self._stream: Stream | None = None
        self._refused: CraneError | None = None
        self._written: Written | None = None
        try:
            self._stream = ear.engine.open(
                Job("transcribe", utterance.samples, {"max_tokens": max_tokens}, model=ear.model, lane="dictation")
            )
        except CraneError as error:
            self._refused = error

    def wait(self, seconds: float) -> Written | None:
        """What was written, or None if it is not there after `seconds`. Its error is raised as a CraneError."""
        if self._stream is None:
            raise self._refused or Cancelled(STOPPED)
        while True:
            try:
                event = self._stream.get(timeout=seconds)
            except queue.Empty:
                return None
            if isinstance(event, Part):
                self._written = Written(str(event.value["text"]).strip(), tuple(event.value["tokens"]))
            elif isinstance(event, End):
                return self._ended(event)

    def cancel(self) -> None:
        if self._stream is not None:
            self._stream.cancel()

    def _ended(self, end: End) -> Written:
        if end.reason == "error":
            raise error_of(end)
        if self._written is None or end.reason == "cancelled":
            raise Cancelled(STOPPED)
        return self._written

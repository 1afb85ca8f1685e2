"""An engine that says what it was told to say: for what a model of noise never does."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from typing import Any

from crane_app.engine.request import End, Event, Job, ModelCard, Part, Piece, Request, Stats, Stream, Usage, failed
from crane_app.errors import ModelNotFound

CARD = ModelCard("tiny", "/tiny", "Qwen3", "torch", "cpu", "float32", 4096, 256, 0, True, True, (2,))


class Scripted:
    """Every request gets these events; `None` among them waits for `go`. prompts: how a prompt ends, as text."""

    def __init__(self, *events: Event | None, prompt: str = "<|im_start|>assistant\n", tools: bool = True) -> None:
        self.events, self.prompt, self.tools = events, prompt, tools
        self.requests: list[Request] = []
        self.cancelled: list[str] = []
        self.wishes: list[tuple[str, Any]] = []
        self.go = threading.Event()
        self.cards = [CARD]
        self._ids = itertools.count(1)

    def submit(self, request: Request) -> Stream:
        self.requests.append(request)
        return self._start(self.events)

    def open(self, job: Job) -> Stream:
        if job.kind == "tokenize":
            return self._start([Part([1, 2, 3] if "tools" in job.options and self.tools else [1, 2]), End("stop")])
        return self._start([Part(self.prompt), End("stop")])

    def models(self) -> list[ModelCard]:
        return self.cards

    def stats(self) -> Stats:
        return Stats("idle", 0, 0, 1, 0, 0, 0, 0, 0.0, 1)

    def flush(self) -> None:
        pass

    def unload(self, name: str) -> None:
        raise ModelNotFound(name)

    def pin(self, name: str, on: bool = True) -> None:
        self.wishes.append((name, on))

    def keep(self, name: str, seconds: float | None) -> None:
        self.wishes.append((name, seconds))

    def load(self, *_: Any) -> Stream:
        return self._start([failed(ModelNotFound("none"))])

    def close(self, drain: bool = True) -> None:
        pass

    def _start(self, events: Iterable[Event | None]) -> Stream:
        id = f"s{next(self._ids)}"
        over = threading.Event()

        def cancel() -> None:
            self.cancelled.append(id)
            over.set()
            stream.put(End("cancelled"))

        stream = Stream(id, cancel)

        def play() -> None:
            for event in events:
                if event is None:
                    while not self.go.wait(0.01) and not over.is_set():
                        pass
                elif not over.is_set():
                    stream.put(event)

        threading.Thread(target=play, daemon=True).start()
        return stream


def said(*words: str, finish: str = "stop", tokens: int = 1) -> tuple[Event, ...]:
    """Words, a token each, and the end."""
    pieces = [Piece(word, (5,) * tokens) for word in words[:-1]]
    usage = Usage(7, len(words) * tokens)
    return (*pieces, Piece(words[-1], (5,), finish=finish, matched=2), End(finish, usage))  # type: ignore[arg-type]

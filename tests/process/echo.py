"""An engine without a model, served as a real process: `python -P echo.py [engine flags]`.

A request's text comes back word by word; `template` may slow it down or make it fail. A folder's name says what loading
does: `deadly` kills the process, `slow` takes seconds.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crane_app.engine.process import child, visitor
from crane_app.engine.request import End, Event, Job, ModelCard, Part, Piece, Progress, Request, Stats, Stream, failed
from crane_app.errors import BadInput, ModelNotFound
from crane_app.version import VERSION

CARD = ModelCard("echo", "", "Echo", "none", "cpu", "float32", 4096, 256, 0, True, True)


@dataclass
class Work:
    """A running generator of events."""

    stream: Stream
    stop: threading.Event


class Echo:
    """See interface.EngineLike."""

    def __init__(self) -> None:
        self.phase = "idle"
        self.cards: dict[str, ModelCard] = {}
        self.works: dict[str, Work] = {}
        self.ids = itertools.count(1)
        self.closing = threading.Event()
        self.loads = 0
        self.wishes: list[tuple[str, Any]] = []

    def run(self) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.closing.wait()
        for work in list(self.works.values()):
            work.stop.set()
        until = time.monotonic() + 2
        while self.works and time.monotonic() < until:
            time.sleep(0.005)

    def submit(self, request: Request) -> Stream:
        return self.start(request.id, self.answer(request))

    def open(self, job: Job) -> Stream:
        return self.start(job.id, getattr(self, f"job_{job.kind}")(job))

    def load(self, folder: str, name=None, device="auto", **how) -> Stream:
        return self.start("", self.loading(folder, name or Path(folder).name, device))

    def unload(self, name: str) -> None:
        if name not in self.cards:
            raise ModelNotFound(f"No model is called '{name}'.")
        del self.cards[name]

    def pin(self, name: str, on: bool = True) -> None:
        self.wishes.append((name, on))

    def keep(self, name: str, seconds: float | None) -> None:
        self.wishes.append((name, seconds))

    def models(self) -> list[ModelCard]:
        return list(self.cards.values())

    def stats(self) -> Stats:
        return Stats(self.phase, len(self.works), 0, len(self.cards), 0, 0, self.loads, 0, 0.0, os.getpid())

    def flush(self) -> None:
        """Takes its time, as a busy engine would."""
        time.sleep(float(os.environ.get("ECHO_FLUSH", "0")))

    def close(self, drain: bool = True) -> None:
        while drain and self.works:
            time.sleep(0.005)
        self.closing.set()

    def start(self, id: str, events: Iterator[Event]) -> Stream:
        id = id or f"e{next(self.ids)}"
        assert id not in self.works, "clients' ids must not meet in the engine"
        stop = threading.Event()
        stream = Stream(id, stop.set)
        self.works[id] = Work(stream, stop)
        threading.Thread(target=self.follow, args=(id, events, stream, stop), daemon=True).start()
        return stream

    def follow(self, id: str, events: Iterator[Event], stream: Stream, stop: threading.Event) -> None:
        end = End("stop")
        try:
            for event in events:
                if stop.is_set():
                    end = End("cancelled")
                    break
                stream.put(event)
        except Exception as error:
            end = failed(error)
        del self.works[id]
        stream.put(end)

    def answer(self, request: Request) -> Iterator[Event]:
        if request.model not in ("any", *self.cards):
            raise ModelNotFound(f"No model is called '{request.model}'.")
        options = request.template
        if options.get("count_only"):
            yield Piece(str(len(request.text)))
            return
        for number, word in enumerate(request.text.split()):
            if number == options.get("die_at", -1):
                time.sleep(0.1)  # so that what was said before is on its way
                os.kill(os.getpid(), signal.SIGKILL)
            if number == options.get("fail_at", -1):
                raise BadInput("This word is not for echoing.")
            time.sleep(options.get("pause", 0.0))
            yield Piece(word + " ", (number,))

    def loading(self, folder: str, name: str, device: str) -> Iterator[Event]:
        self.loads += 1
        self.phase = f"loading {folder}"
        yield Progress(0, 2, "reading")
        if "deadly" in name:
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        if "broken" in name:
            raise BadInput("This model is broken.")
        for _ in range(100 if "slow" in name else 0):
            time.sleep(0.05)
            yield Progress(1, 2, "reading")
        self.cards[name] = replace(CARD, name=name, folder=folder, device=device)
        self.phase = "idle"
        yield Part(self.cards[name])

    def job_blocks(self, job: Job) -> Iterator[Event]:
        """`count` arrays of `nbytes` bytes, as fast as they can be put."""
        for number in range(job.options["count"]):
            yield Part(np.full(job.options["nbytes"] // 4, number, np.float32))

    def job_back(self, job: Job) -> Iterator[Event]:
        yield Part(job.inputs)

    def job_strange(self, job: Job) -> Iterator[Event]:
        yield Part(object())

    def job_noise(self, job: Job) -> Iterator[Event]:
        """Prints as libraries do: from Python and straight to the descriptors."""
        print("a library says hello")
        os.write(1, b"\x00\xff native noise\n" * 1000)
        os.write(2, b"Crn1 native noise\n" * 1000)
        yield Part("done")

    def job_modules(self, job: Job) -> Iterator[Event]:
        import json

        yield Part({"json": json.__file__, "folder": str(Path.cwd()), "env": os.environ.get("ECHO_ENV", "")})

    def job_busy(self, job: Job) -> Iterator[Event]:
        """A phase that the heartbeat tells of."""
        self.phase = "thinking hard"
        yield Part(None)
        while True:
            time.sleep(0.02)
            yield Progress(0, 0)


def make() -> Any:
    if os.environ.get("ECHO_BROKEN"):
        raise ImportError("libecho.so.1: cannot open shared object file")
    return Echo()


if __name__ == "__main__":
    child.BEAT = 0.2
    visitor.BACKLOG = int(os.environ.get("ECHO_BACKLOG", visitor.BACKLOG))
    visitor.PATIENCE = float(os.environ.get("ECHO_PATIENCE", visitor.PATIENCE))
    child.leave(child.main(make=make, version=os.environ.get("ECHO_VERSION", VERSION)))

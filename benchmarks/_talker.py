"""An engine process without a model that answers every request with Markdown, at so many tokens a second."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

from crane_app.engine.process import child
from crane_app.engine.request import End, Job, ModelCard, Part, Piece, Progress, Request, Stats, Stream
from crane_app.version import VERSION

RATE = float(os.environ.get("TALKER_RATE", "200"))
TOKEN = 4  # characters


class Talker:
    """See engine.interface.EngineLike; what `run` waits for is the end of the process."""

    def __init__(self) -> None:
        self.phase = "idle"
        self.cards: dict[str, ModelCard] = {}
        self.running = 0
        self.closing = threading.Event()
        self.text = os.environ["TALKER_TEXT"]

    def run(self) -> None:
        self.closing.wait()

    def submit(self, request: Request) -> Stream:
        return self._start(request.id, self._answer)

    def open(self, job: Job) -> Stream:
        return self._start(job.id, lambda _stop: iter([Part([1] if job.kind == "tokenize" else "")]))

    def load(self, folder: str, name=None, backend=None, device="auto", dtype=None) -> Stream:
        card = ModelCard(name or "talker", folder, "Talker", "none", "cpu", "float32", 40960, 256, 10**9, True, True)
        self.cards[card.name] = card
        return self._start("", lambda _stop: iter([Progress(1, 2), Part(card)]))

    def unload(self, name: str) -> None:
        del self.cards[name]

    def models(self) -> list[ModelCard]:
        return list(self.cards.values())

    def stats(self) -> Stats:
        return Stats(self.phase, self.running, 0, len(self.cards), 0, 0, 0, 0, 0.0, os.getpid())

    def flush(self) -> None:
        pass

    def close(self, drain: bool = True) -> None:
        self.closing.set()

    def _start(self, id: str, events) -> Stream:
        stop = threading.Event()
        stream = Stream(id or str(time.monotonic_ns()), stop.set)

        def feed() -> None:
            self.running += 1
            for event in events(stop):
                stream.put(event)
            self.running -= 1
            stream.put(End("cancelled" if stop.is_set() else "stop"))

        threading.Thread(target=feed, daemon=True).start()
        return stream

    def _answer(self, stop: threading.Event) -> Iterator[Piece]:
        began, sent = time.monotonic(), 0
        while not stop.is_set():
            due = int((time.monotonic() - began) * RATE)
            for token in range(sent, due):
                start = TOKEN * token % (len(self.text) - TOKEN)
                yield Piece(self.text[start : start + TOKEN], (token,))
            sent = due
            time.sleep(1 / RATE)


if __name__ == "__main__":
    child._exit(child.main(make=Talker, version=VERSION))

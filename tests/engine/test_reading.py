"""Reading as a job of the engine: beside the device, beside short jobs, and with its memory given back."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from crane_app.engine import models, reading
from crane_app.engine.engine import Engine
from crane_app.engine.reading import Resting
from crane_app.engine.request import Job, Part
from crane_app.errors import BadInput
from crane_app.media.pages import unpacked
from crane_app.media.reader import Line


def tiff(count: int) -> bytes:
    first, *others = [Image.new("L", (40, 30), "white") for _ in range(count)]
    file = io.BytesIO()
    first.save(file, "TIFF", save_all=True, append_images=others)
    return file.getvalue()


class Gated(Resting):
    """A reader that waits for a `let` at each page."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.begun = threading.Semaphore(0), threading.Semaphore(0)

    def lines(self, image: np.ndarray) -> list[Line]:
        self.begun.release()
        assert self.gate.acquire(timeout=20)
        return [Line("text", ((0, 0), (9, 0), (9, 9), (0, 9)), 0.9)]


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Gated:
    gated = Gated()
    monkeypatch.setattr(models, "Resting", lambda: gated)
    return gated


@pytest.fixture
def engine(reader: Gated) -> Iterator[Engine]:
    made = Engine()
    yield made
    reader.gate.release(99)
    made.close(drain=False)


def values(events: Iterator[Part]) -> list[dict]:
    return [event.value for event in events]


def test_pages_come_one_by_one_without_those_to_skip(engine: Engine, reader: Gated) -> None:
    reader.gate.release(3)
    found = values(iter(engine.open(Job("read", tiff(4), {"skip": [2]}))))
    assert [(each["page"], each["count"]) for each in found] == [(1, 4), (3, 4), (4, 4)]
    assert unpacked(found[0]["text"]).regions[0].text == "text"


def test_short_work_goes_on_while_documents_are_read(engine: Engine, reader: Gated) -> None:
    # GIVEN more documents under way than there are threads for short work
    streams = [engine.open(Job("read", tiff(1))) for _ in range(4)]
    assert reader.begun.acquire(timeout=20)
    # WHEN a page is to be drawn
    (drawn,) = values(iter(engine.open(Job("draw", tiff(3), {"page": 2}))))
    # THEN it is, and only one document was begun
    assert (drawn["page"], drawn["count"], drawn["width"]) == (2, 3, 40)
    assert not reader.begun.acquire(blocking=False)
    reader.gate.release(4)
    assert [len(list(stream)) for stream in streams] == [1] * 4


def test_a_cancelled_document_ends_after_the_page_under_way(engine: Engine, reader: Gated) -> None:
    stream = engine.open(Job("read", tiff(50)))
    assert reader.begun.acquire(timeout=20)
    stream.cancel()
    list(stream)
    assert stream.end is not None
    assert stream.end.reason == "cancelled"
    reader.gate.release(50)
    # the next document shows that the thread is free, and that no further page was begun
    assert len(list(engine.open(Job("read", tiff(1))))) == 1
    assert reader.begun.acquire(blocking=False)
    assert not reader.begun.acquire(blocking=False)


def test_what_cannot_be_opened_is_a_sentence(engine: Engine) -> None:
    for kind in ("read", "draw"):
        with pytest.raises(BadInput, match="'scan' holds plain text"):
            list(engine.open(Job(kind, b"only words", {"name": "scan"})))
        with pytest.raises(BadInput, match="needs the path"):
            list(engine.open(Job(kind, 7)))


def test_the_readers_memory_is_given_back_when_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    class Bundled:
        def __init__(self) -> None:
            made.append(self)

        def lines(self, image: np.ndarray) -> list[Line]:
            return []

    class Timer(threading.Thread):
        """A timer that a test lets pass."""

        def __init__(self, seconds: float, does) -> None:
            super().__init__(target=does)
            self.cancelled = False
            timers.append(self)

        def start(self) -> None:
            pass

        def cancel(self) -> None:
            self.cancelled = True

        def passes(self) -> None:
            super().start()
            self.join()

    timers: list[Timer] = []
    monkeypatch.setattr("crane_app.media.reader.Reader", Bundled)
    monkeypatch.setattr(reading.threading, "Timer", Timer)
    # GIVEN two pages one after the other: one reader for both
    resting, image = Resting(reading.RESTING_S), np.zeros((9, 9, 3), np.uint8)
    resting.lines(image)
    resting.lines(image)
    assert len(made) == 1
    assert timers[0].cancelled
    # WHEN the time of the first passes all the same
    timers[0].passes()
    resting.lines(image)
    assert len(made) == 1
    # AND that of the last does
    timers[-1].passes()
    # THEN the next page needs another one
    resting.lines(image)
    assert len(made) == 2

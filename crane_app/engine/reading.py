"""Reading pictures and PDFs as jobs: page after page on the host, never on the device thread.

A page that cannot be read costs only itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from crane_app.engine.memory import Pool
from crane_app.engine.request import Job, Part
from crane_app.errors import BadInput, CraneError

RESTING_S = 180.0  # seconds without a page after which the reader's memory is given back
READER = "built-in reader"
READER_NBYTES = 250 * 10**6  # its three networks, and what onnxruntime holds after a page of A4 (measured on Linux)


class LineReader(Protocol):
    def lines(self, image: Any) -> list[Any]: ...


def read_pages(job: Job, reader: LineReader) -> Iterator[Part]:
    """The text of each page but those in options["skip"], and how many pages there are.

    inputs: the path of a picture or PDF, or its content; options["name"]: what errors call it. Parts hold `page`,
    `count` and either `text` (media.pages.packed) or `error`, a sentence.
    """
    from crane_app.media.documents import Document

    skip = frozenset(job.options.get("skip", ()))
    with Document(_source(job), job.options.get("name", "")) as document:
        for number in range(1, document.count + 1):
            if number not in skip:
                yield Part({"page": number, "count": document.count, **_read(document, number, reader)})


def draw_page(job: Job) -> Iterator[Part]:
    """options["page"] of a document as a media.pages.Sheet, its fields by name; inputs as in `read_pages`."""
    from crane_app.media.documents import Document
    from crane_app.media.pages import sheet

    with Document(_source(job), job.options.get("name", "")) as document:
        number = min(max(1, job.options.get("page", 1)), document.count)
        yield Part(vars(sheet(number, document.count, document.page(number).image)))


def _read(document: Any, number: int, reader: LineReader) -> dict[str, Any]:
    from crane_app.media.layout import regions
    from crane_app.media.pages import PageText, packed

    try:
        image = document.page(number).image
        height, width = image.shape[:2]
        text = PageText(number, document.count, width, height, tuple(regions(reader.lines(image))))
        return {"text": packed(text)}
    except CraneError as error:
        return {"error": str(error)}


def _source(job: Job) -> str | bytes:
    if not isinstance(job.inputs, str | bytes):
        raise BadInput("Reading needs the path of a picture or PDF, or its content.")
    return job.inputs


class Resting:
    """The bundled reader, loaded by the first page, as one of the things that share the memory.

    room: called before it is loaded, with the bytes that it takes; raises if they are not there. seconds: without a
    page, after which it gives its memory back by itself; None: only by `rest`.
    """

    name = READER
    pool: Pool = "main"
    rest_s = RESTING_S

    def __init__(self, seconds: float | None = None, room: Callable[[int], object] = lambda nbytes: None) -> None:
        self.used = 0.0
        self.room = room
        self._seconds = seconds
        self._reader: Any = None
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    @property
    def weights(self) -> int:
        return READER_NBYTES if self._reader is not None else 0

    def lines(self, image: Any) -> list[Any]:
        from crane_app.media.reader import Reader

        if self._reader is None:  # outside of the lock: who makes room may have to ask the one who loads
            self.room(READER_NBYTES)
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._reader = self._reader or Reader()
            try:
                return self._reader.lines(image)  # type: ignore[no-any-return]
            finally:
                if self._seconds is not None:
                    self._timer = threading.Timer(self._seconds, self._rest)
                    self._timer.daemon = True
                    self._timer.start()

    def rest(self) -> None:
        """Give its memory back; not while a page is read."""
        if self._lock.acquire(blocking=False):
            self._reader = None
            self._lock.release()

    def _rest(self) -> None:
        with self._lock:
            if self._timer is threading.current_thread():  # no page came just before
                self._reader = self._timer = None


class Here:
    """`open` as the engine has it, for these jobs alone and in this process."""

    def __init__(self, reader: LineReader | None = None) -> None:
        self._reader = reader or Resting(RESTING_S)

    def open(self, job: Job) -> Iterator[Part]:
        return read_pages(job, self._reader) if job.kind == "read" else draw_page(job)

"""Documents for the window: their texts page by page, and how a page looks, each on a worker's thread.

The engine's process does the work; without a connection this one does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import QBuffer, QIODevice, QObject, Signal
from PySide6.QtGui import QImage

from crane_app.ui.worker import Worker, sentence

KEPT_LOOKS = 6  # pages, each up to 15 MB


@dataclass(frozen=True, eq=False)
class Source:
    """A file by its path, or a picture by itself."""

    path: str = ""
    picture: QImage | None = None

    @classmethod
    def of(cls, what: Path | str | QImage) -> Source:
        return cls(picture=what) if isinstance(what, QImage) else cls(path=str(what))

    def content(self) -> Path | bytes:
        """What a pipeline takes; not on the GUI thread."""
        if self.picture is None:
            return Path(self.path)
        buffer = QBuffer()
        buffer.open(QIODevice.OpenModeFlag.WriteOnly)
        self.picture.save(buffer, "PNG", 100)  # 100: no compression, for speed
        return bytes(buffer.data())


@dataclass(frozen=True)
class Look:
    """Page `page` of `count`, width x height pixels of its own; pictures: of any size, each half of the one before."""

    page: int
    count: int
    width: int
    height: int
    pictures: tuple[QImage, ...]


def look_of(sheet: Any) -> Look:
    """A media.pages.Sheet, ready to be painted. QImage decodes a JPEG without letting other threads run; this does."""
    from crane_app.media.pages import bitmaps

    form = QImage.Format.Format_RGB32
    pictures = [QImage(b.data, b.width, b.height, 4 * b.width, form).copy() for b in bitmaps(sheet.picture)]
    return Look(sheet.page, sheet.count, sheet.width, sheet.height, tuple(pictures))


def arranged(packed: bytes, mode: str) -> Sequence[Any]:
    """The regions of a packed page, as pipelines.reading.Mode has them."""
    from crane_app.media.pages import unpacked
    from crane_app.pipelines.reading import arranged as in_mode

    return in_mode(unpacked(packed), mode)


def written(texts: dict[int, bytes], form: str, mode: str) -> Iterator[Any]:
    """For a worker: packed pages in order as one text; form: "as_text" or "as_markdown"."""
    from crane_app.media.pages import unpacked
    from crane_app.pipelines import reading

    return getattr(reading, form)((unpacked(texts[page]) for page in sorted(texts)), mode)
    yield


class PageReader:
    """Reads documents, and keeps what was read in `pages` (library.pages.Pages), None for nowhere."""

    def __init__(self, connection: Any = None, pages: Any = None):
        self._connection, self._pages = connection, pages
        self._here: Any = None
        self._plan: list[str] | None = None
        self._planner: Worker | None = None

    def read(self, source: Source, name: str, after: Worker | None = None) -> Worker:
        """The news of KeptReading.read."""
        return self._run(lambda reading: reading.read(source.content(), name), after)

    def draw(self, source: Source, name: str, page: int) -> Worker:
        """Returns the page's Look."""

        return self._run(lambda reading: _step(lambda: look_of(reading.draw(source.content(), name, page))))

    def plan(self, paths: list[str]) -> None:
        """Remember what is unfinished, in case this program ends before it is."""
        self._plan = paths
        if self._planner is None and self._pages is not None:
            self._write_plan()

    def unfinished(self) -> Worker:
        """Returns the paths of an earlier program that were not finished."""
        return _started(Worker(_step(lambda: self._pages.unfinished() if self._pages else [])))

    def forget(self, after: Worker | None) -> Worker:
        """Drop everything that is kept, once the worker `after` is over."""
        return _started(Worker(_step(lambda: self._pages.forget() if self._pages else None), after))

    def _write_plan(self) -> None:
        plan, self._plan = self._plan, None
        self._planner = Worker(_step(lambda: self._pages.plan(plan)))
        self._planner.ended.connect(self._planned)
        self._planner.start()

    def _planned(self) -> None:
        """One that came meanwhile is written too."""
        self._planner = None
        if self._plan is not None:
            self._write_plan()

    def _run(self, steps: Callable[[Any], Iterator[Any]], after: Worker | None = None) -> Worker:
        def with_engine(engine: Any) -> Iterator[Any]:
            from crane_app.pipelines.kept_reading import KeptReading

            return (yield from steps(KeptReading(engine, self._pages)))

        if self._connection is not None:
            return self._connection.run(with_engine, after)
        return _started(Worker(self._in_this_process(with_engine), after))

    def _in_this_process(self, steps: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
        from crane_app.engine.reading import Here

        self._here = self._here or Here()
        return (yield from steps(self._here))


def _step(does: Callable[[], Any]) -> Iterator[Any]:
    """Something short for a worker, whose result it returns."""
    return does()
    yield


def _started(worker: Worker) -> Worker:
    worker.start()
    return worker


class Looks(QObject):
    """The looks of the pages that were seen last; one is made at a time, and the one asked for last is next."""

    came = Signal(object, object)  # the entry and its Look
    failed = Signal(object, int, str)  # the entry, the page and why

    def __init__(self, reader: PageReader):
        super().__init__()
        self._reader = reader
        self._known: OrderedDict[tuple[Any, int], Look] = OrderedDict()
        self._wanted: tuple[Any, int] | None = None
        self._worker: Worker | None = None

    def ask(self, entry: Any, page: int) -> Look | None:
        """The look, if it is known; else it comes later."""
        asked = (entry, page)
        if asked in self._known:
            self._known.move_to_end(asked)
            self._wanted = None
            return self._known[asked]
        self._wanted = asked
        if self._worker is None:
            self._next()
        return None

    def forget(self) -> None:
        """Let go of all."""
        self._known.clear()
        self._wanted = None

    def _next(self) -> None:
        if self._wanted is None:
            return
        (entry, page), self._wanted = self._wanted, None
        self._worker = self._reader.draw(entry.source, entry.name, page)
        self._worker.returned.connect(lambda look: self._arrive(entry, look))
        self._worker.failed.connect(lambda error: self._fail(entry, page, error))

    def _arrive(self, entry: Any, look: Look) -> None:
        self._worker = None
        self._known[entry, look.page] = look
        while len(self._known) > KEPT_LOOKS:
            self._known.popitem(last=False)
        self.came.emit(entry, look)
        self._next()

    def _fail(self, entry: Any, page: int, error: Exception) -> None:
        self._worker = None
        self.failed.emit(entry, page, sentence(error))
        self._next()

"""Reading that outlives a crash: in the engine's process, page by page, each result on the disk at once.

What was read before comes first, then the pages that are missing. An engine that dies costs no page; one that dies
twice over the same page costs that one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from crane_app.engine.request import Job
from crane_app.errors import BadInput, Cancelled, CraneError, DeviceLost
from crane_app.library.pages import Kept, Pages
from crane_app.media.documents import called, opened
from crane_app.media.folders import documents_in
from crane_app.media.pages import Sheet
from crane_app.media.reader import VERSION

log = logging.getLogger(__name__)

TRIES = 2  # of a page during which the engine died
MOST_LOST = 3  # pages in a row that were left out: then it is not the pages


class Opener(Protocol):
    """What starts jobs: an engine, or engine.reading.Here."""

    def open(self, job: Job) -> Any: ...


@dataclass(frozen=True)
class Contents:
    """A folder's pictures and PDFs, in order; `more` were left out."""

    files: tuple[Path, ...]
    more: int


@dataclass(frozen=True)
class Text:
    """Page `page` of `count`, packed (media.pages)."""

    page: int
    count: int
    packed: bytes


@dataclass(frozen=True)
class Unread:
    """Page `page` of `count` could not be read, and why."""

    page: int
    count: int
    sentence: str


@dataclass(frozen=True)
class Unkept:
    """Results of this document are not kept on the disk, and why."""

    sentence: str


News = Contents | Kept | Text | Unread | Unkept


class KeptReading:
    """Reads with the jobs of `engine`; without `pages` nothing is kept."""

    def __init__(self, engine: Opener, pages: Pages | None = None):
        self._engine, self._pages = engine, pages

    def read(self, source: Path | bytes, name: str = "") -> Iterator[News]:
        """A folder's Contents; or what is Kept of a document, then each missing page. Raises CraneError."""
        if isinstance(source, Path) and source.is_dir():
            files, more = documents_in(source)
            yield Contents(tuple(files), more)
            return
        self._notes = self._pages
        before = _state(source)
        key = fingerprint(source, name)
        kept = Kept(0, {})
        try:
            kept = self._notes.kept(key) if self._notes else kept
        except CraneError as error:
            yield self._unkept(error)
        yield kept
        if kept.count and len(kept.texts) == kept.count:
            return
        for news in self._missing(source, name, kept):
            if _state(source) != before:
                raise BadInput(f"{called(source, name)} changed while it was read. Read it again.")
            if isinstance(news, Text) and self._notes:
                try:
                    self._notes.keep(key, news.count, news.page, news.packed)
                except CraneError as error:
                    yield self._unkept(error)
            yield news
        if self._notes:
            try:
                self._notes.tidy()
            except CraneError as error:  # what is too old stays until the next time; this document is read and kept
                log.warning("what was read long ago stays: %s", error)

    def _unkept(self, error: CraneError) -> Unkept:
        """Said once for a document."""
        self._notes = None
        return Unkept(str(error))

    def _missing(self, source: Path | bytes, name: str, kept: Kept) -> Iterator[Text | Unread]:
        done, count, deaths, lost = set(kept.texts), kept.count, 0, 0
        first: Unread | None = None  # left out before it was known how many pages there are
        while True:
            job = Job("read", _sent(source), {"name": name, "skip": sorted(done)}, lane="pictures")
            try:
                for part in _following(self._engine.open(job)):
                    news = _news(part.value)
                    done.add(news.page)
                    count, deaths, lost = news.count, 0, 0
                    if first is not None:
                        yield replace(first, count=count)
                        first = None
                    yield news
                break
            except DeviceLost as error:
                deaths += 1
                if deaths < TRIES:
                    continue
                page = next((number for number in range(1, max(count, 1) + 1) if number not in done), 0)
                if not page or lost == MOST_LOST:
                    raise
                done.add(page)
                deaths, lost = 0, lost + 1
                left_out = f"Page {page} was left out, it stopped the engine {TRIES} times. {error}"
                if count:
                    yield Unread(page, count, left_out)
                else:
                    first = Unread(page, count, left_out)
        if first is not None:  # no other page came
            yield replace(first, count=1)
        if len(done) < max(count, 1):
            raise Cancelled(f"{called(source, name)} was not read to its end. Read the rest.")

    def draw(self, source: Path | bytes, name: str, page: int) -> Sheet:
        """How a page looks."""
        job = Job("draw", _sent(source), {"name": name, "page": page}, lane="pictures")
        for part in _following(self._engine.open(job)):
            return Sheet(**part.value)
        raise DeviceLost("The picture of this page did not come. Open it again.")


def fingerprint(source: Path | bytes, name: str = "") -> str:
    """What a document's results are kept under: its content, and how it is read."""
    digest = hashlib.sha256()
    with opened(source, called(source, name)) as file:
        try:
            while block := file.read(1 << 20):
                digest.update(block)
            return f"{digest.hexdigest()} {VERSION}"
        except OSError as error:
            raise BadInput(f"{called(source, name)} cannot be read ({error.strerror}). Check its disk.") from error


def _following(stream: Any) -> Generator[Any, None, None]:
    """What comes of a job; it is ended with this generator."""
    try:
        yield from stream
    finally:
        end = getattr(stream, "cancel", None) or stream.close
        end()


def _news(value: dict[str, Any]) -> Text | Unread:
    page, count = value["page"], value["count"]
    return Text(page, count, value["text"]) if "text" in value else Unread(page, count, value["error"])


def _sent(source: Path | bytes) -> str | bytes:
    """A path that means the same file in another process, which has another folder."""
    return source if isinstance(source, bytes) else str(source.absolute())


def _state(source: Path | bytes) -> tuple[int, int] | None:
    """By which a change of a file is noticed."""
    if isinstance(source, bytes):
        return None
    try:
        told = source.stat()
    except OSError:
        return None
    return told.st_mtime_ns, told.st_size

"""Which documents are being read, one after another, and what is known of each."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from PySide6.QtCore import QObject, Signal

from crane_app.ui.sheets import PageReader, Sheet, Source
from crane_app.ui.worker import Worker, sentence


class State(Enum):
    WAITING = auto()
    READING = auto()
    DONE = auto()
    STOPPED = auto()
    FAILED = auto()


@dataclass(eq=False)
class Entry:
    """One picture or document: what is known of it so far."""

    source: Source
    name: str
    state: State = State.WAITING
    count: int = 0
    sheets: dict[int, Sheet] = field(default_factory=dict)
    texts: dict[int, Any] = field(default_factory=dict)
    error: str = ""
    page: int = 1  # the one in view


class Queue(QObject):
    """Reads its entries in order; `sheet_came` and `text_came` tell the entry and the page."""

    changed = Signal()
    sheet_came = Signal(object, int)
    text_came = Signal(object, int)

    def __init__(self, reader: PageReader):
        super().__init__()
        self.entries: list[Entry] = []
        self.reading: Entry | None = None
        self.warm = False  # the first page of all takes longer: the reader is loaded
        self._reader = reader
        self._worker: Worker | None = None

    def replace(self, entries: list[Entry]) -> None:
        """Drop what was being read and read these."""
        self._abandon()
        self.entries = entries
        self._next()

    def again(self, entry: Entry) -> Entry:
        """A fresh start for an entry, in its place."""
        fresh = Entry(entry.source, entry.name)
        self.entries[self.entries.index(entry)] = fresh
        if self.reading is None:
            self._next()
        return fresh

    def stop(self) -> None:
        """Stop reading; what was read stays."""
        self._abandon()
        for entry in self.entries:
            if entry.state in (State.WAITING, State.READING):
                entry.state = State.STOPPED
        self.changed.emit()

    def _abandon(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
        self.reading = None

    def _next(self) -> None:
        waiting = (entry for entry in self.entries if entry.state is State.WAITING)
        self.reading = next(waiting, None)
        if self.reading is not None:
            self.reading.state = State.READING
            steps = self._reader.pages(self.reading.source, self.reading.name)
            # One at a time, also while a cancelled one is still at its last page.
            self._worker = Worker(steps, after=self._worker)
            self._worker.yielded.connect(self._arrive)
            self._worker.returned.connect(self._finish)
            self._worker.failed.connect(self._fail)
            self._worker.start()
        self.changed.emit()

    def _arrive(self, news: Any) -> None:
        if isinstance(news, Sheet):
            self.reading.sheets[news.page], self.reading.count = news, news.count
            self.sheet_came.emit(self.reading, news.page)
        else:
            self.reading.texts[news.page] = news
            self.warm = True
            self.text_came.emit(self.reading, news.page)
        self.changed.emit()

    def _finish(self, _value: Any) -> None:
        self.reading.state = State.DONE
        self._next()

    def _fail(self, error: Exception) -> None:
        self.reading.state, self.reading.error = State.FAILED, sentence(error)
        self._next()

"""Which documents are to be read, one after another, and what is known of each; as a list that Qt can show."""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, Qt, Signal

from crane_app.ui.parts import plain_tip
from crane_app.ui.pictures.sheets import PageReader, Source
from crane_app.ui.worker import Worker, sentence

Role = Qt.ItemDataRole


class State(Enum):
    WAITING = auto()
    READING = auto()
    DONE = auto()
    STOPPED = auto()
    FAILED = auto()


@dataclass(eq=False)
class Entry:
    """One picture or document: what is known of it so far. Pages are counted from 1."""

    source: Source
    name: str
    state: State = State.WAITING
    count: int = 0
    texts: dict[int, bytes] = field(default_factory=dict)  # packed: a long document stays small
    unread: dict[int, str] = field(default_factory=dict)  # pages that cannot be read, and why
    error: str = ""  # of the document as a whole
    page: int = 1  # the one in view


class Queue(QAbstractListModel):
    """Reads its entries in order; `text_came` tells the entry and the page."""

    changed = Signal()
    text_came = Signal(object, int)
    opened = Signal(object, object)  # a folder, and the entries that take its place
    said = Signal(str)

    ENTRY = Role.UserRole + 1

    def __init__(self, reader: PageReader):
        super().__init__()
        self.entries: list[Entry] = []
        self.reading: Entry | None = None
        self.paused = False
        self.warm = False  # the first page of all takes longer: the reader is loaded
        self.left_over: list[str] | None = None  # of an earlier program; None while that is looked up
        self._reader = reader
        self._worker: Worker | None = None
        self._looking = reader.unfinished()
        self._looking.returned.connect(self._remember)
        self._looking.failed.connect(lambda _error: self._remember([]))

    # What can be done

    def add(self, entries: list[Entry]) -> None:
        """Read these after what is there."""
        self._insert(len(self.entries), entries)
        self._go_on()

    def again(self, entries: list[Entry]) -> None:
        """Read what is missing of these."""
        for entry in entries:
            if entry.state in (State.FAILED, State.STOPPED):
                entry.state, entry.error, entry.unread = State.WAITING, "", {}
                self._touch(entry)
        self.paused = False
        self._go_on()

    def pause(self) -> None:
        """Read no further page until `resume`; the one under way counts when it is read again."""
        self.paused = True
        reading = self.reading
        self._abandon()
        if reading is not None:
            reading.state = State.WAITING
            self._touch(reading)
        self.changed.emit()

    def resume(self) -> None:
        self.paused = False
        self._go_on()

    def stop(self) -> None:
        """Read nothing more; what was read stays."""
        self._abandon()
        self.paused = False
        for entry in self.entries:
            if entry.state in (State.WAITING, State.READING):
                entry.state = State.STOPPED
                self._touch(entry)
        self._told()

    def leave(self) -> None:
        """The window closes: what is unfinished stays so."""
        self._abandon()

    def take_up(self) -> list[Entry]:
        """Read what an earlier program left over."""
        entries = [Entry(Source.of(path), Path(path).name) for path in self.left_over or ()]
        self.drop_left_over()
        self.add(entries)
        return entries

    def drop_left_over(self) -> None:
        """Offer it no longer."""
        self.left_over = []
        self._told()

    def remove(self, entry: Entry) -> None:
        """Take one off the list; what was read of it stays kept."""
        if entry is self.reading:
            self._abandon()
        row = self.entries.index(entry)
        self.beginRemoveRows(QModelIndex(), row, row)
        del self.entries[row]
        self.endRemoveRows()
        self._go_on()

    def clear(self) -> None:
        """Take all off the list."""
        self._abandon()
        self.paused = False
        self.beginResetModel()
        self.entries = []
        self.endResetModel()
        self._told()

    # What can be asked

    @property
    def last(self) -> Worker | None:
        """The worker that reads, or read last."""
        return self._worker

    def counts(self) -> Counter[State]:
        return Counter(entry.state for entry in self.entries)

    def unfinished(self) -> list[str]:
        """The files that are still to be read."""
        left = (entry for entry in self.entries if entry.state in (State.WAITING, State.READING))
        return [path for entry in left if (path := entry.source.path)]

    def state_word(self, entry: Entry) -> str:
        if entry.state is State.READING and entry.count > 1:
            return self.tr("{done} of {count} pages").format(done=len(entry.texts), count=entry.count)
        if entry.state is State.FAILED and entry.texts:
            left_out = entry.count - len(entry.texts)
            words = self.tr("1 page not read") if left_out == 1 else self.tr("{count} pages not read")
            return words.format(count=left_out)
        return {
            State.WAITING: self.tr("Waiting"),
            State.READING: self.tr("Reading…"),
            State.DONE: self.tr("Done"),
            State.STOPPED: self.tr("Stopped"),
            State.FAILED: self.tr("Not read"),
        }[entry.state]

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, as Qt declares it
        return 0 if parent.isValid() else len(self.entries)

    def data(self, index: QModelIndex, role: int = Role.DisplayRole) -> Any:
        if not index.isValid():
            return None
        entry = self.entries[index.row()]
        if role == Role.DisplayRole:
            return " ".join(entry.name.split())
        if role == Role.AccessibleTextRole:
            return f"{entry.name}, {self.state_word(entry)}"
        if role == Role.ToolTipRole:
            return plain_tip(entry.source.path or entry.name)
        return entry if role == self.ENTRY else None

    # How it goes on

    def _insert(self, row: int, entries: list[Entry]) -> None:
        if entries:
            self.beginInsertRows(QModelIndex(), row, row + len(entries) - 1)
            self.entries[row:row] = entries
            self.endInsertRows()

    def _abandon(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
        self.reading = None

    def _go_on(self) -> None:
        """Begin with the next one, unless one is being read."""
        if self.reading is None and not self.paused:
            self.reading = next((entry for entry in self.entries if entry.state is State.WAITING), None)
            if self.reading is not None:
                self._begin(self.reading)
        self._told()

    def _begin(self, entry: Entry) -> None:
        entry.state = State.READING
        self._touch(entry)
        # One at a time, also while a cancelled one is still at its last page.
        self._worker = self._reader.read(entry.source, entry.name, self._worker)
        self._worker.yielded.connect(self._arrive)
        self._worker.returned.connect(self._finish)
        self._worker.failed.connect(self._fail)

    def _told(self) -> None:
        if self.left_over is not None:
            self._reader.plan([*self.unfinished(), *self.left_over])
        self.changed.emit()

    def _remember(self, paths: list[str]) -> None:
        self.left_over = paths
        self._told()

    def _touch(self, entry: Entry) -> None:
        row = self.index(self.entries.index(entry))
        self.dataChanged.emit(row, row)

    def _arrive(self, news: Any) -> None:
        """Text, Unread, Kept, Contents or Unkept of pipelines.kept_reading."""
        getattr(self, f"_arrive_{type(news).__name__.lower()}")(self.reading, news)

    def _arrive_text(self, entry: Entry, news: Any) -> None:
        self.warm = True
        entry.texts[news.page], entry.count = news.packed, news.count
        self._touch(entry)
        self.text_came.emit(entry, news.page)
        self.changed.emit()

    def _arrive_unread(self, entry: Entry, news: Any) -> None:
        entry.unread[news.page], entry.count = news.sentence, news.count
        self._touch(entry)
        self.changed.emit()

    def _arrive_kept(self, entry: Entry, news: Any) -> None:
        entry.texts, entry.count = dict(news.texts), news.count or entry.count
        self._touch(entry)
        self.text_came.emit(entry, entry.page)
        self.changed.emit()

    def _arrive_contents(self, folder: Entry, news: Any) -> None:
        """A folder gives way to what is in it."""
        if not news.files:
            folder.error = self.tr("There is no picture or PDF in this folder.")
            return
        row = self.entries.index(folder)
        inside = [Entry(Source.of(path), path.name) for path in news.files]
        self._insert(row + 1, inside)
        self.beginRemoveRows(QModelIndex(), row, row)
        del self.entries[row]
        self.endRemoveRows()
        self.opened.emit(folder, inside)
        if news.more:
            left_out = self.tr("Only the first {count} files of the folder were taken; {more} were left out.")
            self.said.emit(left_out.format(count=len(inside), more=news.more))

    def _arrive_unkept(self, _entry: Entry, news: Any) -> None:
        self.said.emit(news.sentence)

    def _finish(self, _value: Any) -> None:
        entry, self.reading = self.reading, None
        entry.state = State.FAILED if entry.unread or entry.error else State.DONE
        if entry in self.entries:
            self._touch(entry)
        self._go_on()

    def _fail(self, error: Exception) -> None:
        self.reading.error = sentence(error)
        self._finish(None)

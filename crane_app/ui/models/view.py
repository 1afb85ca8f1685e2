"""The models of this computer as cards, by what they are for, and below them those that can be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData, Qt, QTimer, QUrl
from PySide6.QtGui import QDesktopServices, QKeySequence
from PySide6.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from crane_app.library import catalogue, fit, hub_cache
from crane_app.library.models import OnDisk, import_folder, kept_in
from crane_app.pipelines import room
from crane_app.ui.models.card import ModelCard, in_tab_order
from crane_app.ui.models.downloads import Downloads
from crane_app.ui.models.get import GetModels
from crane_app.ui.models.loads import Loads
from crane_app.ui.models.memory import left, limit, parts, taken
from crane_app.ui.models.residents import Residents
from crane_app.ui.models.shelf import folders, keep_folders
from crane_app.ui.models.trash import Discarded, discard, restore
from crane_app.ui.parts import Notice, Words, button, empty
from crane_app.ui.scrolled import Scrolled, fill
from crane_app.ui.theme import SPACE
from crane_app.ui.view import Commands, View
from crane_app.ui.worker import Worker, sentence

MOST, BATCH = 24, 2  # cards before a person asks for more; made between two frames


class ModelsView(View):
    """Cards follow the shelf; what is loaded follows the connection."""

    computes = True

    def __init__(self, connection: Any, preferences: Any, shelf: Any):
        super().__init__()
        self._connection, self._preferences, self.shelf = connection, preferences, shelf
        self.loads = Loads.of(connection, preferences)
        self.residents = Residents.of(connection, preferences)
        self.downloads = Downloads.of(preferences)
        self._memory = fit.memory()
        self._most = MOST
        self._begun: set[str] = set()
        self._dialog: QFileDialog | None = None
        self._discarded: Discarded | None = None
        self._workers: set[Worker] = set()
        self.cards: dict[Path, ModelCard] = {}
        self._make_actions()
        self._make_widgets()
        self.downloads.finished.connect(self._downloaded)
        self.downloads.changed.connect(self._download_changed)
        self.downloads.rescan()
        shelf.changed.connect(self._show_entries)
        connection.changed.connect(self._refresh)
        self.loads.changed.connect(lambda _folder: self._refresh())
        preferences.changed.connect(lambda name: self._refresh() if name in room.SETTINGS else None)
        self.residents.changed.connect(self._refresh)
        self._show_entries()

    # What can be done

    def commands(self) -> dict[str, Commands]:
        return {"file": [self.add_action, self.rescan_action]}

    def offer(self, data: QMimeData) -> str:
        return self.tr("Release to add the models in this folder") if _local(data) else ""

    def take(self, data: QMimeData) -> bool:
        for path in _local(data):
            self.add(path)
        return bool(_local(data))

    def enter(self) -> None:
        self.shelf.rescan()
        self._first_button().setFocus()

    def leave(self) -> None:
        self.downloads.pause_all()

    def add(self, folder: Path) -> None:
        """Remember a folder with models."""
        self._run(_whole(folder), self._added)

    def choose_folder(self) -> None:
        if self._dialog is None:
            self._dialog = QFileDialog(self, self.tr("Add a folder with models"))
            self._dialog.setFileMode(QFileDialog.FileMode.Directory)
            self._dialog.fileSelected.connect(lambda name: self.add(Path(name)))
            self._dialog.finished.connect(self._forget_dialog)
        self._dialog.open()

    def use(self, entry: OnDisk) -> None:
        """Let the chat use this model."""
        self._preferences.set("model", str(entry.folder))
        self.said.emit(self.tr("Chat uses {name} from now on.").format(name=entry.name))

    def forget(self, entry: OnDisk) -> None:
        """Take the named folder that holds this model off the list; its files stay."""
        keep_folders(self._preferences, [each for each in folders(self._preferences) if not _holds(each, entry)])
        self.said.emit(self.tr("{name} is off the list; its files stay.").format(name=entry.name))

    def discard(self, entry: OnDisk) -> None:
        """Move a model to the trash."""
        self._run(discard(kept_in(entry)), self._was_discarded)

    def verify(self, entry: OnDisk) -> None:
        """Read a model of the cache against its checksums."""
        worker = self._run(_checking(entry.folder), lambda damaged: self._verified(entry, damaged))
        worker.yielded.connect(lambda percent: self._show_checked(entry, percent))
        worker.failed.connect(lambda _error: self._show_checked(entry, None))
        self._show_checked(entry, 0)

    def undo(self) -> None:
        """Bring back what was moved to the trash last."""
        gone, self._discarded = self._discarded, None
        if gone is not None:
            self._run(restore(gone), lambda _: self.shelf.rescan())
        self._refresh()

    # How it is built

    def _make_actions(self) -> None:
        tr, keys = self.tr, QKeySequence.StandardKey
        self.add_action = self.action("add", tr("&Add folder…"), self.choose_folder, keys.Open, "folder")
        self.rescan_action = self.action("rescan", tr("&Look again"), self.shelf.rescan, keys.Refresh, "refresh")
        self.more_action = self.action("more_models", "", self._show_more)
        self.undo_action = self.action("undo", tr("Undo"), self.undo)

    def _make_widgets(self) -> None:
        self.notice = Notice(self.tr("Close"))
        self.notice.retried.connect(lambda: self.notice.tell(""))
        self.disk = Words(self.tr("Room on the disk"))
        self.held = Words(self.tr("What is in memory"))
        self.left = Words(self.tr("What left the memory"))
        for each in (self.disk, self.held, self.left):
            each.setProperty("look", "muted")
        self.empty = self._make_empty()
        self.undo_bar = self._make_undo()
        self.titles = self._make_titles()
        self.more_button = button(self.more_action, look="flat")
        self.sections = QVBoxLayout()
        self.sections.setSpacing(SPACE)
        column = QVBoxLayout()
        column.setSpacing(2 * SPACE)
        column.addLayout(self._make_header())
        for each in (self.notice, self.undo_bar, self.empty):
            column.addWidget(each)
        column.addLayout(self.sections)
        column.addWidget(self.more_button, 0, Qt.AlignmentFlag.AlignHCenter)
        self.get_models = GetModels(self.downloads, self.shelf, self._memory)
        column.addWidget(self.get_models)
        self.get_models.laid.connect(self._order)
        column.addStretch()
        self.area = Scrolled(self.tr("Models"), column)
        fill(self, self.area)

    def _make_header(self) -> QVBoxLayout:
        title = Words(self.tr("Title"))
        title.setText(self.tr("On this computer"))
        title.setProperty("look", "title")
        again = button(self.rescan_action, look="flat")
        again.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonIconOnly)
        words = QVBoxLayout()
        words.setSpacing(SPACE // 2)
        words.addWidget(title)
        words.addWidget(self.disk)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addLayout(words, 1)
        add = button(self.add_action)
        for each in (again, add):
            row.addWidget(each, 0, Qt.AlignmentFlag.AlignTop)
        self._head = (again, add, self.notice, self.undo_bar)
        column = QVBoxLayout()
        column.setSpacing(SPACE // 2)
        column.addLayout(row)
        for each in (self.held, self.left):
            column.addWidget(each)
        return column

    def _make_empty(self) -> QFrame:
        made = QFrame()
        made.setProperty("look", "card")
        column = QVBoxLayout(made)
        column.setContentsMargins(*[3 * SPACE] * 4)
        column.setSpacing(SPACE)
        for text, look in (
            (self.tr("No models here yet"), "heading"),
            (self.tr("Drop the folder of a model here, or add one that you have."), "muted"),
        ):
            words = Words(text)
            words.setText(text)
            words.setProperty("look", look)
            words.setAlignment(Qt.AlignmentFlag.AlignCenter)
            column.addWidget(words)
        return made

    def _make_undo(self) -> QFrame:
        made = QFrame()
        made.setProperty("look", "panel")
        self.undo_words = Words(self.tr("What was done"))
        row = QHBoxLayout(made)
        row.setContentsMargins(2 * SPACE, SPACE, SPACE, SPACE)
        row.addWidget(self.undo_words, 1)
        row.addWidget(button(self.undo_action, look="flat"))
        made.hide()
        return made

    # What is seen

    def _show_entries(self) -> None:
        """The shelf has changed; cards of what stays stay, and keep the keyboard's focus."""
        self._begun = set(self.downloads.known())
        entries = {entry.folder: entry for entry in self._here()}
        for folder, card in list(self.cards.items()):
            if entries.get(folder) != card.entry:
                self.sections.removeWidget(card)
                self.cards.pop(folder).deleteLater()
        self.empty.setVisible(not entries)
        used = fit.human(sum(entry.nbytes for entry in entries.values()))
        words = self.tr("{used} used by models, {free} free")
        self.disk.setText(words.format(used=used, free=fit.human(fit.free_disk(hub_cache.root()))))
        self._lay()
        self._refresh()

    def _here(self) -> list[OnDisk]:
        """What is on the shelf, but for downloads that are not finished: those stand below."""
        begun = self._begun
        return [each for each in self.shelf.entries if not (each.partial or (each.problem and each.repo in begun))]

    def _download_changed(self, _repo: str) -> None:
        if self._begun != set(self.downloads.known()):
            self._show_entries()

    def _lay(self) -> None:
        """Set titles and cards in their order. New cards come a few at a time, so that the window goes on living."""
        empty(self.sections)
        every = [entry for job in self.titles for entry in self._here() if entry.job == job]
        fresh, job = 0, ""
        for entry in every[: self._most]:
            fresh += entry.folder not in self.cards
            if fresh > BATCH:
                QTimer.singleShot(0, self, self._lay)
                break
            if entry.job != job:
                job = entry.job
                self.sections.addWidget(self.titles[job])
            self.sections.addWidget(self._card(entry))
        for job, title in self.titles.items():
            title.setVisible(any(entry.job == job for entry in every[: self._most]))
        self._order()
        rest = len(every) - self._most
        self.more_action.setText(self.tr("Show {count} more").format(count=min(rest, MOST)))
        self.more_button.setVisible(rest > 0)

    def _order(self) -> None:
        cards = [self.sections.itemAt(index).widget() for index in range(self.sections.count())]
        in_tab_order([*self._head, *cards, self.more_button, *self.get_models.stops()])

    def _show_more(self) -> None:
        self._most += MOST
        self._lay()

    def _make_titles(self) -> dict[str, QLabel]:
        titles = {}
        for job, text in (
            ("chat", self.tr("Chat")),
            ("pictures", self.tr("Pictures")),
            ("dictate", self.tr("Dictation")),
            ("read_aloud", self.tr("Reading aloud")),
            ("other", self.tr("Others")),
        ):
            titles[job] = QLabel(text, self)
            titles[job].setProperty("look", "heading")
            titles[job].setContentsMargins(0, SPACE, 0, 0)
            titles[job].hide()
        return titles

    def _card(self, entry: OnDisk) -> ModelCard:
        card = self.cards.get(entry.folder)
        if card is None:
            listed = any(_holds(each, entry) for each in folders(self._preferences))
            card = self.cards[entry.folder] = ModelCard(entry, self.loads, self.residents, self._memory, listed)
            card.used.connect(self.use)
            card.shown.connect(lambda shown: QDesktopServices.openUrl(QUrl.fromLocalFile(str(shown.folder))))
            card.forgotten.connect(self.forget)
            card.discarded.connect(self.discard)
            card.doubted.connect(self.verify)
            card.said.connect(self.said)
        return card

    def _refresh(self) -> None:
        for card in self.cards.values():
            card.refresh()
        self._show_held()
        self.undo_bar.setVisible(self._discarded is not None)

    def _show_held(self) -> None:
        stats = self._connection.stats
        words = self.tr("In memory: {taken} of {limit} ({parts})")
        sizes = {"taken": fit.human(taken(stats)), "limit": fit.human(limit(stats, self._memory))}
        held = words.format(**sizes, parts=", ".join(parts(stats))) if taken(stats) else ""
        for label, text in ((self.held, held), (self.left, left(self.residents.away()))):
            if label.text() != text:
                label.setText(text)
            label.setVisible(bool(text))

    # Small steps

    def _run(self, steps: Any, then: Any) -> Worker:
        worker = Worker(steps)
        self._workers.add(worker)
        worker.returned.connect(then)
        worker.failed.connect(lambda error: self.notice.tell(sentence(error)))
        worker.ended.connect(lambda: self._workers.discard(worker))
        self.notice.tell("")
        worker.start()
        return worker

    def _added(self, folder: Path) -> None:
        keep_folders(self._preferences, [*folders(self._preferences), folder])
        self.said.emit(self.tr("Added the folder {name}.").format(name=folder.name))

    def _was_discarded(self, gone: Discarded) -> None:
        self._discarded = gone
        name = hub_cache.repo_of(gone.before) or gone.before.name
        self.undo_words.setText(self.tr("{name} is in the trash.").format(name=name))
        self.shelf.rescan()
        self._refresh()

    def _show_checked(self, entry: OnDisk, percent: int | None) -> None:
        if entry.folder in self.cards:
            self.cards[entry.folder].show_checked(percent)

    def _verified(self, entry: OnDisk, damaged: tuple[str, ...]) -> None:
        self._show_checked(entry, None)
        if not damaged:
            self.said.emit(self.tr("{name} is whole.").format(name=entry.name))
            return
        words = self.tr("{files} of {name} was damaged and is thrown away. Download it again: only that comes anew.")
        self.notice.tell(words.format(files=", ".join(damaged), name=entry.name))
        self.shelf.rescan()

    def _downloaded(self, repo: str, folder: str) -> None:
        """What came first of all is what the chat uses."""
        offer = catalogue.find(repo)
        if not self._preferences.get("model") and offer is not None and offer.job == "chat":
            self._preferences.set("model", folder)
        self.said.emit(self.tr("{name} is here.").format(name=repo))
        self.shelf.rescan()

    def _first_button(self) -> QWidget:
        card = next(iter(self.cards.values()), None)
        visible = [made for made in card.buttons.values() if made.isEnabled()] if card is not None else []
        return visible[0] if visible else self.findChild(QWidget, "add")

    def _forget_dialog(self) -> None:
        self._dialog.deleteLater()
        self._dialog = None


def _checking(folder: Path) -> Any:
    from crane_app.library.downloads import verify

    steps = verify(folder)
    while True:
        try:
            news = next(steps)
        except StopIteration as done:
            return done.value
        yield 100 * news.done // max(news.total, 1)


def _whole(folder: Path) -> Any:
    return import_folder(folder)
    yield


def _local(data: QMimeData) -> list[Path]:
    return [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]


def _holds(folder: Path, entry: OnDisk) -> bool:
    """Whether the named folder is that of the model, or one above it."""
    return entry.source == "folder" and (entry.folder == folder or folder in entry.folder.parents)

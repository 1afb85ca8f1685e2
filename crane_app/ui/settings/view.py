"""The settings page, built from the table of crane_app.settings: groups as cards, a row for each setting.

A change counts at once; there is nothing to confirm. At the end it says where things are kept. The rows are built one
after another while the window does other things: all of them together take longer than a frame.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import QTimer, QUrl
from PySide6.QtGui import QAction, QDesktopServices, QKeySequence
from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from crane_app import settings
from crane_app.ui.parts import ElidedLabel, Notice, SearchField, Words, button
from crane_app.ui.scrolled import Scrolled, card, fill
from crane_app.ui.settings.fields import said
from crane_app.ui.settings.ready import Ready
from crane_app.ui.settings.row import Row
from crane_app.ui.theme import SPACE
from crane_app.ui.view import Commands, View

NOTES = {settings.COMPUTING: "Counts for models that are loaded from now on."}


class SettingsView(View):
    """rows: by the name of the setting; built: all of them are there; ready: how much is kept of conversations.

    readiness, connection: for that; None: it is not told.
    """

    def __init__(self, preferences: Any, readiness: Any = None, connection: Any = None):
        super().__init__()
        self._preferences, self._readiness, self._connection = preferences, readiness, connection
        self.ready: Ready | None = None
        self.rows: dict[str, Row] = {}
        self.cards: dict[str, QWidget] = {}
        self.find_action = self.action("find", self.tr("&Find a setting"), self._find, QKeySequence.StandardKey.Find)
        self.built = False
        self._make_widgets()
        self._steps = self._build()
        self._next = QTimer(self)
        self._next.timeout.connect(self._build_next)
        self._next.start(0)
        preferences.changed.connect(self._changed)
        preferences.problem.connect(self.notice.tell)
        self.notice.tell(preferences.notice)

    def commands(self) -> dict[str, Commands]:
        return {"edit": [self.find_action]}

    def enter(self) -> None:
        self.search.setFocus()
        if self.ready is not None:
            self.ready.refresh()

    def leave(self) -> None:
        """What is half written counts too."""
        for row in self.rows.values():
            row.field.finish()
        self._preferences.flush()

    def filter(self, typed: str) -> None:
        """Show the rows in which all words occur, and the cards that have one."""
        words = typed.casefold().split()
        for row in self.rows.values():
            row.setVisible(row.matches(words))
        for group, each in self.cards.items():
            rows = [row for row in self.rows.values() if row.setting.group == group]
            each.setVisible(any(not row.isHidden() for row in rows) if rows else not words)
        self.nothing.setVisible(self.built and all(each.isHidden() for each in self.cards.values()))
        self.nothing.setText(self.tr("No setting has '{words}' in it.").format(words=typed.strip()[:60]))

    # How it is built

    def _make_widgets(self) -> None:
        self.notice = Notice(self.tr("Close"))
        self.notice.retried.connect(lambda: self.notice.tell(""))
        self.nothing = Words(self.tr("Result of the search"))
        self.nothing.setProperty("look", "muted")
        self.nothing.hide()
        column = QVBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addLayout(self._make_header())
        column.addWidget(self.notice)
        column.addWidget(self.nothing)
        self._column = QVBoxLayout()
        column.addLayout(self._column)
        column.addStretch()
        self.area = Scrolled(self.tr("Settings"), column)
        fill(self, self.area)

    def _make_header(self) -> QHBoxLayout:
        self.search = SearchField(self.tr("Find a setting"))
        self.search.textChanged.connect(self.filter)
        self.search.setMinimumWidth(1)
        row = QHBoxLayout()
        row.setSpacing(2 * SPACE)
        row.addWidget(self.search)
        return row

    def _build(self) -> Iterator[None]:
        """The cards and their rows, one at each step."""
        for group in dict.fromkeys(each.group for each in settings.SETTINGS if each.title):
            rows = self._add_card(group, said(group), said(NOTES.get(group, "")))
            for setting in settings.SETTINGS:
                if setting.group == group and setting.title:
                    self.rows[setting.name] = Row(setting, self._preferences)
                    rows.addWidget(self.rows[setting.name])
                    yield
        rows = self._add_card("places", self.tr("Where things are kept"), self.tr("All of it is on this computer."))
        for name, path in self._places().items():
            rows.addWidget(Place(name, path))
            yield
        if self._readiness is not None and self._connection is not None:
            self.ready = Ready(self._readiness, self._connection)
            rows.addWidget(self.ready)
            yield

    def _build_next(self) -> None:
        if next(self._steps, self) is self:
            self._next.stop()
            self.built = True
        if self.search.text():
            self.filter(self.search.text())

    def _add_card(self, name: str, title: str, note: str) -> QVBoxLayout:
        rows, self.cards[name] = card(title, note)
        self._column.addWidget(self.cards[name])
        return rows

    def _places(self) -> dict[str, Path]:
        from crane_app.engine.process.logbook import log_path
        from crane_app.library import hub_cache
        from crane_app.library.chats import chats_path

        return {
            self.tr("Settings"): self._preferences.path,
            self.tr("Conversations"): chats_path(),
            self.tr("Models of the Hugging Face cache"): hub_cache.root(),
            self.tr("Log of the engine"): log_path(),
        }

    # Small steps

    def _find(self) -> None:
        self.search.setFocus()
        self.search.selectAll()

    def _changed(self, name: str) -> None:
        if name in self.rows:
            self.rows[name].refresh()


class Place(QWidget):
    """A file or folder of Crane's, and a button that shows it in the system's file manager."""

    def __init__(self, name: str, path: Path):
        super().__init__()
        self.path = path
        title = QLabel(name)
        title.setProperty("look", "strong")
        title.setWordWrap(True)
        shown = ElidedLabel(name)
        shown.setProperty("look", "muted")
        shown.setText(str(path))
        show = QAction(self.tr("Show folder"), self)
        show.setObjectName("show")
        show.triggered.connect(lambda _checked=False: self._show())
        opener = button(show, look="small")
        opener.setAccessibleName(f"{name}: {self.tr('Show folder')}")
        words = QVBoxLayout()
        words.setSpacing(SPACE // 2)
        words.addWidget(title)
        words.addWidget(shown)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2 * SPACE)
        row.addLayout(words, 1)
        row.addWidget(opener)

    def _show(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(nearest(self.path))))


def nearest(path: Path) -> Path:
    """The folder of a file, or the first above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())

"""The conversations of the history: by day, found by their words, renamed, exported, deleted and brought back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QLocale,
    QModelIndex,
    QPersistentModelIndex,
    QRect,
    QSize,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import QAction, QColor, QPainter
from PySide6.QtWidgets import (
    QHBoxLayout,
    QListView,
    QMenu,
    QStyle,
    QStyledItemDelegate,
    QVBoxLayout,
    QWidget,
)

from crane_app.errors import CraneError
from crane_app.ui import theme
from crane_app.ui.icons import icon
from crane_app.ui.parts import ElidedLabel, EscapeField, SearchField, button
from crane_app.ui.theme import SPACE
from crane_app.ui.undo import UndoBar
from crane_app.ui.worker import Worker, sentence

SEARCH_MS = 200
HEADING = Qt.ItemDataRole.UserRole + 1
EXCERPT = Qt.ItemDataRole.UserRole + 2


@dataclass(frozen=True)
class Row:
    """A conversation, or a heading above some (chat 0)."""

    chat: int
    title: str
    excerpt: str = ""


class Rows(QAbstractListModel):
    """Headings and conversations in the order they are shown."""

    def __init__(self):
        super().__init__()
        self.rows: list[Row] = []

    def show_rows(self, rows: list[Row]) -> None:
        if rows != self.rows:
            self.beginResetModel()
            self.rows = rows
            self.endResetModel()

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row = self.rows[index.row()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole, Qt.ItemDataRole.AccessibleTextRole):
            return row.title
        return {HEADING: row.chat == 0, EXCERPT: row.excerpt}.get(role)

    def flags(self, index: QModelIndex | QPersistentModelIndex) -> Qt.ItemFlag:
        heading = self.rows[index.row()].chat == 0
        return Qt.ItemFlag.NoItemFlags if heading else Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable

    def place(self, chat: int | None) -> QModelIndex:
        at = next((n for n, row in enumerate(self.rows) if row.chat == chat and chat), -1)
        return self.index(at) if at >= 0 else QModelIndex()


class RowPainter(QStyledItemDelegate):
    """A title, below it where a search found its words; headings smaller."""

    def sizeHint(self, option, index) -> QSize:
        line = option.fontMetrics.lineSpacing()
        if index.data(HEADING):
            return QSize(40, line + 2 * SPACE)
        return QSize(40, (2 if index.data(EXCERPT) else 1) * line + 2 * SPACE)

    def paint(self, painter: QPainter, option, index) -> None:
        colours = theme.colours()
        painter.save()
        heading, excerpt = index.data(HEADING), index.data(EXCERPT)
        area = option.rect.adjusted(0, 1, 0, -1)
        chosen = bool(option.state & QStyle.StateFlag.State_Selected)
        over = bool(option.state & QStyle.StateFlag.State_MouseOver)
        if not heading and (chosen or over):
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(colours.mark if chosen else colours.hover))
            painter.drawRoundedRect(area, 6, 6)
        inside = area.adjusted(SPACE, SPACE - 1, -SPACE, 0)
        font = theme.scaled_font(0.85 if heading else 1.0, bold=heading)
        painter.setFont(font)
        painter.setPen(QColor(colours.muted if heading else colours.text))
        self._line(painter, inside, index.data() or "", option)
        if excerpt:
            inside.translate(0, option.fontMetrics.lineSpacing())
            painter.setFont(theme.scaled_font(0.9))
            painter.setPen(QColor(colours.muted))
            self._line(painter, inside, excerpt, option)
        painter.restore()

    def _line(self, painter: QPainter, area: QRect, text: str, option) -> None:
        words = painter.fontMetrics().elidedText(" ".join(text.split()), Qt.TextElideMode.ElideRight, area.width())
        painter.drawText(area, Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeading, words)


class ChatList(QWidget):
    """`opened` carries a conversation's id, `begun` asks for a new one, `gone` tells which was deleted."""

    opened = Signal(int)
    begun = Signal()
    gone = Signal(int)
    exported = Signal(int, str)  # its id, and "markdown" or "json"
    said = Signal(str)

    def __init__(self, chats: Any, new_action: QAction):
        super().__init__()
        self._chats = chats
        self._current: int | None = None
        self._searching: Worker | None = None
        self.model = Rows()
        self._make_widgets(new_action)
        self._soon = QTimer(self, singleShot=True, interval=SEARCH_MS)
        self._soon.timeout.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """What is kept by now, or what holds the words that are looked for."""
        words = self.search.text().strip()
        if words:
            self._search(words)
            return
        self._drop_search()
        try:
            self._show(_by_day(self._chats.chats(), self._headings()))
        except CraneError as error:
            self.said.emit(sentence(error))

    def set_current(self, chat: int | None) -> None:
        """Mark the conversation in view."""
        self._current = chat
        self._mark()

    # What can be done with one

    def rename(self, chat: int) -> None:
        """Edit its title in a small field in the place of the search."""
        self._renaming = chat
        self.title.setText(self.title_of(chat))
        self.title.show()
        self.title.setFocus()
        self.title.selectAll()

    def delete(self, chat: int) -> None:
        """Take it away; for a while it can be brought back."""
        title = self.title_of(chat)
        try:
            self._chats.delete(chat)
        except CraneError as error:
            self.said.emit(sentence(error))
            return
        self.undo.offer(self.tr("“{title}” was deleted.").format(title=title), lambda: self._restore(chat))
        self.refresh()
        self.gone.emit(chat)

    # How it is built

    def _make_widgets(self, new_action: QAction) -> None:
        self.search = SearchField(self.tr("Search"))
        self.search.setAccessibleName(self.tr("Search the conversations"))
        self.search.textChanged.connect(lambda _text: self._soon.start())
        new = button(new_action, look="flat small")
        new.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonIconOnly)
        self.title = EscapeField()
        self.title.left.connect(self._give_up_rename)
        self.title.setAccessibleName(self.tr("Title of the conversation"))
        self.title.setMaxLength(200)
        self.title.editingFinished.connect(self._end_rename)
        self.title.hide()
        self._renaming = 0
        self.list = QListView()
        self.list.setModel(self.model)
        self.list.setItemDelegate(RowPainter(self.list))
        self.list.setAccessibleName(self.tr("Conversations"))
        self.list.setProperty("look", "plain")
        self.list.setMouseTracking(True)
        self.list.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.list.customContextMenuRequested.connect(self._offer_menu)
        self.list.selectionModel().currentChanged.connect(self._pick)
        self.undo = UndoBar()
        self.empty = ElidedLabel(self.tr("State of the list"))
        self.empty.setProperty("look", "muted")
        top = QHBoxLayout()
        top.setSpacing(SPACE // 2)
        top.addWidget(self.search, 1)
        top.addWidget(new)
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE, SPACE, SPACE, SPACE)
        column.setSpacing(SPACE)
        column.addLayout(top)
        column.addWidget(self.title)
        column.addWidget(self.empty)
        column.addWidget(self.list, 1)
        column.addWidget(self.undo)

    def _offer_menu(self, where) -> None:
        index = self.list.indexAt(where)
        if index.isValid() and self.model.rows[index.row()].chat:
            self.menu(self.model.rows[index.row()].chat).popup(self.list.viewport().mapToGlobal(where))

    def menu(self, chat: int) -> QMenu:
        """What can be done with a conversation."""
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction(icon("edit"), self.tr("&Rename"), lambda: self.rename(chat))
        menu.addAction(icon("export"), self.tr("Export as &Markdown…"), lambda: self.exported.emit(chat, "markdown"))
        menu.addAction(icon("export"), self.tr("Export as &JSON…"), lambda: self.exported.emit(chat, "json"))
        menu.addSeparator()
        menu.addAction(icon("delete"), self.tr("&Delete"), lambda: self.delete(chat))
        return menu

    # Small steps

    def _pick(self, now: QModelIndex, _before: QModelIndex) -> None:
        chat = self.model.rows[now.row()].chat if now.isValid() else 0
        if chat and chat != self._current:
            self._current = chat
            self.opened.emit(chat)

    def _mark(self) -> None:
        place, chosen = self.model.place(self._current), self.list.selectionModel()
        before = chosen.blockSignals(True)
        if place.isValid():
            chosen.setCurrentIndex(place, chosen.SelectionFlag.ClearAndSelect)
            self.list.scrollTo(place)
        else:
            chosen.clear()
        chosen.blockSignals(before)
        self.list.viewport().update()

    def _show(self, rows: list[Row]) -> None:
        self.model.show_rows(rows)
        looking = bool(self.search.text().strip())
        self.empty.setText(self.tr("Nothing found.") if looking else self.tr("No conversations yet."))
        self.empty.setVisible(not rows)
        self._mark()

    def _search(self, words: str) -> None:
        self._drop_search()
        self._searching = Worker(_found(self._chats, words))
        self._searching.returned.connect(self._show)
        self._searching.failed.connect(lambda error: self.said.emit(sentence(error)))
        self._searching.start()

    def _drop_search(self) -> None:
        if self._searching is not None:
            self._searching.cancel()
            self._searching = None

    def _end_rename(self) -> None:
        chat, self._renaming = self._renaming, 0
        self.title.hide()
        if chat and self.title.text().strip():
            try:
                self._chats.rename(chat, self.title.text().strip())
            except CraneError as error:
                self.said.emit(sentence(error))
            self.refresh()

    def _give_up_rename(self) -> None:
        self._renaming = 0
        self.title.hide()

    def _restore(self, chat: int) -> None:
        try:
            self._chats.restore(chat)
        except CraneError as error:
            self.said.emit(sentence(error))
        self.refresh()
        self.opened.emit(chat)

    def title_of(self, chat: int | None) -> str:
        """Its title as the list shows it; "" for one that is not there."""
        return next((row.title for row in self.model.rows if row.chat == chat), "")

    def _headings(self) -> tuple[str, ...]:
        return self.tr("Today"), self.tr("Yesterday"), self.tr("Last seven days"), self.tr("Last thirty days")


def _by_day(found: list[Any], headings: tuple[str, ...]) -> list[Row]:
    """Conversations, newest first, each day or span of days below its heading; older ones below their month."""
    rows: list[Row] = []
    today, last = date.fromtimestamp(time.time()), ""
    for chat in found:
        when = datetime.fromtimestamp(chat.changed)
        days = (today - when.date()).days
        span = next((name for name, most in zip(headings, (0, 1, 7, 30), strict=True) if days <= most), "")
        heading = span or f"{QLocale().standaloneMonthName(when.month)} {when.year}"
        if heading != last:
            rows.append(Row(0, heading))
            last = heading
        rows.append(Row(chat.id, chat.title))
    return rows


def _found(chats: Any, words: str) -> Iterator[list[Row]]:
    """Conversations that hold the words, each once, with the first place."""
    seen: dict[int, Row] = {}
    for each in chats.search(words):
        seen.setdefault(each.chat.id, Row(each.chat.id, each.chat.title, each.excerpt))
    return list(seen.values())
    yield

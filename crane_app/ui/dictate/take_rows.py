"""The rows of the list of takes: when, how long, in which state, and the first words."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QCoreApplication,
    QDateTime,
    QLocale,
    QModelIndex,
    QPersistentModelIndex,
    QSize,
    Qt,
)
from PySide6.QtGui import QColor, QPainter
from PySide6.QtWidgets import QStyle, QStyledItemDelegate

from crane_app.ui import theme
from crane_app.ui.theme import SPACE

TAKE = Qt.ItemDataRole.UserRole + 1
ABOUT = Qt.ItemDataRole.UserRole + 2
WORDS = Qt.ItemDataRole.UserRole + 3


def clock(seconds: float) -> str:
    """0:07, 12:30, 1:00:05."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def when(created: float) -> str:
    """The time of today, else the day."""
    there, now = QDateTime.fromSecsSinceEpoch(int(created)), QDateTime.currentDateTime()
    if there.date() == now.date():
        return QLocale().toString(there.time(), QLocale.FormatType.ShortFormat)
    return QLocale().toString(there.date(), "d MMM" if there.date().year() == now.date().year() else "d MMM yyyy")


def state_word(state: str) -> str:
    """What a person should know about a take, or ""."""
    say = QCoreApplication.translate
    return {
        "recording": say("Takes", "recording"),
        "interrupted": say("Takes", "interrupted"),
        "unwritten": say("Takes", "incomplete"),
        "discarded": say("Takes", "discarded"),
    }.get(state, "")


class TakeRows(QAbstractListModel):
    """Takes, newest first."""

    def __init__(self):
        super().__init__()
        self.takes: list[Any] = []

    def show_takes(self, takes: list[Any]) -> None:
        if takes != self.takes:
            self.beginResetModel()
            self.takes = list(takes)
            self.endResetModel()

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self.takes)

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        take = self.takes[index.row()]
        about = " · ".join(filter(None, [when(take.created), clock(take.seconds), state_word(take.state)]))
        words = take.text or QCoreApplication.translate("Takes", "No text yet")
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return f"{about}: {words}"
        return {TAKE: take, ABOUT: about, WORDS: words}.get(role)

    def place(self, id: str) -> QModelIndex:
        at = next((n for n, take in enumerate(self.takes) if take.id == id), -1)
        return self.index(at) if at >= 0 else QModelIndex()


class TakePainter(QStyledItemDelegate):
    """Two lines: about the take, and its words as far as there is room."""

    def sizeHint(self, option, index) -> QSize:
        return QSize(40, 2 * option.fontMetrics.lineSpacing() + 2 * SPACE)

    def paint(self, painter: QPainter, option, index) -> None:
        colours = theme.colours()
        painter.save()
        area = option.rect.adjusted(0, 1, 0, -1)
        chosen = bool(option.state & QStyle.StateFlag.State_Selected)
        if chosen or option.state & QStyle.StateFlag.State_MouseOver:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(colours.mark if chosen else colours.hover))
            painter.drawRoundedRect(area, 6, 6)
        inside = area.adjusted(SPACE, SPACE - 1, -SPACE, 0)
        lines = ((index.data(ABOUT), 0.85, colours.muted), (index.data(WORDS), 1.0, colours.text))
        for text, size, colour in lines:
            painter.setFont(theme.scaled_font(size))
            painter.setPen(QColor(colour))
            shown = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, inside.width())
            side = QStyle.visualAlignment(option.direction, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
            painter.drawText(inside, int(side), shown)
            inside.translate(0, option.fontMetrics.lineSpacing())
        painter.restore()

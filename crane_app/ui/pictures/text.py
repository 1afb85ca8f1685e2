"""The text of one page: a block for each region, to read, select and copy."""

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QEvent, QMimeData, QPoint, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontDatabase,
    QKeySequence,
    QPainter,
    QTextBlockFormat,
    QTextCharFormat,
    QTextCursor,
)
from PySide6.QtWidgets import QTextEdit

from crane_app.ui import theme

LINE_SEPARATOR = "\u2028"  # a new line within a block
BODY, HEADING = 1.1, 1.3  # times the system's font
GAP, HEADING_GAP, LINE_GAP = 10, 18, 2  # above a block


class TextPane(QTextEdit):
    """Read-only text; regions are told by their index on the page, -1 for none."""

    pointed = Signal(int)
    chosen = Signal(int)

    def __init__(self):
        super().__init__()
        self.setReadOnly(True)
        keyboard = Qt.TextInteractionFlag.TextSelectableByKeyboard
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse | keyboard)
        self.setAcceptDrops(False)  # the whole window takes drops
        self.setTabChangesFocus(True)
        self.setFont(theme.scaled_font(BODY))
        self.viewport().setMouseTracking(True)
        self._pointed = self._chosen = -1
        self._quiet = False
        self._hint = ""
        self.cursorPositionChanged.connect(self._follow_cursor)

    def hint(self) -> str:
        """What stands where there is no text."""
        return self._hint

    def set_hint(self, words: str) -> None:
        """As a placeholder, which Qt would cut off at the end of its first line."""
        self._hint = words
        self.setAccessibleDescription(words)
        self.viewport().update()

    def show_regions(self, regions: Sequence[Any]) -> None:
        self._quiet = True
        self.clear()
        # Code is not wrapped: a line that goes on below would seem to be indented by nothing.
        code = any(region.kind == "code" for region in regions)
        self.setLineWrapMode(QTextEdit.LineWrapMode.NoWrap if code else QTextEdit.LineWrapMode.WidgetWidth)
        cursor = QTextCursor(self.document())
        before = ""
        for region in regions:
            layout, letters = _formats(region.kind, before)
            if before:
                cursor.insertBlock(layout)
            else:
                cursor.setBlockFormat(layout)
            before = region.kind
            cursor.insertText(region.text.replace("\n", LINE_SEPARATOR), letters)
        self.moveCursor(QTextCursor.MoveOperation.Start)
        self._pointed = self._chosen = -1
        self._quiet = False
        self._mark()

    def point(self, index: int) -> None:
        self._pointed = index
        self._mark()

    def choose(self, index: int) -> None:
        """Select a region's text and bring it into sight."""
        block = self.document().findBlockByNumber(index)
        if index < 0 or not block.isValid():
            return
        cursor = QTextCursor(block)
        cursor.movePosition(QTextCursor.MoveOperation.EndOfBlock, QTextCursor.MoveMode.KeepAnchor)
        self.setTextCursor(cursor)
        self.ensureCursorVisible()

    def selected(self) -> str:
        return self.textCursor().selection().toPlainText()

    def region_at(self, where: QPoint) -> int:
        """The region under a point of the viewport."""
        block = self.cursorForPosition(where).block()
        area = self.document().documentLayout().blockBoundingRect(block)
        depth = where.y() + self.verticalScrollBar().value()
        inside = area.top() <= depth <= area.bottom() and block.length() > 1
        return block.blockNumber() if inside else -1

    def _follow_cursor(self) -> None:
        block = self.textCursor().block()
        index = block.blockNumber() if block.length() > 1 else -1
        if not self._quiet and index != self._chosen:
            self._chosen = index
            self.chosen.emit(index)

    def _mark(self) -> None:
        block = self.document().findBlockByNumber(self._pointed)
        if self._pointed < 0 or not block.isValid():
            self.setExtraSelections([])
            return
        mark = QTextEdit.ExtraSelection()
        mark.cursor = QTextCursor(block)
        mark.cursor.movePosition(QTextCursor.MoveOperation.EndOfBlock, QTextCursor.MoveMode.KeepAnchor)
        mark.format.setBackground(QColor(theme.colours().mark))
        self.setExtraSelections([mark])

    def createMimeDataFromSelection(self) -> QMimeData:
        data = QMimeData()
        data.setText(self.selected())  # plain: fonts and sizes are ours, not the page's
        return data

    def event(self, event: QEvent) -> bool:
        copying = event.type() == QEvent.Type.ShortcutOverride and event.matches(QKeySequence.StandardKey.Copy)
        # Left to the window's action, which copies everything when nothing is selected.
        return False if copying else super().event(event)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and hasattr(self, "_quiet"):
            self._mark()

    def paintEvent(self, event) -> None:
        super().paintEvent(event)
        if self._hint and self.document().isEmpty():
            painter = QPainter(self.viewport())
            painter.setPen(self.palette().placeholderText().color())
            margin = round(self.document().documentMargin())
            room = self.viewport().rect().adjusted(margin, margin, -margin, -margin)
            painter.drawText(room, Qt.TextFlag.TextWordWrap | Qt.AlignmentFlag.AlignLeading, self._hint)

    def mouseMoveEvent(self, event) -> None:
        super().mouseMoveEvent(event)
        index = self.region_at(event.position().toPoint())
        if index != self._pointed:
            self.pointed.emit(index)

    def leaveEvent(self, event) -> None:
        super().leaveEvent(event)
        self.pointed.emit(-1)


def _formats(kind: str, before: str) -> tuple[QTextBlockFormat, QTextCharFormat]:
    """How a region looks below one of kind `before`, "" for none."""
    heading, list_goes_on = kind == "heading", kind == before == "line"
    gap = HEADING_GAP if heading else LINE_GAP if list_goes_on else GAP
    layout, letters = QTextBlockFormat(), QTextCharFormat()
    layout.setTopMargin(gap if before else 0)
    layout.setLineHeight(115 if kind == "code" else 130, QTextBlockFormat.LineHeightTypes.ProportionalHeight.value)
    letters.setFont(_fixed_pitch() if kind == "code" else theme.scaled_font(HEADING if heading else BODY, bold=heading))
    return layout, letters


def _fixed_pitch() -> QFont:
    font = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
    font.setPointSizeF(theme.scaled_font(1.0).pointSizeF())
    return font

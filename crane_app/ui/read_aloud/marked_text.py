"""A field for the text that is read aloud: written in freely, with the sentence that is heard marked.

Places are told in signs of Python's; Qt counts an emoji as two.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator

from PySide6.QtCore import QEvent, QMimeData, QPoint, QSize, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QTextCursor
from PySide6.QtWidgets import QApplication, QPlainTextEdit, QTextEdit

from crane_app.ui import theme

LEAST_LINES = 6  # in sight
LONGEST_LINE = 10_000  # signs; Qt lays out a line as a whole, which takes it seconds for a million
_WIDE = re.compile("[\U00010000-\U0010ffff]")


class MarkedText(QPlainTextEdit):
    clicked = Signal(int)  # a place in the text, by a click that selects nothing

    def __init__(self):
        super().__init__()
        self.setAcceptDrops(False)  # the whole window takes drops
        self.setTabChangesFocus(True)
        self._marked: tuple[int, int] | None = None  # in Qt's counting, as all below
        self._wide: list[int] = []  # the signs that Qt counts as two, by their place in Python's counting
        self._place = QTextCursor(self.document())  # moves as the text around it does
        self._place.setKeepPositionOnInsert(True)  # what is written just before a sentence is read before it
        self._pressed = QPoint()

    def minimumSizeHint(self) -> QSize:
        return QSize(0, LEAST_LINES * self.fontMetrics().lineSpacing())

    def text(self) -> str:
        """The text as it is now; places are told by it until it is asked for again."""
        text = self.toPlainText()
        self._wide = [found.start() for found in _WIDE.finditer(text)]
        return text

    def replace(self, text: str) -> None:
        """Another text, in a way that can be undone; lines beyond LONGEST_LINE are broken."""
        cursor = QTextCursor(self.document())
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.insertText(broken(text))
        self.moveCursor(QTextCursor.MoveOperation.Start)
        self.place = 0

    @property
    def place(self) -> int:
        """A place that is kept while the text around it changes."""
        return self._ours(self._place.position())

    @place.setter
    def place(self, at: int) -> None:
        self._place.setPosition(min(self._qts(at), self.document().characterCount() - 1))

    def mark(self, start: int, end: int) -> None:
        """Mark a range, and bring it into sight."""
        self._marked = (self._qts(start), self._qts(end))
        self._show_mark()
        self._bring_into_sight()

    def unmark(self) -> None:
        self._marked = None
        self.setExtraSelections([])

    def marked(self) -> str:
        """The text that is marked."""
        return self._range().selection().toPlainText() if self._marked else ""

    def insertFromMimeData(self, source: QMimeData) -> None:
        """What is pasted, its lines broken as in `replace`."""
        self.insertPlainText(broken(source.text()))
        self.ensureCursorVisible()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._pressed = event.position().toPoint()
        super().mousePressEvent(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        super().mouseReleaseEvent(event)
        moved = (event.position().toPoint() - self._pressed).manhattanLength()
        plain = event.button() == Qt.MouseButton.LeftButton and not event.modifiers()
        if plain and moved < QApplication.startDragDistance() and not self.textCursor().hasSelection():
            self.clicked.emit(self._ours(self.cursorForPosition(event.position().toPoint()).position()))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and getattr(self, "_marked", None):
            self._show_mark()

    def _show_mark(self) -> None:
        selection = QTextEdit.ExtraSelection()
        selection.cursor = self._range()
        selection.format.setBackground(QColor(theme.colours().mark))
        selection.format.setForeground(QColor(theme.colours().text))
        self.setExtraSelections([selection])

    def _range(self) -> QTextCursor:
        """The marked range as a selection, as far as the text still has it."""
        last = self.document().characterCount() - 1
        start, end = (min(at, last) for at in self._marked)
        cursor = QTextCursor(self.document())
        cursor.setPosition(start)
        cursor.setPosition(end, QTextCursor.MoveMode.KeepAnchor)
        return cursor

    def _bring_into_sight(self) -> None:
        """A third from the top, unless all of it is in sight; the cursor stays where it is."""
        end = self._range()
        start = QTextCursor(self.document())
        start.setPosition(end.selectionStart())
        inside = self.viewport().rect()
        if inside.contains(self.cursorRect(start)) and inside.contains(self.cursorRect(end)):
            return
        block = start.block()
        line = block.layout().lineForTextPosition(start.position() - block.position()).lineNumber()
        shown = max(1, inside.height() // max(1, self.fontMetrics().lineSpacing()))
        self.verticalScrollBar().setValue(block.firstLineNumber() + max(0, line) - shown // 3)

    def _qts(self, at: int) -> int:
        return at + bisect_left(self._wide, at)

    def _ours(self, at: int) -> int:
        return at - bisect_left(range(len(self._wide)), at, key=lambda number: self._wide[number] + number)


def broken(text: str) -> str:
    """The text with line ends added where a line has more than LONGEST_LINE signs; nothing is lost."""
    return "\n".join(piece for line in text.split("\n") for piece in _pieces(line))


def _pieces(line: str) -> Iterator[str]:
    start = 0
    while len(line) - start > LONGEST_LINE:
        last = start + LONGEST_LINE
        gap = max(line.rfind(sign, start, last) for sign in " 。")
        end = last if gap < 0 else gap + 1
        yield line[start:end]
        start = end
    yield line[start:]

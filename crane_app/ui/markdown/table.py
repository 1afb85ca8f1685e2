"""A table of a message: columns as wide as their words need, the same in all pieces of a long one."""

from PySide6.QtCore import QCoreApplication, QPointF, QRectF
from PySide6.QtGui import QFont, QFontMetricsF, QPainter, QTextCursor, QTextLength, QTextTable
from PySide6.QtWidgets import QWidget

from crane_app.media.blocks import Block
from crane_app.ui.markdown.passage import Passage, Range
from crane_app.ui.markdown.prose import CELL, letters
from crane_app.ui.markdown.sideways import ROOM, Sideways

LEAST, MOST = 3.0, 60.0  # of a column, in heights of the letters
LONGEST_WORD = 12.0
BESIDE = 3 * CELL  # left and right of what stands in a cell


class Table(Passage):
    """Rows that scroll sideways where they do not fit; `leader` has the rows before, and says how wide columns are."""

    framed = True

    def __init__(self, view: QWidget, block: Block, font: QFont, leader: "Table | None" = None):
        self._view, self._leader = view, leader
        self._bar: Sideways | None = None  # made when the table is first seen
        self._top = self._content = 0.0
        super().__init__(block, font)

    def dress(self, font: QFont) -> None:
        super().dress(font)
        self._table = _first_table(self._document)
        self._needs = _needs(self._table, font) if self._table and self._leader is None else []

    def fit(self, width: float) -> float:
        if width == self.width:
            return self.height
        if self._table:
            widths = self.columns(width)
            shape = self._table.format().toTableFormat()
            shape.setColumnWidthConstraints([QTextLength(QTextLength.Type.FixedLength, w) for w in widths])
            self._table.setFormat(shape)
            self._content = sum(widths)
            super().fit(max(width, self._content))
            self.width = width
            self.asleep = self._bar is None and self._content > width
            self.height += ROOM if self._content > width else 0
        else:
            super().fit(width)
        return self.height

    def columns(self, width: float) -> list[float]:
        """Pixels of each column where there are `width` for all."""
        if self._leader is not None:
            return self._leader.columns(width)
        least = sum(low for low, _ in self._needs)
        most = sum(high for _, high in self._needs)
        if most <= width:
            return [high for _, high in self._needs]
        part = max(0.0, (width - least) / (most - least)) if most > least else 0.0
        return [low + part * (high - low) for low, high in self._needs]

    def place(self, top: float) -> None:
        self._top = top
        if self._bar is not None:
            self._bar.fit(self._content, self.width)
            self._bar.place(0, top + self.height, self.width)

    def wake(self) -> None:
        self.asleep = False
        if self._bar is None and self._content > self.width:
            self._bar = Sideways(self._view, QCoreApplication.translate("Table", "Scroll the table sideways"))
            self.place(self._top)
            if self._leader is not None and self._leader._bar is not None:
                self._bar.setValue(self._leader._bar.value())
                self._bar.valueChanged.connect(self._leader._bar.setValue)
                self._leader._bar.valueChanged.connect(self._bar.setValue)

    def drop(self) -> None:
        if self._bar is not None:
            self._bar.hide()
            self._bar.deleteLater()

    def hit(self, point: QPointF) -> int:
        return super().hit(point + self._shift())

    def link_at(self, point: QPointF) -> str:
        return super().link_at(point + self._shift())

    def place_rect(self, place: int) -> QRectF:
        return super().place_rect(place).translated(-self._shift())

    def paint(self, painter: QPainter, clip: QRectF, chosen: Range | None, marked: Range | None = None) -> None:
        painter.setClipRect(QRectF(0, 0, self.width, self.height))
        painter.translate(-self._shift())
        super().paint(painter, clip.translated(self._shift()), chosen, marked)

    def _shift(self) -> QPointF:
        return QPointF(self._bar.value() if self._bar is not None else 0, 0)


def _first_table(document) -> QTextTable | None:
    block = document.begin()
    while block.isValid():
        if table := QTextCursor(block).currentTable():
            return table
        block = block.next()
    return None


def _needs(table: QTextTable, font: QFont) -> list[tuple[float, float]]:
    """Of each column, the pixels for its longest word and for its longest cell, within bounds."""
    bold, em = QFont(font), letters(font)
    bold.setBold(True)
    width = QFontMetricsF(bold).horizontalAdvance
    found = []
    for column in range(table.columns()):
        texts = [_text(table, row, column) for row in range(table.rows())]
        word = max((width(word) for text in texts for word in text.split()), default=0.0)
        cell = max((width(text) for text in texts), default=0.0)
        low = min(max(word, LEAST * em), LONGEST_WORD * em) + BESIDE
        found.append((low, max(low, min(cell + 2, MOST * em) + BESIDE if len(texts) else low)))
    return found


def _text(table: QTextTable, row: int, column: int) -> str:
    cell = table.cellAt(row, column)
    return cell.firstCursorPosition().block().text()[:200]

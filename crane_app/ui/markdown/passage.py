"""A passage of a message: one block of Markdown laid out for a width, painted, selected and copied.

Knows nothing of the message around it; ui/markdown/view.py places passages below each other.
"""

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import (
    QAbstractTextDocumentLayout,
    QColor,
    QFont,
    QPainter,
    QPalette,
    QTextBlock,
    QTextCharFormat,
    QTextCursor,
)

from crane_app.media.blocks import Block
from crane_app.media.markdown import is_plain, parse
from crane_app.ui import theme
from crane_app.ui.markdown import prose
from crane_app.ui.markdown.ornaments import Ornaments
from crane_app.ui.markdown.prose import MARKER, RULE, TASK

Range = tuple[int, int]  # of places in the text, from and to


class Passage:
    """Prose or a table. height: in pixels, for the width it was last fitted to.

    above: the gap it wants above it. listed: whether it is an item of a list. headed: whether a heading ends it.
    """

    framed = False  # it is more than text, and wants room below
    asleep = False  # it has something to make when it comes into sight

    def __init__(self, block: Block, font: QFont):
        self.block = block
        self.height = 0.0
        self.width = -1.0
        self.looks: object = None
        self.dress(font)

    def dress(self, font: QFont) -> None:
        """Write the text, in the theme's colours of now."""
        block = self.block
        self._font = font
        self._document = prose.sealed(font)
        writer = prose.Writer(self._document, font)
        tokens = [] if block.kind == "math" or is_plain(block) else parse(block)
        if block.kind == "math":
            writer.write_plain(block.source, "lines")
        elif tokens or not block.source.strip():
            writer.write(block, tokens)
        else:
            writer.write_plain(block.source)
        self.above = writer.above if block.begins else 0.0
        self.headed = writer.headed
        self.listed = bool(tokens) and tokens[0].type in ("bullet_list_open", "ordered_list_open")
        self.blank = not tokens and not block.source.strip()
        self.begins = block.begins
        self.seam = "" if block.inline else "\n"  # between it and the block that it goes on with
        self.links = writer.links
        self.width = -1.0

    def fit(self, width: float) -> float:
        """Lay it out; its height."""
        if width != self.width:
            self.width = width
            self._document.setTextWidth(width)
            self.height = 0.0 if self.blank else float(self._document.size().height())
            self._drawn: Ornaments | None = None
        return self.height

    def guess(self, width: float) -> None:
        """Reckon the height for another width, without laying out."""
        self.height *= self.width / width if self.width > 0 else 1.0
        self.width = -1.0

    def place(self, top: float) -> None:
        """Where it stands in the message makes no difference to it."""

    def wake(self) -> None:
        """It comes into sight, and is all there."""

    def drop(self) -> None:
        """Nothing of it stands outside of its text."""

    def length(self) -> int:
        """How many places a selection can begin or end at, less one."""
        return self._document.characterCount() - 1

    def hit(self, point: QPointF) -> int:
        """The place in the text nearest to a point."""
        place = self._document.documentLayout().hitTest(point, Qt.HitTestAccuracy.FuzzyHit)
        return max(0, place)

    def link_at(self, point: QPointF) -> str:
        return self._document.documentLayout().anchorAt(point)

    def word_at(self, place: int) -> Range:
        return self._unit(place, QTextCursor.SelectionType.WordUnderCursor)

    def line_at(self, place: int) -> Range:
        return self._unit(place, QTextCursor.SelectionType.BlockUnderCursor)

    def place_rect(self, place: int) -> QRectF:
        """Where a place in the text is."""
        block = self._document.findBlock(place)
        area = self._document.documentLayout().blockBoundingRect(block)
        line = block.layout().lineForTextPosition(place - block.position())
        return line.rect().translated(area.topLeft()) if line.isValid() else area

    def _unit(self, place: int, unit: QTextCursor.SelectionType) -> Range:
        cursor = QTextCursor(self._document)
        cursor.setPosition(place)
        cursor.select(unit)
        return cursor.selectionStart(), cursor.selectionEnd()

    def moved(self, place: int, by: int) -> int:
        """The place one sign further, or before; the same at an end."""
        cursor = QTextCursor(self._document)
        cursor.setPosition(place)
        way = QTextCursor.MoveOperation
        cursor.movePosition(way.NextCharacter if by > 0 else way.PreviousCharacter)
        return cursor.position()

    def _between(self, start: int, end: int) -> str:
        """The text between two places of a block; places count in halves of signs, as Qt does."""
        cursor = QTextCursor(self._document)
        cursor.setPosition(start)
        cursor.setPosition(max(start, end), QTextCursor.MoveMode.KeepAnchor)
        return cursor.selectedText().replace(prose.LINE_SEPARATOR, "\n")

    def copied(self, chosen: Range) -> str:
        """The plain text of a part: a line for each block, a tab between the cells of a table."""
        start, end = chosen
        text, row = "", -1
        block = self._document.findBlock(start)
        first = True
        while block.isValid() and block.position() <= end:
            table = QTextCursor(block).currentTable()
            if not table and _is_beside_table(block):
                block = block.next()
                continue
            now = table.cellAt(block.position()).row() if table else -1
            if not first:
                text += "\t" if table and now == row else "\n"
            text += _sign(block) if not first or start == block.position() else ""
            text += self._between(max(start, block.position()), min(end, block.position() + block.length() - 1))
            first, row = False, now
            block = block.next()
        return text

    def paint(self, painter: QPainter, clip: QRectF, chosen: Range | None, marked: Range | None = None) -> None:
        """Draw it with its top left at the origin. chosen: what is selected; marked: a link with the focus."""
        if self._drawn is None:
            self._drawn = Ornaments(self._document, self._font)
        self._drawn.paint(painter)
        c = theme.colours()
        context = QAbstractTextDocumentLayout.PaintContext()
        context.clip = clip
        context.palette.setColor(QPalette.ColorRole.Text, QColor(c.text))
        parts = ((marked, c.mark, c.link), (chosen, c.selection, c.on_selection))
        context.selections = [self._selection(*part) for part in parts if part[0] and part[0][0] < part[0][1]]
        self._document.documentLayout().draw(painter, context)

    def _selection(self, part: Range, ground: str, text: str) -> QAbstractTextDocumentLayout.Selection:
        made = QAbstractTextDocumentLayout.Selection()
        made.cursor = QTextCursor(self._document)
        made.cursor.setPosition(part[0])
        made.cursor.setPosition(part[1], QTextCursor.MoveMode.KeepAnchor)
        made.format = QTextCharFormat()
        made.format.setBackground(QColor(ground))
        made.format.setForeground(QColor(text))
        return made


def _is_beside_table(block: QTextBlock) -> bool:
    """Whether it is one of the empty blocks that a document has before and after a table."""
    beside = (each for each in (block.previous(), block.next()) if each.isValid())
    return block.length() == 1 and any(QTextCursor(each).currentTable() for each in beside)


def _sign(block: QTextBlock) -> str:
    """What stands beside a block, in plain text."""
    layout = block.blockFormat()
    if layout.property(RULE):
        return "---"
    task = {"open": "[ ] ", "done": "[x] "}.get(layout.property(TASK) or "", "")
    return task or (f"{layout.property(MARKER)} " if layout.property(MARKER) else "")

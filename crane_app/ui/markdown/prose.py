"""Markdown's tokens written into a text document: headings, lists, quotes, tables, code in a line, links.

The document asks for no resource, whatever it holds. Signs beside the text (bullets, bars, boxes) are told by
properties of its blocks; ui/markdown/passage.py draws them.
"""

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontDatabase,
    QFontMetricsF,
    QTextBlockFormat,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
    QTextFormat,
    QTextLength,
    QTextOption,
    QTextTableCellFormat,
    QTextTableFormat,
)

from crane_app.media.blocks import Block
from crane_app.ui import theme

LINE_SEPARATOR = "\u2028"
LINE = 1.5  # height of a line, in heights of the letters
HEADINGS = (1.5, 1.28, 1.12, 1.0, 1.0, 1.0)  # times the font
MONO = 0.93  # letters of one width look larger than others
# Gaps above, in heights of the letters.
PARAGRAPH, HEADING, BELOW_HEADING, BELOW_FRAME, ITEM, LOOSE_ITEM = 0.75, 1.5, 0.5, 1.0, 0.28, 0.6
INDENT = 1.75
PROPORTIONAL = QTextBlockFormat.LineHeightTypes.ProportionalHeight.value
TASKS = {"[ ] ": "open", "[x] ": "done"}
CELL = 7.0  # pixels around what stands in a cell

_USER = QTextFormat.Property.UserProperty.value
MARKER, TASK, QUOTES, RULE, IS_CODE, CODE_LINE, GOES_ON = range(_USER + 1, _USER + 8)

# What QTextDocument uses for its own ends (U+FDD0, U+FDD1, U+FFFC, U+2029) or cannot hold.
_UNFIT = {**dict.fromkeys([0, 0xFDD0, 0xFDD1, 0xFFFC, 0x2029, *range(0xD800, 0xE000)], "\ufffd"), 0x0D: " "}


def fit_for_qt(text: str) -> str:
    """`text` with a sign of the same length for each that a document would take for something else."""
    return text.translate(_UNFIT)


def fit_to_copy(text: str) -> str:
    """`text` without halves of signs, which no clipboard can hold."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def mono(font: QFont) -> QFont:
    """The system's font of one width, to stand beside `font`."""
    made = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
    made.setPointSizeF(font.pointSizeF() * MONO)
    return made


class Sealed(QTextDocument):
    """A document that never opens anything: no picture, no style sheet, by no scheme."""

    def loadResource(self, kind: int, name: Any) -> None:
        return None


def sealed(font: QFont) -> Sealed:
    document = Sealed()
    document.setUndoRedoEnabled(False)
    document.setDocumentMargin(0)
    document.setDefaultFont(font)
    document.setIndentWidth(round(INDENT * letters(font)))
    option = QTextOption()
    option.setWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
    document.setDefaultTextOption(option)
    return document


def letters(font: QFont) -> float:
    """The height of a font's letters in pixels, what CSS calls 1 em."""
    return QFontMetricsF(font).height() / 1.2


class Writer:
    """Writes one block. above: gap that it wants above, in pixels. headed: whether it ends with a heading.

    links: where in the document each is, from, to, address.
    """

    def __init__(self, document: QTextDocument, font: QFont):
        self._font, self._em = font, letters(font)
        self._line = line_height(font)
        self._cursor = QTextCursor(document)
        self._formats: dict[tuple[object, ...], QTextCharFormat] = {}
        self._colours = theme.colours()
        self._depth = 0  # lists and quotes around
        self._quotes: list[int] = []  # at which depths a quote is
        self._lists: list[int | None] = []  # the next number of each list, None for one of bullets
        self._marker = ""  # of an item that has nothing yet
        self._following = ""  # the text that stands after the token being written
        self._skip = 0  # signs of it that are told otherwise
        self._heading = 0
        self._styles: list[str] = []
        self._goes_on = False  # the table began in another block
        self._link = ""
        self._link_start = 0
        self._fresh = True  # the document's first block is still to be used
        self._after_heading = False
        self.above = 0.0
        self.headed = False
        self.links: list[tuple[int, int, str]] = []

    def write(self, block: Block, tokens: list[Any]) -> None:
        self._depth = (block.indent + 1) // 3 if block.indent and block.kind != "code" else 0
        self._cursor.beginEditBlock()
        self._goes_on = bool(block.head)
        place = 0
        if tokens and tokens[0].type == "inline":  # the end of a line that was cut
            self._block(PARAGRAPH)
        while place < len(tokens):
            token = tokens[place]
            self._following = tokens[place + 1].content if place + 1 < len(tokens) else ""
            if token.type == "table_open":
                place = self._table(tokens, place)
            else:
                self._write(token)
            place += 1
        self._cursor.endEditBlock()
        self.headed = self._after_heading

    def write_plain(self, text: str, style: str = "") -> None:
        """Text as it is."""
        self._cursor.beginEditBlock()
        self._block(PARAGRAPH)
        self._styles = [style] if style else []
        self._insert(text.strip("\n").replace("\n", LINE_SEPARATOR))
        self._cursor.endEditBlock()

    def _write(self, token: Any) -> None:
        step: Callable[[Any], None] | None = getattr(self, f"_{token.type}", None)
        if step is not None:
            step(token)

    # Blocks

    def _paragraph_open(self, token: Any) -> None:
        first_item = bool(self._marker) and self._fresh
        self._block((ITEM if token.hidden and not first_item else LOOSE_ITEM) if self._lists else PARAGRAPH)

    def _heading_open(self, token: Any) -> None:
        self._heading = int(token.tag[1])
        self._block(HEADING if self._heading < 5 else PARAGRAPH)

    def _heading_close(self, token: Any) -> None:
        self._heading = 0
        self._after_heading = True

    def _blockquote_open(self, token: Any) -> None:
        self._depth += 1
        self._quotes.append(self._depth)

    def _blockquote_close(self, token: Any) -> None:
        self._depth -= 1
        self._quotes.pop()

    def _bullet_list_open(self, token: Any) -> None:
        self._depth += 1
        self._lists.append(None)

    def _ordered_list_open(self, token: Any) -> None:
        self._depth += 1
        self._lists.append(int(token.attrs.get("start", 1)))

    def _bullet_list_close(self, token: Any) -> None:
        self._depth -= 1
        self._lists.pop()

    _ordered_list_close = _bullet_list_close

    def _list_item_open(self, token: Any) -> None:
        number = self._lists[-1]
        if self._marker:
            self._block(ITEM)  # an item whose first thing is another list
        self._marker = "•" if number is None else f"{number}{token.markup or '.'}"
        if number is not None:
            self._lists[-1] = number + 1

    def _list_item_close(self, token: Any) -> None:
        if self._marker:
            self._block(ITEM)  # an item with nothing in it

    def _hr(self, token: Any) -> None:
        self._block(PARAGRAPH, {RULE: True})

    def _fence(self, token: Any) -> None:
        self._styles.append("lines")
        for i, line in enumerate(token.content.rstrip("\n").split("\n")):
            self._block(0.0 if i else PARAGRAPH, {CODE_LINE: True})
            self._insert(line)
        self._styles.pop()

    _code_block = _fence

    def _block(self, gap: float, marks: dict[int, Any] | None = None) -> None:
        """Begin a block; gap: above it, in heights of the letters."""
        layout = QTextBlockFormat()
        layout.setIndent(self._depth)
        layout.setLineHeight(self._line, PROPORTIONAL)
        if self._marker:
            box = TASKS.get(self._following[:4].lower())
            self._skip = 4 if box else 0
            layout.setProperty(TASK if box else MARKER, box or self._marker)
            self._marker = ""
        elif self._after_heading and not self._heading:
            gap = min(gap, BELOW_HEADING)
        if self._quotes:
            layout.setProperty(QUOTES, ",".join(map(str, self._quotes)))
        for mark, value in (marks or {}).items():
            layout.setProperty(mark, value)
        self._after_heading = False
        pixels = round(gap * self._em)
        if self._fresh:
            self.above, self._fresh = pixels, False
            self._cursor.setBlockFormat(layout)
            self._cursor.setBlockCharFormat(self._format())
        else:
            layout.setTopMargin(pixels)
            self._cursor.insertBlock(layout, self._format())

    # What stands in a line

    def _inline(self, token: Any) -> None:
        for child in token.children:
            self._write(child)

    def _text(self, token: Any) -> None:
        self._insert(token.content[self._skip :])
        self._skip = 0

    def _softbreak(self, token: Any) -> None:
        self._insert(LINE_SEPARATOR)  # as people write in a chat: a new line is meant

    _hardbreak = _softbreak

    def _code_inline(self, token: Any) -> None:
        self._styles.append("code")
        self._insert(token.content)
        self._styles.pop()

    def _strong_open(self, token: Any) -> None:
        self._styles.append("bold")

    def _em_open(self, token: Any) -> None:
        self._styles.append("italic")

    def _s_open(self, token: Any) -> None:
        self._styles.append("strike")

    def _strong_close(self, token: Any) -> None:
        self._styles.pop()

    _em_close = _s_close = _strong_close

    def _link_open(self, token: Any) -> None:
        self._link, self._link_start = token.attrs["href"], self._cursor.position()

    def _link_close(self, token: Any) -> None:
        if self._cursor.position() > self._link_start:
            self.links.append((self._link_start, self._cursor.position(), self._link))
        self._link = ""

    def _image(self, token: Any) -> None:
        """Its words and where it is to be found: nothing is fetched."""
        self._insert(token.content)
        address = str(token.attrs["src"])
        self._insert(" (" if token.content else "(")
        within, start, self._link = self._link, self._cursor.position(), address
        self._insert(address)
        self.links.append((start, self._cursor.position(), address))
        self._link = within
        self._insert(")")

    def _insert(self, text: str) -> None:
        if text:
            self._cursor.insertText(fit_for_qt(text), self._format())

    def _format(self) -> QTextCharFormat:
        key = (*self._styles, self._link, self._heading, bool(self._quotes))
        if key not in self._formats:
            self._formats[key] = self._new_format()
        return self._formats[key]

    def _new_format(self) -> QTextCharFormat:
        c, made, font = self._colours, QTextCharFormat(), QFont(self._font)
        if self._heading:
            font.setPointSizeF(font.pointSizeF() * HEADINGS[self._heading - 1])
            font.setWeight(QFont.Weight.DemiBold)
        if "code" in self._styles or "lines" in self._styles:
            font = mono(font)
        if "bold" in self._styles:
            font.setWeight(QFont.Weight.Bold)
        font.setItalic("italic" in self._styles)
        font.setStrikeOut("strike" in self._styles)
        made.setFont(font)
        quoted = bool(self._quotes) or self._heading > 4
        made.setForeground(QColor(c.link if self._link else c.muted if quoted else c.text))
        if "code" in self._styles:
            made.setProperty(IS_CODE, True)
        if self._link:
            made.setAnchor(True)
            made.setAnchorHref(self._link)
            made.setFontUnderline(True)
        return made

    # Tables

    def _table(self, tokens: list[Any], place: int) -> int:
        """Write the table that opens at `place`; the place of its end."""
        end = next(i for i in range(place, len(tokens)) if tokens[i].type == "table_close")
        rows: list[list[tuple[str, Any]]] = []
        for i in range(place, end):
            if tokens[i].type == "tr_open":
                rows.append([])
            elif tokens[i].type in ("th_open", "td_open"):
                rows[-1].append((str(tokens[i].attrs.get("style", "")), tokens[i + 1]))
        rows = rows[1:] if self._goes_on else rows
        if self._fresh:
            self.above = round(PARAGRAPH * self._em)
        table = self._cursor.insertTable(len(rows), max(map(len, rows)), self._table_format(len(rows[0])))
        shape = self._cell_format()
        for r, row in enumerate(rows):
            for column, (style, inline) in enumerate(row):
                cell = table.cellAt(r, column)
                cell.setFormat(shape)
                self._cursor = cell.firstCursorPosition()
                layout = QTextBlockFormat()
                layout.setLineHeight(self._line, PROPORTIONAL)
                layout.setAlignment(_alignment(style))
                self._cursor.setBlockFormat(layout)
                self._styles = ["bold"] if r == 0 and not self._goes_on else []
                self._inline(inline)
        self._styles = []
        self._cursor = table.lastCursorPosition()
        self._cursor.movePosition(QTextCursor.MoveOperation.NextBlock)
        self._fresh = False
        return end

    def _cell_format(self) -> QTextTableCellFormat:
        made = QTextTableCellFormat()
        made.setPadding(CELL)
        made.setBottomPadding(max(0.0, CELL - spare(self._font)))
        made.setRightPadding(2 * CELL)
        return made

    def _table_format(self, columns: int) -> QTextTableFormat:
        made = QTextTableFormat()
        made.setBorder(0)
        made.setCellSpacing(0)
        made.setHeaderRowCount(0 if self._goes_on else 1)
        made.setProperty(GOES_ON, self._goes_on)
        made.setColumnWidthConstraints([QTextLength()] * columns)
        return made


def spare(font: QFont) -> float:
    """Pixels that a line has below its letters beyond what the font asks for."""
    return QFontMetricsF(font).height() * (line_height(font) / 100 - 1)


def line_height(font: QFont) -> float:
    """Per cent of the font's own height that make a line LINE letters high."""
    metrics = QFontMetricsF(font)
    return max(100.0, 100 * LINE * letters(font) / metrics.height())


def _alignment(style: str) -> Qt.AlignmentFlag:
    for word, flag in (("center", Qt.AlignmentFlag.AlignHCenter), ("right", Qt.AlignmentFlag.AlignRight)):
        if word in style:
            return flag
    return Qt.AlignmentFlag.AlignLeading

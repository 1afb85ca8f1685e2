"""Fenced code in a message: its language, a button that copies it, and lines that scroll sideways.

Only the lines in sight are ever laid out, so that its length costs nothing. Colours come from ui/markdown/highlight.py.
"""

from bisect import bisect_right

from PySide6.QtCore import QCoreApplication, QPoint, QPointF, QRect, QRectF, Qt
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontMetricsF,
    QGuiApplication,
    QPainter,
    QPen,
    QTextCharFormat,
    QTextLayout,
    QTextOption,
)
from PySide6.QtWidgets import QToolButton, QWidget

from crane_app.media.blocks import Block
from crane_app.ui import theme
from crane_app.ui.icons import icon
from crane_app.ui.markdown.highlight import Colouring
from crane_app.ui.markdown.passage import Range
from crane_app.ui.markdown.prose import PARAGRAPH, fit_for_qt, letters, mono
from crane_app.ui.markdown.sideways import ROOM, Sideways
from crane_app.ui.theme import RADIUS, SPACE

LONGEST = 1000  # signs of a row; a line that is longer goes on in the next
SIDE = 12  # pixels beside the text
KEPT = 300  # rows whose layout is remembered


class Code:
    """One fence of a message, which may still be growing; the same to the message as a Passage."""

    listed = headed = blank = False
    begins, seam = True, ""
    asleep = framed = True
    links: tuple[tuple[int, int, str], ...] = ()

    def __init__(self, view: QWidget, block: Block, font: QFont):
        self.language = block.language
        self.width, self.height = -1.0, 0.0
        self.looks: object = None
        self._view = view
        self._rows: list[str] = [""]
        self._starts: list[int] = [0]  # where in the text each row begins
        self._soft: set[int] = set()  # rows that go on with the line of the row before
        self._length = 0
        self._widest = 0.0
        self._layouts: dict[int, QTextLayout] = {}
        self._spans: dict[int, list[tuple[int, int, str]]] = {}
        self._closed = False
        self.bar: Sideways | None = None  # made when the code is first seen, as the button is
        self.button: QToolButton | None = None
        self._top = 0.0
        self.dress(font)
        self.append(block.text)

    def dress(self, font: QFont) -> None:
        """Take a font, and the theme's colours of now."""
        self._font, self._em = mono(font), letters(font)
        self._small = QFont(font)
        self._small.setPointSizeF(font.pointSizeF() * 0.9)
        metrics = QFontMetricsF(self._font)
        self._line = round(1.5 * letters(self._font))
        self._advance = metrics.horizontalAdvance("m")
        self._head = max(round(2.2 * self._em), round(QFontMetricsF(self._small).height()) + 16)
        self.above = round(PARAGRAPH * self._em)
        self._widest = max(map(self._measure, self._rows))
        self._layouts.clear()
        self.width = -1.0

    def append(self, text: str) -> None:
        """More of the code; the cost is that of the new text."""
        if not text:
            return
        self._closed = False
        first = len(self._rows) - 1
        lines = fit_for_qt(text).split("\n")
        self._add(lines[0])
        for line in lines[1:]:
            self._length += 1
            self._rows.append("")
            self._starts.append(self._length)
            self._add(line)
        for row in range(first, len(self._rows)):
            self._layouts.pop(row, None)
            self._widest = max(self._widest, self._measure(self._rows[row]))
        self.width = -1.0

    def _add(self, text: str) -> None:
        """Text without newlines to the last row, and to new ones where it is full."""
        while text:
            room = LONGEST - len(self._rows[-1])
            if room <= 0:
                self._rows.append("")
                self._starts.append(self._length)
                self._soft.add(len(self._rows) - 1)
                continue
            self._rows[-1] += text[:room]
            self._length += len(text[:room])
            text = text[room:]

    def text(self) -> str:
        return self._part((0, self._length))

    def colour(self, row: int, spans: list[tuple[int, int, str]]) -> None:
        """Give a row its colours: start, length and the field of theme.Colours."""
        self._spans[row] = spans
        self._layouts.pop(row, None)

    def row_of(self, place: int) -> tuple[int, int]:
        """The row of a place in the text, and where in it."""
        row = bisect_right(self._starts, place) - 1
        return row, place - self._starts[row]

    def row_length(self, row: int) -> int:
        return len(self._rows[row])

    def copy_all(self) -> None:
        QGuiApplication.clipboard().setText(self.text().removesuffix("\n"))

    def shown_rows(self) -> int:
        """Rows that are drawn: an empty one at the end is only the last line's end."""
        return max(1, len(self._rows) - (self._rows[-1] == "" and len(self._rows) > 1))

    def fit(self, width: float) -> float:
        if width != self.width:
            self.width = width
            room = ROOM if self._over() > 0 else SPACE // 2
            self.asleep = self.button is None or (self.bar is None and self._over() > 0)
            self.height = float(self._head + self.shown_rows() * self._line + SPACE + room)
        return self.height

    def _over(self) -> float:
        """Pixels that the widest row has too many."""
        return self._widest + 2 * SIDE - self.width

    def close(self) -> None:
        """Nothing more will come: find its colours."""
        if not self._closed:
            self._closed = True
            Colouring(self._view, self).start()

    def place(self, top: float) -> None:
        """Put the controls where the code is in the message."""
        self._top = top
        if self.button is not None:
            size = self.button.sizeHint()
            corner = QPoint(round(self.width) - size.width() - 6, round(top + (self._head - size.height()) / 2))
            self.button.setGeometry(QRect(corner, size))
        if self.bar is not None:
            self.bar.fit(self._widest + 2 * SIDE, self.width)
            self.bar.place(SIDE // 2, top + self.height - 1, self.width - SIDE)

    def wake(self) -> None:
        """It comes into sight: make what can be clicked."""
        self.asleep = False
        if self.button is None:
            self.button = _copy_button(self._view, self.copy_all)
            self.button.show()
            self.place(self._top)
        if self.bar is None and self._over() > 0:
            self.bar = Sideways(self._view, _tr("Scroll the code sideways"))
            self.place(self._top)

    def drop(self) -> None:
        """Take the controls away with it."""
        for control in (self.button, self.bar):
            if control is not None:
                control.hide()
                control.deleteLater()

    def _shift(self) -> int:
        return self.bar.value() if self.bar is not None else 0

    def length(self) -> int:
        return self._length

    def moved(self, place: int, by: int) -> int:
        """The place one sign further, or before; the same at an end."""
        return max(0, min(self._length, place + by))

    def hit(self, point: QPointF) -> int:
        row = int((point.y() - self._head) // self._line)
        if row < 0:
            return 0
        if row >= len(self._rows):
            return self._length
        x = point.x() - SIDE + self._shift()
        return self._starts[row] + _signs(self._rows[row], self._layout(row).lineAt(0).xToCursor(x))

    def link_at(self, point: QPointF) -> str:
        return ""

    def word_at(self, place: int) -> Range:
        row, at = self.row_of(place)
        text = self._rows[row]
        start = end = at
        while start > 0 and (text[start - 1].isalnum() or text[start - 1] == "_"):
            start -= 1
        while end < len(text) and (text[end].isalnum() or text[end] == "_"):
            end += 1
        return self._starts[row] + start, self._starts[row] + max(end, min(start + 1, len(text)))

    def line_at(self, place: int) -> Range:
        row, _ = self.row_of(place)
        return self._starts[row], self._starts[row] + len(self._rows[row])

    def place_rect(self, place: int) -> QRectF:
        row, at = self.row_of(place)
        x, _ = self._layout(row).lineAt(0).cursorToX(_halves(self._rows[row], at))
        return QRectF(x + SIDE - self._shift(), self._head + row * self._line, 1, self._line)

    def copied(self, chosen: Range) -> str:
        """The text of a part, without the end of the last line."""
        text = self._part(chosen)
        return text.removesuffix("\n") if chosen[1] == self._length else text

    def _part(self, chosen: Range) -> str:
        start, end = chosen
        first, last = self.row_of(start)[0], self.row_of(end)[0]
        rows = (("" if row in self._soft else "\n") + self._rows[row] for row in range(first + 1, last + 1))
        text = self._rows[first] + "".join(rows)
        return text[start - self._starts[first] : len(text) - (self._starts[last] + len(self._rows[last]) - end)]

    def paint(self, painter: QPainter, clip: QRectF, chosen: Range | None, marked: Range | None = None) -> None:
        c = theme.colours()
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(c.line), 1))
        painter.setBrush(QColor(c.code))
        painter.drawRoundedRect(QRectF(0.5, 0.5, self.width - 1, self.height - 1), RADIUS, RADIUS)
        painter.setPen(QColor(c.muted))
        painter.setFont(self._small)
        room = QRectF(SIDE, 0, self.width - 10 * self._em, self._head)
        name = painter.fontMetrics().elidedText(self._title(), Qt.TextElideMode.ElideRight, int(room.width()))
        painter.drawText(room, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft), name)
        painter.setClipRect(QRectF(1, self._head, self.width - 2, self.shown_rows() * self._line))
        self._paint_rows(painter, clip, chosen)
        painter.restore()

    def _paint_rows(self, painter: QPainter, clip: QRectF, chosen: Range | None) -> None:
        first = max(0, int((clip.top() - self._head) // self._line))
        last = min(self.shown_rows(), int((clip.bottom() - self._head) // self._line) + 1)
        painter.setPen(QColor(theme.colours().text))
        for row in range(first, last):
            layout = self._layout(row)
            drop = (self._line - layout.lineAt(0).height()) / 2
            at = QPointF(SIDE - self._shift(), self._head + row * self._line + drop)
            layout.draw(painter, at, self._selected(row, chosen))
        while len(self._layouts) > KEPT:
            self._layouts.pop(next(iter(self._layouts)))

    def _selected(self, row: int, chosen: Range | None) -> list[QTextLayout.FormatRange]:
        if not chosen:
            return []
        start = max(0, chosen[0] - self._starts[row])
        end = min(len(self._rows[row]), chosen[1] - self._starts[row])
        if start >= end:
            return []
        c = theme.colours()
        return [_span(self._rows[row], start, end - start, c.on_selection, c.selection)]

    def _layout(self, row: int) -> QTextLayout:
        made = self._layouts.get(row)
        if made is None:
            made = self._layouts[row] = QTextLayout(self._rows[row], self._font)
            option = QTextOption()
            option.setWrapMode(QTextOption.WrapMode.NoWrap)
            option.setTabStopDistance(4 * self._advance)
            option.setTextDirection(Qt.LayoutDirection.LeftToRight)
            made.setTextOption(option)
            c = theme.colours()
            text, spans = self._rows[row], self._spans.get(row, ())
            made.setFormats([_span(text, start, length, getattr(c, role)) for start, length, role in spans])
            made.beginLayout()
            made.createLine().setLineWidth(1e6)
            made.endLayout()
        return made

    def _measure(self, text: str) -> float:
        if text.isascii() and "\t" not in text:
            return len(text) * self._advance
        return QFontMetricsF(self._font).horizontalAdvance(text.expandtabs(4))

    def _title(self) -> str:
        return self.language.lower() or _tr("code")


def _tr(words: str) -> str:
    return QCoreApplication.translate("Code", words)


def _halves(text: str, signs: int) -> int:
    """So many signs of a text, counted in halves as Qt counts them (UTF-16)."""
    return signs if text.isascii() else len(text[:signs].encode("utf-16-le", "surrogatepass")) // 2


def _signs(text: str, halves: int) -> int:
    if text.isascii():
        return halves
    return len(text.encode("utf-16-le", "surrogatepass")[: 2 * halves].decode("utf-16-le", "ignore"))


def _span(text: str, start: int, length: int, colour: str, ground: str = "") -> QTextLayout.FormatRange:
    """A part of a row in a colour."""
    made = QTextLayout.FormatRange()
    made.start = _halves(text, start)
    made.length = _halves(text, start + length) - made.start
    made.format = QTextCharFormat()
    made.format.setForeground(QColor(colour))
    if ground:
        made.format.setBackground(QColor(ground))
    return made


def _copy_button(view: QWidget, does) -> QToolButton:
    made = QToolButton(view)
    made.setText(_tr("Copy"))
    made.setIcon(icon("copy", "muted"))
    made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
    made.setProperty("look", "flat small")
    made.setAccessibleName(_tr("Copy the code"))
    made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    made.setCursor(Qt.CursorShape.PointingHandCursor)
    made.clicked.connect(lambda _checked=False: does())
    return made

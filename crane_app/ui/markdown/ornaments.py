"""What is drawn behind and beside the text of a document: bullets, bars, boxes, rules, the ground of code."""

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QPainter, QPen, QTextBlock, QTextCursor, QTextTable, QTextTableCell

from crane_app.ui import theme
from crane_app.ui.markdown import prose
from crane_app.ui.markdown.prose import CELL, CODE_LINE, GOES_ON, IS_CODE, MARKER, QUOTES, RULE, TASK


class Ornaments:
    """Found once for each layout, painted often."""

    def __init__(self, document: prose.Sealed, font: QFont):
        self._font, self._em = font, prose.letters(font)
        self._step = document.indentWidth()
        self._width = document.textWidth()
        self._codes: list[QRectF] = []
        self._grounds: list[QRectF] = []
        self._bars: list[QRectF] = []
        self._rules: list[QRectF] = []
        self._markers: list[tuple[QPointF, str, str, bool]] = []
        self._hairlines: list[tuple[QRectF, bool]] = []
        layout = document.documentLayout()
        block = document.begin()
        while block.isValid():
            self._find(block, layout.blockBoundingRect(block))
            block = block.next()
        found = (self._codes, self._grounds, self._bars, self._rules, self._markers, self._hairlines)
        self._is_empty = not any(found)

    def _find(self, block: QTextBlock, area: QRectF) -> None:
        shape = block.blockFormat()
        right = block.textDirection() == Qt.LayoutDirection.RightToLeft
        if shape.property(RULE):
            self._rules.append(area)
        if shape.property(CODE_LINE):
            ground = QRectF(area.left() - 8, area.top(), self._width - area.left() + 8, area.height())
            if self._grounds and abs(self._grounds[-1].bottom() - area.top()) < 2:
                self._grounds[-1].setBottom(ground.bottom())
            else:
                self._grounds.append(ground)
        quotes = shape.property(QUOTES)
        for depth in map(int, quotes.split(",")) if quotes else ():
            self._add_bar(area, depth, right)
        if shape.property(MARKER) or shape.property(TASK):
            self._add_marker(block, area, shape.property(TASK) or "", shape.property(MARKER) or "", right)
        self._add_codes(block, area)
        table = QTextCursor(block).currentTable()
        if table:
            self._add_hairline(table, table.cellAt(block.position()), block, area)

    def _add_hairline(self, table: QTextTable, cell: QTextTableCell, block: QTextBlock, area: QRectF) -> None:
        """The line above a row, found at its first cell."""
        goes_on = bool(table.format().property(GOES_ON))
        if cell.column() or cell.firstPosition() != block.position() or not (cell.row() or goes_on):
            return
        last = table.cellAt(cell.row(), table.columns() - 1).lastCursorPosition().block()
        edge = block.document().documentLayout().blockBoundingRect(last).right() + 2 * CELL
        line = QRectF(area.left() - CELL, area.top() - CELL, edge - area.left() + CELL, 0)
        self._hairlines.append((line, cell.row() == 1 and not goes_on))

    def _add_bar(self, area: QRectF, depth: int, right: bool) -> None:
        x = (depth - 1) * self._step + 2
        x = self._width - x - 3 if right else x
        gap = area.top() - self._bars[-1].bottom() if self._bars else 1e9
        if self._bars and self._bars[-1].left() == x and gap < 2 * self._em:
            self._bars[-1].setBottom(area.bottom())
        else:
            self._bars.append(QRectF(x, area.top(), 3, area.height()))

    def _add_marker(self, block: QTextBlock, area: QRectF, task: str, marker: str, right: bool) -> None:
        line = block.layout().lineAt(0)
        baseline = area.top() + (line.y() + line.ascent() if line.isValid() else self._em)
        room = block.blockFormat().indent() * self._step
        edge = QPointF(self._width - room if right else room, baseline)  # where the text begins
        self._markers.append((edge, task, marker, right))

    def _add_codes(self, block: QTextBlock, area: QRectF) -> None:
        each = block.begin()
        while not each.atEnd():
            part = each.fragment()
            if part.charFormat().property(IS_CODE):
                start = part.position() - block.position()
                self._add_code(block, area, start, start + part.length())
            each += 1

    def _add_code(self, block: QTextBlock, area: QRectF, start: int, end: int) -> None:
        layout = block.layout()
        for i in range(layout.lineForTextPosition(start).lineNumber(), layout.lineCount()):
            line = layout.lineAt(i)
            first, last = line.textStart(), line.textStart() + line.textLength()
            if first >= end:
                break
            x1, _ = line.cursorToX(max(start, first))
            x2, _ = line.cursorToX(min(end, last))
            left, right = sorted((x1, x2))
            height = line.ascent() + line.descent()
            top = area.top() + line.y() + line.ascent() + line.descent() - height
            self._codes.append(QRectF(area.left() + left - 3, top - 1, right - left + 6, height + 2))

    def paint(self, painter: QPainter) -> None:
        if self._is_empty:
            return
        c = theme.colours()
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(c.code))
        for rect in self._grounds + self._codes:
            painter.drawRoundedRect(rect, 4, 4)
        painter.setBrush(QColor(c.line))
        for rect in self._bars:
            painter.drawRoundedRect(rect, 1.5, 1.5)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        for rect in self._rules:
            painter.fillRect(QRectF(rect.left(), round(rect.center().y()), rect.width(), 1), QColor(c.line))
        for line, strong in self._hairlines:
            painter.fillRect(
                QRectF(line.left(), round(line.top()), line.width(), 1), QColor(c.muted if strong else c.line)
            )
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(self._font)
        for edge, task, marker, right in self._markers:
            self._paint_marker(painter, edge, task, marker, 1 if right else -1)
        painter.restore()

    def _paint_marker(self, painter: QPainter, edge: QPointF, task: str, marker: str, way: int) -> None:
        """edge: where the text begins, on its baseline; way: where the sign is from there, 1 to the right."""
        em, muted = self._em, QColor(theme.colours().muted)
        if task:
            self._paint_task(painter, edge + QPointF(way * 0.95 * em, -0.37 * em), task == "done")
        elif marker == "•":
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(muted)
            painter.drawEllipse(edge + QPointF(way * 0.75 * em, -0.29 * em), 0.17 * em, 0.17 * em)
        else:
            painter.setPen(muted)
            width = painter.fontMetrics().horizontalAdvance(marker)
            painter.drawText(edge + QPointF(0.4 * em if way > 0 else -0.4 * em - width, 0), marker)

    def _paint_task(self, painter: QPainter, centre: QPointF, done: bool) -> None:
        c, side = theme.colours(), round(0.95 * self._em)
        square = QRectF(round(centre.x() - side / 2) + 0.5, round(centre.y() - side / 2) + 0.5, side, side)
        painter.setPen(QPen(QColor(c.accent if done else c.edge), 1.3))
        painter.setBrush(QColor(c.accent) if done else Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(square, 3, 3)
        if done:
            painter.setPen(QPen(QColor(c.on_accent), 1.8, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
            x, y = square.center().x(), square.center().y()
            corners = ((-0.24, 0.02), (-0.06, 0.2), (0.26, -0.2))
            painter.drawPolyline([QPointF(x + dx * side, y + dy * side) for dx, dy in corners])

"""Icons from assets/icons/NAME.svg, drawn in the colours of the theme in use, at any scale.

Each file is a 24 x 24 drawing that says `currentColor` where the text's colour belongs.
"""

from functools import cache
from pathlib import Path

from PySide6.QtCore import QByteArray, QPoint, QRect, QRectF, QSize, QSizeF, Qt
from PySide6.QtGui import QIcon, QIconEngine, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from crane_app.ui import theme

FOLDER = Path(__file__).parents[1] / "assets" / "icons"


def icon(name: str, role: str = "text") -> QIcon:
    """The icon of that name; role: the field of theme.Colours that it is drawn in."""
    return QIcon(Drawing(name, role))


class Drawing(QIconEngine):
    """Draws afresh each time, so that a change of theme shows at once."""

    def __init__(self, name: str, role: str):
        super().__init__()
        self._name, self._role = name, role
        _source(name)  # a name without a file is told here, not when it is painted

    def paint(self, painter: QPainter, rect: QRect, mode: QIcon.Mode, state: QIcon.State) -> None:
        role = "disabled" if mode == QIcon.Mode.Disabled else self._role
        side = min(rect.width(), rect.height())
        square = QRectF(0, 0, side, side)
        square.moveCenter(QRectF(rect).center())
        _renderer(self._name, getattr(theme.colours(), role)).render(painter, square)

    def pixmap(self, size: QSize, mode: QIcon.Mode, state: QIcon.State) -> QPixmap:
        return self.scaledPixmap(size, mode, state, 1.0)

    def scaledPixmap(self, size: QSize, mode: QIcon.Mode, state: QIcon.State, scale: float) -> QPixmap:
        if size.isEmpty():  # a button that its layout has no room for yet
            return QPixmap()
        made = QPixmap((QSizeF(size) * scale).toSize())
        made.setDevicePixelRatio(scale)
        made.fill(Qt.GlobalColor.transparent)
        painter = QPainter(made)
        self.paint(painter, QRect(QPoint(0, 0), size), mode, state)
        painter.end()
        return made

    def clone(self) -> QIconEngine:
        return Drawing(self._name, self._role)


@cache
def _source(name: str) -> str:
    return (FOLDER / f"{name}.svg").read_text("utf-8")


@cache
def _renderer(name: str, colour: str) -> QSvgRenderer:
    return QSvgRenderer(QByteArray(_source(name).replace("currentColor", colour).encode()))

"""How loud it is: the round button that is held to speak, and the bar beside it."""

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPen
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QWidget

from crane_app.ui import theme
from crane_app.ui.icons import icon

LOW, HIGH = -60.0, 0.0  # decibels at the ends of the bar
LOUD, CLIPPED = -9.0, -1.0  # from where it is nearly, or really, too loud
FALL = 0.06  # of the whole, at each block


class Loudness:
    """From 0 to 1, up at once and down slowly, as a person can read it."""

    def __init__(self):
        self.share = 0.0

    def take(self, decibels: float) -> None:
        share = min(1.0, max(0.0, (decibels - LOW) / (HIGH - LOW)))
        self.share = max(share, self.share - FALL)


class LevelBar(QWidget):
    """A bar of segments: quiet to the left, too loud to the right."""

    def __init__(self):
        super().__init__()
        self.setAccessibleName(self.tr("Loudness"))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._loudness = Loudness()

    def tell(self, decibels: float) -> None:
        self._loudness.take(decibels)
        self.setAccessibleDescription(self.tr("{percent} %").format(percent=round(100 * self.share())))
        self.update()

    def clear(self) -> None:
        self._loudness = Loudness()
        self.setAccessibleDescription("")
        self.update()

    def share(self) -> float:
        """How much of the bar is lit, from 0 to 1."""
        return self._loudness.share

    def sizeHint(self) -> QSize:
        return QSize(20 * theme.unit(), theme.unit() // 2)

    def minimumSizeHint(self) -> QSize:
        return QSize(4 * theme.unit(), theme.unit() // 2)

    def paintEvent(self, event) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        if self.layoutDirection() == Qt.LayoutDirection.RightToLeft:
            painter.scale(-1, 1)
            painter.translate(-self.width(), 0)
        step = max(6, theme.unit() // 2)
        count = max(1, self.width() // step)
        for number in range(count):
            place = number / count
            painter.setBrush(QColor(self._colour(place) if place < self.share() else theme.colours().line))
            painter.drawRoundedRect(QRectF(number * step, 0, step - 2, self.height()), 2, 2)

    @staticmethod
    def _colour(place: float) -> str:
        decibels = LOW + place * (HIGH - LOW)
        colours = theme.colours()
        return colours.danger if decibels > CLIPPED - 2 else colours.warning if decibels > LOUD else colours.accent


class TalkButton(QAbstractButton):
    """Round, with a microphone; while it listens, a ring around it shows how loud it is."""

    def __init__(self):
        super().__init__()
        self.setObjectName("talk")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self._listening = False
        self._loudness = Loudness()

    def listen(self, listening: bool) -> None:
        """Show whether it listens."""
        self._listening, self._loudness = listening, Loudness()
        self.update()

    def tell(self, decibels: float) -> None:
        self._loudness.take(decibels)
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(5 * theme.unit(), 5 * theme.unit())

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def hitButton(self, place) -> bool:
        return QPointF(place - self.rect().center()).manhattanLength() <= 0.75 * self.width()

    def paintEvent(self, event) -> None:
        colours = theme.colours()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        middle, most = QRectF(self.rect()).center(), self.width() / 2
        inner = 0.72 * most
        if self._listening:
            ring = QColor(colours.danger)
            ring.setAlphaF(0.25)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(ring)
            reach = inner + (most - inner) * self._loudness.share
            painter.drawEllipse(middle, reach, reach)
        fill = colours.danger if self._listening else colours.accent_hover if self.underMouse() else colours.accent
        painter.setBrush(QColor(fill if self.isEnabled() else colours.disabled))
        painter.setPen(Qt.PenStyle.NoPen)
        shrink = 0.94 if self.isDown() else 1.0
        painter.drawEllipse(middle, shrink * inner, shrink * inner)
        self._draw_sign(painter, middle, inner)
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(QColor(colours.accent), 2))
            painter.drawEllipse(middle, inner + 4, inner + 4)

    def _draw_sign(self, painter: QPainter, middle: QPointF, inner: float) -> None:
        side = round(0.95 * inner)
        square = QRectF(0, 0, side, side)
        square.moveCenter(middle)
        role = "surface" if self._listening else "on_accent"
        icon("stop" if self._listening else "dictate", role).paint(painter, square.toRect())

    def enterEvent(self, event) -> None:
        self.update()
        super().enterEvent(event)

    def leaveEvent(self, event) -> None:
        self.update()
        super().leaveEvent(event)

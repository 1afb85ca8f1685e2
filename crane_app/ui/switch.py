"""On or off, as a knob in a groove; to the keyboard and to screen readers a box to check."""

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPen
from PySide6.QtWidgets import QCheckBox, QSizePolicy

from crane_app.ui import theme
from crane_app.ui.theme import unit

EDGE = 4  # pixels around the groove, for the ring of the focus


class Switch(QCheckBox):
    """`name` is for screen readers. Shows what it is told by `setChecked`; a person's click is told by `clicked`."""

    def __init__(self, name: str):
        super().__init__()
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def sizeHint(self) -> QSize:
        high = round(1.4 * unit())
        return QSize(round(1.8 * high) + 2 * EDGE, high + 2 * EDGE)

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def hitButton(self, place) -> bool:
        return self.rect().contains(place)

    def paintEvent(self, event) -> None:
        now = theme.colours()
        on = self.isChecked() and self.isEnabled()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        groove = QRectF(self.rect()).adjusted(EDGE, EDGE, -EDGE, -EDGE)
        round_by = groove.height() / 2
        if self.hasFocus():
            painter.setPen(QPen(QColor(now.accent), 2))
            painter.drawRoundedRect(groove.adjusted(-3, -3, 3, 3), round_by + 3, round_by + 3)
        painter.setPen(QPen(QColor(now.accent if on else now.muted), 1.5))
        painter.setBrush(QColor(now.accent if on else now.surface))
        painter.drawRoundedRect(groove, round_by, round_by)
        side = groove.height() - 8
        at_right = self.isChecked() is (self.layoutDirection() is Qt.LayoutDirection.LeftToRight)
        left = groove.right() - 4 - side if at_right else groove.left() + 4
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(now.on_accent if on else now.muted))
        painter.drawEllipse(QRectF(left, groove.top() + 4, side, side))

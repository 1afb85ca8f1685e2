"""Widgets below each other, which scroll where letters are large and the window is small."""

from collections.abc import Iterable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from crane_app.ui.theme import SPACE


class Column(QScrollArea):
    """grows: the one of them that takes the room that is left, and no less than its minimum height."""

    def __init__(self, parts: Iterable[QWidget], grows: QWidget):
        super().__init__()
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(2 * SPACE, 2 * SPACE, 2 * SPACE, 2 * SPACE)
        column.setSpacing(2 * SPACE)
        # Its height is what the others leave, not what it would like: that alone is no reason to scroll.
        grows.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
        for part in parts:
            column.addWidget(part, 1 if part is grows else 0)
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)

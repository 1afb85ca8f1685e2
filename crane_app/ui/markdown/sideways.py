"""The bar under what is wider than its message: code and tables."""

from PySide6.QtCore import QRect, Qt
from PySide6.QtWidgets import QScrollBar, QWidget

ROOM = 12  # pixels of height


class Sideways(QScrollBar):
    """Scrolls a piece of a message; hidden while everything fits. room: the pixels of height that it takes."""

    def __init__(self, view: QWidget, name: str):
        super().__init__(Qt.Orientation.Horizontal, view)
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.valueChanged.connect(lambda _value: view.update())
        self.hide()
        self.room = 0

    def fit(self, content: float, width: float) -> None:
        """content: the pixels that are there, of which `width` can be seen."""
        self.setRange(0, max(0, round(content - width)))
        self.setPageStep(max(1, round(width)))
        self.setSingleStep(32)
        self.room = ROOM if content > width else 0

    def place(self, left: float, bottom: float, width: float) -> None:
        self.setGeometry(QRect(round(left), round(bottom) - ROOM, round(width), ROOM))
        self.setVisible(self.room > 0)

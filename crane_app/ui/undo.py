"""A line that tells what was taken away, and for a while brings it back."""

from collections.abc import Callable

from PySide6.QtCore import QTimer
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QFrame, QHBoxLayout

from crane_app.ui.parts import ElidedLabel, button
from crane_app.ui.theme import SPACE

STAYS_MS = 8000


class UndoBar(QFrame):
    """Hidden until something is offered; a newer offer replaces the one before."""

    def __init__(self):
        super().__init__()
        self.setProperty("look", "chip")
        self._undo: Callable[[], object] | None = None
        self.words = ElidedLabel(self.tr("What was deleted"))
        action = QAction(self.tr("Undo"), self)
        action.setObjectName("undo")
        action.triggered.connect(lambda _checked=False: self.undo())
        row = QHBoxLayout(self)
        row.setContentsMargins(SPACE, 2, 2, 2)
        row.addWidget(self.words, 1)
        row.addWidget(button(action, look="flat small"))
        self._ends = QTimer(self, singleShot=True, interval=STAYS_MS)
        self._ends.timeout.connect(self.end)
        self.hide()

    def offer(self, words: str, undo: Callable[[], object]) -> None:
        self.words.setText(words)
        self._undo = undo
        self._ends.start()
        self.show()

    def undo(self) -> None:
        """Once; a second click does nothing."""
        undo = self._undo
        self.end()
        if undo is not None:
            undo()

    def end(self) -> None:
        self._undo = None
        self._ends.stop()
        self.hide()

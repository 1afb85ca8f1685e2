"""A page that scrolls: one column, no wider than reads well, in the middle of whatever room there is."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QLayout, QScrollArea, QVBoxLayout, QWidget

from crane_app.ui.parts import Words
from crane_app.ui.theme import SPACE

WIDEST = 880  # pixels of the column


class Scrolled(QScrollArea):
    """Shows the layout `column`; `name` is for screen readers. Tab passes by it, to what is inside."""

    def __init__(self, name: str, column: QLayout):
        super().__init__()
        inside = QWidget()
        inside.setMaximumWidth(WIDEST)
        inside.setLayout(column)
        ground = QWidget()
        row = QHBoxLayout(ground)
        row.setContentsMargins(*[3 * SPACE] * 4)
        row.addStretch()
        row.addWidget(inside, 1000)
        row.addStretch()
        self.setWidget(ground)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAccessibleName(name)


def fill(view: QWidget, area: Scrolled) -> None:
    """Let the page be all that the view shows."""
    whole = QVBoxLayout(view)
    whole.setContentsMargins(0, 0, 0, 0)
    whole.addWidget(area)


def card(title: str, note: str = "") -> tuple[QVBoxLayout, QWidget]:
    """A heading, a note below it, and a panel with room for rows; the panel's layout and the whole."""
    heading = QLabel(title)
    heading.setProperty("look", "heading")
    heading.setWordWrap(True)
    panel = QFrame()
    panel.setProperty("look", "panel")
    rows = QVBoxLayout(panel)
    rows.setContentsMargins(*[2 * SPACE] * 4)
    rows.setSpacing(3 * SPACE)
    made = QWidget()
    column = QVBoxLayout(made)
    column.setContentsMargins(0, 2 * SPACE, 0, 0)
    column.setSpacing(SPACE)
    column.addWidget(heading)
    if note:
        words = Words(title)
        words.setProperty("look", "muted")
        words.setText(note)
        column.addWidget(words)
    column.addWidget(panel)
    return rows, made

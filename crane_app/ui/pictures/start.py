"""What the view of pictures shows before there is one, and the offer to go on where an earlier program ended."""

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QAction, QIcon
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from crane_app.ui.icons import icon as drawn
from crane_app.ui.parts import Words, button
from crane_app.ui.theme import SPACE

ICON_SIDE = 64


class Start(QScrollArea):
    """A card to drop things on; scrolls where letters are large and the window is small."""

    def __init__(self, icon: QIcon, *actions: QAction):
        super().__init__()
        card = QFrame()
        card.setProperty("look", "card")
        self._icon = icon
        self._picture = QLabel()
        self._picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        inside = QVBoxLayout(card)
        inside.setContentsMargins(*[5 * SPACE] * 4)
        inside.setSpacing(SPACE)
        inside.addStretch()
        inside.addWidget(self._picture)
        inside.addSpacing(SPACE)
        inside.addWidget(_line(self.tr("Drop pictures or PDFs here"), "title"))
        inside.addWidget(_line(self.tr("Their text appears beside them, ready to copy, ask about or hear."), "lead"))
        inside.addSpacing(2 * SPACE)
        inside.addLayout(_centred(*actions))
        inside.addSpacing(2 * SPACE)
        promise = self.tr("This works at once, without a download: all of it happens on this machine.")
        inside.addWidget(_line(promise, "muted"))
        inside.addStretch()
        ground = QWidget()
        around = QVBoxLayout(ground)
        around.setContentsMargins(*[3 * SPACE] * 4)
        around.addWidget(card)
        self.setWidget(ground)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAccessibleName(self.tr("Welcome"))
        self._draw()

    def changeEvent(self, event) -> None:
        super().changeEvent(event)
        if event.type() in (event.Type.StyleChange, event.Type.PaletteChange) and hasattr(self, "_picture"):
            self._draw()

    def _draw(self) -> None:
        picture = drawn("pictures", "accent") if self._icon.isNull() else self._icon
        self._picture.setPixmap(picture.pixmap(QSize(ICON_SIDE, ICON_SIDE), self.devicePixelRatioF()))


class Offer(QFrame):
    """A sentence and what can be done about it, above the view; never a dialog."""

    accepted = Signal()
    declined = Signal()

    def __init__(self):
        super().__init__()
        self.setProperty("look", "panel")
        self._words = Words(self.tr("Unfinished"))
        row = QHBoxLayout(self)
        row.setContentsMargins(2 * SPACE, SPACE, SPACE, SPACE)
        row.setSpacing(SPACE)
        row.addWidget(self._words, 1)
        for name, text, look, signal in (
            ("go_on", self.tr("Go on reading"), "primary small", self.accepted),
            ("decline", self.tr("Not needed"), "flat small", self.declined),
        ):
            action = QAction(text, self)
            action.setObjectName(name)
            action.triggered.connect(lambda _checked=False, signal=signal: signal.emit())
            row.addWidget(button(action, look=look))
        self.hide()

    def tell(self, words: str) -> None:
        """Show the sentence, or nothing for ""."""
        self._words.setText(words)
        self.setVisible(bool(words))

    def words(self) -> str:
        return self._words.text()


def _line(words: str, look: str) -> QLabel:
    made = QLabel(words)
    made.setProperty("look", look)
    made.setAlignment(Qt.AlignmentFlag.AlignCenter)
    made.setWordWrap(True)
    return made


def _centred(*actions: QAction) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(SPACE)
    row.addStretch()
    for place, action in enumerate(actions):
        made = button(action, look="" if place else "primary")
        if not place:
            made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)  # its icon is dark, as the letters elsewhere
        row.addWidget(made)
    row.addStretch()
    return row

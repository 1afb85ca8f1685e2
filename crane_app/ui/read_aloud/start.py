"""What lies over the empty text: what to do first, and a promise. Typing goes on below it."""

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QFrame, QLabel, QScrollArea, QVBoxLayout, QWidget

from crane_app.ui.flow import Flow
from crane_app.ui.icons import icon
from crane_app.ui.parts import button
from crane_app.ui.theme import SPACE, unit

SIDE = 3.4  # of the picture, in lines of text


class Start(QScrollArea):
    """A click beside its buttons goes to the field, `text`; scrolls where letters are large and the window is small."""

    def __init__(self, clipboard_action: QAction, open_action: QAction, text: QWidget):
        super().__init__()
        self._text = text
        self._picture = QLabel()
        self._picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        ground = QWidget()
        column = QVBoxLayout(ground)
        column.setContentsMargins(*[3 * SPACE] * 4)
        column.setSpacing(SPACE)
        column.addStretch()
        column.addWidget(self._picture)
        column.addWidget(_line(self.tr("Hear any text"), "title"))
        column.addWidget(_line(self.tr("Write or paste it here, or drop a text file."), "lead"))
        column.addSpacing(SPACE)
        column.addLayout(_buttons(clipboard_action, open_action))
        column.addSpacing(SPACE)
        promise = self.tr("This works at once, without a download: this computer's own voice speaks it.")
        column.addWidget(_line(promise, "muted"))
        column.addStretch()
        self.setWidget(ground)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAccessibleName(self.tr("Welcome"))
        self.setCursor(Qt.CursorShape.IBeamCursor)
        for each in (self.viewport(), ground):
            each.setAutoFillBackground(False)
        self._draw()

    def mousePressEvent(self, event) -> None:
        self._text.setFocus()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange) and hasattr(self, "_picture"):
            self._draw()

    def _draw(self) -> None:
        side = round(SIDE * unit())
        self._picture.setPixmap(icon("read_aloud", "accent").pixmap(QSize(side, side), self.devicePixelRatioF()))


def _buttons(first: QAction, other: QAction) -> Flow:
    row = Flow(SPACE, centred=True)
    main = button(first, look="primary")
    main.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)  # its icon is dark, as the letters elsewhere
    for made in (main, button(other)):
        made.setCursor(Qt.CursorShape.ArrowCursor)
        row.addWidget(made)
    return row


def _line(words: str, look: str) -> QLabel:
    made = QLabel(words)
    made.setProperty("look", look)
    made.setAlignment(Qt.AlignmentFlag.AlignCenter)
    made.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
    made.setWordWrap(True)
    return made

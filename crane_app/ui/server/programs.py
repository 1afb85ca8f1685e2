"""What to write in other programs, one language or program at a time, to be copied whole."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QAction, QFontMetrics, QGuiApplication
from PySide6.QtWidgets import QApplication, QComboBox, QHBoxLayout, QPlainTextEdit, QSizePolicy, QVBoxLayout, QWidget

from crane_app.pipelines import client_snippets
from crane_app.ui.icons import icon
from crane_app.ui.markdown.prose import mono
from crane_app.ui.parts import ElidedLabel, button
from crane_app.ui.theme import SPACE

MOST_LINES = 12  # before it scrolls
HIDDEN = "•••••"


class Programs(QWidget):
    """Shows the text for the server that `show_server` told of; copied carries words for the status line."""

    copied = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._server = ("", "", "")
        self.kinds = QComboBox()
        self.kinds.setAccessibleName(self.tr("Program or language"))
        self.kinds.addItems(list(client_snippets.snippets("", "", "")))
        self.kinds.currentTextChanged.connect(lambda _kind: self._show())
        self.text = Listing(self.tr("What to write there"))
        self.copy_text = self._action("copy_text", self.tr("Copy"), self._copy)
        self.address = ElidedLabel(self.tr("Address for programs that ask for a base URL"))
        self.address.setProperty("look", "muted")
        self.copy_address = self._action("copy_address", self.tr("Copy the address"), self._copy_address)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.kinds)
        row.addStretch(1)
        row.addWidget(button(self.copy_text))
        below = QHBoxLayout()
        below.setSpacing(SPACE)
        below.addWidget(self.address, 1)
        below.addWidget(button(self.copy_address, look="flat small"))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addLayout(row)
        column.addWidget(self.text)
        column.addLayout(below)

    def show_server(self, url: str, model: str, key: str, key_shown: bool) -> None:
        """The key is on the screen only if it is shown elsewhere too; what is copied has it."""
        self._server, self._key_shown = (url, model, key), key_shown
        self._show()

    def base(self) -> str:
        """What programs that speak with OpenAI, SGLang or Ollama call the base URL."""
        url = self._server[0]
        return url if self.kinds.currentText() in ("SGLang", "Ollama") else f"{url}/v1"

    def _show(self) -> None:
        url, model, key = self._server
        shown = key if self._key_shown else key and HIDDEN
        self.text.show_text(client_snippets.snippets(url, model, shown)[self.kinds.currentText()])
        self.address.setText(self.tr("Base URL for other programs: {url}").format(url=self.base()))

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(client_snippets.snippets(*self._server)[self.kinds.currentText()])
        self.copied.emit(self.tr("Copied, for {program}.").format(program=self.kinds.currentText()))

    def _copy_address(self) -> None:
        QGuiApplication.clipboard().setText(self.base())
        self.copied.emit(self.tr("Copied the address."))

    def _action(self, name: str, text: str, does) -> QAction:
        made = QAction(icon("copy"), text, self)
        made.setObjectName(name)
        made.triggered.connect(lambda _checked=False: does())
        return made


class Listing(QPlainTextEdit):
    """Some lines of a program, to be read and selected; as high as they are, up to MOST_LINES."""

    def __init__(self, name: str):
        super().__init__()
        self.setReadOnly(True)
        self.setAccessibleName(name)
        self.setTabChangesFocus(True)
        self.setProperty("look", "code")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def show_text(self, text: str) -> None:
        if text.rstrip() != self.toPlainText():
            self.setPlainText(text.rstrip())
            self._measure()

    def sizeHint(self) -> QSize:
        return QSize(super().sizeHint().width(), self._height())

    def minimumSizeHint(self) -> QSize:
        return QSize(super().minimumSizeHint().width(), self._height())

    def resizeEvent(self, event) -> None:
        super().resizeEvent(event)
        if event.oldSize().width() != event.size().width():
            self._measure()

    def changeEvent(self, event) -> None:
        super().changeEvent(event)
        if event.type() in (event.Type.FontChange, event.Type.StyleChange):
            self._measure()

    def _measure(self) -> None:
        wanted = mono(QApplication.font())
        if self.document().defaultFont() != wanted:
            self.document().setDefaultFont(wanted)
        self.updateGeometry()

    def _height(self) -> int:
        """Lines as they wrap now; the document of a plain text counts its height in lines."""
        lines = min(MOST_LINES, max(3, round(self.document().size().height())))
        return lines * QFontMetrics(self.document().defaultFont()).lineSpacing() + 4 * SPACE

"""Where a question is written: a field that grows, files that go with it, and how much room there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QAction, QKeyEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QSizePolicy, QVBoxLayout, QWidget

from crane_app.ui.flow import Flow
from crane_app.ui.icons import icon
from crane_app.ui.parts import ElidedLabel, button
from crane_app.ui.theme import SPACE
from crane_app.ui.worker import Worker, sentence

MOST_LINES = 9
LONG_PASTE = 12_000  # characters; more becomes a file that goes with the question
MOST_FILES = 20


def sends(event: QKeyEvent, return_sends: bool) -> bool:
    """Whether this key sends what is written: Return, or Ctrl+Return alone, as the preference says."""
    if event.key() not in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
        return False
    control = Qt.KeyboardModifier.ControlModifier
    return _held(event) == control or (return_sends and not _held(event))


def _held(event: QKeyEvent) -> Qt.KeyboardModifier:
    return event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier


class Prompt(QPlainTextEdit):
    """Grows with its text up to MOST_LINES; Return sends, with Shift it is a new line, or as the preference says."""

    entered = Signal()
    recalled = Signal()  # Up in an empty field: the last question is wanted back
    given = Signal(QMimeData)  # files, or a text too long to be read here

    def __init__(self):
        super().__init__()
        self.return_sends = True
        self.setTabChangesFocus(True)
        self.setAcceptDrops(False)  # the whole window takes drops
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setProperty("look", "plain")
        self.document().setDocumentMargin(4)
        self.document().documentLayout().documentSizeChanged.connect(lambda _size: self._grow())
        self._grow()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if sends(event, self.return_sends):
            if not event.isAutoRepeat():
                self.entered.emit()
        elif event.key() == Qt.Key.Key_Up and not self.toPlainText() and not _held(event):
            self.recalled.emit()
        else:
            super().keyPressEvent(event)

    def canInsertFromMimeData(self, source: QMimeData) -> bool:
        return source.hasUrls() or super().canInsertFromMimeData(source)

    def insertFromMimeData(self, source: QMimeData) -> None:
        picture = source.hasImage() and not source.hasText()  # Office programs offer a picture of their text too
        if any(url.isLocalFile() for url in source.urls()) or picture or len(source.text()) > LONG_PASTE:
            self.given.emit(source)
        else:
            super().insertFromMimeData(source)

    def changeEvent(self, event) -> None:
        super().changeEvent(event)
        if event.type() == event.Type.FontChange:
            self._grow()

    def _grow(self) -> None:
        lines = max(1, int(self.document().size().height()))
        needed = Qt.ScrollBarPolicy.ScrollBarAsNeeded if lines > MOST_LINES else Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        self.setVerticalScrollBarPolicy(needed)
        room = 2 * int(self.document().documentMargin()) + 6
        height = min(lines, MOST_LINES) * self.fontMetrics().lineSpacing() + room
        if height != self.height() or height != self.minimumHeight():
            self.setFixedHeight(height)


class Composer(QFrame):
    """`sent` carries the text and the files; `clear` empties it once the question has been kept."""

    sent = Signal(str, object)
    stopped = Signal()
    recalled = Signal()
    changed = Signal()  # what would be sent is another
    said = Signal(str)
    unused = Signal(QMimeData)  # pasted, and no text: a picture, say

    def __init__(self, action: Callable[..., QAction]):
        super().__init__()
        self.setProperty("look", "composer")
        self.attachments: list[Any] = []
        self._busy = False
        self._readers: list[Worker] = []
        self.prompt = Prompt()
        self.prompt.setAccessibleName(self.tr("Your message"))
        self.prompt.setPlaceholderText(self.tr("Ask anything. It stays on this machine."))
        drawn = {"role": "on_accent"}
        self.send_action = action("send", self.tr("&Send"), self._send, icon="send", **drawn)
        self.stop_action = action("stop_answer", self.tr("S&top the answer"), self.stopped.emit, icon="stop", **drawn)
        self.attach_action = action("attach", self.tr("&Attach text files…"), self._choose, "Ctrl+Shift+A", "attach")
        self.counter = ElidedLabel(self.tr("Tokens of this conversation"))
        self.counter.setProperty("look", "muted")
        self.counter.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._arrange()
        self.prompt.entered.connect(self._send)
        self.prompt.recalled.connect(self.recalled)
        self.prompt.given.connect(self._given)
        self.prompt.textChanged.connect(self._refresh)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(300)
        self._soon.timeout.connect(self.changed)
        self._refresh()

    def text(self) -> str:
        return self.prompt.toPlainText()

    def set_text(self, text: str) -> None:
        self.prompt.setPlainText(text)
        self.prompt.moveCursor(self.prompt.textCursor().MoveOperation.End)

    def clear(self) -> None:
        """Empty it; files that are still being read come too late."""
        for reader in self._readers:
            reader.cancel()
        self._readers = []
        self.prompt.clear()
        self.set_attachments([])

    def set_attachments(self, attachments: list[Any]) -> None:
        """These files go with the question."""
        self.attachments = attachments
        self._show_files()

    def set_busy(self, busy: bool) -> None:
        """While an answer is under way, what is typed waits; the button stops."""
        self._busy = busy
        self._refresh()

    def attach(self, paths: list[Path]) -> None:
        """Read these files, off the GUI thread, and let them go with the question."""
        if not paths:
            return
        if len(self.attachments) + len(paths) > MOST_FILES:
            self.said.emit(self.tr("At most {count} files go with a message.").format(count=MOST_FILES))
            return
        worker = Worker(_read_files(paths))
        self._readers.append(worker)
        worker.yielded.connect(self._add)
        worker.ended.connect(lambda: self._read(worker))
        worker.start()
        self._refresh()

    def attach_text(self, name: str, text: str) -> None:
        from crane_app.library.chats import Attachment

        self._add(Attachment(name, text))

    # How it is built

    def _arrange(self) -> None:
        self.files = QWidget()
        self._files = Flow(SPACE // 2)
        self.files.setLayout(self._files)
        self.send_button = button(self.send_action, look="primary round")
        self.stop_button = button(self.stop_action, look="primary round")
        for each in (self.send_button, self.stop_button):
            each.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonIconOnly)
            each.setIconSize(QSize(18, 18))
            each.setFixedSize(36, 36)
        attach = button(self.attach_action, look="flat small")
        attach.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonIconOnly)
        below = QHBoxLayout()
        below.setSpacing(SPACE)
        below.addWidget(attach)
        below.addWidget(self.counter, 1)
        below.addWidget(self.send_button)
        below.addWidget(self.stop_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE + 4, SPACE, SPACE, SPACE)
        column.setSpacing(SPACE // 2)
        column.addWidget(self.files)
        column.addWidget(self.prompt)
        column.addLayout(below)

    def _refresh(self) -> None:
        something = bool(self.text().strip() or self.attachments)
        self.send_action.setEnabled(something and not self._busy and not self._readers)
        self.stop_action.setEnabled(self._busy)
        self.send_button.setVisible(not self._busy)
        self.stop_button.setVisible(self._busy)
        self.files.setVisible(bool(self.attachments))
        if hasattr(self, "_soon"):
            self._soon.start()

    def _send(self) -> None:
        if self._busy:
            self.said.emit(self.tr("An answer is under way. Esc stops it."))
        elif self.send_action.isEnabled():
            self.sent.emit(self.text().strip("\n"), tuple(self.attachments))

    # Files

    def _choose(self) -> None:
        from PySide6.QtWidgets import QFileDialog

        dialog = QFileDialog(self, self.tr("Attach text files"))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
        dialog.filesSelected.connect(lambda names: self.attach([Path(name) for name in names]))
        dialog.open()

    def _given(self, data: QMimeData) -> None:
        paths = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
        if paths:
            self.attach(paths)
        elif data.hasText():
            self.attach_text(self.tr("Pasted text"), data.text())
            self.said.emit(self.tr("The long text goes with the message as a file."))
        else:
            self.unused.emit(data)

    def _add(self, found: Any) -> None:
        if isinstance(found, str):
            self.said.emit(found)
        else:
            self.attachments.append(found)
            self._show_files()

    def _read(self, worker: Worker) -> None:
        self._readers = [each for each in self._readers if each is not worker]
        self._refresh()

    def _drop(self, attachment: Any) -> None:
        self.attachments = [each for each in self.attachments if each is not attachment]
        self._show_files()
        self.prompt.setFocus()

    def _show_files(self) -> None:
        while self._files.count():
            chip = self._files.takeAt(0).widget()
            chip.hide()
            chip.deleteLater()
        for attachment in self.attachments:
            self._files.addWidget(Chip(attachment, lambda each=attachment: self._drop(each)))
        self._refresh()


class Chip(QFrame):
    """A file that goes with the question, and a button that takes it out."""

    def __init__(self, attachment: Any, away: Callable[[], None]):
        super().__init__()
        self.setProperty("look", "chip")
        name = ElidedLabel(self.tr("Attached file"))
        name.setText(attachment.name)
        name.setMaximumWidth(name.fontMetrics().horizontalAdvance(attachment.name) + 4)
        self.setMaximumWidth(name.maximumWidth() + 56)
        row = QHBoxLayout(self)
        row.setContentsMargins(SPACE, 0, 2, 0)
        row.setSpacing(2)
        row.addWidget(name)
        remove = QAction(self.tr("Take out {name}").format(name=attachment.name), self)
        remove.triggered.connect(lambda _checked=False: away())
        remove.setIcon(icon("close", "muted"))
        made = button(remove, look="flat small")
        made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonIconOnly)
        made.setIconSize(QSize(12, 12))
        row.addWidget(made)


def _read_files(paths: list[Path]) -> Iterator[Any]:
    """An Attachment for each file that is text, a sentence for each that is not."""
    from crane_app.errors import CraneError
    from crane_app.library.chats import Attachment
    from crane_app.media.text_files import read_text

    for path in paths:
        try:
            yield Attachment(path.name, read_text(path))
        except CraneError as error:
            yield sentence(error)

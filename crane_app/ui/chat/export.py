"""Writes a conversation to a file that a person chooses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from crane_app.errors import CraneError
from crane_app.ui.worker import Worker, sentence

SUFFIXES = {"markdown": ".md", "json": ".json"}


class Export(QObject):
    """One dialog at a time; `said` tells how it went."""

    said = Signal(str)

    def __init__(self, window: QWidget, chats: Any):
        super().__init__(window)
        self._window, self._chats = window, chats
        self.dialog: QFileDialog | None = None

    def ask(self, chat: int, form: str) -> None:
        """Ask where to; form: a key of SUFFIXES."""
        from crane_app.library.export import file_name

        if self.dialog is not None:
            self.dialog.raise_()
            return
        try:
            name = file_name(self._chats.chat(chat).title, SUFFIXES[form])
        except CraneError as error:
            self.said.emit(sentence(error))
            return
        self.dialog = QFileDialog(self._window, self.tr("Export the conversation"))
        self.dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        self.dialog.setDefaultSuffix(SUFFIXES[form][1:])
        self.dialog.selectFile(name)
        self.dialog.fileSelected.connect(lambda path: self.write(chat, form, Path(path)))
        self.dialog.finished.connect(self._forget)
        self.dialog.open()

    def write(self, chat: int, form: str, path: Path) -> None:
        """Write it off the GUI thread, whole or not at all."""
        words = self.tr("The conversation is in {name}.").format(name=path.name)
        worker = Worker(_written(self._chats, chat, form, path))
        worker.returned.connect(lambda _: self.said.emit(words))
        worker.failed.connect(lambda error: self.said.emit(sentence(error)))
        worker.start()

    def _forget(self, _result: int) -> None:
        if self.dialog is not None:
            self.dialog.deleteLater()
        self.dialog = None


def _written(chats: Any, chat: int, form: str, path: Path) -> Iterator[Any]:
    from crane_app.library import export

    export.write(chats, chat, form, path)
    return
    yield

"""Saves what was said, as text, subtitles or JSON, where a person says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from crane_app.ui.worker import Worker, sentence


@dataclass(frozen=True)
class Shown:
    """What the text pane shows. name: without a suffix; model: what wrote it; seconds: of the sound."""

    name: str = ""
    model: str = ""
    seconds: float = 0.0


class Saving(QObject):
    """One dialog at a time; `said` tells how it went. folder: where dialogs begin."""

    said = Signal(str)

    def __init__(self, view: QWidget):
        super().__init__(view)
        self._view = view
        self.folder = ""
        self.dialog: QFileDialog | None = None

    def ask(self, shown: Shown, segments: list[Any], times: bool) -> None:
        """Ask where to; times: a text says when each segment begins."""
        if self.dialog is not None:
            self.dialog.activateWindow()
            return
        dialog = self.dialog = QFileDialog(self._view, self.tr("Save the text"), self.folder)
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        kinds = {self.tr("Text (*.txt)"): "txt", self.tr("Subtitles (*.srt)"): "srt", self.tr("JSON (*.json)"): "json"}
        dialog.setNameFilters(list(kinds))
        dialog.filterSelected.connect(lambda kind: dialog.setDefaultSuffix(kinds[kind]))
        dialog.setDefaultSuffix("txt")
        dialog.selectFile(f"{shown.name or self.tr('Dictation')}.txt")
        dialog.fileSelected.connect(lambda name: self.write(Path(name), shown, list(segments), times))
        dialog.finished.connect(self._forget)
        dialog.open()

    def write(self, path: Path, shown: Shown, segments: list[Any], times: bool) -> None:
        """Write it off the GUI thread, whole or not at all; its suffix says the form."""
        self.folder = str(path.parent)
        worker = Worker(_written(path, shown, segments, times))
        worker.returned.connect(lambda _: self.said.emit(self.tr("The text is in {name}.").format(name=path.name)))
        worker.failed.connect(lambda error: self.said.emit(sentence(error)))
        worker.start()

    def _forget(self, _result: int) -> None:
        if self.dialog is not None:
            self.dialog.deleteLater()
        self.dialog = None


def _written(path: Path, shown: Shown, segments: list[Any], times: bool) -> Iterator[None]:
    from crane_app.library.saving import save
    from crane_app.pipelines.transcript import Segment, Transcript, as_json, as_srt, as_text

    whole = [Segment(each.start, each.end, each.text, getattr(each, "tokens", ())) for each in segments]
    forms = {".srt": as_srt, ".json": lambda s: as_json(Transcript(shown.model, shown.seconds, tuple(s)))}
    form = forms.get(path.suffix.lower())
    if form is None and not times:
        text = " ".join(each.text for each in whole if each.text) + "\n"
    else:
        text = form(whole) if form else as_text(whole, times)
    save(path, text)
    return
    yield

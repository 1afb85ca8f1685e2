"""A sound file, or a take, being written on a worker's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData, QObject, Qt, Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from crane_app.ui.worker import Worker, sentence

# What Crane can write down, and a few that it says what to do about.
SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".m4a", ".aac", ".wma")


def sounds(data: QMimeData) -> list[Path]:
    """The local sound files among what was dropped."""
    files = (Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile())
    return [path for path in files if path.suffix.lower() in SOUNDS]


def ask_for_sound(parent: QWidget, folder: str, does: Callable[[Path], None]) -> None:
    """Ask for a sound file, beginning in this folder."""
    dialog = QFileDialog(parent, parent.tr("Open a sound file"), folder)
    kinds = " ".join(f"*{suffix}" for suffix in SOUNDS)
    dialog.setNameFilters([parent.tr("Sound files ({kinds})").format(kinds=kinds), parent.tr("All files (*)")])
    dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.fileSelected.connect(lambda name: does(Path(name)))
    dialog.open()


class Transcribing(QObject):
    """From `start` to `over`, which comes once: with the transcript, None where it was stopped, or after `failed`."""

    segment = Signal(object)
    loading = Signal(int)  # percent of the model
    progress = Signal(int)  # percent of the sound
    failed = Signal(str)
    over = Signal(object)

    def __init__(self, path: Path, take: Any = None):
        """take: the take whose sound this is, if it is one."""
        super().__init__()
        self.path, self.take = path, take
        self._stop = threading.Event()
        self._worker: Worker | None = None

    def start(self, connection: Any, model: Any) -> None:
        """model: pipelines.conversation.Model."""
        self._worker = connection.run(lambda engine: _written(engine, model, self.path, self._stop))
        self._worker.yielded.connect(self._came)
        self._worker.returned.connect(self.over)
        self._worker.failed.connect(self._ended)

    def stop(self) -> None:
        """Now; what has come stays. The engine hears of it in its own time."""
        self._stop.set()
        if self._worker is not None:
            self._worker.cancel()
        self.over.emit(None)

    def _came(self, event: Any) -> None:
        from crane_app.engine.request import Progress
        from crane_app.pipelines.conversation import Loading

        if isinstance(event, Loading):
            self.loading.emit(event.percent)
        elif isinstance(event, Progress):
            self.progress.emit(100 * event.done // max(event.total, 1))
        elif event is not None:
            self.segment.emit(event)

    def _ended(self, error: Exception) -> None:
        self.failed.emit(sentence(error))
        self.over.emit(None)


def _written(engine: Any, model: Any, path: Path, stop: threading.Event) -> Iterator[Any]:
    from crane_app.media.sound import Sound
    from crane_app.pipelines.conversation import loaded
    from crane_app.pipelines.hearing import Ear
    from crane_app.pipelines.transcript import transcribe

    with Sound(path) as sound:
        card = yield from loaded(engine, model, stop.is_set)
        if card is None:
            return None
        steps = transcribe(Ear(engine, card.name), sound)
        try:
            while not stop.is_set():
                yield next(steps)
        except StopIteration as end:
            return end.value
        finally:
            steps.close()
    return None

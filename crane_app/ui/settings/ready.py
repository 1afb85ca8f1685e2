"""How much is kept on disk so that conversations go on at once, and a button that removes it."""

from collections.abc import Iterator
from typing import Any

from PySide6.QtGui import QAction
from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from crane_app.ui.parts import Words, button
from crane_app.ui.theme import SPACE
from crane_app.ui.worker import Worker, sentence


class Ready(QWidget):
    """readiness: as pipelines.readiness.Readiness. What it says is read on a worker's thread, at each `refresh`.

    connection: to the engine, which writes, and says after each look why it cannot.
    """

    def __init__(self, readiness: Any, connection: Any):
        super().__init__()
        self._readiness, self._connection = readiness, connection
        self._why = ""  # no more is kept, as readiness says
        self._worker: Worker | None = None
        title = QLabel(self.tr("What was computed for conversations"))
        title.setProperty("look", "strong")
        title.setWordWrap(True)
        self.size = QLabel("…")
        self.size.setProperty("look", "muted")
        self.note = Words(self.tr("Note"))
        self.note.setProperty("look", "small warning")
        self.note.hide()
        self.clear_action = QAction(self.tr("Clear"), self)
        self.clear_action.setObjectName("clear_ready")
        self.clear_action.triggered.connect(lambda _checked=False: self.clear())
        remover = button(self.clear_action, look="small")
        remover.setAccessibleName(f"{title.text()}: {self.tr('Clear')}")
        words = QVBoxLayout()
        words.setSpacing(SPACE // 2)
        for label in (title, self.size, self.note):
            words.addWidget(label)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2 * SPACE)
        row.addLayout(words, 1)
        row.addWidget(remover)
        connection.changed.connect(self._note)
        self.refresh()

    def refresh(self) -> None:
        self._run(_told(self._readiness))

    def clear(self) -> None:
        """Remove all of it; conversations themselves stay."""
        self.clear_action.setEnabled(False)
        self._run(_cleared(self._readiness))

    def _run(self, steps: Any) -> None:
        before = self._worker
        if before is not None:
            before.cancel()
        self._worker = Worker(steps, before)
        self._worker.returned.connect(self._tell)
        self._worker.failed.connect(lambda error: self._tell(("", sentence(error))))
        self._worker.start()

    def _tell(self, told: tuple[str, str]) -> None:
        self.size.setText(told[0])
        self._why = told[1]
        self._note()
        self.clear_action.setEnabled(True)

    def _note(self) -> None:
        stats = self._connection.stats
        why = self._why or (stats.store_problem if stats is not None else "")
        if why != self.note.text():
            self.note.setText(why)
            self.note.setVisible(bool(why))


def _told(readiness: Any) -> Iterator[None]:
    return readiness.told()
    yield


def _cleared(readiness: Any) -> Iterator[None]:
    readiness.clear()
    return readiness.told()
    yield

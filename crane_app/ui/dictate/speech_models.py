"""Which speech model writes what is said, and what to offer where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QFrame, QLabel, QVBoxLayout

from crane_app.library import catalogue
from crane_app.ui.icons import icon
from crane_app.ui.parts import Words, button
from crane_app.ui.theme import SPACE

SMALL = "UsefulSensors/moonshine-tiny"
USUAL = 2_500_000  # bytes a second: a line of 20 megabits


class SpeechModels(QObject):
    """Those of ui.shelf.Shelf that hear; the settings choose among them."""

    changed = Signal()

    def __init__(self, shelf: Any, preferences: Any):
        super().__init__()
        self._shelf, self._preferences = shelf, preferences
        self._looked = False
        self._asked: list[tuple[Any, Any, str]] = []
        shelf.changed.connect(self._seen)
        preferences.changed.connect(lambda name: self.changed.emit() if name == "speech-model" else None)

    def rescan(self) -> None:
        self._shelf.rescan()

    def entries(self) -> list[Any]:
        """library.models.OnDisk of each, by name."""
        found = (each for each in self._shelf.entries if each.job == "dictate" and not each.problem)
        return sorted(found, key=lambda each: each.name)

    def missing(self) -> bool:
        """Whether it is certain that there is none."""
        return self._looked and not self._folder()

    def name(self) -> str:
        """Of the one that writes, or ""."""
        folder = self._folder()
        known = next((each.name for each in self.entries() if each.folder == folder), folder.name if folder else "")
        return known.rpartition("/")[2]

    def chosen(self, entry: Any = None) -> Any:
        """The one that writes, or that of `entry`, as pipelines.conversation.Model; None where there is none."""
        from crane_app.pipelines.conversation import Model

        folder = entry.folder if entry is not None else self._folder()
        get = self._preferences.get
        return Model(str(folder), get("backend"), get("device") or "auto", get("dtype")) if folder else None

    def promise(self, listening: Any, connection: Any, why: str) -> None:
        """Let the one that writes do so for a take (ui.listening), once it is known; why: what to say if there is none.

        A person may speak before the disk was looked at.
        """
        model = self.chosen()
        if model is not None:
            listening.wait_for(connection, model)
        elif self._looked:
            listening.refuse(why)
        else:
            self._asked.append((listening, connection, why))

    def _folder(self) -> Path | None:
        said = self._preferences.get("speech-model")
        if said:
            return Path(said).expanduser()
        return next((each.folder for each in self.entries()), None)

    def _seen(self) -> None:
        self._looked = True
        asked, self._asked = self._asked, []
        for each in asked:
            self.promise(*each)
        self.changed.emit()


class SpeechOffer(QFrame):
    """Says what a speech model is for, how large it is and how long it takes, and where to get it."""

    wanted = Signal(str)  # the id of a model on the hub

    def __init__(self):
        super().__init__()
        self.setProperty("look", "panel")
        heading = QLabel(self.tr("Get a speech model"))
        heading.setProperty("look", "heading")
        words = Words(self.tr("About speech models"))
        nbytes = offer.nbytes if (offer := catalogue.find(SMALL)) else 0
        words.setText(
            self.tr(
                "It turns what you say into text, on this computer. Moonshine tiny understands English. Its {size} MB "
                "take about {seconds} seconds on a usual line. Until then you can record, and have it written later."
            ).format(size=nbytes // 1_000_000, seconds=max(10, 10 * round(nbytes / USUAL / 10)))
        )
        get = QAction(icon("download", "on_accent"), self.tr("Get Moonshine tiny"), self)
        get.setObjectName("get_model")
        get.triggered.connect(lambda _checked=False: self.wanted.emit(SMALL))
        column = QVBoxLayout(self)
        column.setContentsMargins(2 * SPACE, 2 * SPACE, 2 * SPACE, 2 * SPACE)
        column.setSpacing(SPACE)
        column.addWidget(heading)
        column.addWidget(words)
        column.addWidget(button(get, look="primary"), 0, Qt.AlignmentFlag.AlignLeft)

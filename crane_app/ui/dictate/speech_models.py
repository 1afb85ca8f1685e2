"""Which speech model writes what is said, and what to offer where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from crane_app.library import catalogue, fit
from crane_app.ui.models.downloads import Downloads
from crane_app.ui.models.offer import OfferCard
from crane_app.ui.parts import Words
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


class SpeechOffer(QWidget):
    """Says what a speech model is for, how large it is and how long it takes, and fetches one."""

    def __init__(self, preferences: Any):
        super().__init__()
        heading = QLabel(self.tr("Get a speech model"))
        heading.setProperty("look", "heading")
        words = Words(self.tr("About speech models"))
        words.setProperty("look", "muted")
        offer = catalogue.find(SMALL)
        words.setText(
            self.tr(
                "It turns what you say into text, on this computer. It takes about {seconds} seconds to fetch on a "
                "usual line; until then you can record, and have it written later."
            ).format(seconds=max(10, 10 * round(offer.nbytes / USUAL / 10)))
        )
        downloads = Downloads.of(preferences)
        self.card = OfferCard(SMALL, offer, downloads, fit.memory(), first=True)
        downloads.changed.connect(lambda _repo: self.card.refresh())
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        for each in (heading, words, self.card):
            column.addWidget(each)

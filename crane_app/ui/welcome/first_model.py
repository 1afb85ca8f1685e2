"""The second step: which model answers. Those that are here can be chosen, a few others fetched."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout, QWidget

from crane_app.library import catalogue
from crane_app.library.fit import Verdict
from crane_app.library.models import OnDisk
from crane_app.pipelines import room
from crane_app.ui.models.card import FIT_LOOKS, dress, named
from crane_app.ui.models.downloads import Downloads
from crane_app.ui.models.offer import OfferCard
from crane_app.ui.parts import ElidedLabel, Words, button
from crane_app.ui.theme import SPACE

MOST = 3  # models of each kind; all others are in the view of the models


class FirstModel(QWidget):
    """Follows the shelf, the downloads and the preference "model"."""

    more = Signal()  # a person wants to see all models
    laid = Signal()  # cards came or went

    def __init__(self, preferences: Any, shelf: Any, memory: int):
        super().__init__()
        self.setAccessibleName(self.tr("A model to begin with"))
        self._preferences, self._shelf, self._memory = preferences, shelf, memory
        self._downloads = Downloads.of(preferences)
        self.found: dict[str, FoundCard] = {}
        self.offers: dict[str, OfferCard] = {}
        self._make_widgets()
        shelf.changed.connect(self.lay)
        self._downloads.changed.connect(lambda _repo: self._refresh())
        preferences.changed.connect(lambda _name: self._refresh())
        self.lay()

    def lay(self) -> None:
        """Set the cards: what is here, and what would fit."""
        here = [
            entry for entry in self._shelf.entries if entry.job == "chat" and not entry.problem and not entry.partial
        ]
        shown = {str(entry.folder): entry for entry in here[:MOST]}
        for folder in self.found.keys() - shown.keys():
            self.found.pop(folder).deleteLater()
        for folder, entry in shown.items():
            if folder not in self.found:
                self.found[folder] = FoundCard(entry, room.verdict(entry, self._memory, self._preferences.get))
                self.found[folder].use.triggered.connect(lambda _=False, f=folder: self._preferences.set("model", f))
                self._here.addWidget(self.found[folder])
        wanted = [] if here else [offer.repo for offer in catalogue.suited(self._memory)[:MOST]]
        for repo in self.offers.keys() - set(wanted):
            self.offers.pop(repo).deleteLater()
        for repo in wanted:
            if repo not in self.offers:
                first = repo == wanted[0]
                self.offers[repo] = OfferCard(repo, catalogue.find(repo), self._downloads, self._memory, first)
                self._offered.addWidget(self.offers[repo])
        self._refresh()
        self.laid.emit()

    def _make_widgets(self) -> None:
        title, self.words = Words(self.tr("Title")), Words(self.tr("What a model is"))
        title.setText(self.accessibleName())
        title.setProperty("look", "title")
        self.words.setProperty("look", "muted")
        action = QAction(self.tr("All models…"), self)
        action.setObjectName("all_models")
        action.triggered.connect(self.more)
        self._here, self._offered = QVBoxLayout(), QVBoxLayout()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addWidget(title)
        column.addWidget(self.words)
        column.addSpacing(SPACE)
        for each in (self._here, self._offered):
            each.setSpacing(SPACE)
            column.addLayout(each)
        column.addWidget(button(action, look="flat"), 0, Qt.AlignmentFlag.AlignLeft)
        column.addStretch()

    def _refresh(self) -> None:
        chosen = str(self._preferences.get("model") or "")
        for folder, card in self.found.items():
            card.show_chosen(folder == chosen)
        for card in self.offers.values():
            card.refresh()
        if self.found:
            words = self.tr("The chat needs a language model. These are on this computer already; one of them answers.")
        else:
            words = self.tr(
                "The chat needs a language model. It is fetched once from Hugging Face and then works offline; "
                "you can go on meanwhile. Pictures and reading aloud work without one."
            )
        self.words.setText(words)


class FoundCard(QFrame):
    """A model that is here: its name, whether it fits, and a button that lets it answer."""

    def __init__(self, entry: OnDisk, verdict: Verdict):
        super().__init__()
        self.setProperty("look", "panel")
        self.setAccessibleName(entry.name)
        self.use = QAction(self.tr("Use"), self)
        self.use.setObjectName("use")
        self._button = named(button(self.use), self.tr("Use {name}"), entry.name)
        name = ElidedLabel(self.tr("Name of the model"))
        name.setProperty("look", "strong")
        name.setText(entry.name)
        fits = Words(self.tr("Memory it needs"))
        dress(fits, FIT_LOOKS[verdict.fit])
        fits.setText(verdict.sentence)
        words = QVBoxLayout()
        words.setSpacing(SPACE // 2)
        words.addWidget(name)
        words.addWidget(fits)
        row = QHBoxLayout(self)
        row.setContentsMargins(*[2 * SPACE] * 4)
        row.setSpacing(2 * SPACE)
        row.addLayout(words, 1)
        row.addWidget(self._button)

    def show_chosen(self, chosen: bool) -> None:
        """Whether it is the one that answers."""
        self.use.setText(self.tr("In use") if chosen else self.tr("Use"))
        self.use.setIconText(self.use.text())
        self.use.setEnabled(not chosen)

"""Models that can be had: a short list, any id of Hugging Face, and what an earlier window did not finish."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QVBoxLayout, QWidget

from crane_app.library import catalogue, hub_cache
from crane_app.ui.models.card import acting
from crane_app.ui.models.downloads import Downloads
from crane_app.ui.models.offer import OfferCard
from crane_app.ui.parts import Words, button, empty
from crane_app.ui.theme import SPACE

BATCH = 2  # cards made between two frames


class GetModels(QWidget):
    """Offers what is not on the shelf; `downloads` does the rest."""

    laid = Signal()  # cards came or went

    def __init__(self, downloads: Downloads, shelf: Any, memory: int):
        super().__init__()
        self._downloads, self._shelf, self._memory = downloads, shelf, memory
        self.cards: dict[str, OfferCard] = {}
        self.get = acting(self, "get", self.tr("Download"), self._get)
        self._make_widgets()
        downloads.changed.connect(self._changed)
        shelf.changed.connect(self.lay)
        QTimer.singleShot(0, self, self.lay)

    def _make_widgets(self) -> None:
        title = Words(self.tr("Title"))
        title.setText(self.tr("Get a model"))
        title.setProperty("look", "title")
        self.hint = Words(self.tr("Where models come from"))
        self.hint.setProperty("look", "muted")
        self.hint.setText(
            self.tr("They come from Hugging Face, or the mirror named in Settings. Nothing of yours is sent there.")
        )
        self.field = QLineEdit()
        self.field.setAccessibleName(self.tr("Id of a model on Hugging Face"))
        self.field.setPlaceholderText(self.tr("Any other: Organisation/Name"))
        self.field.setMaxLength(300)
        self.field.returnPressed.connect(self._get)
        self.field.textChanged.connect(self._typed)
        self.fault = Words(self.tr("What is wrong with the id"))
        self.fault.setProperty("look", "small danger")
        self.fault.hide()
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.field, 1)
        self.get_button = button(self.get)
        self.get_button.setAccessibleName(self.tr("Download the model of this id"))
        row.addWidget(self.get_button)
        self.titles = {
            "begun": QLabel(self.tr("Downloads"), self),
            "chat": QLabel(self.tr("For chat"), self),
            "dictate": QLabel(self.tr("For dictation"), self),
        }
        for each in self.titles.values():
            each.setProperty("look", "heading")
            each.setContentsMargins(0, SPACE, 0, 0)
            each.hide()
        self.column = QVBoxLayout()
        self.column.setSpacing(SPACE)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 2 * SPACE, 0, 0)
        whole.setSpacing(SPACE)
        whole.addWidget(title)
        whole.addWidget(self.hint)
        whole.addLayout(self.column)
        whole.addLayout(row)
        whole.addWidget(self.fault)
        self._typed()

    def lay(self) -> None:
        """Set the cards: first what runs or waits, then what is offered and not here; new ones a few at a time."""
        here = {entry.repo.lower() for entry in self._shelf.entries if entry.repo and not entry.problem}
        offers = [offer.repo for offer in catalogue.OFFERS if offer.runs and offer.repo.lower() not in here]
        begun = [entry.repo for entry in self._shelf.entries if entry.partial]
        known = self._downloads.known()
        wanted = {*known, *begun, *offers}
        empty(self.column)
        for repo in [repo for repo in self.cards if repo not in wanted]:
            self.cards.pop(repo).deleteLater()
        groups = {"begun": [*known, *begun]}
        groups |= {job: [repo for repo in offers if catalogue.find(repo).job == job] for job in ("chat", "dictate")}
        laid: set[str] = set()
        fresh = 0
        for group, repos in groups.items():
            those = [repo for repo in dict.fromkeys(repos) if repo not in laid]
            laid.update(those)
            self.titles[group].setVisible(bool(those))
            if those:
                self.column.addWidget(self.titles[group])
            for repo in those:
                fresh += repo not in self.cards
                if fresh > BATCH:
                    QTimer.singleShot(0, self, self.lay)
                    return
                self.column.addWidget(self._card(repo))
        self.laid.emit()

    def stops(self) -> list[QWidget]:
        """What the Tab key comes by, in reading order."""
        widgets = [self.column.itemAt(index).widget() for index in range(self.column.count())]
        return [*widgets, self.field, self.get_button]

    def _card(self, repo: str) -> OfferCard:
        if repo not in self.cards:
            offer = catalogue.find(repo)
            first = offer is not None and offer is self._first(offer.job)
            self.cards[repo] = OfferCard(repo, offer, self._downloads, self._memory, first)
        return self.cards[repo]

    def _first(self, job: str) -> catalogue.Offer | None:
        """The one to begin with: of its job the first that fits well."""
        those = (offer for offer in catalogue.OFFERS if offer.job == job and offer.runs)
        return next((offer for offer in those if offer.verdict(self._memory).fit in ("well", "unknown")), None)

    def _changed(self, repo: str) -> None:
        known = self._downloads.known()
        if not repo or (repo in known) != (repo in self.cards) or repo not in self.cards:
            self.lay()
        for each in [repo] if repo in self.cards else list(self.cards):
            self.cards[each].refresh()

    def _typed(self) -> None:
        self.get.setEnabled(bool(self.field.text().strip()))
        self.fault.hide()

    def _get(self) -> None:
        repo = hub_cache.typed(self.field.text())
        if not repo:
            return
        offer = catalogue.find(repo)
        if not hub_cache.valid(repo):
            self.fault.setText(self.tr("This is no id of a model. Write it like Qwen/Qwen3-0.6B."))
            self.fault.show()
            return
        self.field.clear()
        self._downloads.start(offer.repo if offer is not None else repo)

"""What the chat shows before there is a conversation: a greeting, what to try, and what is missing."""

from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from crane_app.library import catalogue, fit
from crane_app.ui.flow import Flow
from crane_app.ui.parts import Words, button
from crane_app.ui.theme import SPACE, scaled_font

WIDEST = 600  # pixels of what is offered


class EmptyChat(QScrollArea):
    """Where there is no model, one is offered to begin with, as it fits this computer; it can be fetched right here.

    `suggested` carries words for the field; `wanted` asks for another view and what it should take.
    """

    suggested = Signal(str)
    wanted = Signal(str, object)

    def __init__(self, preferences: Any, shelf: Any):
        super().__init__()
        self._preferences, self._shelf = preferences, shelf
        self.offer: Any = None  # ui.models.offer.OfferCard of the model to begin with, once one is needed
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAccessibleName(self.tr("New conversation"))
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(3 * SPACE, 3 * SPACE, 3 * SPACE, 3 * SPACE)
        column.setSpacing(SPACE)
        column.addStretch(2)
        title = QLabel(self.tr("What shall we think about?"))
        title.setFont(scaled_font(1.7, bold=True))
        title.setAlignment(Qt.AlignmentFlag.AlignCenter)
        title.setWordWrap(True)
        column.addWidget(title)
        self.state = Words(self.tr("State of the model"))
        self.state.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.state.setProperty("look", "muted")
        column.addWidget(self.state)
        column.addSpacing(SPACE)
        self._get = self._make_get()
        column.addWidget(self._get)
        self._make_suggestions(column)
        column.addStretch(3)
        self.setWidget(inside)
        shelf.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """What can be done now: ask, choose a model, or get one."""
        chosen = bool(self._preferences.get("model"))
        some = any(entry.job == "chat" and not entry.problem for entry in self._shelf.entries)
        if chosen:
            words = self.tr("The model runs on this machine. Nothing you write leaves it.")
        elif some:
            words = self.tr("Choose a model above, then ask. Nothing you write leaves this machine.")
        else:
            words = self.tr("The chat needs a language model. It is fetched once, then works offline.")
        self.state.setText(words)
        self._get.setVisible(not chosen and not some)
        if not chosen and not some:
            self._show_offer()

    def _make_get(self) -> QWidget:
        """The offer, which is made when it is needed, and the way to all others."""
        others = QAction(self.tr("Other models, or yours…"), self)
        others.setObjectName("get_model")
        others.triggered.connect(lambda _checked=False: self.wanted.emit("models", None))
        place = QWidget()
        place.setMaximumWidth(WIDEST)
        self._offers = QVBoxLayout(place)
        self._offers.setContentsMargins(0, 0, 0, 0)
        made = QWidget()
        column = QVBoxLayout(made)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addLayout(_centred(place))
        column.addWidget(button(others, look="flat"), 0, Qt.AlignmentFlag.AlignHCenter)
        return made

    def _show_offer(self) -> None:
        """The model whose download has begun, else the one to begin with; none where none would fit."""
        from crane_app.ui.models.downloads import Downloads
        from crane_app.ui.models.offer import OfferCard

        downloads, memory = Downloads.of(self._preferences), fit.memory()
        suited = [offer.repo for offer in catalogue.suited(memory)]
        repo = next((repo for repo in downloads.known() if repo in suited), next(iter(suited), ""))
        if self.offer is None:
            downloads.changed.connect(lambda _repo: self._download_changed())
        if self.offer is not None and self.offer.repo != repo:
            self.offer.deleteLater()
            self.offer = None
        if self.offer is None and repo:
            self.offer = OfferCard(repo, catalogue.find(repo), downloads, memory, first=True)
            self._offers.addWidget(self.offer)

    def _download_changed(self) -> None:
        if self.offer is not None:
            self.offer.refresh()

    def _make_suggestions(self, column: QVBoxLayout) -> None:
        words = (
            self.tr("Explain how vaccines work"),
            self.tr("Write a kind no to an invitation"),
            self.tr("Find the bug in this code"),
            self.tr("Plan a week of simple dinners"),
        )
        row = QWidget()
        flow = Flow(SPACE, centred=True)
        row.setLayout(flow)
        row.setMaximumWidth(WIDEST)
        for text in words:
            action = QAction(text, self)
            action.setObjectName("suggestion")
            action.triggered.connect(lambda _checked=False, said=text: self.suggested.emit(said))
            flow.addWidget(button(action, look="small"))
        column.addSpacing(2 * SPACE)
        column.addLayout(_centred(row))


def _centred(widget: QWidget) -> QHBoxLayout:
    """In the middle, as wide as it may be."""
    row = QHBoxLayout()
    row.addStretch(1)
    row.addWidget(widget, 1000)
    row.addStretch(1)
    return row

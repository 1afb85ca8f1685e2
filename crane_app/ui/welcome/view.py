"""The introduction: what Crane does, a first model, looks and keys. A view like the others, never in the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QStackedWidget, QVBoxLayout, QWidget

from crane_app.library import fit
from crane_app.ui.models.card import in_tab_order
from crane_app.ui.parts import button
from crane_app.ui.theme import SPACE
from crane_app.ui.view import View
from crane_app.ui.welcome.first_model import FirstModel
from crane_app.ui.welcome.jobs import Jobs
from crane_app.ui.welcome.looks import KeysAndLooks

WIDEST = 720  # pixels of what is read


class WelcomeView(View):
    """Steps are made when they are first wanted. Going to any other view is leaving it; Esc goes to the chat."""

    def __init__(self, preferences: Any, shelf: Any, icon: QIcon, memory: int | None = None):
        """memory: bytes this computer has; asked of the system if not given."""
        super().__init__()
        self._makers: tuple[Callable[[], QWidget], ...] = (
            lambda: Jobs(icon),
            lambda: self._first_model(preferences, shelf, fit.memory() if memory is None else memory),
            lambda: KeysAndLooks(preferences),
        )
        self.step = 0
        self.steps = QStackedWidget()
        self._made: dict[int, QScrollArea] = {}
        self._make_actions()
        self._make_widgets()
        self.show_step(0)

    def enter(self) -> None:
        self._next_button.setFocus()

    def show_step(self, number: int) -> None:
        """0, 1 or 2."""
        self.step = number
        if number not in self._made:
            self._made[number] = _scrolled(self._makers[number]())
            self.steps.addWidget(self._made[number])
        self.steps.setCurrentWidget(self._made[number])
        last = number == len(self._makers) - 1
        self.next_action.setText(self.tr("Start") if last else self.tr("Continue"))
        self.next_action.setIconText(self.next_action.text())
        self._next_button.setAccessibleName(self.next_action.text())
        self.back_action.setEnabled(number > 0)
        self._back_button.setVisible(number > 0)
        self._place.setText(self.tr("Step {number} of {count}").format(number=number + 1, count=len(self._makers)))
        self._order()
        if number == 0:
            self._next_button.setFocus()  # the button that was pressed may be the one that has gone

    def _make_actions(self) -> None:
        self.skip_action = self.action("skip", self.tr("Skip the introduction"), self._leave, "Esc")
        self.back_action = self.action("back", self.tr("Back"), lambda: self.show_step(self.step - 1))
        self.next_action = self.action("next", self.tr("Continue"), self._go_on)

    def _make_widgets(self) -> None:
        self._skip_button = button(self.skip_action, look="flat")
        self._back_button = button(self.back_action)
        self._next_button = button(self.next_action, look="primary")
        self._place = QLabel()
        self._place.setProperty("look", "muted")
        row = QHBoxLayout()
        row.setContentsMargins(3 * SPACE, SPACE, 3 * SPACE, 2 * SPACE)
        row.setSpacing(SPACE)
        row.addWidget(self._skip_button)
        row.addStretch()
        row.addWidget(self._place)
        row.addSpacing(SPACE)
        row.addWidget(self._back_button)
        row.addWidget(self._next_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.steps, 1)
        column.addLayout(row)

    def _first_model(self, preferences: Any, shelf: Any, memory: int) -> FirstModel:
        made = FirstModel(preferences, shelf, memory)
        made.more.connect(lambda: self.sent.emit("models", None))
        made.laid.connect(self._order)
        return made

    def _order(self) -> None:
        """What is read comes before the buttons below it, also for the Tab key."""
        steps = [self._made[number] for number in sorted(self._made)]
        in_tab_order([*steps, self._skip_button, self._back_button, self._next_button])

    def _go_on(self) -> None:
        if self.step + 1 < len(self._makers):
            self.show_step(self.step + 1)
        else:
            self._leave()

    def _leave(self) -> None:
        self.sent.emit("chat", None)


def _scrolled(content: QWidget) -> QScrollArea:
    """In the middle, not wider than is read well, and scrolled where there is no room."""
    content.setMaximumWidth(WIDEST)
    ground = QWidget()
    row = QHBoxLayout(ground)
    row.setContentsMargins(*[3 * SPACE] * 4)
    row.addStretch()
    row.addWidget(content, 1000)
    row.addStretch()
    area = QScrollArea()
    area.setWidget(ground)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setAccessibleName(content.accessibleName())
    return area

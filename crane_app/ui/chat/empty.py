"""What the chat shows before there is a conversation: a greeting, what to try, and what is missing."""

from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from crane_app.ui.flow import Flow
from crane_app.ui.icons import icon
from crane_app.ui.parts import Words, button
from crane_app.ui.theme import SPACE, scaled_font


class EmptyChat(QScrollArea):
    """`suggested` carries words for the field; `wanted` asks for another view and what it should take."""

    suggested = Signal(str)
    wanted = Signal(str, object)

    def __init__(self, preferences: Any, shelf: Any):
        super().__init__()
        self._preferences, self._shelf = preferences, shelf
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
        self.get = QAction(icon("models", "on_accent"), self.tr("Get a model"), self)
        self.get.setObjectName("get_model")
        self.get.triggered.connect(lambda _checked=False: self.wanted.emit("models", None))
        self._get = button(self.get, look="primary")
        self._get.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        column.addWidget(self._get, 0, Qt.AlignmentFlag.AlignHCenter)
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
            words = self.tr("A language model must be on this machine first. It is fetched once, then works offline.")
        self.state.setText(words)
        self._get.setVisible(not chosen and not some)

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
        row.setMaximumWidth(600)
        for text in words:
            action = QAction(text, self)
            action.setObjectName("suggestion")
            action.triggered.connect(lambda _checked=False, said=text: self.suggested.emit(said))
            flow.addWidget(button(action, look="small"))
        column.addSpacing(2 * SPACE)
        held = QHBoxLayout()
        held.addStretch(1)
        held.addWidget(row, 1000)
        held.addStretch(1)
        column.addLayout(held)

"""Above the view: its name, what it needs at hand, what computes, and Stop."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QWidget

from crane_app.ui.icons import icon
from crane_app.ui.parts import ElidedLabel, button, plain_tip
from crane_app.ui.theme import SPACE

DEVICES = {"cpu": "CPU", "cuda": "CUDA", "metal": "Metal"}
ESCAPE = QKeySequence(Qt.Key.Key_Escape)
STOPS = ("stop", "cancel")  # how the names of actions begin with which a view ends what it is doing


class Toolbar(QFrame):
    """Shows one view's name and Stop; `connection` (ui.connection.Connection) tells what computes."""

    def __init__(self, connection):
        super().__init__()
        self._connection = connection
        self.setProperty("look", "toolbar")
        self.title = ElidedLabel(self.tr("Name of the view"))
        self.title.setProperty("look", "heading")
        self.chip = QLabel()
        self.chip.setProperty("look", "chip small")
        self.chip.setAccessibleName(self.tr("What computes"))
        self.stop_action = QAction(icon("stop"), self.tr("&Stop"), self)
        self.stop_action.setObjectName("stop_here")
        self.stop_action.setShortcut(ESCAPE)
        self.stop_button = button(self.stop_action)
        self.stop_action.triggered.connect(lambda _checked=False: self._stop())
        self._stops: list[QAction] = []  # of the view in sight
        self._extra: QWidget | None = None
        self._computes = False
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(2 * SPACE, SPACE, SPACE, SPACE)
        self._row.setSpacing(SPACE)
        self._row.addWidget(self.title, 1)
        self._row.addWidget(self.chip, 0, Qt.AlignmentFlag.AlignVCenter)
        self._row.addWidget(self.stop_button)
        connection.changed.connect(self._refresh)
        self._refresh()

    def show_view(self, title: str, view: QWidget, extra: QWidget | None = None) -> None:
        """Another view is in sight; `extra` goes beside its name."""
        self._computes = getattr(view, "computes", False)
        self.title.setText(title)
        if self._extra is not None and self._extra is not extra:
            self._extra.hide()
            self._row.removeWidget(self._extra)
        if extra is not None and extra is not self._extra:
            self._row.insertWidget(1, extra)
            extra.show()
        self._extra = extra
        self._follow(view)
        self._refresh()

    def _follow(self, view: QWidget) -> None:
        """Stop is that of the view in sight; Esc is one of its own, or this one's."""
        for action in self._stops:
            action.changed.disconnect(self._show_stop)
        actions = view.actions()  # those of cards come and go
        self._stops = [action for action in actions if action.objectName().startswith(STOPS)]
        for action in self._stops:
            action.changed.connect(self._show_stop)
        taken = any(ESCAPE in action.shortcuts() for action in actions)
        self.stop_action.setShortcuts([] if taken else [ESCAPE])
        self._show_stop()

    def _show_stop(self) -> None:
        self.stop_action.setEnabled(any(action.isEnabled() for action in self._stops))

    def _stop(self) -> None:
        """What is under way, of the several things that a view may do."""
        if under_way := next((action for action in self._stops if action.isEnabled()), None):
            under_way.trigger()

    def _refresh(self) -> None:
        words, tip = self._facts()
        self.chip.setText(words)
        self.chip.setVisible(self._computes or self._connection.state in ("starting", "lost", "failed"))
        self.chip.setToolTip(plain_tip(tip))

    def _facts(self) -> tuple[str, str]:
        """What computes, and more about it."""
        cards, state = self._connection.cards, self._connection.state
        if state == "starting":
            return self.tr("Starting the engine…"), ""
        if state in ("lost", "failed"):
            return self.tr("No engine"), self._connection.sentence
        if not cards:
            return self.tr("No model loaded"), ""
        kinds = list(dict.fromkeys(f"{DEVICES.get(card.device, card.device)} · {card.numbers}" for card in cards))
        return kinds[0], "\n".join(f"{card.name}: {card.backend}, {card.device}, {card.numbers}" for card in cards)

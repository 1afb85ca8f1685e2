"""The line at the bottom: how the engine is, which models are loaded, the memory they take, how fast it goes.

Short news take the place of all that on the left for a moment.
"""

from typing import Any

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QStatusBar, QWidget

from crane_app.library import fit
from crane_app.ui.icons import icon
from crane_app.ui.models.memory import limit, parts, taken
from crane_app.ui.parts import ElidedLabel, button, plain_tip
from crane_app.ui.theme import SPACE, unit

NEWS_MS = 4000
BAR = 8  # widths of an average letter
TROUBLED = ("stalled", "lost", "failed")


class Status(QStatusBar):
    """Looks at `connection` (ui.connection.Connection) whenever that changed."""

    restart_wanted = Signal()

    def __init__(self, connection, memory: int | None = None):
        super().__init__()
        self._connection = connection
        self._memory = fit.memory() if memory is None else memory
        self._before: Any = None  # stats of the look before, to count from
        self._last_rate = 0.0
        self.setSizeGripEnabled(False)
        self.restart_action = QAction(self)
        self.restart_action.setObjectName("restart")
        self.restart_action.setText(self.tr("Restart"))
        self.restart_action.triggered.connect(lambda _checked=False: self.restart_wanted.emit())
        self.engine = ElidedLabel(self.tr("The engine"))
        self.models = ElidedLabel(self.tr("Loaded models"))
        self.models.setAlignment(Qt.AlignmentFlag.AlignTrailing | Qt.AlignmentFlag.AlignVCenter)
        self.speed = QLabel()
        self.speed.setAccessibleName(self.tr("Speed"))
        self.restart_button = button(self.restart_action, look="small")
        self.addWidget(self._row(self.engine, self.restart_button), 3)
        self.addPermanentWidget(self.models, 2)
        self.addPermanentWidget(self._make_memory())
        self.addPermanentWidget(self.speed)
        self.addPermanentWidget(self._make_promise())
        connection.changed.connect(self.refresh)
        self.refresh()

    def say(self, news: str) -> None:
        """Short news, shown for a moment."""
        self.showMessage(news, NEWS_MS)

    def follow(self, contacts: Any) -> None:
        """Tell who is in contact with this computer (ui.contacts.Contacts), from now on."""
        self._contacts = contacts
        contacts.changed.connect(self._show_contacts)
        self._show_contacts()

    def refresh(self) -> None:
        now = self._connection
        troubled = now.state in TROUBLED
        self.engine.setText(self._engine_words())
        self.engine.setProperty("look", "danger" if troubled else "")
        self.engine.style().polish(self.engine)
        words = self.tr("End it and restart") if now.state == "stalled" else self.tr("Restart")
        self.restart_action.setText(words)
        self.restart_action.setIconText(words)
        self.restart_button.setAccessibleName(words)
        self.restart_button.setVisible(troubled)
        self.models.setText(self._models_words())
        self.models.setVisible(bool(now.cards) and not troubled)
        self._show_memory()
        rate = self._rate()
        self.speed.setText(self.tr("{rate} tokens/s").format(rate=f"{rate:.1f}") if rate else "")
        self.speed.setVisible(bool(rate))

    def _make_memory(self) -> QWidget:
        self.memory = QLabel()
        self.memory.setAccessibleName(self.tr("Memory held by what is loaded"))
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName(self.tr("Share of the memory that may be held"))
        self.bar.setFixedWidth(self.fontMetrics().averageCharWidth() * BAR)
        self._memory_row = self._row(self.bar, self.memory)
        return self._memory_row

    def _make_promise(self) -> QWidget:
        self.promise = QLabel(self.tr("Nothing leaves this machine"))
        self._sign, self._drawing = QLabel(), "lock"
        self._promise_row = self._row(self._sign, self.promise)
        return self._promise_row

    def _show_contacts(self) -> None:
        now = self._contacts.now()
        self.promise.setText(now.words or self.tr("Nothing leaves this machine"))
        self._promise_row.setToolTip(plain_tip(now.details))
        self._drawing = now.drawing or "lock"
        self._draw()

    def _draw(self) -> None:
        side = round(0.95 * unit())
        self._sign.setPixmap(icon(self._drawing, "muted").pixmap(QSize(side, side), self.devicePixelRatioF()))

    def _row(self, *parts: QWidget) -> QWidget:
        made = QWidget()
        row = QHBoxLayout(made)
        row.setContentsMargins(SPACE, SPACE // 2, SPACE, SPACE // 2)
        row.setSpacing(SPACE // 2)
        for part in parts:
            row.addWidget(part, 0, Qt.AlignmentFlag.AlignVCenter)
        if isinstance(parts[0], ElidedLabel):
            row.setStretch(0, 1)
        return made

    def _engine_words(self) -> str:
        now = self._connection
        usual = {
            "starting": self.tr("The engine is starting. You can begin already."),
            "ready": "",
            "busy": self.tr("Working…"),
            "stalled": self.tr("The engine does not answer."),
            "lost": self.tr("The engine stopped. Your text is safe."),
            "failed": self.tr("The engine did not start."),
        }[now.state]
        return now.sentence or usual

    def _models_words(self) -> str:
        words = [f"{card.name} · {fit.human(card.nbytes)}" for card in self._connection.cards]
        return ", ".join(words)

    def _show_memory(self) -> None:
        stats = self._connection.stats
        held, most = taken(stats), limit(stats, self._memory)
        # Trouble is told in full, and these numbers are of an engine that does not answer.
        self._memory_row.setVisible(bool(held and most) and self._connection.state not in TROUBLED)
        if held and most:
            self.bar.setRange(0, 1000)
            self.bar.setValue(min(1000, round(1000 * held / most)))
            sizes = {"taken": fit.human(held), "memory": fit.human(most)}
            self.memory.setText(self.tr("{taken} of {memory}").format(**sizes))
            whole = self.tr("What is loaded holds {taken} of the {memory} that it may: {parts}.")
            tip = whole.format(**sizes, parts=", ".join(parts(stats)))
            self._memory_row.setToolTip(plain_tip(tip))

    def _rate(self) -> float:
        """Tokens per second since the look before, by the engine's own clock; 0 when nothing is made."""
        now, before = self._connection.stats, self._before
        if now == before:
            return self._last_rate
        self._before, self._last_rate = now, 0.0
        if now is not None and before is not None and now.pid == before.pid and now.running:
            seconds = now.uptime_s - before.uptime_s
            self._last_rate = (now.tokens - before.tokens) / seconds if seconds > 0 else 0.0
        return self._last_rate

    def changeEvent(self, event) -> None:
        super().changeEvent(event)
        if event.type() == event.Type.StyleChange and hasattr(self, "_sign"):
            self._draw()
            self.bar.setFixedWidth(self.fontMetrics().averageCharWidth() * BAR)

"""An answer on the screen: its thoughts folded, its text, how it ended, and what can be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMenu, QToolButton, QVBoxLayout, QWidget

from crane_app.pipelines.thoughts import Said, Thoughts
from crane_app.ui.chat.message import Message
from crane_app.ui.icons import icon
from crane_app.ui.markdown.view import MarkdownView
from crane_app.ui.parts import ElidedLabel, Notice, Words
from crane_app.ui.theme import SPACE

if TYPE_CHECKING:
    from crane_app.library.chats import Turn


class Reply(Message):
    """An answer: its thoughts folded, its text, how it ended, and what can be done with it."""

    regenerated = Signal(object)
    resumed = Signal(object)
    spoken_aloud = Signal(object)
    pointed = Signal(str)
    wanted = Signal(str)  # another view

    def __init__(self, turn: Turn, model: str):
        super().__init__(turn)
        self._model = model
        self.thinking = ThoughtFold()
        self.body = MarkdownView(self.tr("Answer"))
        self.body.grew.connect(self.grew)
        self.body.pointed.connect(self.pointed)
        self.thinking.grew.connect(self.grew)
        self.state = Words(self.tr("State of the answer"))
        self.state.setProperty("look", "muted")
        models = QAction(self.tr("Models…"), self)
        models.setObjectName("to_models")
        models.triggered.connect(lambda _checked=False: self.wanted.emit("models"))
        self.notice = Notice(self.tr("Try again"), models)
        self.notice.retried.connect(lambda: self.regenerated.emit(self.turn))
        for each in (self.thinking, self.body, self.state, self.notice):
            self.column.addWidget(each)
        self._make_buttons()
        self.column.addWidget(self.buttons)
        self.begin(turn)
        self.set_busy(turn.state == "running")

    def begin(self, turn: Turn) -> None:
        """Show a turn from its beginning; what comes later is added by `say`."""
        self.turn = turn
        thought, answer = _told_apart(turn)
        running = turn.state == "running"
        self.thinking.set_text(thought, running=running and not answer)
        self.body.set_text(answer)
        if not running:
            self.body.finish()
        self._started = bool(answer.strip())
        self._show_end()

    def say(self, said: Said) -> None:
        """More of the answer."""
        self.state.setText("")
        self.state.hide()
        if said.thought:
            self.thinking.append(said.text)
            return
        text = said.text if self._started else said.text.lstrip("\n")
        if text:
            self._started = True
            self.thinking.finish()
            self.body.append(text)

    def wait(self, percent: int | None) -> None:
        """Nothing has come yet: why."""
        if percent is None:
            words = ""
        elif percent:
            words = self.tr("Loading the model, {percent} %…").format(percent=percent)
        else:
            words = self.tr("Waiting for the model…")
        self.state.setText(words)
        self.state.setVisible(bool(words))
        self.grew.emit()

    def end(self, turn: Turn) -> None:
        """It is over: `turn` says how."""
        self.turn = turn
        if self.body.text() != _told_apart(turn)[1]:
            self.begin(turn)
            return
        self.thinking.finish()
        self.body.finish()
        self._show_end()

    def set_busy(self, busy: bool) -> None:
        """Another answer of this conversation is under way: what would disturb it has to wait."""
        for each in (self._again, self._resume, self._remove):
            each.setEnabled(not busy)
        self.show_versions(not busy)

    def set_last(self, last: bool) -> None:
        """Only the last answer can go on where it stopped."""
        ended_early = self.turn.state in ("length", "stopped", "interrupted")
        self.resume_button.setVisible(last and ended_early and bool(self.text().strip()))

    def _make_buttons(self) -> None:
        tr = self.tr
        self.sign("copy_answer", tr("Copy the answer"), lambda: self.copied.emit(self.turn, "text"), "copy")
        again = self.sign("regenerate", tr("Answer again"), lambda: self.regenerated.emit(self.turn), "regenerate")
        self.resume_button = self.sign("resume", tr("Go on"), lambda: self.resumed.emit(self.turn), "resume")
        self.sign("read_answer", tr("Read the answer aloud"), lambda: self.spoken_aloud.emit(self.turn), "read_aloud")
        self._again, self._resume = again.defaultAction(), self.resume_button.defaultAction()
        more = self.sign("more", tr("More"), lambda: None, "more")
        menu = QMenu(more)
        for name, text in (("markdown", tr("Copy as &Markdown")), ("command", tr("Copy as &command"))):
            menu.addAction(text, lambda form=name: self.copied.emit(self.turn, form))
        menu.addSeparator()
        self._remove = menu.addAction(tr("&Delete from here on"), lambda: self.removed.emit(self.turn))
        more.setMenu(menu)
        more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.make_versions()
        self._row.addStretch()
        self.facts = ElidedLabel(tr("Facts about the answer"))
        self.facts.setProperty("look", "muted")
        self.facts.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._row.addWidget(self.facts, 1)

    def _show_end(self) -> None:
        turn = self.turn
        over = turn.state != "running"
        self.buttons.setVisible(over)
        said = {
            "stopped": self.tr("Stopped."),
            "length": self.tr("Cut: this is as long as answers may get. “Go on” continues it."),
            "interrupted": self.tr("Interrupted: Crane was closed while this was written."),
        }.get(turn.state, "")
        self.state.setText(said if over else self.tr("Waiting for the model…"))
        self.state.setVisible(bool(said) or (not over and not turn.text))
        error = str(turn.facts.get("error", "")) if turn.state == "error" else ""
        self.notice.tell(error, other=turn.facts.get("remedy") == "models")
        self.facts.setText(self._facts())
        self.show_versions(over)
        start = self.tr("Answer of {model}: {text}")
        self.setAccessibleName(start.format(model=self._model, text=self.text()[:200]))
        self.grew.emit()

    def _facts(self) -> str:
        facts = self.turn.facts
        parts = [self._model] if self._model else []
        if facts.get("tokens"):
            parts.append(self.tr("{count} tokens").format(count=facts["tokens"]))
        if facts.get("speed"):
            parts.append(self.tr("{speed} tok/s").format(speed=f"{facts['speed']:.1f}"))
        return " · ".join(parts)


def _told_apart(turn: Turn) -> tuple[str, str]:
    """What a turn thinks, and what it says."""
    parts = Thoughts()
    said = [*parts.push(turn.text), *parts.flush()]
    thought, answer = ("".join(each.text for each in said if each.thought is kind) for kind in (True, False))
    return thought, answer.lstrip("\n")


class ThoughtFold(QWidget):
    """What a model thought, folded under one line that says so."""

    grew = Signal()

    def __init__(self):
        super().__init__()
        self._text, self._running = "", False
        self._view: MarkdownView | None = None
        self.fold = QToolButton()
        self.fold.setProperty("look", "flat small muted")
        self.fold.setCheckable(True)
        self.fold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.fold.setIconSize(QSize(12, 12))
        self.fold.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.fold.toggled.connect(self._toggle)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(SPACE // 2)
        self._column.addWidget(self.fold, 0, Qt.AlignmentFlag.AlignLeft)
        self._refresh()

    def text(self) -> str:
        return self._text

    def set_text(self, text: str, running: bool) -> None:
        self._text, self._running = text.replace("<think>", "").replace("</think>", "").strip("\n"), running
        if self._view is not None:
            self._view.set_text(self._text)
        self._refresh()

    def append(self, text: str) -> None:
        text = text.replace("<think>", "").replace("</think>", "")
        began = not self._text
        text = text.lstrip("\n") if began else text
        self._text += text
        self._running = True
        if self._view is not None:
            self._view.append(text)
        if began:
            self._refresh()

    def finish(self) -> None:
        if self._running:
            self._running = False
            if self._view is not None:
                self._view.finish()
            self._refresh()

    def _toggle(self, opened: bool) -> None:
        if self._view is None and opened:
            self._view = MarkdownView(self.tr("Thoughts"))
            self._view.setProperty("look", "thoughts")
            self._view.grew.connect(self.grew)
            self._view.set_text(self._text)
            if not self._running:
                self._view.finish()
            self._column.addWidget(self._view)
        if self._view is not None:
            self._view.setVisible(opened)
        self._refresh()

    def _refresh(self) -> None:
        words = self.tr("Thinking…") if self._running else self.tr("Thoughts")
        self.fold.setText(words)
        self.fold.setAccessibleName(words)
        self.fold.setIcon(icon("down" if self.fold.isChecked() else "right", "muted"))
        self.setVisible(bool(self._text.strip()))
        self.grew.emit()

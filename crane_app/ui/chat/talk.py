"""The conversation in view: what is asked, what answers it, and what becomes of both. No widgets.

Answers go on while another conversation is looked at; each knows its turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from crane_app.errors import CraneError
from crane_app.ui.preferences import starting_options
from crane_app.ui.worker import Worker, sentence

if TYPE_CHECKING:
    from crane_app.library.chats import Attachment, Chats, Turn
    from crane_app.pipelines.conversation import Answer, Ending
    from crane_app.pipelines.readiness import Readiness


class Running:
    """An answer under way, with what a view must know that joins later."""

    def __init__(self, answer: Answer, worker: Worker):
        self.answer, self.worker = answer, worker
        self.text = answer.turn.text  # as far as it has been told here; the answer itself may be further
        self.percent: int | None = None  # of the model's loading; None when it is not loading
        self.stopped = False

    def turn(self) -> Turn:
        """Its turn with what has been told of it by now."""
        return replace(self.answer.turn, text=self.text)


class Talk(QObject):
    """Asks and answers within `chats`; `options` are read from the conversation, the model from preferences.

    readiness: keeps on disk what the next answers need.
    """

    shown = Signal()  # another conversation, or none yet: read `turns` anew
    added = Signal(object)  # a Turn at the end
    removed = Signal(object)  # a Turn: it and all after it are out of sight
    said = Signal(int, object)  # a turn's id, and what came for it: thoughts.Said
    waiting = Signal(int, object)  # a turn's id, and the percent its model is loaded; None: no longer waiting
    ended = Signal(object)  # a Turn whose answer is over
    listed = Signal()  # titles or their order changed
    failed = Signal(str)  # a sentence about what could not be done

    def __init__(self, connection: Any, chats: Chats, preferences: Any, readiness: Readiness | None = None):
        super().__init__()
        self.chats, self._connection, self._preferences = chats, connection, preferences
        self._readiness = readiness
        self.chat: int | None = None  # None: one that begins with the first question
        self.turns: list[Turn] = []
        self.running: dict[int, Running] = {}
        self._began = self.system, self.options = self._usual()

    # Which conversation

    def new(self) -> None:
        """An empty conversation; it is kept from its first question on."""
        self.chat, self.turns = None, []
        self._began = self.system, self.options = self._usual()
        self.shown.emit()

    def open(self, chat: int) -> bool:
        """Show a conversation of the history; False if it cannot be had."""
        try:
            found = self.chats.chat(chat)
            self.turns = self.chats.path(chat)
        except CraneError as error:
            self.failed.emit(sentence(error))
            return False
        self.turns = [self._as_it_is(turn) for turn in self.turns]
        self.chat, self.system, self.options = chat, found.system, dict(found.options)
        self.shown.emit()
        return True

    def follow_preferences(self) -> None:
        """A conversation that has not begun, and that nobody has changed, begins as the preferences say now."""
        if self.chat is None and (self.system, self.options) == self._began:
            self._began = self.system, self.options = self._usual()

    def draft(self) -> str:
        """What was typed here and not sent."""
        return self.chats.loose_draft() if self.chat is None else self.chats.chat(self.chat).draft

    def keep_draft(self, text: str) -> None:
        chat = self.chat
        if chat is not None:
            self._do(lambda: self.chats.set_draft(chat, text))
        elif self.chats.writable:
            self._do(lambda: self.chats.set_loose_draft(text))

    def forget_loose_draft(self) -> None:
        """What was typed before the conversation began has been asked in it."""
        if self.chats.writable:
            self._do(lambda: self.chats.set_loose_draft(""))

    def set_system(self, text: str) -> None:
        self.system = text
        if self.chat is not None:
            self._do(lambda: self.chats.set_system(self.chat, text))

    def set_options(self, options: dict[str, Any]) -> None:
        chat, self.options = self.chat, options
        if chat is not None:
            self._do(lambda: self.chats.set_options(chat, options))

    # Asking

    @property
    def busy(self) -> bool:
        """Is an answer to this conversation under way?"""
        return any(turn.id in self.running and not self.running[turn.id].stopped for turn in self.turns)

    def ask(self, text: str, attachments: tuple[Attachment, ...] = ()) -> bool:
        """Put a question at the end and answer it; False if it could not be kept, or an answer is under way."""
        if self.busy or not (text.strip() or attachments):
            return False
        return self._do(lambda: self._ask(text, attachments))

    def edit(self, turn: Turn, text: str) -> bool:
        """Ask a question anew in other words; what was before stays as an earlier version."""
        if self.busy or not text.strip():
            return False

        def again() -> None:
            made = self.chats.add(turn.chat, "user", text, turn.parent, turn.attachments)
            self._cut(turn)
            self._append(made)
            self._answer(made)

        return self._do(again)

    def regenerate(self, turn: Turn) -> bool:
        """Answer the same question again; the answer before stays as an earlier version."""
        if self.busy or turn.parent is None:
            return False
        parent = next((each for each in self.turns if each.id == turn.parent), None)

        def again() -> None:
            self._cut(turn)
            self._answer(parent)

        return parent is not None and self._do(again)

    def resume(self, turn: Turn) -> bool:
        """Let an answer that ended early go on where it stopped."""
        last = self.turns[-1].id if self.turns else None
        if self.busy or turn.id != last or turn.id in self.running:
            return False
        return self._do(lambda: self._start(self.chats.turn(turn.id), resumed=True))

    def stop(self) -> None:
        """End the answers to this conversation; what came stays."""
        for turn in self.turns:
            if turn.id in self.running:
                self._stop(self.running[turn.id])

    def stop_all(self, chat: int | None = None) -> None:
        """End all answers, or those to one conversation."""
        for each in list(self.running.values()):
            if chat in (None, each.answer.turn.chat):
                self._stop(each)

    # Versions

    def switch(self, turn: Turn, step: int) -> None:
        """Show the version before or after, and what followed it."""
        if not self.busy:
            self._do(lambda: self._reload_from(turn, self.chats.switch(turn.id, step)))

    def remove(self, turn: Turn) -> bool:
        """Take a turn and all after it out of the conversation; `restore` brings them back."""
        if self.busy:
            return False

        def away() -> None:
            self.chats.remove_turn(turn.id)
            self.forget(turn.chat)
            self._reload_from(turn, None)

        return self._do(away)

    def forget(self, chat: int) -> None:
        """Words of a conversation were deleted; what was computed of them goes too."""
        if self._readiness is not None:
            self._readiness.forget(chat)

    def restore(self, turn: Turn) -> None:
        """Bring back what `remove` took."""
        if self._do(lambda: self.chats.restore_turn(turn.id)) and turn.chat == self.chat:
            self.open(turn.chat)

    # Small steps

    def _usual(self) -> tuple[str, dict[str, Any]]:
        """What a new conversation begins with, as the preferences say: its system text and its options."""
        return str(self._preferences.get("system-prompt") or ""), starting_options(self._preferences)

    def _do(self, what: Any) -> bool:
        try:
            what()
        except CraneError as error:
            self.failed.emit(sentence(error))
            return False
        return True

    def _ask(self, text: str, attachments: tuple[Attachment, ...]) -> None:
        from crane_app.pipelines.conversation import title_of

        if self.chat is None:
            title = title_of(text) or (attachments[0].name if attachments else text.strip()[:60])
            self.chat = self.chats.new(title, self._folder(), self.system, self.options)
        parent = self.turns[-1].id if self.turns else None
        made = self.chats.add(self.chat, "user", text, parent, attachments)
        self._append(made)
        try:
            self._answer(made)
        except CraneError:
            with suppress(CraneError):  # a question that cannot be answered stays in the field, and only there
                self.chats.remove_turn(made.id)
            self._cut(made)
            raise

    def _answer(self, question: Turn) -> None:
        turn = self.chats.add(question.chat, "assistant", "", question.id, state="running", model=self._folder())
        self._append(turn)
        self._start(turn)

    def _start(self, turn: Turn, resumed: bool = False) -> None:
        from crane_app.pipelines.conversation import Answer

        if resumed:
            self.chats.update(turn.id, state="running")
            turn = replace(turn, state="running")
        answer = Answer(self.chats, turn, self.model(), self._readiness)
        worker = self._connection.run(answer.steps)
        running = self.running[turn.id] = Running(answer, worker)
        worker.yielded.connect(lambda news: self._came(turn.id, running, news))
        worker.returned.connect(lambda ending: self._over(turn, running, ending))
        worker.failed.connect(lambda error: self._broke(turn, running, error))
        self._replace(turn)
        self.waiting.emit(turn.id, 0)
        self.listed.emit()

    def _came(self, id: int, running: Running, news: Any) -> None:
        from crane_app.pipelines.conversation import Loading

        if running.stopped:
            return
        if isinstance(news, Loading):
            running.percent = news.percent
            self.waiting.emit(id, news.percent)
            return
        if running.percent is not None:
            running.percent = None
            self.waiting.emit(id, None)
        running.text += news.text
        self.said.emit(id, news)

    def _over(self, turn: Turn, running: Running, ending: Ending) -> None:
        if self.running.get(turn.id) is running:
            del self.running[turn.id]
        text = running.answer.text
        facts = {**dict(ending.facts), **({"error": ending.error} if ending.error else {})}
        if ending.unkept:
            self.failed.emit(ending.unkept)
        ended = replace(turn, text=text, state=ending.state, facts=facts)
        self._replace(ended)
        self.ended.emit(ended)

    def _broke(self, turn: Turn, running: Running, error: Exception) -> None:
        """It never began, as when there is no engine: told in its place, and kept there."""
        from crane_app.pipelines.conversation import Ending

        if running.stopped:
            self._over(turn, running, Ending("stopped"))
            return
        said = sentence(error)
        text = running.answer.text
        self._do(lambda: self.chats.update(turn.id, text=text, state="error", facts={"error": said}))
        self._over(turn, running, Ending("error", {}, said))

    def _stop(self, running: Running) -> None:
        """What is on the screen ends at once; the engine hears of it in its own time."""
        if running.stopped:
            return
        running.stopped = True
        running.answer.stop()
        turn = running.answer.turn
        stopped = replace(turn, text=running.answer.text, state="stopped")
        self._replace(stopped)
        self.ended.emit(stopped)

    def _as_it_is(self, turn: Turn) -> Turn:
        """A turn that says it is running, and is not, could not be written to its end."""
        lost = turn.state == "running" and turn.id not in self.running
        return replace(turn, state="interrupted") if lost else turn

    def _append(self, turn: Turn) -> None:
        self.turns.append(turn)
        self.added.emit(turn)

    def _replace(self, turn: Turn) -> None:
        self.turns = [turn if each.id == turn.id else each for each in self.turns]

    def _cut(self, turn: Turn) -> None:
        at = next(n for n, each in enumerate(self.turns) if each.id == turn.id)
        del self.turns[at:]
        self.removed.emit(turn)

    def _reload_from(self, old: Turn, _new: Turn | None) -> None:
        """What follows a turn that was switched or removed is another; what precedes it stays on the screen."""
        path = self.chats.path(old.chat)
        at = next(n for n, each in enumerate(self.turns) if each.id == old.id)
        self._cut(old)
        for turn in path[at:]:
            self._append(turn)

    def model(self) -> Any:
        """Which model answers, as the preferences say."""
        from crane_app.pipelines.conversation import Model

        get = self._preferences.get
        how = get("backend"), get("device") or "auto", get("dtype"), get("quantize"), get("kv-cache-dtype") or "auto"
        return Model(self._folder(), *how)

    def _folder(self) -> str:
        return str(self._preferences.get("model") or "")


def made_ready() -> Iterator[None]:
    """Bring the modules that the first question and the first answer need, before anyone waits for them."""
    from crane_app.media.blocks import Block
    from crane_app.media.markdown import parse
    from crane_app.pipelines import conversation  # noqa: F401

    yield
    parse(Block("prose", "*a*"))

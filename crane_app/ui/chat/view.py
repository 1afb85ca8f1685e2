"""The chat view: the conversations at the left, the one in view in the middle, how it is answered at the right.

Only shows: what is asked and what comes of it is Talk's.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QMimeData, Qt, QTimer
from PySide6.QtGui import QGuiApplication, QKeySequence
from PySide6.QtWidgets import QHBoxLayout, QSplitter, QVBoxLayout, QWidget

from crane_app.ui.chat.cards import Cards
from crane_app.ui.chat.composer import Composer
from crane_app.ui.chat.conversations import ChatList
from crane_app.ui.chat.empty import EmptyChat
from crane_app.ui.chat.export import Export
from crane_app.ui.chat.inspector import Inspector
from crane_app.ui.chat.message import Message, Question
from crane_app.ui.chat.talk import Talk, made_ready
from crane_app.ui.chat.token_count import TokenCount
from crane_app.ui.chat.transcript import Transcript
from crane_app.ui.preferences import DRAWING
from crane_app.ui.tab_order import step
from crane_app.ui.theme import SPACE
from crane_app.ui.undo import UndoBar
from crane_app.ui.view import Commands, View
from crane_app.ui.worker import Worker

if TYPE_CHECKING:
    from crane_app.library.chats import Turn

DRAFT_MS = 400
Keys = QKeySequence.StandardKey


class ChatView(View):
    """Conversations with the chosen model."""

    computes = True

    def __init__(self, connection: Any, chats: Any, preferences: Any, shelf: Any):
        super().__init__()
        self._connection, self._preferences, self._shelf = connection, preferences, shelf
        self._files: dict[int | None, list[Any]] = {}  # that wait to be sent, by their conversation
        self.talk = Talk(connection, chats, preferences)
        self._make_actions()
        self._make_widgets(chats)
        self.export = Export(self, chats)
        self._counter = TokenCount(connection, preferences, self.talk, self.composer)
        self._connect()
        self._show_send_key()
        self._opened()
        self._ready = Worker(made_ready())
        QTimer.singleShot(0, self, self._ready.start)  # beside the first paint it would only slow that down
        if chats.notice:
            QTimer.singleShot(0, lambda: self.said.emit(chats.notice))

    # What the window asks

    def commands(self) -> dict[str, Commands]:
        return {
            "file": [self.new_action, self.composer.attach_action, None, self.export_action, self.delete_action],
            "edit": [self.copy_action, self.again_action, self.edit_action, None, self.find_action],
            "view": [self.list_action, self.inspector_action],
        }

    def offer(self, data: QMimeData) -> str:
        from crane_app.media.folders import SUFFIXES

        paths = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
        texts = paths and not any(path.suffix.lower() in SUFFIXES or path.is_dir() for path in paths)
        return self.tr("Release to attach to your message") if texts else ""

    def take(self, data: QMimeData) -> bool:
        if not self.offer(data):
            return False
        self.composer.attach([Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()])
        self.composer.prompt.setFocus()
        return True

    def receive(self, what: object) -> None:
        """Text from another view goes below what is typed already."""
        typed = self.composer.text().rstrip()
        self.composer.set_text(f"{typed}\n\n{what}" if typed else str(what))
        self.composer.prompt.setFocus()

    def enter(self) -> None:
        self.composer.prompt.setFocus()

    def focusNextPrevChild(self, forward: bool) -> bool:
        return self._step(forward) or super().focusNextPrevChild(forward)

    def _step(self, forward: bool) -> bool:
        """Tab, in the order in which the view is read."""
        messages, below = self.transcript.widgets(), (self.empty, self.undo, self.composer, self.inspector)
        return step(self, (self.list, *messages, self.transcript.jump, *below), forward)

    def leave(self) -> None:
        self._keep_draft()
        self.inspector.tell()
        self.talk.stop_all()

    def stop(self) -> None:
        """End the answer under way."""
        self.talk.stop()

    # What can be done

    def new(self) -> None:
        """Begin another conversation; what was typed here stays here."""
        self._keep_all()
        self.talk.new()
        self.composer.prompt.setFocus()

    def open(self, chat: int) -> None:
        """Show another conversation; one that cannot be had leaves everything as it is."""
        if chat != self.talk.chat:
            self._keep_all()
            if not self.talk.open(chat):
                self.list.set_current(self.talk.chat)
                self.list.refresh()

    def recall(self) -> None:
        """Edit the last question."""
        asked = [turn for turn in self.talk.turns if turn.role == "user"]
        card = self.cards.of.get(asked[-1].id) if asked and not self.talk.busy else None
        if isinstance(card, Question):
            card.begin_edit()

    def again(self) -> None:
        """Answer the last question anew."""
        last = self._last_answer()
        if last is not None:
            self.talk.regenerate(last)

    def copy_last(self) -> None:
        last = self._last_answer()
        if last is not None:
            self._copy(last, "text")

    # How it is built

    def _make_actions(self) -> None:
        act, tr = self.action, self.tr
        self.new_action = act("new_chat", tr("&New chat"), self.new, Keys.New, "new")
        self.find_action = act("find_chat", tr("&Find in the conversations"), self._find, Keys.Find, "search")
        self.copy_action = act("copy_last", tr("Copy the last ans&wer"), self.copy_last, "Ctrl+Shift+C", "copy")
        self.again_action = act("again", tr("Answer a&gain"), self.again, "Ctrl+R", "regenerate")
        self.edit_action = act("edit_last", tr("&Edit the last message"), self.recall, "Ctrl+E", "edit")
        self.export_action = act("export", tr("E&xport the conversation…"), self._export_this, "Ctrl+S", "export")
        self.delete_action = act("delete_chat", tr("&Delete the conversation"), self._delete_this, None, "delete")
        self.list_action = act("chat_list", tr("Con&versations"), self._toggle_list, "Ctrl+Shift+L", "sidebar")
        self.inspector_action = act("inspector", tr("How it is &answered"), self._toggle_inspector, "Ctrl+I", "panel")
        for each in (self.list_action, self.inspector_action):
            each.setCheckable(True)

    def _make_widgets(self, chats: Any) -> None:
        self.list = ChatList(chats, self.new_action)
        self.transcript = Transcript()
        self.transcript.setAccessibleName(self.tr("Conversation"))
        self.transcript.leaving = self._step
        self.cards = Cards(self.talk, self.transcript)
        self.empty = EmptyChat(self._preferences, self._shelf)
        self.composer = Composer(self.action)
        self.inspector = Inspector()
        self.inspector.hide()
        middle = QWidget()
        column = QVBoxLayout(middle)
        column.setContentsMargins(0, 0, 0, SPACE)
        column.setSpacing(SPACE)
        column.addWidget(self.empty, 1)
        column.addWidget(self.transcript, 1)
        self.undo = UndoBar()
        column.addWidget(self.undo, 0, Qt.AlignmentFlag.AlignHCenter)
        around = QHBoxLayout()
        bar = self.transcript.verticalScrollBar().sizeHint().width()
        around.setContentsMargins(2 * SPACE, 0, 2 * SPACE + bar, 0)
        around.addStretch(1)
        around.addWidget(self.composer, 1000)
        around.addStretch(1)
        self.composer.setMaximumWidth(Transcript.WIDEST)
        column.addLayout(around)
        self.splitter = QSplitter()
        self.splitter.setChildrenCollapsible(False)
        self.splitter.setHandleWidth(1)
        for widget, share, least in ((self.list, 0, 180), (middle, 1, 320), (self.inspector, 0, 240)):
            widget.setMinimumWidth(least)
            self.splitter.addWidget(widget)
            self.splitter.setStretchFactor(self.splitter.count() - 1, share)
        self.splitter.setSizes([220, 700, 280])
        whole = QHBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(self.splitter)
        self.list_action.setChecked(True)

    def _connect(self) -> None:
        talk, composer = self.talk, self.composer
        talk.shown.connect(self._opened)
        self.cards.made.connect(self._connect_card)
        talk.added.connect(lambda _turn: self._refresh())
        talk.removed.connect(lambda _turn: self._refresh())
        talk.waiting.connect(lambda _turn, _percent: self._refresh())
        talk.ended.connect(self._ended)
        talk.listed.connect(self.list.refresh)
        talk.failed.connect(self.said)
        self.list.opened.connect(self.open)
        self.list.gone.connect(self._gone)
        self.list.exported.connect(self.export.ask)
        self.list.said.connect(self.said)
        self.export.said.connect(self.said)
        composer.sent.connect(self._send)
        composer.stopped.connect(self.stop)
        composer.recalled.connect(self.recall)
        composer.said.connect(self.said)
        composer.changed.connect(self._typed)
        composer.unused.connect(self._pass_on)
        self.inspector.told.connect(talk.set_system)
        self.inspector.chosen.connect(talk.set_options)
        self.inspector.chosen.connect(lambda _options: self._counter.count())
        self.empty.wanted.connect(self.sent)
        self.empty.suggested.connect(self.receive)
        self._preferences.changed.connect(self._preferred)

    # What is seen

    def _opened(self) -> None:
        """Another conversation, or an empty one."""
        self.undo.end()
        self.composer.clear()
        self.composer.set_text(self.talk.draft())
        self.composer.set_attachments(self._files.pop(self.talk.chat, []))
        self.inspector.show_values(self.talk.system, self.talk.options)
        self.cards.show()
        self._refresh()
        self._counter.count()

    def _connect_card(self, card: Message) -> None:
        if isinstance(card, Question):
            card.return_sends = self.composer.prompt.return_sends
            card.edited.connect(self.talk.edit)
            card.edited.connect(lambda *_: self.composer.prompt.setFocus())
            card.editing.connect(partial(self._editing, card))
        else:
            card.regenerated.connect(self.talk.regenerate)
            card.resumed.connect(self.talk.resume)
            card.spoken_aloud.connect(lambda turn: self.sent.emit("read_aloud", self.cards.of[turn.id].text()))
            card.pointed.connect(self.said)
            card.wanted.connect(lambda name: self.sent.emit(name, None))
        card.copied.connect(self._copy)
        card.switched.connect(self.talk.switch)
        card.removed.connect(self._remove)

    def _editing(self, card: Question, begun: bool) -> None:
        self.transcript.reveal(card) if begun else self.composer.prompt.setFocus()

    def _ended(self, _turn: Turn) -> None:
        self._refresh()
        self._counter.count()

    def _refresh(self) -> None:
        busy, turns = self.talk.busy, self.talk.turns
        self.composer.set_busy(busy)
        self.empty.setVisible(not turns)
        self.transcript.setVisible(bool(turns))
        self.cards.refresh()
        answered = self._last_answer() is not None
        self.copy_action.setEnabled(answered)
        self.again_action.setEnabled(answered and not busy)
        self.edit_action.setEnabled(bool(turns) and not busy)
        for each in (self.export_action, self.delete_action):
            each.setEnabled(self.talk.chat is not None)
        self.list.set_current(self.talk.chat)
        self.titled.emit(self.list.title_of(self.talk.chat))

    # Small steps

    def _send(self, text: str, attachments: tuple) -> None:
        loose = self.talk.chat is None
        self.inspector.tell()
        if self.talk.ask(text, attachments):
            self.undo.end()
            self.composer.clear()
            self._keep_draft()
            if loose:
                self.talk.forget_loose_draft()

    def _typed(self) -> None:
        self._keep_draft()
        self._counter.count()

    def _keep_all(self) -> None:
        """Before another conversation is shown: what belongs to this one."""
        self.inspector.tell()
        self._keep_draft()
        self._files[self.talk.chat] = list(self.composer.attachments)

    def _keep_draft(self) -> None:
        self.talk.keep_draft(self.composer.text())

    def _copy(self, turn: Turn, form: str) -> None:
        from crane_app.library.export import with_attachments
        from crane_app.pipelines.conversation import as_command
        from crane_app.pipelines.thoughts import spoken

        if form == "command":
            before = self.talk.turns[: [each.id for each in self.talk.turns].index(turn.id)]
            model = replace(self.talk.model(), folder=turn.model)
            words = as_command(model, self.talk.system, before, turn, self.talk.options)
        elif turn.role == "user":
            words = with_attachments(turn.text, turn.attachments)
        else:
            words = (self.cards.text_of(turn) if form == "text" else "") or spoken(turn.text)
        QGuiApplication.clipboard().setText(words)
        self.said.emit(self.tr("Copied."))

    def _gone(self, chat: int) -> None:
        """A conversation was deleted: nobody waits for its answers any more."""
        self.talk.stop_all(chat)
        self._files.pop(chat, None)
        if chat == self.talk.chat:
            self.new()

    def _remove(self, turn: Turn) -> None:
        if self.talk.remove(turn):
            self.undo.offer(self.tr("Deleted from here on."), lambda: self.talk.restore(turn))

    def _find(self) -> None:
        self.list.show()
        self.list_action.setChecked(True)
        self.list.search.setFocus()
        self.list.search.selectAll()

    def _toggle_list(self) -> None:
        self.list.setVisible(self.list_action.isChecked())

    def _toggle_inspector(self) -> None:
        self.inspector.setVisible(self.inspector_action.isChecked())

    def _export_this(self) -> None:
        if self.talk.chat is not None:
            self.export.ask(self.talk.chat, "markdown")

    def _delete_this(self) -> None:
        if self.talk.chat is not None:
            self.list.delete(self.talk.chat)

    def _pass_on(self, data: QMimeData) -> None:
        """A picture that was pasted here is for the view that reads pictures."""
        self.sent.emit("pictures", data)

    def _preferred(self, name: str) -> None:
        if name == "send-key":
            self._show_send_key()
        elif name in ("system-prompt", "think", *DRAWING):
            self.talk.follow_preferences()
            self.inspector.show_values(self.talk.system, self.talk.options)
        elif name == "model":
            self._counter.count()
            self.empty.refresh()

    def _show_send_key(self) -> None:
        returns = self._preferences.get("send-key") != "ctrl-enter"
        for each in (self.composer.prompt, *self.cards.of.values()):
            each.return_sends = returns

    def _last_answer(self) -> Turn | None:
        return next((turn for turn in reversed(self.talk.turns) if turn.role == "assistant"), None)

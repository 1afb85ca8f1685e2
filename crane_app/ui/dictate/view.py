"""Speak, and read what you said: hold the button or the key; or open a sound file and have it written down.

Only shows: listening, writing and everything on disk happen on workers' threads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData, Qt
from PySide6.QtGui import QGuiApplication, QKeySequence
from PySide6.QtWidgets import QSplitter, QVBoxLayout

from crane_app.library.takes import Takes
from crane_app.ui.dictate.column import Column
from crane_app.ui.dictate.hold import Hold, HoldKey
from crane_app.ui.dictate.listening import Listening
from crane_app.ui.dictate.said import SaidPane, SaidSide
from crane_app.ui.dictate.saving import Saving, Shown
from crane_app.ui.dictate.speech_models import SpeechModels, SpeechOffer
from crane_app.ui.dictate.stage import MicrophoneChoice, TalkStage
from crane_app.ui.dictate.takes import Player, TakesPane
from crane_app.ui.dictate.transcribing import Transcribing, ask_for_sound, sounds
from crane_app.ui.dictate.warm_microphone import WarmMicrophone
from crane_app.ui.models.shelf import Shelf
from crane_app.ui.parts import Notice, button
from crane_app.ui.theme import SPACE, unit
from crane_app.ui.undo import UndoBar
from crane_app.ui.view import Commands, View

KEY = Qt.Key.Key_F9  # held to speak, wherever the focus is in the window


class DictateView(View):
    """takes, hear, look and play stand in for the disk, the microphone, the list of devices and the loudspeaker."""

    def __init__(
        self,
        connection: Any,
        preferences: Any,
        takes: Any = None,
        hear: Callable[[str], Any] | None = None,
        look: Callable[[], list[Any]] | None = None,
        play: Player | None = None,
        shelf: Any = None,
    ):
        super().__init__()
        self._connection, self._preferences = connection, preferences
        self.takes = takes or Takes()
        self.models = SpeechModels(shelf or Shelf(preferences), preferences)
        self._microphone = WarmMicrophone(hear)
        self._listening: Listening | None = None  # the take that is shown while it is made
        self._behind: set[Listening] = set()  # those that are still written while another is spoken
        self._transcribing: Transcribing | None = None
        self._seconds = 0
        self._percent: int | None = None  # of what is written
        self._loading: int | None = None  # percent of the speech model
        self._remedy: Callable[[], None] = lambda: None
        self._problem = ""  # why there is no microphone
        self._shown = Shown()
        self.hold = Hold()
        self._key = HoldKey(self.hold, KEY)
        self.saving = Saving(self)
        self._make_actions()
        self._make_widgets(look, play)
        self._connect()
        self._sweep()
        self._refresh()

    # What can be done

    def open_file(self) -> None:
        ask_for_sound(self, self.saving.folder, self.write_file)

    def write_file(self, path: Path) -> None:
        """Write down what is said in a sound file, unless something is being said or written."""
        self.saving.folder = str(path.parent)
        self._transcribe(Transcribing(path))

    def write_again(self, take: Any, model: Any = None) -> None:
        """Write a take once more; model: library.models.OnDisk, or None for the chosen one."""
        self._transcribe(Transcribing(take.sound, take), model)

    def cancel(self) -> None:
        """Discard what is being said, or stop what is being written."""
        if self._listening is not None:
            self._listening.drop()
            self.hold.forget()
        elif self._transcribing is not None:
            self._transcribing.stop()
        self._refresh()

    def copy(self) -> None:
        """The selection, or else all of the text."""
        words = self.text.selected() or self.text.words()
        if words:
            QGuiApplication.clipboard().setText(words)
            self.said.emit(self.tr("Copied the text."))

    def send(self, view: str) -> None:
        """Hand the selection, or else all of the text, to another view."""
        words = self.text.selected() or self.text.words()
        if words:
            self.sent.emit(view, words.strip())

    def offer(self, data: QMimeData) -> str:
        return self.tr("Release to write down what is said") if sounds(data) else ""

    def take(self, data: QMimeData) -> bool:
        found = sounds(data)
        if found:
            self.write_file(found[0])
        if len(found) > 1:
            self.said.emit(self.tr("One file at a time: the first of them is written."))
        return bool(found)

    def receive(self, what: object) -> None:
        """A sound file, by its path or as it was dropped elsewhere."""
        if isinstance(what, QMimeData):
            self.take(what)
        elif isinstance(what, str | Path):
            self.write_file(Path(what))

    def commands(self) -> dict[str, Commands]:
        return {
            "file": [self.talk_action, self.cancel_action, None, self.open_action, self.save_action],
            "edit": [self.copy_action, self.chat_action, self.aloud_action],
        }

    def enter(self) -> None:
        self.stage.choice.rescan()
        self.models.rescan()
        self.list.rescan()
        self.stage.talk.setFocus()

    def leave(self) -> None:
        for listening in {self._listening, *self._behind} - {None}:
            listening.leave()
        if self._transcribing is not None:
            self._transcribing.stop()
        self.list.stop()
        self._microphone.close()

    # A take

    def _begin(self) -> None:
        if self._transcribing is not None:
            self.hold.forget()
            return
        if self._listening is not None:
            self._behind.add(self._listening)
        listening = self._listening = Listening()
        listening.came.connect(lambda event: self._came(listening, event))
        listening.loading.connect(self._model_comes)
        listening.over.connect(lambda take: self._over(listening, take))
        self._seconds, self._percent, self._loading = 0, None, None
        self.list.stop()
        self.undo.end()
        self.notice.tell("")
        self.text.show_segments()
        self._shown = Shown()
        why = self.tr("There is no speech model yet, so this is only recorded. It can be written later.")
        self.models.promise(listening, self._connection, why)
        listening.start(self._microphone.get(self._preferences.get("microphone")), self.takes)
        self.stage.listen(True)
        self._refresh()

    def _end(self) -> None:
        if self._listening is not None:
            self._listening.stop()
        self.stage.listen(False)
        self._refresh()

    def _came(self, listening: Listening, event: Any) -> None:
        if listening is not self._listening or listening.dropped:
            return
        from crane_app.pipelines.dictation import Heard, Level, Note

        if isinstance(event, Level):
            self.stage.hear(event.decibels)
            if int(event.seconds) != self._seconds:
                self._seconds = int(event.seconds)
                self._refresh_stage()
        elif isinstance(event, Heard):
            self.text.add(event) if event.final else self.text.guess(event.text, event.settled)
            self._refresh()
        elif isinstance(event, Note) and self.models.missing():
            self.said.emit(event.sentence)  # what to do about it is offered already
        elif isinstance(event, Note):
            self._tell(event.sentence, self._retry_microphone)

    def _over(self, listening: Listening, take: Any) -> None:
        self._behind.discard(listening)
        if self._listening in (None, listening) or self._listening.stopped:
            self._microphone.rest()
        self.list.rescan(take.id if take is not None else "")
        if listening is not self._listening:
            return
        self._listening = None
        self.hold.forget()
        self.stage.listen(False)
        if listening.dropped:
            self.text.show_segments()
            if take is not None:
                self.undo.offer(self.tr("The recording is discarded."), lambda: self._bring_back(take))
        elif take is not None:
            self._show_take(take)
            if take.state == "unwritten":
                self._remedy = lambda: self.write_again(take)
        self._refresh()

    def _bring_back(self, take: Any) -> None:
        """Undo a discard: what was said is written after all."""
        if self.models.chosen() is not None:
            self.write_again(take)
        else:
            self.list.keep(take, state="unwritten")

    # A file, or a take once more

    def _transcribe(self, work: Transcribing, entry: Any = None) -> None:
        if self._listening is not None or self._transcribing is not None:
            self.said.emit(self.tr("Something is being written. Wait, or stop it with Esc."))
            return
        model = self.models.chosen(entry)
        if model is None:
            self._tell(self.tr("There is no speech model yet. Get one, and try again."), lambda: self._transcribe(work))
            return
        self._transcribing = work
        self._percent, self._loading = -1, None
        self.notice.tell("")
        self.undo.end()
        self.text.show_segments(times=work.take is None)
        self._shown = Shown(work.path.stem)
        work.segment.connect(self._segment_came)
        work.loading.connect(self._model_comes)
        work.progress.connect(self._progress_came)
        again = Transcribing(work.path, work.take)
        work.failed.connect(lambda why: self._tell(why, lambda: self._transcribe(again, entry)))
        work.over.connect(lambda transcript: self._written(work, transcript))
        work.start(self._connection, model)
        self.titled.emit("" if work.take else work.path.name)
        self._refresh()

    def _segment_came(self, segment: Any) -> None:
        self._loading = None
        self.text.add(segment)
        self._refresh()

    def _progress_came(self, percent: int) -> None:
        self._percent, self._loading = percent, None
        self._refresh_stage()

    def _model_comes(self, percent: int) -> None:
        self._loading = percent if percent < 100 else None
        self._refresh_stage()

    def _written(self, work: Transcribing, transcript: Any) -> None:
        self._transcribing = None
        self._percent = self._loading = None
        if transcript is not None:
            self._shown = Shown(work.path.stem, transcript.model, transcript.seconds)
        if transcript is not None and work.take is not None:
            self.list.rewrite(work.take, transcript)
        elif transcript is not None and not transcript.text:
            self.said.emit(self.tr("No speech was found."))
        self._refresh()

    def _show_take(self, take: Any) -> None:
        """Show a take of the list, unless something is under way."""
        if self._listening is not None or self._transcribing is not None:
            return
        self.text.show_segments(take.segments if take is not None else ())
        self._shown = Shown(take.id, take.model, take.seconds) if take is not None else Shown()
        self._refresh()

    def showEvent(self, event) -> None:
        super().showEvent(event)
        self._key.watch(self.window())

    def hideEvent(self, event) -> None:
        if not event.spontaneous():  # another view is shown; a window that is only iconified goes on listening
            self._key.watch(None)
            self.hold.end()
        super().hideEvent(event)

    # How it is

    def _tell(self, sentence: str, remedy: Callable[[], None]) -> None:
        self.notice.tell(sentence)
        self._remedy = remedy
        self._refresh_stage()

    def _retry_microphone(self) -> None:
        self.notice.tell("")
        self.stage.choice.rescan()
        self._refresh()

    def _refresh(self) -> None:
        any_text = bool(self.text.words())
        for action in (self.copy_action, self.chat_action, self.aloud_action, self.save_action):
            action.setEnabled(any_text)
        busy = self._listening is not None or self._transcribing is not None
        self.cancel_action.setEnabled(busy)
        self.open_action.setEnabled(not busy)
        for talk in (self.stage.talk, self.talk_action):
            talk.setEnabled(self._transcribing is None)
        self.list.setEnabled(not busy)
        self.offer_model.setVisible(self.models.missing() and not busy)
        self._refresh_stage()

    def _refresh_stage(self) -> None:
        speaking = self._listening is not None and not self._listening.stopped
        if speaking:
            state = "latched" if self.hold.latched else "held"
        elif self._listening is not None or self._transcribing is not None:
            state = "writing"
        else:
            state = "problem" if self._problem else "ready"
        self.stage.tell(state, self._seconds, self._percent, self._loading)
        self.stage.model.setText(self.models.name())

    def _microphone_problem(self, why: str) -> None:
        if self._problem and not why:
            self.notice.tell("")
        self._problem = why
        if why:
            self._tell(why, self._retry_microphone)
        self._refresh_stage()

    def _sweep(self) -> None:
        get = self._preferences.get
        self.list.sweep(get("takes-days"), get("takes-count"), get("takes-size"))

    # What it is made of

    def _make_actions(self) -> None:
        tr, keys = self.tr, QKeySequence.StandardKey
        self.talk_action = self.action("start_or_finish", tr("Speak, or finish"), self.hold.toggle, "Ctrl+D", "dictate")
        self.open_action = self.action("open_sound", tr("Open a sound file…"), self.open_file, keys.Open, "open")
        self.save_action = self.action("save_text", tr("Save the text…"), self._save, keys.Save, "save")
        self.copy_action = self.action("copy_text", tr("Copy the text"), self.copy, "Ctrl+Shift+C", "copy")
        self.chat_action = self.action("send_to_chat", tr("Send to chat"), lambda: self.send("chat"), None, "chat")
        self.aloud_action = self.action(
            "read_aloud", tr("Read aloud"), lambda: self.send("read_aloud"), None, "read_aloud"
        )
        self.cancel_action = self.action("cancel", tr("Discard, or stop writing"), self.cancel, "Esc", "stop")

    def _make_widgets(self, look: Any, play: Player | None) -> None:
        self.notice = Notice(self.tr("Try again"))
        self.offer_model = SpeechOffer(self._preferences)
        self.stage = TalkStage(MicrophoneChoice(look), QKeySequence(KEY))
        self.stage.choice.choose(self._preferences.get("microphone"))
        self.text = SaidPane()
        self.text.setPlaceholderText(self.tr("What you say appears here."))
        self.list = TakesPane(self.takes, self.models.entries, play)
        self.undo = UndoBar()
        icons, words = (self.open_action, self.copy_action, self.save_action), (self.chat_action, self.aloud_action)
        buttons = [button(each, look="flat small", shows="icon") for each in icons]
        left = SaidSide(self.text, [*buttons, *(button(each, look="flat small") for each in words)])
        self.splitter = QSplitter()
        self.splitter.setChildrenCollapsible(False)
        self.splitter.setHandleWidth(2 * SPACE)
        self.splitter.setMinimumHeight(12 * unit())
        self.splitter.addWidget(left)
        self.splitter.addWidget(self.list)
        self.splitter.setSizes([680, 320])
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(Column((self.stage, self.offer_model, self.notice, self.splitter), grows=self.splitter), 1)
        below = QVBoxLayout()
        below.setContentsMargins(2 * SPACE, 0, 2 * SPACE, SPACE)
        below.addWidget(self.list.question)
        below.addWidget(self.undo)
        column.addLayout(below)

    def _connect(self) -> None:
        self.hold.began.connect(self._begin)
        self.hold.ended.connect(self._end)
        self.hold.latch.connect(self._refresh_stage)
        self.stage.talk.pressed.connect(self.hold.down)
        self.stage.talk.released.connect(self.hold.up)
        self.stage.choice.wanted.connect(lambda name: self._preferences.set("microphone", name))
        self.stage.choice.problem.connect(self._microphone_problem)
        self.notice.retried.connect(lambda: self._remedy())
        self.models.changed.connect(self._refresh)
        self.list.picked.connect(self._show_take)
        self.list.again.connect(self.write_again)
        self.list.said.connect(self.said)
        self.saving.said.connect(self.said)
        self._preferences.changed.connect(lambda name: self._sweep() if name.startswith("takes-") else None)

    def _save(self) -> None:
        self.saving.ask(self._shown, self.text.segments, self.text.times)

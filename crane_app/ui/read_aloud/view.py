"""Any text, read aloud: written, pasted, dropped, opened or sent here; the sentence that is heard is marked.

Only shows: what is heard comes from ui/read_aloud/narrator.py.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData, Qt, QTimer
from PySide6.QtGui import QGuiApplication, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QFileDialog, QGridLayout, QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from crane_app.ui.icons import icon
from crane_app.ui.parts import ElidedLabel, Notice, button, plain_tip
from crane_app.ui.read_aloud.bar import Bar, Lines, Tick, scrolled
from crane_app.ui.read_aloud.marked_text import MarkedText
from crane_app.ui.read_aloud.narrator import Narrator
from crane_app.ui.read_aloud.start import Start
from crane_app.ui.read_aloud.words import status
from crane_app.ui.theme import SPACE
from crane_app.ui.view import Commands, View
from crane_app.ui.worker import Worker, sentence

KINDS = (".txt", ".text", ".md", ".markdown", ".rst")
MARKDOWN = (".md", ".markdown")
SOUNDS = (".mp3", ".wav", ".flac", ".ogg")
SOON_MS = 200  # without a key pressed, the text is cut into sentences
Keys = QKeySequence.StandardKey


class ReadAloudView(View):
    """find_voice, speaker: stand-ins for the system's voice and the loudspeaker."""

    def __init__(self, preferences: Any, find_voice: Callable[[], Any] | None = None, speaker: Any = None):
        super().__init__()
        self._preferences = preferences
        self._dialog: QFileDialog | None = None
        self._opening: Worker | None = None
        self._retries: Callable[[], None] = self.toggle
        self._target = Path()  # the sound file that was saved last, or not
        self.folder = ""  # where the file dialogs start
        self.narrator = Narrator(preferences, find_voice, speaker)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(SOON_MS)
        self._soon.timeout.connect(self._prepare)
        self._make_actions()
        self._make_widgets()
        self._connect()
        self._controls = {"voice": self.bar.voice, "speech-speed": self.bar.speed, "speech-volume": self.bar.volume}
        for name in self._controls:
            self._preference_changed(name)
        self._refresh()

    # What can be done

    def show_text(self, text: str, markdown: bool | None = None) -> None:
        """Another text; markdown: whether it is, None to guess."""
        from crane_app.media.spoken_text import looks_like_markdown

        self.notice.tell("")
        self.markdown.setChecked(looks_like_markdown(text) if markdown is None else markdown)
        self.narrator.stop()
        self.text.replace(text)
        self.titled.emit("")
        self._prepare()

    def receive(self, what: object) -> None:
        """A text, which is read at once, or what was dropped elsewhere."""
        if isinstance(what, QMimeData):
            self.take(what)
        elif str(what).strip():
            self.show_text(str(what))
            self.narrator.play()

    def offer(self, data: QMimeData) -> str:
        text = data.hasText() and not data.hasUrls() and data.text().strip()
        return self.tr("Release to hear it") if text or _text_file(data) else ""

    def take(self, data: QMimeData) -> bool:
        if (path := _text_file(data)) is not None:
            self.open(path)
        elif self.offer(data):
            self.show_text(data.text())
        else:
            return False
        return True

    def open(self, path: Path) -> None:
        """Show a text file."""
        self.folder = str(path.parent)
        if self._opening is not None:
            self._opening.cancel()
        self._opening = Worker(_opened(path), after=self._opening)
        self._opening.returned.connect(lambda text: self._opened(path, text))
        self._opening.failed.connect(lambda error: self._fail(sentence(error), lambda: self.open(path)))
        self._opening.start()

    def toggle(self) -> None:
        """Play, or pause."""
        self.notice.tell("")
        if self.narrator.speaking:
            self.narrator.pause()
        else:
            self._prepare_now()
            self.narrator.play()

    def stop(self) -> None:
        self.narrator.stop()

    def skip(self, sentences: int) -> None:
        self.narrator.go_to(self.narrator.index + sentences)

    def read_clipboard(self) -> None:
        text = QGuiApplication.clipboard().text()
        if text.strip():
            self.show_text(text)
            self.narrator.play()
        else:
            self.said.emit(self.tr("There is no text on the clipboard."))

    def choose_file(self) -> None:
        kinds = self.tr("Texts ({kinds})").format(kinds=" ".join(f"*{kind}" for kind in KINDS))
        dialog = self._ask(self.tr("Open a text"), [kinds, self.tr("All files (*)")])
        if dialog is not None:
            dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
            dialog.fileSelected.connect(lambda name: self.open(Path(name)))
            dialog.open()

    def choose_sound(self) -> None:
        names = {kind: self.tr("{kind} sound (*{end})").format(kind=kind[1:].upper(), end=kind) for kind in SOUNDS}
        dialog = self._ask(self.tr("Save the speech"), list(names.values()))
        if dialog is not None:
            dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
            dialog.setDefaultSuffix(SOUNDS[0])
            ends = {words: kind for kind, words in names.items()}
            dialog.filterSelected.connect(lambda words: dialog.setDefaultSuffix(ends[words]))
            dialog.fileSelected.connect(lambda name: self.save(Path(name)))
            dialog.open()

    def save(self, path: Path) -> None:
        """Write all of it to a sound file, at the speed chosen."""
        self.folder = str(path.parent)
        self._target = path
        self.notice.tell("")
        self.narrator.save(path)

    def commands(self) -> dict[str, Commands]:
        return {
            "file": [self.open_action, self.save_action],
            "edit": [self.clipboard_action],
            "view": [self.play_action, self.previous_action, self.next_action, self.stop_action],
        }

    def enter(self) -> None:
        self.narrator.list_voices()
        self.bar.play_button.setFocus() if self.play_action.isEnabled() else self.text.setFocus()

    def leave(self) -> None:
        self._soon.stop()
        self.narrator.leave()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Space comes here from everything that does not use it itself, as the text and a button do."""
        if event.key() == Qt.Key.Key_Space and not event.modifiers() and self.play_action.isEnabled():
            self.toggle()
        else:
            super().keyPressEvent(event)

    # How it is built

    def _make_actions(self) -> None:
        act, tr = self.action, self.tr
        self.open_action = act("open", tr("&Open…"), self.choose_file, Keys.Open, "open")
        self.clipboard_action = act(
            "clipboard", tr("Read the &clipboard"), self.read_clipboard, "Ctrl+Shift+V", "paste"
        )
        self.save_action = act("save", tr("&Save as sound…"), self.choose_sound, Keys.Save, "save")
        self.previous_action = act("previous", tr("&Previous sentence"), lambda: self.skip(-1), "Alt+Left", "previous")
        self.play_action = act("play", tr("P&lay"), self.toggle, "Ctrl+Space", "play", "on_accent")
        self.next_action = act("next", tr("&Next sentence"), lambda: self.skip(1), "Alt+Right", "next")
        self.stop_action = act("stop", tr("S&top"), self.stop, Qt.Key.Key_Escape, "stop")
        self.cancel_action = act("cancel_saving", tr("Cancel"), lambda: self.narrator.cancel_saving())

    def _make_widgets(self) -> None:
        self.text = MarkedText()
        self.text.setAccessibleName(self.tr("Text to read aloud"))
        self.text.setProperty("look", "reading")
        self.start = Start(self.clipboard_action, self.open_action, self.text)
        opening = button(self.open_action)
        self.markdown = Tick(self.tr("Markdown"), opening)
        self.markdown.setToolTip(self.tr("Its signs are not spoken, and code is left out."))
        self.notice = Notice(self.tr("Try again"))
        self.bar = Bar(self.previous_action, self.play_action, self.next_action, self.stop_action)
        self.head = Lines(SPACE, opening, button(self.clipboard_action), button(self.save_action), self.markdown)
        ground = QGridLayout()
        ground.addWidget(self.text, 0, 0)
        ground.addWidget(self.start, 0, 0)
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(*[2 * SPACE] * 4)
        column.setSpacing(SPACE)
        column.addWidget(self.head)
        column.addLayout(ground, 1)
        column.addWidget(self.notice)
        column.addWidget(self._make_saving())
        column.addWidget(self.bar)
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(scrolled(page, self.tr("Read aloud")))

    def _make_saving(self) -> QWidget:
        self.saving = QWidget()
        self.saving_words = ElidedLabel(self.tr("Saving"))
        self.saving_bar = QProgressBar()
        self.saving_bar.setTextVisible(False)
        self.saving_bar.setAccessibleName(self.tr("Sentences saved"))
        row = QHBoxLayout(self.saving)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE)
        row.addWidget(self.saving_words, 1)
        row.addWidget(self.saving_bar, 1)
        row.addWidget(button(self.cancel_action, look="small"))
        return self.saving

    def _connect(self) -> None:
        narrator, bar = self.narrator, self.bar
        self.text.textChanged.connect(self._text_changed)
        self.text.clicked.connect(self._clicked)
        self.markdown.toggled.connect(lambda _on: self._outdated())
        narrator.changed.connect(self._refresh)
        narrator.moved.connect(self._show_place)
        narrator.ended.connect(self._show_end)
        narrator.failed.connect(lambda words: self._fail(words, self.toggle))
        narrator.not_listed.connect(lambda words: self._fail(words, narrator.list_voices))
        narrator.not_saved.connect(lambda words: self._fail(words, lambda: self.save(self._target)))
        narrator.saved.connect(lambda name: self.said.emit(self.tr("Saved as {name}.").format(name=name)))
        narrator.voices_came.connect(lambda voices: bar.voice.offer(voices, self._preferences.get("voice")))
        bar.voice.chosen.connect(lambda voice: self._preferences.set("voice", voice))
        bar.speed.moved.connect(lambda step: self._preferences.set("speech-speed", step / 20))
        bar.volume.moved.connect(lambda step: self._preferences.set("speech-volume", 5 * step))
        self._preferences.changed.connect(self._preference_changed)
        self.notice.retried.connect(self._retry)

    # What happens

    def _text_changed(self) -> None:
        """A pause: the sentence that was heard is kept, wherever the change moves it."""
        self._outdated()

    def _outdated(self) -> None:
        if self.narrator.speaking:
            self.said.emit(self.tr("Paused, since the text changes."))
        self.narrator.outdate()
        self.text.unmark()
        self._soon.start()

    def _prepare_now(self) -> None:
        if not self.narrator.fresh and self._soon.isActive():
            self._prepare()

    def _prepare(self) -> None:
        self._soon.stop()
        text = self.text.text()
        code = self.tr("Code block.") if self._preferences.get("announce-code") else ""
        self.narrator.prepare(text, self.markdown.isChecked(), code, self.text.place)

    def _clicked(self, place: int) -> None:
        if self.narrator.fresh and self.narrator.sentences:
            self.narrator.go_to(self.narrator.at(place))

    def _preference_changed(self, name: str) -> None:
        value = self._preferences.get(name)
        if name == "voice":
            self.bar.voice.choose(value)
        elif name == "speech-speed":
            self.bar.speed.show_value(round(20 * value))
        elif name == "speech-volume":
            self.bar.volume.show_value(round(value / 5))
        elif name == "announce-code":
            self._outdated()
        if (control := self._controls.get(name)) is not None:
            overruled = self._preferences.overruled(name)
            control.setEnabled(not overruled)
            control.setToolTip(plain_tip(overruled))
        self.narrator.follow_preferences()
        if name in ("voice", "speaker"):
            self.narrator.begin_again()
        self._refresh()

    def _opened(self, path: Path, text: str) -> None:
        self.show_text(text, path.suffix.lower() in MARKDOWN)
        self.titled.emit(path.name)

    def _fail(self, words: str, retry: Callable[[], None]) -> None:
        self._retries = retry
        self.notice.tell(words)

    def _retry(self) -> None:
        self.notice.tell("")
        self._retries()

    # What is seen

    def _show_place(self) -> None:
        """Mark the sentence that is heard or comes next; none before the first."""
        narrator = self.narrator
        if not (narrator.fresh and narrator.sentences):
            self.text.unmark()
            return
        now = narrator.sentences[narrator.index]
        self.text.place = now.start if narrator.index else 0
        if narrator.index or narrator.speaking:
            self.text.mark(now.start, now.end)
        else:
            self.text.unmark()

    def _show_end(self) -> None:
        self._show_place()
        self.said.emit(self.tr("Read to the end."))

    def _refresh(self) -> None:
        narrator, empty = self.narrator, self.text.document().isEmpty()
        count = len(narrator.sentences) if narrator.fresh else 0
        self.start.setVisible(empty)
        self.head.setVisible(not empty)
        self._show_playing(narrator.speaking)
        self.play_action.setEnabled(not empty and (count > 0 or not narrator.fresh))
        self.stop_action.setEnabled(narrator.speaking or narrator.index > 0)
        self.previous_action.setEnabled(count > 0 and narrator.index > 0)
        self.next_action.setEnabled(narrator.index < count - 1)
        self.save_action.setEnabled(count > 0 and narrator.saving is None)
        self.bar.progress.setRange(0, max(1, narrator.before[-1]))
        self.bar.progress.setValue(narrator.heard())
        self.bar.state.setText("" if empty else status(narrator, self._preferences.get("speech-speed")))
        self.saving.setVisible(narrator.saving is not None)
        if narrator.saving is not None:
            done, every = narrator.saving
            self.saving_bar.setRange(0, every)
            self.saving_bar.setValue(done)
            words = self.tr("Saving {name}: {done} of {every} sentences")
            self.saving_words.setText(words.format(name=self._target.name, done=done, every=every))

    def _show_playing(self, speaking: bool) -> None:
        words = self.tr("Pa&use") if speaking else self.tr("P&lay")
        name = words.replace("&", "")
        if self.play_action.iconText() == name:
            return
        self.play_action.setText(words)
        self.play_action.setIconText(name)
        keys = self.play_action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
        self.play_action.setToolTip(plain_tip(f"{name} ({keys})"))
        self.play_action.setIcon(icon("pause" if speaking else "play", "on_accent"))
        self.bar.play_button.setAccessibleName(name)

    # Small steps

    def _ask(self, title: str, filters: list[str]) -> QFileDialog | None:
        """A dialog for files, unless one is open."""
        if self._dialog is not None:
            return None
        self._dialog = QFileDialog(self, title, self.folder)
        self._dialog.setNameFilters(filters)
        self._dialog.finished.connect(self._forget_dialog)
        return self._dialog

    def _forget_dialog(self) -> None:
        self._dialog.deleteLater()
        self._dialog = None


def _text_file(data: QMimeData) -> Path | None:
    """The first text file among what was dropped."""
    paths = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
    return next((path for path in paths if path.suffix.lower() in KINDS), None)


def _opened(path: Path) -> Any:
    from crane_app.media.text_files import read_text

    yield
    return read_text(path)

"""The dictation view, with a microphone, an engine and a disk of its own."""

import json
import queue
import threading
import wave
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from fakes import FakeConnection, FakeEngine, FakePreferences, FakeShelf, on_disk
from PySide6.QtCore import QEvent, QMimeData, Qt, QUrl
from PySide6.QtWidgets import QApplication, QLabel, QToolButton

from crane_app.demo import FOLDER
from crane_app.errors import CraneError, DeviceLost, Unsupported
from crane_app.library.takes import Said, Takes
from crane_app.platform.microphone import MicrophoneLost
from crane_app.ui import theme
from crane_app.ui.dictate.view import KEY, DictateView
from crane_app.ui.models.downloads import Downloads
from crane_app.ui.worker import stop_all

SPEECH = FOLDER / "speech.ogg"
RATE, BLOCK = 16_000, 512


class Ears(FakeEngine):
    """An engine that hears `text`, the same in every utterance."""

    text = "The cranes come."

    def _result(self, job):
        if job.kind == "transcribe":
            return {"text": self.text, "tokens": [1, 2]}
        return super()._result(job)


class FakeMicrophone:
    """Hears what a test says; `fault` is raised after that."""

    def __init__(self, name):
        self.name = name
        self.closed = False
        self.fault = None
        self._said = queue.SimpleQueue()

    def say(self, samples):
        for first in range(0, len(samples), BLOCK):
            self._said.put(samples[first : first + BLOCK])

    def blocks(self, until):
        while not until.is_set() or not self._said.empty():
            try:
                yield self._said.get(timeout=0.01)
            except queue.Empty:
                if self.fault is not None:
                    raise self.fault from None

    def close(self):
        self.closed = True


class Player:
    """Plays until it is closed."""

    def __init__(self):
        self.played, self.over = [], threading.Event()

    def __call__(self, path):
        self.played.append(path)
        try:
            while True:
                yield 0.0
                self.over.wait(0.005)
        finally:
            self.over.set()


@pytest.fixture(scope="module")
def sentence():
    """The first sentence of the demo, and a pause."""
    return soundfile.read(SPEECH, dtype="float32")[0][: 6 * RATE]


@pytest.fixture
def world(tmp_path):
    """Everything around the view."""
    world = SimpleNamespace(
        connection=FakeConnection(Ears()),
        preferences=FakePreferences(),
        takes=Takes(tmp_path / "takes"),
        shelf=FakeShelf(on_disk("UsefulSensors/moonshine-tiny", job="dictate"), on_disk("Qwen3")),
        microphones=[],
        devices=[SimpleNamespace(name="Studio", default=True), SimpleNamespace(name="Headset", default=False)],
        looks=0,
        player=Player(),
    )
    yield world
    world.player.over.set()
    world.connection.close()
    assert stop_all(10)


@pytest.fixture
def view(qtbot, world):
    def hear(name):
        world.microphones.append(FakeMicrophone(name))
        return world.microphones[-1]

    def look():
        world.looks += 1
        if isinstance(world.devices, Exception):
            raise world.devices
        return world.devices

    made = DictateView(
        world.connection, world.preferences, world.takes, hear, look, lambda path: world.player(path), world.shelf
    )
    qtbot.addWidget(made)
    made.resize(640, 520)
    made.show()
    made.enter()
    made.told = []
    made.said.connect(made.told.append)
    made.handed = []
    made.sent.connect(lambda *what: made.handed.append(what))
    qtbot.waitUntil(lambda: made.stage.choice.count() == 3 or bool(made.notice.words()))
    return made


def dictate(qtbot, view, world, samples):
    """A whole take, from the first press to the last word."""
    view.hold.down()
    world.microphones[-1].say(samples)
    view.hold.end()
    view.hold.up()
    qtbot.waitUntil(lambda: view._listening is None, timeout=20_000)
    qtbot.waitUntil(lambda: bool(view.list.rows.takes), timeout=20_000)


def kept(world, text="Good morning.", state="done", seconds=1.0, **changed):
    recording = world.takes.record()
    recording.write(np.full(round(seconds * RATE), 0.1, np.float32))
    said = [Said(0.0, seconds, text)] if text else []
    return world.takes.update(recording.finish(state, text, said, "tiny"), **changed)


def choose(qtbot, view, row=0):
    qtbot.waitUntil(lambda: view.list.rows.rowCount() > row)
    view.list.list.setCurrentIndex(view.list.rows.index(row))


# A take


def test_what_is_said_is_written_and_kept(qtbot, view, world, sentence):
    # GIVEN a view with a speech model
    assert view.stage.title.text() == "Ready"
    # WHEN a sentence is said
    dictate(qtbot, view, world, sentence)
    # THEN its text is there, and the take in the list
    assert view.text.toPlainText() == "The cranes come."
    [take] = world.takes.all()
    assert (take.state, take.text, take.model) == ("done", "The cranes come.", "moonshine-tiny")
    assert view.list.chosen().id == take.id
    assert world.connection.engine.loads == ["/models/UsefulSensors/moonshine-tiny"]
    assert view.stage.title.text() == "Ready"
    with wave.open(str(take.sound)) as file:
        assert file.getnframes() == len(sentence)


def test_the_computer_stays_awake_while_somebody_dictates(qtbot, view, world, sentence, awake):
    # WHEN somebody begins to speak THEN the computer may not fall asleep
    view.hold.down()
    qtbot.waitUntil(lambda: awake.get("somebody is dictating") is True)
    # WHEN the take is over THEN it may
    world.microphones[-1].say(sentence)
    view.hold.end()
    view.hold.up()
    qtbot.waitUntil(lambda: view._listening is None, timeout=20_000)
    assert awake["somebody is dictating"] is False


def test_while_somebody_speaks_the_state_the_time_and_the_loudness_are_seen(qtbot, view, world):
    # WHEN somebody speaks loudly for two seconds
    view.hold.down()
    world.microphones[-1].say(np.full(2 * RATE, 0.5, np.float32))
    # THEN all of it is seen
    qtbot.waitUntil(lambda: view.stage.title.text() == "Listening 0:02", timeout=10_000)
    assert view.stage.level.share() == pytest.approx(0.9, abs=0.05)
    assert view.stage.talk.accessibleName() == "Finish speaking"
    assert view.cancel_action.isEnabled()
    assert not view.list.isEnabled()
    view.leave()


def test_words_that_may_change_are_muted_and_give_way_to_certain_ones(qtbot, view, world):
    from crane_app.pipelines.dictation import Heard

    view.hold.down()
    listening = view._listening
    view._came(listening, Heard("One two", False, 0, 1, 3))
    assert view.text.toPlainText() == "One two"
    assert view.text.words() == ""
    view._came(listening, Heard("One too many", False, 0, 1, 7))
    assert view.text.toPlainText() == "One too many"
    view._came(listening, Heard("One, two, many.", True, 0, 1, 15))
    view._came(listening, Heard("And", False, 2, 3, 0))
    assert view.text.toPlainText() == "One, two, many. And"
    assert view.text.words() == "One, two, many."
    block = view.text.document().begin()
    formats = [(each.fragment().text(), each.fragment().charFormat()) for each in block]
    assert [text for text, _ in formats] == ["One, two, many. ", "And"]
    assert formats[1][1].foreground().color().name() == theme.colours().muted
    view.leave()


def test_a_window_that_is_left_while_the_key_is_held_ends_the_take(qtbot, view, world, sentence):
    qtbot.keyPress(view, KEY)
    world.microphones[-1].say(sentence)
    QApplication.sendEvent(view, QEvent(QEvent.Type.WindowDeactivate))
    qtbot.waitUntil(lambda: view._listening is None, timeout=20_000)
    assert [take.state for take in world.takes.all()] == ["done"]


def test_another_view_ends_the_take(qtbot, view, world, sentence):
    view.hold.down()
    view.hold.up()
    world.microphones[-1].say(sentence)
    view.hide()
    qtbot.waitUntil(lambda: view._listening is None, timeout=20_000)
    assert world.takes.all()[0].text == "The cranes come."


def test_the_button_works_by_the_mouse_and_by_the_space_bar(qtbot, view, world):
    talk = view.stage.talk
    qtbot.mousePress(talk, Qt.MouseButton.LeftButton)
    assert view.hold.on
    qtbot.mouseRelease(talk, Qt.MouseButton.LeftButton)
    assert view.hold.latched  # a click listens on
    assert "Press F9 or the button again" in view.stage.hint.text()
    qtbot.keyClick(talk, Qt.Key.Key_Space)
    assert not view.hold.on
    qtbot.waitUntil(lambda: view._listening is None, timeout=20_000)


def test_a_command_begins_and_ends_it_too(qtbot, view, world, sentence):
    view.talk_action.trigger()
    assert view.hold.latched
    world.microphones[-1].say(sentence)
    view.talk_action.trigger()
    qtbot.waitUntil(lambda: view._listening is None, timeout=20_000)
    assert view.text.words() == "The cranes come."


def test_double_clicks_make_one_take_after_another_and_nothing_worse(qtbot, view, world):
    for _ in range(6):
        qtbot.mouseDClick(view.stage.talk, Qt.MouseButton.LeftButton)
        qtbot.mouseClick(view.stage.talk, Qt.MouseButton.LeftButton)
    view.hold.end()
    qtbot.waitUntil(lambda: view._listening is None and not view._behind, timeout=20_000)
    assert view.stage.title.text() == "Ready"
    assert len(world.microphones) == 1


def test_the_next_take_may_begin_while_the_last_one_is_written(qtbot, view, world, sentence):
    # GIVEN a take that is still being written
    world.connection.engine.held = True
    view.hold.down()
    world.microphones[-1].say(sentence)
    view.hold.end()
    view.hold.up()
    assert view.stage.title.text() == "Writing…"
    # WHEN another is spoken
    world.connection.engine.held = False
    world.connection.engine.let(100)
    dictate(qtbot, view, world, sentence)
    # THEN both are written
    qtbot.waitUntil(lambda: not view._behind, timeout=20_000)
    qtbot.waitUntil(lambda: len(view.list.rows.takes) == 2, timeout=20_000)
    assert [take.state for take in world.takes.all()] == ["done", "done"]


def test_escape_discards_and_undo_brings_it_back(qtbot, view, world, sentence):
    # GIVEN somebody speaks
    view.hold.down()
    world.microphones[-1].say(sentence)
    qtbot.waitUntil(lambda: view.stage.title.text() == "Listening 0:05", timeout=20_000)
    # WHEN it is cancelled
    view.cancel_action.trigger()
    view.cancel_action.trigger()
    qtbot.waitUntil(lambda: view.undo.isVisible(), timeout=20_000)
    # THEN it is kept as discarded, and its text is gone
    assert [take.state for take in world.takes.all()] == ["discarded"]
    assert view.text.toPlainText() == ""
    # WHEN that is undone
    view.undo.undo()
    # THEN it is written after all
    qtbot.waitUntil(lambda: world.takes.all()[0].state == "done", timeout=20_000)
    assert view.text.words() == "The cranes come."


def test_a_closing_window_keeps_the_take(qtbot, view, world, sentence):
    view.hold.down()
    world.microphones[-1].say(sentence)
    qtbot.waitUntil(lambda: view.stage.title.text() == "Listening 0:05", timeout=20_000)
    view.leave()
    assert stop_all(10)
    [take] = Takes(world.takes.folder).all()
    assert take.state in ("interrupted", "done")  # its text may be there before it is cancelled
    assert take.seconds > 4
    assert world.microphones[-1].closed


# What goes wrong


def test_without_a_speech_model_it_is_recorded_and_one_is_offered(qtbot, view, world, sentence, monkeypatch):
    # GIVEN no speech model
    world.shelf.put(on_disk("Qwen3"))
    assert view.offer_model.isVisible()
    # WHEN somebody speaks
    dictate(qtbot, view, world, sentence)
    # THEN the take is there, and the view says why it has no text
    assert [(take.state, take.text) for take in world.takes.all()] == [("unwritten", "")]
    assert "only recorded" in view.told[0]
    assert not view.notice.isVisible()
    # WHEN the offer is taken
    begun = []
    monkeypatch.setattr(Downloads.of(world.preferences), "start", begun.append)
    view.offer_model.card.buttons["download"].click()
    # THEN it is fetched, as was said
    assert begun == ["UsefulSensors/moonshine-tiny"]
    assert "108 MB" in " ".join(label.text() for label in view.offer_model.findChildren(QLabel))


def test_words_spoken_before_the_disk_was_looked_at_are_written(qtbot, world, sentence):
    # GIVEN a view that does not know yet which models there are
    late = FakeShelf(*world.shelf.entries)
    late.rescan = lambda: None
    microphone = FakeMicrophone("")
    view = DictateView(
        world.connection, world.preferences, world.takes, lambda _: microphone, lambda: [], world.player, late
    )
    qtbot.addWidget(view)
    late.entries, entries = (), late.entries
    # WHEN somebody speaks, and then they are found
    view.hold.down()
    microphone.say(sentence)
    view.hold.end()
    qtbot.waitUntil(lambda: view.stage.title.text() == "Writing…", timeout=20_000)
    late.put(*entries)
    # THEN it is written
    qtbot.waitUntil(lambda: view._listening is None, timeout=20_000)
    assert view.text.words() == "The cranes come."


def test_an_engine_that_cannot_start_does_not_cost_the_recording(qtbot, view, world, sentence):
    world.connection.engine.refusal = CraneError("The engine did not start.")
    dictate(qtbot, view, world, sentence)
    assert view.notice.words() == "The engine did not start."
    assert world.takes.all()[0].state == "unwritten"


def test_a_device_lost_while_writing_is_told(qtbot, view, world, sentence, monkeypatch):
    def lost(_self, _job):
        raise DeviceLost("The device was lost. Load the model again.")

    monkeypatch.setattr(Ears, "open", lost)
    dictate(qtbot, view, world, sentence)
    assert "The device was lost." in view.notice.words()
    assert "recorded" in view.notice.words()
    # WHEN the device is back and it is tried again
    monkeypatch.undo()
    view.notice.retried.emit()
    # THEN the take is written after all
    qtbot.waitUntil(lambda: world.takes.all()[0].text == "The cranes come.", timeout=20_000)
    assert not view.notice.isVisible()


def test_a_microphone_that_is_unplugged_leaves_what_was_said(qtbot, view, world, sentence):
    view.hold.down()
    world.microphones[-1].fault = MicrophoneLost("The microphone stopped. What was said until then is kept.")
    world.microphones[-1].say(sentence)
    qtbot.waitUntil(lambda: view._listening is None, timeout=20_000)
    assert view.text.words() == "The cranes come."
    assert "microphone stopped" in view.notice.words()
    assert not view.hold.on


def test_a_microphone_that_does_not_open_is_told_and_leaves_no_take(qtbot, view, world):
    view.hold.down()
    world.microphones[-1].fault = CraneError("The microphone is not there.")
    qtbot.waitUntil(lambda: view._listening is None)
    assert view.notice.words() == "The microphone is not there."
    assert world.takes.all() == []
    # WHEN it is tried again
    looks = world.looks
    view.notice.retried.emit()
    # THEN the microphones are looked for again
    qtbot.waitUntil(lambda: world.looks > looks)
    assert view.notice.words() == ""


def test_no_portaudio_is_told_before_anybody_speaks(qtbot, view, world):
    world.devices = Unsupported("The sound library PortAudio is missing.")
    view.enter()
    qtbot.waitUntil(lambda: view.stage.title.text() == "Not ready")
    assert view.notice.words() == "The sound library PortAudio is missing."
    # WHEN it is there
    world.devices = [SimpleNamespace(name="Studio", default=True)]
    view.enter()
    # THEN all is well again
    qtbot.waitUntil(lambda: view.stage.title.text() == "Ready")
    assert view.notice.words() == ""


# Devices


def test_the_chosen_microphone_is_used_and_remembered(qtbot, view, world):
    view.stage.choice.setCurrentIndex(2)
    view.stage.choice.activated.emit(2)
    assert world.preferences.get("microphone") == "Headset"
    view.hold.down()
    view.hold.end()
    assert world.microphones[-1].name == "Headset"
    qtbot.waitUntil(lambda: view._listening is None)


def test_a_chosen_microphone_that_is_gone_is_shown_as_such(qtbot, view, world):
    view.stage.choice.choose("Lectern")
    assert view.stage.choice.currentText() == "Lectern (not connected)"
    view.enter()
    qtbot.waitUntil(lambda: view.stage.choice.count() == 4)
    assert view.stage.choice.currentData() == "Lectern"


def test_the_microphone_stays_open_for_the_next_take_and_is_closed_later(qtbot, view, world, sentence):
    dictate(qtbot, view, world, sentence)
    dictate(qtbot, view, world, sentence)
    assert len(world.microphones) == 1
    assert not world.microphones[0].closed
    view._microphone._cools.timeout.emit()
    qtbot.waitUntil(lambda: world.microphones[0].closed)


def test_a_take_that_is_only_written_leaves_the_microphone_to_the_next(qtbot, view, world, sentence):
    # GIVEN a take that is being written while another is spoken
    view.hold.down()
    world.microphones[-1].say(sentence)
    view.hold.end()
    view.hold.up()
    view.hold.down()
    assert view._behind
    # WHEN it is written THEN the microphone is not about to be closed
    qtbot.waitUntil(lambda: not view._behind, timeout=20_000)
    assert not view._microphone._cools.isActive()
    # AND after the other it is
    view.hold.end()
    qtbot.waitUntil(lambda: view._listening is None, timeout=20_000)
    assert view._microphone._cools.isActive()


# Files


def files(*paths):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    return data


def test_a_dropped_sound_file_is_written_with_its_times(qtbot, view, world):
    assert view.offer(files(SPEECH))
    assert view.offer(files("/a/picture.png")) == ""
    titles = []
    view.titled.connect(titles.append)
    assert view.take(files(SPEECH))
    qtbot.waitUntil(lambda: view._transcribing is None, timeout=20_000)
    assert view.text.toPlainText().splitlines() == [
        "[0:01] The cranes come.", "[0:06] The cranes come.", "[0:14] The cranes come.",
    ]  # fmt: skip
    assert titles == ["speech.ogg"]
    assert world.takes.all() == []


@pytest.mark.parametrize(("suffix", "begins"), [("txt", "[0:01] The"), ("srt", "1\n00:00:01,136 -->"), ("json", "{")])
def test_a_transcript_is_saved_in_the_form_that_its_name_says(qtbot, view, world, tmp_path, suffix, begins):
    view.write_file(SPEECH)
    qtbot.waitUntil(lambda: view._transcribing is None, timeout=20_000)
    view.save_action.trigger()
    dialog = view.saving.dialog
    view.save_action.trigger()
    assert view.saving.dialog is dialog  # a second click opens no second one
    out = tmp_path / f"speech.{suffix}"
    dialog.fileSelected.emit(str(out))
    dialog.reject()
    qtbot.waitUntil(lambda: f"The text is in speech.{suffix}." in view.told)
    assert out.read_text("utf-8").startswith(begins)
    if suffix == "json":
        assert json.loads(out.read_text("utf-8"))["model"] == "moonshine-tiny"
        assert json.loads(out.read_text("utf-8"))["seconds"] == 20.0


def test_a_file_that_is_no_sound_is_told(qtbot, view, world, tmp_path):
    (tmp_path / "a.wav").write_text("hello")
    view.receive(str(tmp_path / "a.wav"))
    qtbot.waitUntil(lambda: "plain text" in view.notice.words())
    assert view.stage.title.text() == "Ready"


def test_without_a_speech_model_a_file_waits_for_one(qtbot, view, world):
    world.shelf.put()
    view.write_file(SPEECH)
    assert "no speech model" in view.notice.words()
    world.shelf.put(on_disk("moonshine", job="dictate"))
    view.notice.retried.emit()
    qtbot.waitUntil(lambda: len(view.text.segments) == 3, timeout=20_000)


def test_escape_stops_a_file_and_what_came_stays(qtbot, view, world):
    world.connection.engine.held = True
    view.write_file(SPEECH)
    assert view.stage.title.text() == "Writing…"
    assert not view.stage.talk.isEnabled()
    view.write_file(SPEECH)
    assert view.told == ["Something is being written. Wait, or stop it with Esc."]
    view.cancel_action.trigger()
    view.cancel_action.trigger()
    assert view.stage.title.text() == "Ready"
    assert view.stage.talk.isEnabled()
    # and the next one can begin at once
    world.connection.engine.held = False
    world.connection.engine.let(100)
    view.write_file(SPEECH)
    qtbot.waitUntil(lambda: len(view.text.segments) == 3, timeout=20_000)


# The list of takes


def test_a_take_is_shown_copied_and_sent(qtbot, view, world):
    kept(world, "Good morning.")
    view.enter()
    choose(qtbot, view)
    assert view.text.toPlainText() == "Good morning."
    view.list.copy_action.trigger()
    assert QApplication.clipboard().text() == "Good morning."
    view.chat_action.trigger()
    view.aloud_action.trigger()
    assert view.handed == [("chat", "Good morning."), ("read_aloud", "Good morning.")]


def test_only_the_selection_is_copied_where_there_is_one(qtbot, view, world):
    kept(world, "Good morning.")
    view.enter()
    choose(qtbot, view)
    cursor = view.text.textCursor()
    cursor.setPosition(5)
    cursor.movePosition(cursor.MoveOperation.EndOfWord, cursor.MoveMode.KeepAnchor)
    view.text.setTextCursor(cursor)
    view.copy_action.trigger()
    assert QApplication.clipboard().text() == "morning"


def test_a_take_is_played_and_stopped(qtbot, view, world):
    take = kept(world)
    view.enter()
    choose(qtbot, view)
    view.list.play_action.trigger()
    qtbot.waitUntil(lambda: world.player.played == [take.sound])
    assert view.list.play_action.text() == "Stop"
    view.list.play_action.trigger()
    qtbot.waitUntil(world.player.over.is_set)
    assert view.list.play_action.text() == "Play"


@pytest.mark.qt_log_ignore("This plugin does not support", extend=True)  # menus, on a screen that is not there
def test_a_take_is_written_again_with_another_model(qtbot, view, world, sentence):
    # GIVEN a take without its text, and two models
    recording = world.takes.record()
    recording.write(sentence)
    recording.finish("unwritten")
    base = on_disk("UsefulSensors/moonshine-base", job="dictate")
    world.shelf.put(*world.shelf.entries, base)
    view.enter()
    choose(qtbot, view)
    # WHEN it is written again
    view.list.again_action.trigger()
    names = [action.text() for action in view.list.again_menu.actions()]
    assert names == ["With UsefulSensors/moonshine-base", "With UsefulSensors/moonshine-tiny"]
    view.list.again_menu.actions()[0].trigger()
    view.list.again_menu.close()
    # THEN that model wrote it
    qtbot.waitUntil(lambda: world.takes.all()[0].state == "done", timeout=20_000)
    assert world.takes.all()[0].model == "moonshine-base"
    assert view.text.words() == "The cranes come."


def test_trying_again_takes_the_model_that_was_asked_for(qtbot, view, world, sentence, monkeypatch):
    # GIVEN a take that another model was to write again, while the device was lost
    def lost(_self, _job):
        raise DeviceLost("The device was lost. Load the model again.")

    recording = world.takes.record()
    recording.write(sentence)
    take = recording.finish("unwritten")
    monkeypatch.setattr(Ears, "open", lost)
    view.write_again(take, on_disk("UsefulSensors/moonshine-base", job="dictate"))
    qtbot.waitUntil(lambda: "lost" in view.notice.words() and view._transcribing is None, timeout=20_000)
    monkeypatch.undo()
    # WHEN it is tried again
    view.notice.retried.emit()
    # THEN by that model
    qtbot.waitUntil(lambda: world.takes.all()[0].state == "done", timeout=20_000)
    assert world.takes.all()[0].model == "moonshine-base"


def test_nothing_is_deleted_before_it_is_asked(qtbot, view, world):
    kept(world, "One.")
    kept(world, "Two.")
    view.enter()
    choose(qtbot, view, 1)
    view.list.delete_action.trigger()
    assert view.list.question.isVisible()
    view.list.question.no.trigger()
    assert len(world.takes.all()) == 2
    view.list.delete_action.trigger()
    view.list.question.yes.trigger()
    view.list.question.yes.trigger()
    qtbot.waitUntil(lambda: view.list.rows.rowCount() == 1)
    assert len(world.takes.all()) == 1
    assert view.text.toPlainText() == ""


def test_a_take_is_deleted_once_its_sound_is_closed(qtbot, view, world, monkeypatch):
    # GIVEN a take that is played by a device which lets go late
    let_go, deleted, delete = threading.Event(), threading.Event(), world.takes.delete

    def clinging(_path):
        try:
            while True:
                yield 0.0
        finally:
            assert let_go.wait(20)

    monkeypatch.setattr(world.takes, "delete", lambda takes: (deleted.set(), delete(takes)))
    world.player, over = clinging, world.player.over
    kept(world)
    view.enter()
    choose(qtbot, view)
    view.list.play_action.trigger()
    # WHEN it is deleted THEN not while its file is open
    view.list.delete_action.trigger()
    view.list.question.yes.trigger()
    assert not deleted.wait(0.2)
    let_go.set()
    qtbot.waitUntil(lambda: world.takes.all() == [])
    world.player = SimpleNamespace(over=over)


def test_all_are_deleted_together(qtbot, view, world):
    for text in ("One.", "Two.", "Three."):
        kept(world, text)
    view.enter()
    qtbot.waitUntil(lambda: view.list.rows.rowCount() == 3)
    view.list.delete_all_action.trigger()
    assert "all 3" in view.list.question.words.text()
    view.list.question.yes.trigger()
    qtbot.waitUntil(lambda: view.list.rows.rowCount() == 0)
    assert world.takes.all() == []
    assert view.list.empty.isVisible()


def test_old_takes_go_at_the_start_and_when_the_settings_say_so(qtbot, view, world):
    for age in (0, 3):
        kept(world, f"{age} days", created=kept(world).created - age * 86400)
    world.preferences.set("takes-count", 3)
    qtbot.waitUntil(lambda: len(world.takes.all()) == 3)
    world.preferences.set("takes-days", 2)
    qtbot.waitUntil(lambda: "3 days" not in [take.text for take in world.takes.all()])


# Looks


@pytest.mark.parametrize("size", [100, 150, 200])
@pytest.mark.parametrize("direction", [Qt.LayoutDirection.LeftToRight, Qt.LayoutDirection.RightToLeft])
def test_nothing_is_clipped(qtbot, view, world, size, direction):
    # GIVEN everything that can be seen at once
    kept(world, "Good morning, and welcome to the lake of the cranes.")
    view.setLayoutDirection(direction)
    theme.set_text_size(size)
    try:
        world.shelf.put()
        view.enter()
        choose(qtbot, view)
        view.notice.tell("The microphone 'Jabra' cannot be opened (Device unavailable). Another program may hold it.")
        view.list.delete_action.trigger()
        qtbot.waitExposed(view)

        # THEN buttons and titles have the room they need
        def whole():
            for each in [*view.findChildren(QToolButton), view.stage.title, view.stage.talk]:
                if each.isVisible():
                    assert each.width() >= each.sizeHint().width(), each.objectName()
                    assert each.height() >= each.sizeHint().height(), each.objectName()
            for words in (view.stage.hint, view.offer_model.findChildren(QLabel)[1]):
                assert words.height() >= words.heightForWidth(words.width())

        qtbot.waitUntil(whole)  # sentences that wrap find their height in more than one round
    finally:
        theme.set_text_size(100)


def test_the_keyboard_reaches_everything_and_everything_has_a_name(qtbot, view, world):
    kept(world)
    view.enter()
    choose(qtbot, view)
    seen = []
    view.stage.talk.setFocus()
    for _ in range(40):
        seen.append(QApplication.focusWidget())
        qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
    reached = {id(each) for each in seen}
    must = [view.stage.talk, view.stage.choice, view.text, view.list.list]
    must += [each for each in view.findChildren(QToolButton) if each.isVisible() and each.isEnabled()]
    assert [each.objectName() for each in must if id(each) not in reached] == []
    assert all(each.accessibleName() for each in must)

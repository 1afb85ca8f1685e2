"""The view that reads aloud, over a voice and a speaker that do what a test tells them to."""

import errno
import os
import threading
from pathlib import Path

import pytest
import soundfile
from fakes import FakePreferences
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QGuiApplication, QTextCursor
from PySide6.QtWidgets import QFileDialog

from crane_app.errors import CraneError, Unsupported
from crane_app.ui.read_aloud import narrator
from crane_app.ui.read_aloud.marked_text import LONGEST_LINE, MarkedText, broken
from crane_app.ui.read_aloud.view import ReadAloudView
from crane_app.ui.worker import stop_all
from tests.pipelines.mouth import FakeSpeaker, FakeTeller

TEXT = "One crane. Two 🙂 cranes. Three cranes. Four cranes."


@pytest.fixture
def preferences():
    return FakePreferences()


@pytest.fixture
def teller():
    return FakeTeller()


@pytest.fixture
def speaker():
    made = FakeSpeaker()
    yield made
    made.held = False


@pytest.fixture
def view(qtbot, preferences, teller, speaker):
    made = ReadAloudView(preferences, lambda: teller, speaker)
    qtbot.addWidget(made)
    made.resize(800, 600)
    made.show()
    made.enter()
    yield made
    speaker.held = teller.held = False
    made.leave()
    assert stop_all(20)


def show(qtbot, view, text=TEXT):
    view.show_text(text)
    qtbot.waitUntil(lambda: view.narrator.fresh)


def hold(qtbot, view, speaker, text=TEXT):
    """It speaks, and is held in the first block of the first sentence."""
    speaker.held = True
    view.show_text(text)
    view.toggle()
    qtbot.waitUntil(lambda: view.narrator.audible)


def said_so_far(teller):
    return [text for text, _ in teller.begun]


def place_of(view, text):
    """Where on the screen some words of the text are."""
    cursor = view.text.document().find(text)
    assert not cursor.isNull()
    cursor.setPosition(cursor.selectionStart() + 1)
    return view.text.cursorRect(cursor).center()


# Playing


def test_play_reads_to_the_end_and_goes_back_to_the_start(qtbot, view, speaker):
    # GIVEN a text WHEN it is played
    show(qtbot, view)
    with qtbot.waitSignal(view.narrator.ended):
        view.play_action.trigger()
    # THEN all of it was heard, and the next play begins at the start
    assert len(speaker.heard) == 10 * sum(len(each.text) for each in view.narrator.sentences)
    assert speaker.outputs[-1].ended == "finished"
    assert not view.narrator.speaking
    assert view.narrator.index == 0
    assert view.text.marked() == ""


def test_the_sentence_that_is_heard_is_marked_also_after_an_emoji(qtbot, view):
    # GIVEN what is marked, noted at every change
    marked = []
    view.narrator.moved.connect(lambda: marked.append(view.text.marked()))
    # WHEN all is heard
    show(qtbot, view)
    with qtbot.waitSignal(view.narrator.ended):
        view.toggle()
    # THEN each sentence was marked in its turn
    assert [each for each in marked if each] == ["One crane.", "Two 🙂 cranes.", "Three cranes.", "Four cranes."]


def test_pause_keeps_the_sentence_and_play_says_it_again(qtbot, view, speaker):
    # GIVEN that the third sentence is heard
    hold(qtbot, view, speaker)
    view.skip(2)
    speaker.gate.release()  # the block that was under way
    qtbot.waitUntil(lambda: view.narrator.audible)
    # WHEN it is paused
    view.toggle()
    # THEN it is silent at once, marked, and next
    assert not view.narrator.speaking
    assert view.text.marked() == "Three cranes."
    assert "Sentence 3 of 4 is next" in view.bar.state.text()
    # WHEN it goes on THEN from that sentence
    speaker.outputs.clear()
    speaker.held = False
    with qtbot.waitSignal(view.narrator.ended):
        view.toggle()
    assert len(speaker.heard) == 10 * len("Three cranes.Four cranes.")


def test_the_computer_stays_awake_while_it_reads_and_not_while_it_pauses(qtbot, view, speaker, awake):
    # GIVEN that it reads THEN the computer may not fall asleep
    hold(qtbot, view, speaker)
    assert awake == {"a text is read aloud": True}
    # WHEN it is paused THEN it may
    view.toggle()
    speaker.held = False
    qtbot.waitUntil(lambda: awake == {"a text is read aloud": False})


def test_stop_goes_back_to_the_start(qtbot, view, speaker):
    hold(qtbot, view, speaker)
    view.skip(2)
    view.stop_action.trigger()
    assert view.narrator.index == 0
    assert not view.narrator.speaking
    assert view.text.marked() == ""
    assert not view.stop_action.isEnabled()


def test_a_click_on_a_sentence_jumps_there(qtbot, view, speaker):
    # GIVEN that the first sentence is heard
    hold(qtbot, view, speaker)
    # WHEN the last one is clicked
    qtbot.mouseClick(view.text.viewport(), Qt.MouseButton.LeftButton, pos=place_of(view, "Four"))
    speaker.gate.release()  # the block that was under way
    # THEN it is heard
    qtbot.waitUntil(lambda: view.narrator.audible)
    assert view.narrator.index == 3
    assert view.text.marked() == "Four cranes."


def test_a_click_before_playing_chooses_where_it_begins(qtbot, view, speaker):
    show(qtbot, view)
    qtbot.mouseClick(view.text.viewport(), Qt.MouseButton.LeftButton, pos=place_of(view, "Three"))
    assert view.text.marked() == "Three cranes."
    with qtbot.waitSignal(view.narrator.ended):
        view.toggle()
    assert len(speaker.heard) == 10 * len("Three cranes.Four cranes.")


def test_selecting_words_does_not_jump(qtbot, view, speaker):
    hold(qtbot, view, speaker)
    start, end = place_of(view, "Two"), place_of(view, "Four")
    qtbot.mousePress(view.text.viewport(), Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(view.text.viewport(), end)
    qtbot.mouseRelease(view.text.viewport(), Qt.MouseButton.LeftButton, pos=end)
    assert view.narrator.index == 0


def test_skipping_stays_within_the_text(qtbot, view):
    show(qtbot, view)
    view.skip(-1)
    assert view.narrator.index == 0
    view.skip(99)
    assert view.narrator.index == 3
    assert not view.next_action.isEnabled()
    assert view.previous_action.isEnabled()


def test_a_long_text_follows_the_voice(qtbot, view, speaker):
    # GIVEN a text of many lines
    show(qtbot, view, "\n\n".join(f"Paragraph number {number} stands here." for number in range(200)))
    # WHEN it goes to a sentence far down
    view.narrator.go_to(150)
    # THEN that is in sight
    assert view.text.marked() == "Paragraph number 150 stands here."
    assert view.text.viewport().rect().contains(place_of(view, "Paragraph number 150"))


def test_space_plays_unless_it_is_written(qtbot, view, speaker):
    # GIVEN a text, and the focus on a slider
    show(qtbot, view)
    speaker.held = True
    view.bar.speed.slider.setFocus()
    # WHEN Space is pressed THEN it plays
    qtbot.keyClick(view.bar.speed.slider, Qt.Key.Key_Space)
    assert view.narrator.speaking
    # WHEN Ctrl+Space is pressed in the text THEN it pauses
    view.text.setFocus()
    view.activateWindow()
    qtbot.waitUntil(view.isActiveWindow)
    qtbot.keyClick(view.text, Qt.Key.Key_Space, Qt.KeyboardModifier.ControlModifier)
    assert not view.narrator.speaking
    # WHEN Space is pressed in the text THEN it is a letter
    qtbot.keyClick(view.text, Qt.Key.Key_Space)
    assert not view.narrator.speaking
    assert view.text.toPlainText() == " " + TEXT


@pytest.mark.parametrize("name", ["play", "stop", "previous", "next", "clipboard", "save", "open", "cancel_saving"])
def test_pressing_twenty_times_is_harmless(qtbot, view, speaker, name, tmp_path):
    hold(qtbot, view, speaker)
    QGuiApplication.clipboard().setText(TEXT)
    action = getattr(view, f"{name}_action" if name != "cancel_saving" else "cancel_action")
    for _ in range(20):
        action.trigger()
    speaker.held = False
    if view._dialog is not None:
        view._dialog.close()
    view.stop()
    with qtbot.waitSignal(view.narrator.ended):
        view.narrator.play()


# Speed, volume, voice


def test_the_dials_are_the_preferences(qtbot, view, preferences):
    view.bar.speed.slider.setValue(30)
    view.bar.volume.slider.setValue(12)
    assert preferences.get("speech-speed") == 1.5
    assert preferences.get("speech-volume") == 60
    assert (view.bar.speed.value.text(), view.bar.volume.value.text()) == ("1.50×", "60 %")
    preferences.set("speech-speed", 0.5)
    preferences.set("speech-volume", 0)
    assert (view.bar.speed.value.text(), view.bar.volume.value.text()) == ("0.50×", "0 %")


def test_speed_and_volume_change_while_it_is_heard(qtbot, view, speaker, preferences):
    # GIVEN that it speaks, held
    hold(qtbot, view, speaker, "A sentence of many words that takes a while. " * 5)
    # WHEN it is turned down and sped up
    preferences.set("speech-volume", 0)
    preferences.set("speech-speed", 3.0)
    speaker.held = False
    qtbot.waitUntil(lambda: not view.narrator.speaking)
    # THEN the same narration went on so
    assert len(speaker.outputs) == 1
    assert speaker.heard[-500:] == pytest.approx(0)
    assert len(speaker.heard) < 0.5 * 10 * sum(len(each.text) for each in view.narrator.sentences)


def test_the_voices_are_offered_and_one_is_chosen(qtbot, view, preferences, teller):
    # GIVEN the voices of the machine
    box = view.bar.voice.box
    qtbot.waitUntil(lambda: box.count() == 4)
    # WHEN one is chosen
    box.setCurrentIndex(box.findText("Anna"))
    box.activated.emit(box.currentIndex())
    # THEN it speaks, and is kept
    assert preferences.get("voice") == "anna"
    show(qtbot, view, "Hello.")
    with qtbot.waitSignal(view.narrator.ended):
        view.toggle()
    assert teller.begun == [("Hello.", "anna")]


def test_a_voice_by_its_language_is_shown_by_its_name(qtbot, view, preferences):
    qtbot.waitUntil(lambda: view.bar.voice.box.count() == 4)
    preferences.set("voice", "DE-de")
    assert view.bar.voice.box.currentText() == "Anna"


def test_a_dial_that_a_variable_overrules_cannot_be_moved(qtbot, teller, speaker):
    preferences = FakePreferences(speech_speed=2.0)
    preferences.overruling["speech-speed"] = "Set by CRANE_SPEECH_SPEED where Crane was started."
    view = ReadAloudView(preferences, lambda: teller, speaker)
    qtbot.addWidget(view)
    assert not view.bar.speed.isEnabled()
    assert "CRANE_SPEECH_SPEED" in view.bar.speed.toolTip()
    assert view.bar.volume.isEnabled()


def test_another_voice_says_the_sentence_again(qtbot, view, speaker, teller, preferences):
    hold(qtbot, view, speaker)
    preferences.set("voice", "alex")
    speaker.gate.release()  # the block that was under way
    qtbot.waitUntil(lambda: ("One crane.", "alex") in teller.begun)


# The text


def test_a_change_of_the_text_pauses_at_the_sentence_that_was_heard(qtbot, view, speaker, teller):
    # GIVEN that the third sentence is heard
    hold(qtbot, view, speaker)
    view.skip(2)
    speaker.gate.release()  # the block that was under way
    qtbot.waitUntil(lambda: view.narrator.audible)
    # WHEN something is written at the very start
    view.text.moveCursor(QTextCursor.MoveOperation.Start)
    view.text.insertPlainText("Zero cranes come first. ")
    # THEN it is silent, and the sentence is the next one, wherever it is now
    assert not view.narrator.speaking
    qtbot.waitUntil(lambda: view.narrator.fresh)
    assert view.narrator.index == 3
    assert view.text.marked() == "Three cranes."
    # AND what has not changed is not made anew
    made = said_so_far(teller).count("Three cranes.")
    speaker.held = False
    with qtbot.waitSignal(view.narrator.ended):
        view.toggle()
    assert said_so_far(teller).count("Three cranes.") == made


def test_sentences_of_a_text_that_is_no_more_are_not_taken(qtbot, view, monkeypatch):
    # GIVEN a text that is being cut into sentences
    gate, cut = threading.Event(), narrator._prepared

    def slow(*what):
        yield
        assert gate.wait(20)
        return (yield from cut(*what))

    monkeypatch.setattr(narrator, "_prepared", slow)
    view.show_text(TEXT)
    # WHEN another takes its place
    view.text.selectAll()
    view.text.insertPlainText("Another text.")
    gate.set()
    # THEN its sentences are those to come
    qtbot.waitUntil(lambda: view.narrator.fresh)
    assert [each.text for each in view.narrator.sentences] == ["Another text."]


def test_other_sentences_are_not_heard_under_the_numbers_of_these(qtbot, view, speaker):
    hold(qtbot, view, speaker)
    view.narrator.prepare("Another text.", False, "", 0)
    qtbot.waitUntil(lambda: len(view.narrator.sentences) == 1)
    assert not view.narrator.speaking


def test_emptying_the_text_while_it_is_heard_shows_the_start_again(qtbot, view, speaker):
    hold(qtbot, view, speaker)
    view.text.selectAll()
    view.text.textCursor().removeSelectedText()
    assert not view.narrator.speaking
    assert view.start.isVisible()
    qtbot.waitUntil(lambda: view.narrator.fresh)
    assert not view.play_action.isEnabled()
    assert view.bar.state.text() == ""


def test_the_empty_view_invites_and_steps_aside(qtbot, view):
    assert view.start.isVisible()
    assert not view.head.isVisible()
    qtbot.mouseClick(view.start.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(10, 10))
    qtbot.keyClicks(view.text, "Hello.")
    assert not view.start.isVisible()
    assert view.head.isVisible()
    qtbot.waitUntil(lambda: view.bar.state.text() == "One sentence · less than a minute")


@pytest.mark.parametrize("text", ["   \n", "... --- ***", "()[]"])
def test_a_text_with_nothing_to_say_says_so(qtbot, view, text):
    show(qtbot, view, text)
    assert view.bar.state.text() == "There is nothing to say in this text."
    assert not view.play_action.isEnabled()
    assert not view.save_action.isEnabled()


def test_what_another_view_sends_is_read_at_once(qtbot, view, teller):
    with qtbot.waitSignal(view.narrator.ended):
        view.receive("# Title\n\nSome **bold** words.")
    assert sorted(said_so_far(teller)) == ["Some bold words.", "Title"]
    assert view.markdown.isChecked()


def test_the_clipboard_is_read_at_once(qtbot, view, teller):
    QGuiApplication.clipboard().setText("From the clipboard, *so* plain.")
    with qtbot.waitSignal(view.narrator.ended):
        view.clipboard_action.trigger()
    assert said_so_far(teller) == ["From the clipboard, *so* plain."]
    QGuiApplication.clipboard().setText("  ")
    with qtbot.waitSignal(view.said) as told:
        view.clipboard_action.trigger()
    assert told.args == ["There is no text on the clipboard."]


def test_markdown_can_be_ticked(qtbot, view):
    show(qtbot, view, "This *is* said.")
    assert view.narrator.sentences[0].text == "This *is* said."
    view.markdown.click()
    qtbot.waitUntil(lambda: view.narrator.fresh)
    assert view.narrator.sentences[0].text == "This is said."


@pytest.mark.parametrize(("name", "markdown"), [("a.txt", False), ("B.MD", True)])
def test_a_text_file_is_dropped(qtbot, view, tmp_path, name, markdown):
    path = tmp_path / name
    path.write_text("Some **words**.\r\n", "utf-8")
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    assert view.offer(data) == "Release to hear it"
    with qtbot.waitSignal(view.titled, check_params_cb=lambda title: title == name):
        assert view.take(data)
    assert view.text.toPlainText() == "Some **words**.\n"
    assert view.markdown.isChecked() is markdown


def test_dropped_words_are_taken_and_pictures_are_not(view):
    words, picture = QMimeData(), QMimeData()
    words.setText("Hello there.")
    picture.setUrls([QUrl.fromLocalFile("/files/a.png")])
    assert view.offer(words)
    assert view.take(words)
    assert view.text.toPlainText() == "Hello there."
    assert view.offer(picture) == ""
    assert not view.take(picture)


def test_a_file_that_cannot_be_read_is_told_with_a_way_to_try_again(qtbot, view, tmp_path):
    path = tmp_path / "a.txt"
    view.open(path)
    qtbot.waitUntil(lambda: "cannot be read" in view.notice.words())
    path.write_text("Now it can.")
    view.notice.retried.emit()
    qtbot.waitUntil(lambda: view.text.toPlainText() == "Now it can.")
    assert view.notice.words() == ""


def test_an_opened_text_can_be_undone(qtbot, view):
    qtbot.keyClicks(view.text, "My own words.")
    view.show_text("Another text.")
    view.text.undo()
    assert view.text.toPlainText() == "My own words."


# What goes wrong


def test_without_a_voice_there_is_a_sentence_and_a_way_to_try_again(qtbot, preferences, speaker, teller):
    # GIVEN a machine without a voice
    here = []

    def find():
        if not here:
            raise Unsupported("This machine has no voice.")
        return teller

    view = ReadAloudView(preferences, find, speaker)
    qtbot.addWidget(view)
    view.show()
    # WHEN the view is entered and asked to play
    view.enter()
    qtbot.waitUntil(lambda: view.notice.words() == "This machine has no voice.")
    show(qtbot, view)
    view.toggle()
    qtbot.waitUntil(lambda: view.notice.words() == "This machine has no voice.")
    assert not view.narrator.speaking
    # THEN it plays once there is one
    here.append(True)
    with qtbot.waitSignal(view.narrator.ended):
        view.notice.retried.emit()
    assert view.notice.words() == ""
    qtbot.waitUntil(lambda: view.bar.voice.box.count() == 4)


def test_a_speaker_that_is_pulled_out_keeps_the_place(qtbot, view, speaker):
    # GIVEN a speaker that goes away in the second sentence
    def pull():
        raise CraneError("The speaker is gone.")

    show(qtbot, view)
    speaker.then[4] = pull
    # WHEN it plays
    view.toggle()
    qtbot.waitUntil(lambda: view.notice.words() == "The speaker is gone.")
    # THEN that sentence is next, and is heard again from a new one
    assert view.narrator.index == 1
    assert view.text.marked() == "Two 🙂 cranes."
    speaker.outputs.clear()
    with qtbot.waitSignal(view.narrator.ended):
        view.notice.retried.emit()
    assert len(speaker.heard) == 10 * sum(len(each.text) for each in view.narrator.sentences[1:])


def test_no_speaker_leaves_saving_possible(qtbot, view, speaker, tmp_path):
    speaker.refuses = Unsupported("There is no speaker.")
    show(qtbot, view)
    view.toggle()
    qtbot.waitUntil(lambda: view.notice.words() == "There is no speaker.")
    with qtbot.waitSignal(view.narrator.saved):
        view.save(tmp_path / "x.wav")


def test_leaving_ends_what_waits_for_the_voice(qtbot, view, teller):
    teller.held = True
    show(qtbot, view)
    view.toggle()
    qtbot.waitUntil(lambda: teller.at_once > 0)
    assert view.bar.state.text() == "Getting the voice ready…"
    view.leave()
    assert stop_all(20)


# Saving


@pytest.mark.parametrize("kind", ["wav", "mp3", "flac", "ogg"])
def test_the_speech_is_saved_at_the_speed_chosen(qtbot, view, preferences, tmp_path, kind, teller):
    teller.rates = dict.fromkeys(("One crane.", "Two 🙂 cranes.", "Three cranes.", "Four cranes."), 16_000)
    preferences.set("speech-speed", 0.5)
    show(qtbot, view)
    with qtbot.waitSignal(view.said) as told:
        view.save(tmp_path / f"cranes.{kind}")
    assert told.args == [f"Saved as cranes.{kind}."]
    samples = 2 * 10 * sum(len(each.text) for each in view.narrator.sentences)
    assert soundfile.info(tmp_path / f"cranes.{kind}").frames >= samples
    assert [each.name for each in tmp_path.iterdir()] == [f"cranes.{kind}"]


def test_saving_shows_how_far_it_is_and_can_be_cancelled(qtbot, view, teller, tmp_path):
    # GIVEN a saving that is held at the second sentence
    show(qtbot, view)
    teller.held = True
    view.save(tmp_path / "x.wav")
    teller.gate.release()
    qtbot.waitUntil(lambda: view.saving.isVisible())
    assert "of 4 sentences" in view.saving_words.text()
    assert not view.save_action.isEnabled()
    # WHEN it is cancelled
    view.cancel_action.trigger()
    # THEN nothing is left, and another can begin
    assert not view.saving.isVisible()
    teller.held = False
    assert stop_all(20)
    assert list(tmp_path.iterdir()) == []
    with qtbot.waitSignal(view.narrator.saved):
        view.save(tmp_path / "x.wav")


def test_a_full_disk_is_a_sentence_and_saving_can_be_tried_again(qtbot, view, monkeypatch, tmp_path):
    from crane_app.media import sound_files

    show(qtbot, view)
    with monkeypatch.context() as patched:

        def full(*_args, **_named):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patched.setattr(sound_files.tempfile, "NamedTemporaryFile", full)
        view.save(tmp_path / "x.wav")
        qtbot.waitUntil(lambda: "The disk is full" in view.notice.words())
    with qtbot.waitSignal(view.narrator.saved):
        view.notice.retried.emit()


def test_saving_into_a_folder_that_is_gone_is_a_sentence(qtbot, view):
    show(qtbot, view)
    view.save(Path("/nowhere/x.wav"))
    qtbot.waitUntil(lambda: "There is no folder" in view.notice.words())


def test_the_dialog_offers_the_kinds_and_gives_a_name_its_end(qtbot, view, tmp_path, monkeypatch):
    # GIVEN the dialog for saving
    monkeypatch.setattr(QFileDialog, "open", lambda self: None)
    show(qtbot, view)
    view.folder = str(tmp_path)
    view.choose_sound()
    dialog = view._dialog
    assert [each.split()[0] for each in dialog.nameFilters()] == ["MP3", "WAV", "FLAC", "OGG"]
    assert dialog.defaultSuffix() == "mp3"
    # WHEN another kind is chosen THEN a name gets its end
    dialog.filterSelected.emit(dialog.nameFilters()[2])
    assert dialog.defaultSuffix() == "flac"
    dialog.close()


# The field


@pytest.mark.parametrize("text", ["", "abc", "a🙂b🙂🙂c", "🙂", "é\u0301x"])
def test_places_are_the_same_for_qt_and_python(qtbot, text):
    field = MarkedText()
    qtbot.addWidget(field)
    field.replace(text)
    assert field.text() == text
    for at in range(len(text) + 1):
        field.place = at
        assert field.place == at
        assert field._place.position() == len(text[:at].encode("utf-16-le")) // 2


@pytest.mark.parametrize("text", ["word and more. " * 5_000, "鶴は眠ります。" * 5_000, "x" * 50_000, "a\n" * 50_000])
def test_no_line_is_so_long_that_it_stalls_the_window(qtbot, text):
    # GIVEN a field that is given or pasted a long text
    given, pasted, data = MarkedText(), MarkedText(), QMimeData()
    data.setText(text)
    given.replace(text)
    pasted.insertFromMimeData(data)
    for field in (given, pasted):
        qtbot.addWidget(field)
        # THEN its lines are broken, and nothing is lost
        assert max(map(len, field.text().split("\n"))) <= LONGEST_LINE
        assert field.text().replace("\n", "") == text.replace("\n", "")


def test_a_long_line_is_broken_between_words():
    assert set(broken("crane " * 5_000).split()) == {"crane"}

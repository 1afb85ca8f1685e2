"""The field where a question is written: keys, growth, files, and a send that is never doubled."""

import os

import pytest
from hands import files, picture
from PySide6.QtCore import QMimeData, Qt
from PySide6.QtGui import QGuiApplication, QInputMethodEvent
from PySide6.QtWidgets import QApplication

from crane_app.ui.chat.composer import LONG_PASTE, MOST_FILES, MOST_LINES, Chip, Composer
from crane_app.ui.view import View
from crane_app.ui.worker import stop_all

SHIFT, CTRL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def composer(qtbot):
    view = View()
    made = Composer(view.action)
    made.setParent(view)
    qtbot.addWidget(view)
    view.resize(600, 300)
    made.resize(600, 200)
    view.show()
    made.sends = []
    made.sent.connect(lambda text, attached: made.sends.append((text, [each.name for each in attached])))
    made.news = []
    made.said.connect(made.news.append)
    yield made
    assert stop_all(20)


def chips(composer):
    return [chip for chip in composer.findChildren(Chip) if chip.isVisible()]


def test_return_sends_and_shift_return_begins_a_line(qtbot, composer):
    qtbot.keyClicks(composer.prompt, "one")
    qtbot.keyClick(composer.prompt, Qt.Key.Key_Return, SHIFT)
    qtbot.keyClicks(composer.prompt, "two")
    assert composer.sends == []
    qtbot.keyClick(composer.prompt, Qt.Key.Key_Return)
    assert composer.sends == [("one\ntwo", [])]


def test_where_control_return_sends_a_return_is_a_line(qtbot, composer):
    composer.prompt.return_sends = False
    qtbot.keyClicks(composer.prompt, "one")
    qtbot.keyClick(composer.prompt, Qt.Key.Key_Return)
    assert composer.sends == []
    qtbot.keyClick(composer.prompt, Qt.Key.Key_Return, CTRL)
    assert composer.sends == [("one", [])]


def test_a_return_that_ends_a_composed_character_does_not_send(composer):
    # GIVEN a word that an input method is still composing
    QApplication.sendEvent(composer.prompt, QInputMethodEvent("かん", []))
    # WHEN it commits it, as a Return does there
    commit = QInputMethodEvent()
    commit.setCommitString("鶴")
    QApplication.sendEvent(composer.prompt, commit)
    # THEN the word stands in the field and nothing was sent
    assert (composer.text(), composer.sends) == ("鶴", [])


@pytest.mark.parametrize("text", ["", " ", "\n\n"])
def test_nothing_is_not_sent(qtbot, composer, text):
    composer.set_text(text)
    qtbot.keyClick(composer.prompt, Qt.Key.Key_Return)
    assert composer.sends == []
    assert not composer.send_action.isEnabled()


def test_while_an_answer_is_made_the_text_waits_and_the_button_stops(qtbot, composer):
    stops = []
    composer.stopped.connect(lambda: stops.append(1))
    composer.set_text("next")
    composer.set_busy(True)
    qtbot.keyClick(composer.prompt, Qt.Key.Key_Return)
    assert composer.sends == []
    assert composer.text() == "next"
    assert "under way" in composer.news[-1]
    assert composer.stop_button.isVisibleTo(composer)
    assert not composer.send_button.isVisibleTo(composer)
    qtbot.mouseClick(composer.stop_button, Qt.MouseButton.LeftButton)
    assert stops == [1]


def test_it_grows_with_its_lines_up_to_a_limit(qtbot, composer):
    one = composer.prompt.height()
    composer.set_text("a\nb\nc")
    three = composer.prompt.height()
    assert three > one
    composer.set_text("line\n" * 500)
    line = composer.prompt.fontMetrics().lineSpacing()
    assert composer.prompt.height() < (MOST_LINES + 2) * line
    composer.clear()
    assert composer.prompt.height() == one


def test_up_in_an_empty_field_asks_for_the_last_question(qtbot, composer):
    recalled = []
    composer.recalled.connect(lambda: recalled.append(1))
    qtbot.keyClick(composer.prompt, Qt.Key.Key_Up)
    composer.set_text("x")
    qtbot.keyClick(composer.prompt, Qt.Key.Key_Up)
    assert recalled == [1]


def test_a_file_goes_with_the_question_and_can_be_taken_out(qtbot, composer, tmp_path):
    # GIVEN two files, one with a name of spaces and an emoji
    names = ["my notes 🐦.txt", "b.md"]
    for name in names:
        (tmp_path / name).write_text(f"of {name}", "utf-8")
    composer.attach([tmp_path / name for name in names])
    qtbot.waitUntil(lambda: len(composer.attachments) == 2 and composer.send_action.isEnabled())
    assert composer.attachments[0].text == "of my notes 🐦.txt"
    # WHEN the second is taken out and the rest is sent
    qtbot.waitUntil(lambda: len(chips(composer)) == 2)
    qtbot.mouseClick(chips(composer)[1].findChild(type(composer.send_button)), Qt.MouseButton.LeftButton)
    qtbot.keyClick(composer.prompt, Qt.Key.Key_Return)
    # THEN the first goes alone
    assert composer.sends == [("", ["my notes 🐦.txt"])]


def test_a_file_that_is_no_text_is_told_and_the_others_go(qtbot, composer, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\0\1\2")
    (tmp_path / "b.txt").write_text("b")
    composer.attach([tmp_path / "a.bin", tmp_path / "gone.txt", tmp_path / "b.txt", tmp_path])
    qtbot.waitUntil(lambda: len(composer.news) == 3 and len(composer.attachments) == 1)
    assert "a.bin is not a text file." in composer.news


def test_nothing_is_sent_while_files_are_read(qtbot, composer, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    composer.set_text("look")
    composer.attach([tmp_path / "a.txt"])
    qtbot.keyClick(composer.prompt, Qt.Key.Key_Return)
    assert composer.sends == []
    qtbot.waitUntil(composer.send_action.isEnabled)
    qtbot.keyClick(composer.prompt, Qt.Key.Key_Return)
    assert composer.sends == [("look", ["a.txt"])]


def test_too_many_files_are_refused_together(composer, tmp_path):
    composer.attach([tmp_path / f"{n}.txt" for n in range(MOST_FILES + 1)])
    assert composer.attachments == []
    assert str(MOST_FILES) in composer.news[-1]


def paste(composer, data):
    QGuiApplication.clipboard().setMimeData(data)
    composer.prompt.paste()


def test_a_long_paste_becomes_a_file(composer):
    data = QMimeData()
    data.setText("x" * (LONG_PASTE + 1))
    paste(composer, data)
    assert composer.text() == ""
    assert [len(each.text) for each in composer.attachments] == [LONG_PASTE + 1]


def test_a_paste_of_html_is_its_words(composer):
    data = QMimeData()
    data.setHtml("<b>bold</b>")
    data.setText("bold")
    paste(composer, data)
    assert composer.text() == "bold"


def test_a_pasted_file_is_attached_and_a_picture_passed_on(qtbot, composer, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    paste(composer, files(tmp_path / "a.txt"))
    qtbot.waitUntil(lambda: len(composer.attachments) == 1)
    passed = []
    composer.unused.connect(passed.append)
    paste(composer, picture())
    assert len(passed) == 1
    assert composer.text() == ""


def test_many_long_names_do_not_make_it_wider(qtbot, composer):
    before = composer.minimumSizeHint().width()
    for number in range(12):
        composer.attach_text(f"{number} {'long name ' * 20}.txt", "x")
    assert composer.minimumSizeHint().width() <= before + 100


def test_a_text_with_a_picture_of_itself_is_a_text(composer):
    data = picture()
    data.setText("from a spreadsheet")
    paste(composer, data)
    assert composer.text() == "from a spreadsheet"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a named pipe")
def test_a_pipe_is_refused_and_blocks_nothing(qtbot, composer, tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    composer.set_text("look")
    composer.attach([tmp_path / "pipe.txt"])
    qtbot.waitUntil(lambda: bool(composer.news) and composer.send_action.isEnabled())
    assert "pipe.txt" in composer.news[-1]

"""A question and an answer on the screen, in all their states."""

from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPlainTextEdit, QToolButton

from crane_app.library.chats import Attachment, Turn
from crane_app.pipelines.thoughts import Said
from crane_app.ui.chat.message import FOLDED, Question
from crane_app.ui.chat.reply import Reply

TURN = Turn(5, 1, 4, "assistant", "", (), "running", "/models/Qwen3-0.6B", {}, 0.0, 1, 1)
ASKED = Turn(4, 1, None, "user", "Why do cranes <b>dance</b>?", (), "done", "", {}, 0.0, 1, 1)


@pytest.fixture
def show(qtbot):
    def shown(card):
        qtbot.addWidget(card)
        card.resize(600, 300)
        card.show()
        return card

    return shown


def reply(show, **changes):
    return show(Reply(replace(TURN, **changes), "Qwen3-0.6B"))


def done(text="Because.", **changes):
    return replace(TURN, text=text, state="done", **changes)


def sign(card, name):
    return card.findChild(QToolButton, name)


# A question


def test_a_question_shows_its_words_as_they_were_typed(show):
    card = show(Question(ASKED))
    assert card.words.text() == "Why do cranes <b>dance</b>?"
    assert "Why do cranes" in card.accessibleName()


def test_a_long_question_is_folded_until_all_of_it_is_wanted(qtbot, show):
    card = show(Question(replace(ASKED, text="line\n" * 3000)))
    assert len(card.words.text()) < FOLDED + 10
    with qtbot.waitSignal(card.grew):
        qtbot.mouseClick(card.more, Qt.MouseButton.LeftButton)
    assert card.bubble.findChild(QPlainTextEdit).toPlainText().count("line") == 3000
    assert not card.more.isVisible()


def test_the_files_of_a_question_are_named(show):
    card = show(Question(replace(ASKED, attachments=(Attachment("a b 🐦.txt", "1\n2\n3"),))))
    assert any("a b 🐦.txt, 3 lines" in label.text() for label in card.bubble.findChildren(type(card.words).__base__))


def test_a_question_can_be_edited_and_asked_anew(qtbot, show):
    card = show(Question(ASKED))
    with qtbot.waitActive(card):
        card.activateWindow()
    edits = []
    card.edited.connect(lambda turn, text: edits.append((turn.id, text)))
    sign(card, "edit_question").click()
    sign(card, "edit_question").click()
    editor = card._editor
    assert editor.toPlainText() == ASKED.text
    editor.setPlainText("Why not?")
    qtbot.keyClick(editor, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert edits == [(4, "Why not?")]


def test_escape_leaves_the_question_as_it_was(qtbot, show):
    card = show(Question(ASKED))
    card.begin_edit()
    card._editor.setPlainText("Something else")
    qtbot.keyClick(card._editor, Qt.Key.Key_Escape)
    assert card._editor is None
    assert card.bubble.isVisible()


@pytest.mark.parametrize(
    ("return_sends", "modifier", "asked"),
    [
        (True, Qt.KeyboardModifier.NoModifier, True),
        (True, Qt.KeyboardModifier.ShiftModifier, False),
        (False, Qt.KeyboardModifier.NoModifier, False),
        (False, Qt.KeyboardModifier.ControlModifier, True),
    ],
)
def test_an_edited_question_is_asked_by_the_key_that_sends(qtbot, show, return_sends, modifier, asked):
    card = show(Question(ASKED))
    card.return_sends = return_sends
    edits = []
    card.edited.connect(lambda _turn, text: edits.append(text))
    card.begin_edit()
    qtbot.keyClick(card._editor, Qt.Key.Key_Return, modifier)
    assert edits == ([ASKED.text] if asked else [])
    assert asked or card._editor.toPlainText() == ASKED.text + "\n"


def test_an_emptied_question_is_not_asked(show):
    card = show(Question(ASKED))
    edits = []
    card.edited.connect(edits.append)
    card.begin_edit()
    card._editor.setPlainText("  \n")
    card.findChild(QToolButton, "ask_again").click()
    assert edits == []


# An answer


def test_an_answer_grows_from_its_pieces(qtbot, show):
    card = reply(show)
    card.wait(0)
    assert card.state.text() == "Waiting for the model…"
    card.wait(40)
    assert "40 %" in card.state.text()
    for piece in ("\n\nBe", "cause."):
        card.say(Said(piece, False))
    assert card.body.text() == "Because."
    assert card.state.isHidden()
    assert card.buttons.isHidden()
    card.end(done())
    assert card.buttons.isVisible()


def test_thoughts_are_folded_and_can_be_read(qtbot, show):
    card = reply(show)
    for piece in ("<think>", "Cranes are ", "birds."):
        card.say(Said(piece, True))
    assert card.thinking.isVisible()
    assert card.thinking.fold.text() == "Thinking…"
    card.say(Said("</think>", True))
    card.say(Said("\n\nYes.", False))
    assert card.thinking.fold.text() == "Thoughts"
    qtbot.mouseClick(card.thinking.fold, Qt.MouseButton.LeftButton)
    assert card.thinking._view.text() == "Cranes are birds."
    assert card.body.text() == "Yes."


def test_an_answer_without_thoughts_shows_no_fold(show):
    assert reply(show, text="Yes.", state="done").thinking.isHidden()


def test_an_answer_of_the_history_is_as_it_was(show):
    card = reply(show, text="<think>hm</think>\n\nYes.", state="done", facts={"tokens": 5, "speed": 12.34})
    assert (card.thinking.text(), card.body.text()) == ("hm", "Yes.")
    assert "5 tokens" in card.facts.text()
    assert "12.3 tok/s" in card.facts.text()


@pytest.mark.parametrize(
    ("state", "words", "goes_on"),
    [("stopped", "Stopped", True), ("length", "Cut", True), ("interrupted", "Interrupted", True), ("done", "", False)],
)
def test_how_an_answer_ended_is_said(show, state, words, goes_on):
    card = reply(show, text="So far", state=state)
    card.set_last(True)
    assert words in card.state.text()
    assert card.resume_button.isVisible() == goes_on
    card.set_last(False)
    assert not card.resume_button.isVisible()


def test_an_error_is_a_sentence_and_a_button(show):
    card = reply(show, state="error", facts={"error": "The prompt has 10 tokens. Shorten it."})
    asked = []
    card.regenerated.connect(lambda turn: asked.append(turn.id))
    assert card.notice.words() == "The prompt has 10 tokens. Shorten it."
    sign(card.notice, "retry").click()
    assert asked == [5]


def test_while_another_answer_is_made_nothing_that_would_disturb_it_can_be_clicked(show):
    card = reply(show, text="Yes.", state="stopped", version=2, versions=3)
    card.set_last(True)
    card.set_busy(True)
    disabled = {name for name in ("regenerate", "resume", "older", "newer") if not sign(card, name).isEnabled()}
    assert disabled == {"regenerate", "resume", "older", "newer"}
    assert sign(card, "copy_answer").isEnabled()


def test_versions_can_be_gone_through_where_there_are_some(show):
    card = reply(show, text="Yes.", state="done", version=1, versions=2)
    steps = []
    card.switched.connect(lambda turn, step: steps.append(step))
    assert not sign(card, "older").isEnabled()
    sign(card, "newer").click()
    assert steps == [1]
    assert card._version.text() == "1 / 2"
    assert reply(show, text="Yes.", state="done")._versions.isHidden()


def test_copy_with_the_keyboard_copies_the_message(qtbot, show):
    card = reply(show, text="Yes.", state="done")
    copies = []
    card.copied.connect(lambda turn, form: copies.append((turn.id, form)))
    card.setFocus()
    QTest.keySequence(card, QKeySequence(QKeySequence.StandardKey.Copy))
    assert copies == [(5, "text")]


def test_an_end_that_brings_text_never_seen_shows_it(show):
    card = reply(show)
    card.end(done("All at once."))
    assert card.body.text() == "All at once."


def test_heights_follow_the_width(qtbot, show):
    card = reply(show, text="word " * 400, state="done")
    qtbot.waitUntil(lambda: not card.body.busy())
    assert card.height_for(300) > card.height_for(700) > 50


def test_a_question_can_be_edited_with_the_keyboard_more_than_once(qtbot, show):
    card = show(Question(ASKED))
    with qtbot.waitActive(card):
        card.activateWindow()
    edits = []
    card.edited.connect(lambda _turn, text: edits.append(text))
    card.begin_edit()
    card.end_edit()
    card.begin_edit()
    card._editor.setPlainText("Why not?")
    qtbot.keyClick(card._editor, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert edits == ["Why not?"]

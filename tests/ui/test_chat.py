"""The chat view with a fake engine and a real history: what a person does, and sees."""

import pytest
from fakes import FakeConnection, FakePreferences, FakeShelf, card, on_disk
from hands import clipboard, files, picture, press
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QToolButton

from crane_app.library.catalogue import suited
from crane_app.library.chats import Chats
from crane_app.library.fit import memory
from crane_app.ui.chat import cards as module
from crane_app.ui.chat.message import Question
from crane_app.ui.chat.reply import Reply
from crane_app.ui.chat.view import ChatView
from crane_app.ui.models.downloads import Downloads
from crane_app.ui.worker import stop_all

MODEL = "/models/Qwen3-0.6B"


@pytest.fixture
def chats():
    made = Chats.in_memory()
    yield made
    made.close()


@pytest.fixture
def connection(qtbot):
    made = FakeConnection()
    yield made
    made.close()
    assert stop_all(20)


@pytest.fixture
def view(qtbot, chats, connection):
    made = ChatView(connection, chats, FakePreferences(model=MODEL), FakeShelf(on_disk()))
    qtbot.addWidget(made)
    made.resize(1000, 700)
    made.show()
    with qtbot.waitActive(made):
        made.activateWindow()
    made.enter()
    made.news, made.passed = [], []
    made.said.connect(made.news.append)
    made.sent.connect(lambda name, what: made.passed.append((name, what)))
    return made


def say(qtbot, view, text):
    """Type and send a question, and wait for its answer."""
    view.composer.set_text(text)
    qtbot.keyClick(view.composer.prompt, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not view.talk.running)


def shown(view):
    return [each.text() if isinstance(each, Question) else each.body.text() for each in view.transcript.widgets()]


def test_a_question_and_its_answer_are_seen(qtbot, view, connection):
    assert view.empty.isVisible()
    say(qtbot, view, "Why?")
    assert shown(view) == ["Why?", connection.engine.answer]
    assert view.transcript.isVisible()
    assert not view.empty.isVisible()
    assert view.composer.text() == ""
    assert view.list.title_of(view.talk.chat) == "Why?"


def test_what_is_typed_before_the_engine_is_up_is_sent_when_it_is(qtbot, view, connection):
    connection.become("starting")
    view.composer.set_text("Why?")
    qtbot.keyClick(view.composer.prompt, Qt.Key.Key_Return)
    assert shown(view) == ["Why?", ""]
    assert "Waiting" in view.transcript.widgets()[1].state.text()
    view.composer.set_text("typed meanwhile")
    connection.become("ready")
    qtbot.waitUntil(lambda: not view.talk.running)
    assert shown(view)[1] == connection.engine.answer
    assert view.composer.text() == "typed meanwhile"


def test_a_question_that_is_sent_twice_is_asked_once(qtbot, view, connection):
    connection.engine.held = True
    view.composer.set_text("Why?")
    qtbot.mouseDClick(view.composer.send_button, Qt.MouseButton.LeftButton)
    qtbot.mouseClick(view.composer.send_button, Qt.MouseButton.LeftButton)
    qtbot.keyClick(view.composer.prompt, Qt.Key.Key_Return)
    assert [turn.role for turn in view.talk.turns] == ["user", "assistant"]
    view.stop()
    connection.engine.let(1000)
    qtbot.waitUntil(lambda: not view.talk.running)


def test_another_conversation_is_another_column(qtbot, view):
    say(qtbot, view, "One?")
    first = view.talk.chat
    view.new()
    assert shown(view) == []
    assert view.empty.isVisible()
    say(qtbot, view, "Two?")
    view.open(first)
    assert shown(view)[0] == "One?"


def test_what_was_typed_and_not_sent_is_there_again(qtbot, view):
    say(qtbot, view, "One?")
    first = view.talk.chat
    view.composer.set_text("half a thou")
    view.new()
    assert view.composer.text() == ""
    view.open(first)
    assert view.composer.text() == "half a thou"


def test_a_long_conversation_is_built_from_its_end_and_earlier_parts_when_wanted(qtbot, view, chats):
    # GIVEN a conversation of more messages than are built at first
    chat, parent = chats.new("Long"), None
    for number in range(2 * module.AT_FIRST):
        parent = chats.add(chat, "user" if number % 2 == 0 else "assistant", f"message {number}", parent).id
    # WHEN it is opened
    view.open(chat)
    # THEN its end is there at once, what fills a few screens a moment later
    assert len(view.transcript.widgets()) == module.AT_ONCE
    assert shown(view)[-1] == f"message {2 * module.AT_FIRST - 1}"
    qtbot.waitUntil(lambda: len(shown(view)) == module.AT_FIRST)
    # AND what was before comes when the reader goes up
    view.transcript.earlier.emit()
    qtbot.waitUntil(lambda: len(shown(view)) == 2 * module.AT_FIRST)
    assert shown(view) == [f"message {number}" for number in range(2 * module.AT_FIRST)]


def test_an_answer_goes_on_in_a_conversation_that_was_left_and_come_back_to(qtbot, view, connection):
    connection.engine.held = True
    view.composer.set_text("Why?")
    qtbot.keyClick(view.composer.prompt, Qt.Key.Key_Return)
    connection.engine.let(9)
    qtbot.waitUntil(lambda: bool(view.talk.running) and "Cranes" in next(iter(view.talk.running.values())).text)
    first = view.talk.chat
    view.new()
    view.open(first)
    assert "Cranes" in shown(view)[1]
    connection.engine.let(1000)
    qtbot.waitUntil(lambda: not view.talk.running)
    assert shown(view)[1] == connection.engine.answer


def test_the_last_answer_can_be_copied_regenerated_and_switched_with_the_keyboard(qtbot, view, connection):
    say(qtbot, view, "Why?")
    press(
        qtbot,
        view.composer.prompt,
        Qt.Key.Key_C,
        Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier,
    )
    assert clipboard() == connection.engine.answer
    connection.engine.answer = "Another one."
    press(qtbot, view.composer.prompt, Qt.Key.Key_R)
    qtbot.waitUntil(lambda: shown(view)[1] == "Another one." and not view.talk.running)
    view.transcript.widgets()[1].findChild(QToolButton, "older").click()
    assert shown(view)[1].startswith("Cranes")


def test_a_question_is_edited_where_it_stands(qtbot, view, connection):
    say(qtbot, view, "Wy?")
    qtbot.keyClick(view.composer.prompt, Qt.Key.Key_Up)
    question = view.transcript.widgets()[0]
    question._editor.setPlainText("Why?")
    question.findChild(QToolButton, "ask_again").click()
    qtbot.waitUntil(lambda: not view.talk.running)
    assert shown(view) == ["Why?", connection.engine.answer]
    assert view.talk.turns[0].versions == 2


def test_a_question_that_is_being_edited_is_still_so_after_a_look_at_another_conversation(qtbot, view, connection):
    # GIVEN a question in the middle of being edited
    say(qtbot, view, "Wy?")
    chat = view.talk.chat
    view.recall()
    view.transcript.widgets()[0]._editor.setPlainText("Why do")
    # WHEN another conversation is looked at
    view.new()
    say(qtbot, view, "Other?")
    assert view.transcript.widgets()[0].unfinished() is None
    view.open(chat)
    # THEN the words are still there, and typing goes on in the composer
    question = view.transcript.widgets()[0]
    assert question._editor.toPlainText() == "Why do"
    assert not question._editor.hasFocus()
    # WHEN they are asked THEN they are not kept for another time
    question._editor.setPlainText("Why do cranes dance?")
    question.findChild(QToolButton, "ask_again").click()
    qtbot.waitUntil(lambda: not view.talk.running)
    view.new()
    view.open(chat)
    assert shown(view) == ["Why do cranes dance?", connection.engine.answer]
    # and the version before is as it was
    view.talk.switch(view.talk.turns[0], -1)
    assert view.transcript.widgets()[0].unfinished() is None


def test_an_edit_that_was_given_up_is_not_kept(qtbot, view):
    say(qtbot, view, "Wy?")
    chat = view.talk.chat
    view.recall()
    question = view.transcript.widgets()[0]
    question._editor.setPlainText("Why do")
    qtbot.keyClick(question._editor, Qt.Key.Key_Escape)
    view.new()
    view.open(chat)
    assert view.transcript.widgets()[0]._editor is None


def test_the_question_being_edited_comes_into_sight(qtbot, view, connection):
    # GIVEN a question above a long answer
    connection.engine.answer = "A line.\n\n" * 100
    say(qtbot, view, "Wy?")
    question = view.transcript.widgets()[0]
    qtbot.waitUntil(lambda: view.transcript.verticalScrollBar().value() > view.height())
    # WHEN it is edited from the field below
    qtbot.keyClick(view.composer.prompt, Qt.Key.Key_Up)
    # THEN it is seen, and has the keyboard
    room = view.transcript.viewport().rect()
    assert room.contains(question._editor.geometry().translated(question.pos()))
    # AND when it is left as it was, the field below has it again
    qtbot.keyClick(question._editor, Qt.Key.Key_Escape)
    assert view.composer.prompt.hasFocus()


def test_a_removed_end_can_be_brought_back(qtbot, view):
    say(qtbot, view, "One?")
    before = shown(view)
    view.transcript.widgets()[1].removed.emit(view.talk.turns[1])
    assert shown(view) == before[:1]
    view.undo.undo()
    assert shown(view) == before


def test_a_deleted_conversation_leaves_an_empty_one(qtbot, view):
    say(qtbot, view, "One?")
    chat = view.talk.chat
    view.delete_action.trigger()
    assert view.talk.chat is None
    assert view.empty.isVisible()
    view.list.undo.undo()
    assert view.talk.chat == chat


def test_an_answer_can_be_read_aloud_by_the_other_view(qtbot, view, connection):
    connection.engine.answer = "<think>hm</think>\n\n**Yes.**"
    say(qtbot, view, "Why?")
    view.transcript.widgets()[1].findChild(QToolButton, "read_answer").click()
    assert view.passed == [("read_aloud", "**Yes.**")]


def test_text_of_another_view_goes_below_what_is_typed(view):
    view.composer.set_text("Look at this:")
    view.receive("text of a picture")
    assert view.composer.text() == "Look at this:\n\ntext of a picture"


def test_files_are_offered_a_place_pictures_and_folders_are_not(qtbot, view, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    assert view.offer(files(tmp_path / "a.txt"))
    assert view.take(files(tmp_path / "a.txt"))
    qtbot.waitUntil(lambda: len(view.composer.attachments) == 1)
    for other in (files(tmp_path / "a.png"), files(tmp_path), picture()):
        assert not view.offer(other)
        assert not view.take(other)


def test_copying_as_a_command_gives_one_that_names_the_model(qtbot, view):
    say(qtbot, view, "Why?")
    view.transcript.widgets()[1].copied.emit(view.talk.turns[1], "command")
    assert clipboard().startswith(f"crane generate --model {MODEL} ")
    assert '"Why?"' in clipboard()


def test_the_tokens_are_counted_once_the_model_is_loaded(qtbot, view, connection):
    assert view.composer.counter.text() == ""
    connection.show(card("Qwen3-0.6B", folder=MODEL, context=40960))
    view.composer.set_text("one two three")
    qtbot.waitUntil(lambda: view.composer.counter.text().startswith("3 of 40"))


def test_a_conversation_that_is_too_long_is_marked(qtbot, view, connection):
    connection.show(card("Qwen3-0.6B", folder=MODEL, context=2))
    view.composer.set_text("one two three")
    qtbot.waitUntil(lambda: view.composer.counter.property("look") == "danger")


def test_the_model_to_begin_with_is_fetched_where_it_is_offered(qtbot, connection, chats):
    # GIVEN no model
    begun = []

    class Held:
        def __init__(self, repo):
            begun.append(repo)

        def steps(self):
            yield from ()

        def stop(self):
            pass

    preferences, shelf = FakePreferences(), FakeShelf()
    downloads = Downloads(preferences, Held)
    view = ChatView(connection, chats, preferences, shelf)
    qtbot.addWidget(view)
    view.show()
    # WHEN the offer is taken
    repo = view.empty.offer.repo
    view.empty.offer.buttons["download"].click()
    # THEN it comes, and the offer tells how far it is
    assert begun == [repo]
    assert view.empty.offer.buttons["pause"].isVisible()
    # WHEN it is here and chosen THEN there is nothing to offer any more
    qtbot.waitUntil(lambda: not downloads.running(repo))
    shelf.put(on_disk())
    preferences.set("model", MODEL)
    assert not view.empty._get.isVisible()


def test_a_computer_too_small_for_any_model_is_offered_none(qtbot, connection, chats, monkeypatch):
    monkeypatch.setattr("crane_app.library.fit.memory", lambda: 2**28)
    view = ChatView(connection, chats, FakePreferences(), FakeShelf())
    qtbot.addWidget(view)
    assert view.empty.offer is None
    assert not view.empty._get.isHidden()


def test_without_a_model_the_view_says_what_to_do(qtbot, connection, chats):
    view = ChatView(connection, chats, FakePreferences(), FakeShelf())
    qtbot.addWidget(view)
    passed = []
    view.sent.connect(lambda name, what: passed.append(name))
    assert not view.empty._get.isHidden()
    # a model to begin with is offered, with its size and whether it fits
    offer = view.empty.offer
    assert offer.repo == suited(memory())[0].repo
    assert "GB" in offer.about.text()
    assert "of memory" in offer.fits.text()
    view.empty.findChild(QToolButton, "get_model").click()
    assert passed == ["models"]
    # AND asking all the same gets a sentence, with the question kept
    view.composer.set_text("Why?")
    qtbot.keyClick(view.composer.prompt, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not view.talk.running)
    answer = view.transcript.widgets()[1]
    assert isinstance(answer, Reply)
    assert "Choose one" in answer.notice.words()
    # AND the way to one beside it
    answer.notice.findChild(QToolButton, "to_models").click()
    assert passed == ["models", "models"]


def test_leaving_keeps_the_draft_and_stops_the_answer(qtbot, view, connection, chats):
    say(qtbot, view, "One?")
    connection.engine.held = True
    view.composer.set_text("Two?")
    qtbot.keyClick(view.composer.prompt, Qt.Key.Key_Return)
    view.composer.set_text("not sent")
    view.leave()
    connection.engine.let(1000)
    qtbot.waitUntil(lambda: not view.talk.running)
    assert chats.chat(view.talk.chat).draft == "not sent"
    assert chats.path(view.talk.chat)[-1].state == "stopped"


def test_the_panel_and_the_list_can_be_shown_and_hidden(view):
    for action, panel in ((view.inspector_action, view.inspector), (view.list_action, view.list)):
        before = panel.isVisible()
        action.trigger()
        assert panel.isVisible() != before
        action.trigger()
        assert panel.isVisible() == before


def test_a_conversation_is_exported(qtbot, view, tmp_path):
    say(qtbot, view, "Why?")
    view.export.write(view.talk.chat, "markdown", tmp_path / "my chat 🐦.md")
    qtbot.waitUntil(lambda: (tmp_path / "my chat 🐦.md").exists() and bool(view.news))
    assert "Cranes stand" in (tmp_path / "my chat 🐦.md").read_text("utf-8")
    assert "my chat 🐦.md" in view.news[-1]


def test_an_export_that_fails_is_told(qtbot, view, tmp_path):
    say(qtbot, view, "Why?")
    view.export.write(view.talk.chat, "json", tmp_path / "no such folder" / "a.json")
    qtbot.waitUntil(lambda: any("a.json" in news or "no such folder" in news for news in view.news))


def test_what_is_typed_before_the_first_question_survives_the_program(qtbot, view, chats, connection):
    view.composer.set_text("half a thought")
    qtbot.waitUntil(lambda: chats.loose_draft() == "half a thought")
    again = ChatView(connection, chats, FakePreferences(model=MODEL), FakeShelf())
    qtbot.addWidget(again)
    assert again.composer.text() == "half a thought"
    say(qtbot, again, "a whole one")
    assert chats.loose_draft() == ""


# What broke once


def long_chat(chats, count=12):
    chat, parent = chats.new("Long"), None
    for number in range(count):
        parent = chats.add(chat, "user" if number % 2 == 0 else "assistant", f"message {number}", parent).id
    return chat


def test_tab_and_then_another_conversation_leave_the_column_whole(qtbot, view, chats):
    one, other = long_chat(chats), long_chat(chats)
    view.open(one)
    for _ in range(5):
        qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
    view.open(other)
    view.open(one)
    assert shown(view)[-1] == "message 11"
    view.transcript.to_end()


def test_a_focused_message_may_be_in_a_conversation_that_is_left(qtbot, view, chats):
    view.open(long_chat(chats))
    for message in view.transcript.widgets():
        if message.isVisible():
            message.setFocus()
    view.new()
    assert shown(view) == []


@pytest.mark.parametrize("signs", ["***", "#", "---", "> "])
def test_a_question_of_signs_alone_can_be_asked(qtbot, view, connection, signs):
    say(qtbot, view, signs)
    assert shown(view)[1] == connection.engine.answer


def test_a_conversation_that_cannot_be_opened_leaves_everything_as_it_is(qtbot, view, chats, connection):
    say(qtbot, view, "One?")
    view.composer.set_text("half a thought")
    view.open(4711)
    assert shown(view)[0] == "One?"
    assert view.composer.text() == "half a thought"
    assert chats.chat(view.talk.chat).draft in ("", "half a thought")


def test_files_wait_in_the_conversation_in_which_they_were_attached(qtbot, view):
    say(qtbot, view, "One?")
    first = view.talk.chat
    view.composer.attach_text("a.txt", "a")
    view.new()
    assert view.composer.attachments == []
    view.open(first)
    assert [each.name for each in view.composer.attachments] == ["a.txt"]


def test_a_number_that_was_just_set_holds_for_the_question_and_for_no_other_conversation(qtbot, view, connection):
    say(qtbot, view, "One?")
    view.talk.set_options({"presence_penalty": 0.5, "temperature": 0.333})
    view.inspector.show_values("", view.talk.options)
    view.inspector.boxes["top_k"].setValue(7)
    say(qtbot, view, "Two?")
    asked = connection.engine.requests[-1].asked
    assert (asked.top_k, asked.presence_penalty, asked.temperature) == (7, 0.5, 0.333)
    view.inspector.boxes["top_k"].setValue(9)
    first = view.talk.chat
    view.new()
    assert view.talk.options == {}
    view.open(first)
    assert view.talk.options["top_k"] == 9


def test_a_conversation_deleted_while_it_is_answered_is_answered_no_more(qtbot, view, connection):
    connection.engine.held = True
    view.composer.set_text("Why?")
    qtbot.keyClick(view.composer.prompt, Qt.Key.Key_Return)
    view.delete_action.trigger()
    assert all(each.stopped for each in view.talk.running.values())
    connection.engine.let(1000)
    qtbot.waitUntil(lambda: not view.talk.running)


def test_messages_that_come_late_offer_what_the_last_one_does_only_if_they_are_it(qtbot, view, chats):
    chat, parent = chats.new("Long"), None
    for number in range(12):
        state = "done" if number % 2 == 0 else "stopped"
        role = "user" if number % 2 == 0 else "assistant"
        parent = chats.add(chat, role, f"message {number}", parent, state=state).id
    view.open(chat)
    qtbot.waitUntil(lambda: len(shown(view)) == 12)
    offering = [each for each in view.transcript.widgets() if isinstance(each, Reply)]
    assert [not each.resume_button.isHidden() for each in offering] == [False] * 5 + [True]


def test_a_suggestion_goes_below_what_is_typed(view):
    view.composer.set_text("mine")
    view.empty.suggested.emit("theirs")
    assert view.composer.text() == "mine\n\ntheirs"


def test_settings_change_a_conversation_that_has_not_begun_unless_somebody_changed_it(view):
    view._preferences.set("temperature", 0.4)
    assert view.talk.options == {"temperature": 0.4}
    view.talk.set_options({"temperature": 1.5})
    view._preferences.set("temperature", 0.2)
    assert view.talk.options == {"temperature": 1.5}


def test_an_answer_whose_end_could_not_be_written_can_be_asked_for_again(qtbot, view, chats):
    chat = chats.new("t")
    asked = chats.add(chat, "user", "Why?")
    chats.add(chat, "assistant", "So far", asked.id, state="running")
    view.open(chat)
    assert view.talk.turns[-1].state == "interrupted"
    assert view.transcript.widgets()[1].findChild(QToolButton, "regenerate").isEnabled()

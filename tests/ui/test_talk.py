"""What is asked and what comes of it, without a widget: a fake engine, a real history."""

import pytest
from fakes import FakeConnection, FakePreferences, FakeReadiness

from crane_app.errors import BadInput, CraneError
from crane_app.library.chats import Attachment, Chats
from crane_app.ui.chat.talk import Talk
from crane_app.ui.worker import stop_all


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
def talk(chats, connection):
    return Talk(connection, chats, FakePreferences(model="/models/Qwen3-0.6B", **{"system-prompt": "Be brief."}))


def idle(talk):
    return not talk.running


def texts(talk):
    return [turn.text for turn in talk.turns]


def answered(qtbot, talk, *questions):
    for question in questions:
        assert talk.ask(question)
        qtbot.waitUntil(lambda: idle(talk))


def held(qtbot, talk, connection, pieces=2):
    """An answer under way of which some pieces have come."""
    connection.engine.held = True
    said = []
    talk.said.connect(lambda _id, piece: said.append(piece.text))
    assert talk.ask("Why?")
    qtbot.waitUntil(lambda: connection.engine.at_once > 0)
    connection.engine.let(7)  # five events of loading, and two looks at the template
    qtbot.waitUntil(lambda: bool(connection.engine.requests))
    connection.engine.let(pieces)
    qtbot.waitUntil(lambda: len(said) >= pieces)
    return said


def test_a_question_is_kept_and_answered(qtbot, talk, chats, connection):
    # WHEN something is asked
    answered(qtbot, talk, "Why do cranes stand in water?")
    # THEN both are in the history, under the question's words
    assert texts(talk) == ["Why do cranes stand in water?", connection.engine.answer]
    assert [turn.text for turn in chats.path(talk.chat)] == texts(talk)
    assert chats.chat(talk.chat).title == "Why do cranes stand in water?"
    assert talk.turns[-1].state == "done"


def test_a_question_asked_before_the_engine_is_up_waits_for_it(qtbot, talk, connection):
    # GIVEN an engine that is starting
    connection.become("starting")
    # WHEN something is asked
    assert talk.ask("Why?")
    assert talk.busy
    assert connection.engine.requests == []
    # THEN it is answered once the engine is there
    connection.become("ready")
    qtbot.waitUntil(lambda: idle(talk))
    assert talk.turns[-1].state == "done"


def test_only_one_answer_is_made_at_a_time(qtbot, talk, connection):
    held(qtbot, talk, connection)
    turns = list(talk.turns)
    # WHEN everything that would disturb it is tried
    assert not talk.ask("And?")
    assert not talk.edit(turns[0], "What?")
    assert not talk.regenerate(turns[1])
    assert not talk.resume(turns[1])
    assert not talk.remove(turns[0])
    talk.switch(turns[0], 1)
    # THEN nothing has changed
    assert talk.turns == turns
    assert len(connection.engine.requests) == 1
    talk.stop()


def test_nothing_is_asked_with_nothing(talk):
    assert not talk.ask("  \n ")
    assert talk.chat is None


def test_a_stop_is_seen_at_once_and_nothing_comes_after_it(qtbot, talk, connection):
    # GIVEN an answer under way
    said = held(qtbot, talk, connection)
    ended = []
    talk.ended.connect(lambda turn: ended.append(turn.state))
    # WHEN it is stopped
    talk.stop()
    # THEN it is over before the engine has heard of it, and another can be asked
    assert ended == ["stopped"]
    assert not talk.busy
    seen = list(said)
    connection.engine.let(1000)
    qtbot.waitUntil(lambda: idle(talk))
    assert said == seen
    assert talk.turns[-1].state == "stopped"
    assert talk.turns[-1].text == "".join(said)
    assert talk.chats.turn(talk.turns[-1].id).text == "".join(said)


def test_a_second_stop_does_nothing(qtbot, talk, connection):
    held(qtbot, talk, connection)
    ended = []
    talk.ended.connect(ended.append)
    talk.stop()
    talk.stop()
    assert len(ended) == 1


def test_regenerating_keeps_the_answer_before_as_a_version(qtbot, talk, connection):
    answered(qtbot, talk, "Why?")
    connection.engine.answer = "Another answer."
    assert talk.regenerate(talk.turns[-1])
    qtbot.waitUntil(lambda: idle(talk))
    assert texts(talk) == ["Why?", "Another answer."]
    assert (talk.turns[-1].version, talk.turns[-1].versions) == (2, 2)
    # WHEN the one before is wanted back
    talk.switch(talk.turns[-1], -1)
    assert talk.turns[-1].text.startswith("Cranes stand")


def test_editing_a_question_keeps_what_followed_it(qtbot, talk, connection):
    answered(qtbot, talk, "One?", "Two?")
    first = talk.turns[0]
    assert talk.edit(first, "Another one?")
    qtbot.waitUntil(lambda: idle(talk))
    assert texts(talk)[::2] == ["Another one?"]
    # WHEN the version before is switched to
    talk.switch(talk.turns[0], -1)
    # THEN all that followed it is there again
    assert texts(talk)[::2] == ["One?", "Two?"]


def test_what_is_deleted_of_a_conversation_takes_along_what_was_computed(qtbot, chats, connection):
    # GIVEN a conversation that is kept ready
    readiness = FakeReadiness()
    talk = Talk(connection, chats, FakePreferences(model="/m"), readiness)
    answered(qtbot, talk, "One?", "Two?")
    assert [request.owner for request in connection.engine.requests] == [f"owner of {talk.chat}"] * 2
    # WHEN its end is removed
    talk.remove(talk.turns[2])
    # THEN nothing computed is left of it; an edit and another answer leave what there is
    assert readiness.forgotten == [talk.chat]
    talk.edit(talk.turns[0], "Three?")
    qtbot.waitUntil(lambda: idle(talk))
    talk.regenerate(talk.turns[1])
    qtbot.waitUntil(lambda: idle(talk))
    assert readiness.forgotten == [talk.chat]


def test_a_removed_turn_and_what_follows_can_be_brought_back(qtbot, talk):
    answered(qtbot, talk, "One?", "Two?")
    before = texts(talk)
    second = talk.turns[2]
    assert talk.remove(second)
    assert texts(talk) == before[:2]
    talk.restore(second)
    assert texts(talk) == before


def test_an_answer_goes_on_while_another_conversation_is_looked_at(qtbot, talk, connection):
    # GIVEN an answer under way
    held(qtbot, talk, connection)
    first = talk.chat
    # WHEN another conversation is begun
    talk.new()
    assert not talk.busy
    connection.engine.let(1000)
    qtbot.waitUntil(lambda: idle(talk))
    # THEN the first has its whole answer
    talk.open(first)
    assert texts(talk)[-1] == connection.engine.answer


def test_a_failure_is_told_in_its_place_and_the_question_stays(qtbot, talk, connection):
    connection.engine.refusal = BadInput("The prompt has 10 tokens; the model's context holds 5. Shorten it.")
    answered(qtbot, talk, "Why?")
    assert talk.turns[-1].state == "error"
    assert "Shorten it" in talk.turns[-1].facts["error"]
    # AND trying again works
    assert talk.regenerate(talk.turns[-1])
    qtbot.waitUntil(lambda: idle(talk))
    assert talk.turns[-1].state == "done"


def test_without_an_engine_the_sentence_stands_where_the_answer_would(qtbot, talk, connection, chats):
    def fails(_make):
        from crane_app.ui.worker import Worker

        def steps():
            raise CraneError("The engine could not be started: no room.")
            yield

        worker = Worker(steps())
        worker.start()
        return worker

    connection.run = fails
    answered(qtbot, talk, "Why?")
    assert chats.turn(talk.turns[-1].id).facts["error"] == "The engine could not be started: no room."


def test_an_answer_that_was_stopped_can_go_on(qtbot, talk, connection):
    said = held(qtbot, talk, connection)
    talk.stop()
    connection.engine.let(1000)
    qtbot.waitUntil(lambda: idle(talk))
    begun = "".join(said)
    connection.engine.answer = " and so on."
    assert talk.resume(talk.turns[-1])
    connection.engine.let(1000)
    qtbot.waitUntil(lambda: idle(talk))
    assert talk.turns[-1].text == begun + " and so on."


def test_options_and_system_text_belong_to_the_conversation(qtbot, talk, connection):
    talk.set_system("Rhyme.")
    talk.set_options({"temperature": 0.1})
    answered(qtbot, talk, "Why?")
    (request,) = connection.engine.requests
    assert request.messages[0]["content"] == "Rhyme."
    assert request.asked.temperature == 0.1
    first = talk.chat
    talk.new()
    assert (talk.system, talk.options) == ("Be brief.", {})
    talk.open(first)
    assert (talk.system, talk.options) == ("Rhyme.", {"temperature": 0.1})


def test_files_go_with_the_question(qtbot, talk, connection):
    assert talk.ask("", (Attachment("notes.txt", "cranes"),))
    qtbot.waitUntil(lambda: idle(talk))
    assert "notes.txt" in connection.engine.requests[0].messages[-1]["content"]
    assert talk.chats.chat(talk.chat).title == "notes.txt"


def test_a_history_that_refuses_is_told_and_what_was_typed_is_not_taken(talk, monkeypatch):
    def full(*_args, **_options):
        raise CraneError("The disk is full.")

    monkeypatch.setattr(talk.chats, "new", full)
    told = []
    talk.failed.connect(told.append)
    assert not talk.ask("Why?")
    assert told == ["The disk is full."]


def test_all_answers_are_stopped_when_the_window_closes(qtbot, talk, connection, chats):
    held(qtbot, talk, connection)
    first = talk.chat
    talk.new()
    talk.stop_all()
    assert chats.path(first)[-1].state == "stopped" or talk.running
    connection.engine.let(1000)
    qtbot.waitUntil(lambda: idle(talk))
    assert chats.path(first)[-1].state == "stopped"


def test_a_new_conversation_begins_as_the_preferences_say(talk):
    talk._preferences.values |= {"temperature": 0.2, "max-tokens": 100, "think": "no", "top-p": None}
    talk.new()
    assert talk.options == {"temperature": 0.2, "max_tokens": 100, "think": False}
    talk._preferences.values["think"] = "auto"
    talk.new()
    assert "think" not in talk.options


def test_a_question_whose_answer_has_no_place_is_not_kept_twice(qtbot, talk, chats, monkeypatch):
    add = chats.add

    def full(chat, role, *rest, **more):
        if role == "assistant":
            raise CraneError("The disk is full.")
        return add(chat, role, *rest, **more)

    monkeypatch.setattr(chats, "add", full)
    assert not talk.ask("Why?")
    assert talk.turns == []
    monkeypatch.setattr(chats, "add", add)
    answered(qtbot, talk, "Why?")
    assert texts(talk)[::2] == ["Why?"]

"""An answer that is kept: without an engine, with a history on disk."""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crane_app.cli.messages import read_messages
from crane_app.engine.request import (
    End,
    Event,
    Job,
    ModelCard,
    Part,
    Piece,
    Progress,
    Request,
    Stats,
    Stream,
    Usage,
    failed,
)
from crane_app.errors import BadCheckpoint, CraneError, DeviceLost, NotEnoughMemory
from crane_app.library.chats import Attachment, Chats, Turn
from crane_app.pipelines import conversation
from crane_app.pipelines.conversation import Answer, Ending, Loading, Model, as_command, messages_of, title_of
from crane_app.pipelines.readiness import Readiness

CARD = ModelCard("tiny", "/m/tiny", "Tiny", "torch", "cpu", "float32", 100, 50, 1, True, True)
MODEL = Model("/m/tiny")
DONE = End("stop", Usage(prompt_tokens=3, output_tokens=2, first_s=1.0, total_s=2.0, seed=7))


class Engine:
    """Says `script`; a callable in it is called when its time comes. prompt: what the template ends a prompt with."""

    def __init__(self, *script: Event | Callable[[], object], prompt: str = "", load: tuple[Event, ...] = ()):
        self.script, self.prompt = script, prompt
        self.loading = load or (Progress(1, 2), Part(CARD), DONE)
        self.requests: list[Request] = []
        self.cancelled = threading.Event()
        self.loads: list[str] = []

    def models(self) -> list[ModelCard]:
        return []

    def stats(self) -> Stats:
        return Stats("idle", 0, 0, 0, 0, 0, 0, 0, 0.0, 1)

    def load(self, folder: str, *how: Any) -> Stream:
        self.loads.append(folder)
        stream = Stream("l", lambda: None)
        for event in self.loading:
            stream.put(event)
        return stream

    def open(self, job: Job) -> Stream:
        stream = Stream("j", lambda: None)
        stream.put(Part([1, 2] if job.kind == "tokenize" else self.prompt))
        stream.put(DONE)
        return stream

    def submit(self, request: Request) -> Stream:
        self.requests.append(request)
        stream = Stream("r", self.cancelled.set)
        threading.Thread(target=self._say, args=(stream,), daemon=True).start()
        return stream

    def _say(self, stream: Stream) -> None:
        for each in self.script:
            if callable(each):
                each()
            else:
                stream.put(each)
        if not any(isinstance(each, End) for each in self.script):
            assert self.cancelled.wait(20)
            stream.put(End("cancelled"))


@pytest.fixture
def chats(tmp_path: Path) -> Iterator[Chats]:
    made = Chats.open(tmp_path / "chats.db")
    yield made
    made.close()


@pytest.fixture
def turn(chats: Chats) -> Turn:
    """The place of an answer to a question."""
    chat = chats.new("A title", "/m/tiny", "Be brief.", {"temperature": 0.5, "seed": 7})
    asked = chats.add(chat, "user", "Why?")
    return chats.add(chat, "assistant", "", asked.id, state="running", model="/m/tiny")


def run(answer: Answer, engine: Any) -> tuple[list[Any], Ending]:
    """What came, and how it ended."""
    steps, came = answer.steps(engine), []
    while True:
        try:
            came.append(next(steps))
        except StopIteration as stop:
            return came, stop.value


def text_of(came: list[Any], thought: bool = False) -> str:
    return "".join(each.text for each in came if not isinstance(each, Loading) and each.thought is thought)


def test_what_is_computed_for_a_kept_answer_has_its_conversation_as_owner(chats, turn, tmp_path):
    wanted = [True, False]
    readiness = Readiness(lambda: wanted.pop(0), root=tmp_path / "store")
    for kept in (True, False):
        engine = Engine(Piece("Because", (1,), finish="stop"), DONE)
        run(Answer(chats, turn, MODEL, readiness), engine)
        owner = engine.requests[0].owner
        assert owner.startswith(f"chat-{turn.chat}-") if kept else owner == ""
    engine = Engine(Piece("Because", (1,), finish="stop"), DONE)
    run(Answer(chats, turn, MODEL), engine)
    assert engine.requests[0].owner == ""


def test_the_owner_is_asked_before_the_words_are_read(chats, turn):
    """So that words deleted in between are not kept for an owner who came after them."""

    class Deleting:
        def owner(self, chat: int) -> str:
            chats.set_system(chat, "What is left.")
            return "chat-1-00000000"

    engine = Engine(Piece("Because", (1,), finish="stop"), DONE)
    run(Answer(chats, turn, MODEL, Deleting()), engine)
    assert engine.requests[0].messages[0]["content"] == "What is left."


def test_an_answer_comes_and_is_kept(chats, turn):
    engine = Engine(Piece("Because", (1,)), Piece(" it is.", (2,), finish="stop"), DONE)
    came, ending = run(Answer(chats, turn, MODEL), engine)
    assert came[0] == Loading(50)
    assert text_of(came) == "Because it is."
    assert ending.state == "done"
    kept = chats.turn(turn.id)
    assert (kept.text, kept.state) == ("Because it is.", "done")
    assert kept.facts["seed"] == 7
    assert kept.facts["tokens"] == 2
    assert kept.facts["speed"] == 1.0


def test_the_model_is_told_the_conversation_as_it_stands(chats, turn):
    engine = Engine(DONE)
    run(Answer(chats, turn, MODEL), engine)
    (request,) = engine.requests
    assert [dict(each) for each in request.messages or ()] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
    ]
    assert (request.asked.temperature, request.asked.seed, request.endpoint) == (0.5, 7, "app")


def test_what_has_been_said_is_on_disk_before_the_answer_is_over(chats, turn):
    # GIVEN an answer that halts in the middle
    kept = threading.Event()

    def until_kept() -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until and chats.turn(turn.id).text != "So far":
            time.sleep(0.01)
        kept.set()

    # THEN what came is kept while it halts
    engine = Engine(Piece("So far", (1,)), until_kept, Piece(" so good", (2,)), DONE)
    run(Answer(chats, turn, MODEL), engine)
    assert kept.is_set()
    assert chats.turn(turn.id).text == "So far so good"


def test_a_stop_keeps_what_came(chats, turn):
    engine = Engine(Piece("So", (1,)), Piece(" far", (2,)))
    answer = Answer(chats, turn, MODEL)
    steps = answer.steps(engine)
    came: list[Any] = []
    while text_of(came) != "So far":
        came.append(next(steps))
    answer.stop()
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert engine.cancelled.is_set()
    assert end.value.value.state == "stopped"
    assert (chats.turn(turn.id).text, chats.turn(turn.id).state) == ("So far", "stopped")


def test_a_stop_before_there_is_an_engine_asks_nothing_of_it(chats, turn):
    engine = Engine(DONE)
    answer = Answer(chats, turn, MODEL)
    answer.stop()
    assert chats.turn(turn.id).state == "stopped"
    came, ending = run(answer, engine)
    assert (came, ending.state, engine.loads, engine.requests) == ([], "stopped", [], [])


def test_a_stop_while_the_model_loads_makes_no_answer(chats, turn):
    engine = Engine(DONE, load=(Progress(1, 4), Progress(2, 4), Part(CARD), DONE))
    answer = Answer(chats, turn, MODEL)
    steps = answer.steps(engine)
    assert next(steps) == Loading(25)
    answer.stop()
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert (end.value.value.state, engine.requests) == ("stopped", [])


@pytest.mark.parametrize(
    "error", [BadCheckpoint("The weights are damaged."), DeviceLost("The engine stopped. What came so far is kept.")]
)
def test_an_error_is_a_sentence_in_the_history_beside_what_came(chats, turn, error):
    engine = Engine(Piece("Well", (1,)), failed(error))
    came, ending = run(Answer(chats, turn, MODEL), engine)
    assert (text_of(came), ending.state, ending.error) == ("Well", "error", str(error))
    kept = chats.turn(turn.id)
    assert (kept.text, kept.state, kept.facts["error"]) == ("Well", "error", str(error))


@pytest.mark.parametrize(
    ("error", "remedy"),
    [(BadCheckpoint("No weights."), "models"), (NotEnoughMemory("No room."), "models"), (DeviceLost("Gone."), None)],
)
def test_a_model_that_does_not_load_is_told_and_where_to_find_another(chats, turn, error, remedy):
    _, ending = run(Answer(chats, turn, MODEL), Engine(load=(failed(error),)))
    assert (ending.state, ending.error, ending.facts.get("remedy")) == ("error", str(error), remedy)
    assert chats.turn(turn.id).facts.get("remedy") == remedy


def test_without_a_model_the_sentence_says_what_to_do(chats, turn):
    _, ending = run(Answer(chats, turn, Model("")), Engine(DONE))
    assert ending.state == "error"
    assert "Choose one" in ending.error


def test_a_thought_that_the_template_opens_is_a_thought_here_too(chats, turn):
    engine = Engine(Piece("hm</think>\n\nYes", (1,)), DONE, prompt="<|im_start|>assistant\n<think>\n")
    came, _ = run(Answer(chats, turn, MODEL), engine)
    assert text_of(came, thought=True) == "<think>hm</think>"
    assert text_of(came) == "\n\nYes"
    assert chats.turn(turn.id).text == "<think>hm</think>\n\nYes"


def test_a_resumed_answer_goes_on_where_it_stopped(chats, turn):
    chats.update(turn.id, text="<think>hm</think>One, two", state="length")
    engine = Engine(Piece(", three", (1,)), DONE, prompt="<think>")
    _, ending = run(Answer(chats, chats.turn(turn.id), MODEL), engine)
    (request,) = engine.requests
    assert request.messages is not None
    assert request.template["continue_final"] is True
    assert dict(request.messages[-1]) == {"role": "assistant", "content": "One, two"}
    assert (chats.turn(turn.id).text, ending.state) == ("<think>hm</think>One, two, three", "done")


def test_a_history_that_cannot_be_written_does_not_cost_the_answer(chats, turn, monkeypatch):
    def full(*_: Any, **__: Any) -> None:
        raise CraneError("The disk is full.")

    monkeypatch.setattr(chats, "update", full)
    came, ending = run(Answer(chats, turn, MODEL), Engine(Piece("All of it", (1,)), DONE))
    assert (text_of(came), ending.state, ending.unkept) == ("All of it", "done", "The disk is full.")


def test_an_answer_that_is_abandoned_is_marked_as_such(chats, turn):
    steps = Answer(chats, turn, MODEL).steps(Engine(Piece("So far", (1,))))
    while isinstance(next(steps), Loading):
        pass
    steps.close()
    assert (chats.turn(turn.id).text, chats.turn(turn.id).state) == ("So far", "interrupted")


def test_a_model_that_is_loaded_from_that_folder_is_used_as_it_is(chats, turn):
    engine = Engine(DONE)
    engine.models = lambda: [CARD]  # type: ignore[method-assign]
    run(Answer(chats, turn, Model("/m/../m/tiny")), engine)
    assert engine.loads == ["/m/tiny"] or engine.loads == ["/m/../m/tiny"]


# What the model is told


def asked(chats: Chats, *texts: str, files: tuple[Attachment, ...] = ()) -> list[Turn]:
    chat, parent, made = chats.new("t"), None, []
    for number, text in enumerate(texts):
        turn = chats.add(chat, "assistant" if number % 2 else "user", text, parent, files if number == 0 else ())
        made.append(turn)
        parent = turn.id
    return made


def test_thoughts_and_answers_that_never_came_are_not_told_to_the_model(chats):
    turns = asked(chats, "One?", "<think>hm</think>Yes.", "Two?", "", "Three?")
    assert [(m.role, m.content) for m in messages_of("", turns)] == [
        ("user", "One?"),
        ("assistant", "Yes."),
        ("user", "Two?\n\nThree?"),
    ]


def test_the_fence_around_a_file_is_longer_than_any_in_it(chats):
    (turn,) = asked(chats, "Look:", files=(Attachment("a b.md", "````\ncode\n````"),))
    (message,) = messages_of("", [turn])
    assert message.content == "Look:\n\na b.md:\n`````\n````\ncode\n````\n`````"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Why do cranes stand on one leg?", "Why do cranes stand on one leg?"),
        ("\n\n# A heading\nmore", "A heading"),
        ("```\ncode\n```", "code"),
        ("", ""),
        ("x" * 100, "x" * 60 + "…"),
        ("word " * 30, "word word word word word word word word word word word word…"),
        ("鶴は千年" * 30, ("鶴は千年" * 15) + "…"),
    ],
)
def test_a_title_is_the_first_line_cut_at_a_word(text, title):
    assert title_of(text) == title


@pytest.mark.skipif(sys.platform == "win32", reason="a command for a POSIX shell")
def test_the_command_hands_over_the_same_conversation_and_every_knob(chats, tmp_path):
    # GIVEN a conversation with quotes, a here-document's end and an emoji in it, and a model with a bad name
    folder = tmp_path / "it's a model 🐦"
    folder.mkdir()
    (folder / "generation_config.json").write_text('{"top_k": 20}')
    question, answer = asked(chats, 'It\'s "so" $HOME\nEND\n`ls` 🐦', "Yes.")
    chats.update(answer.id, facts={"seed": 42})
    command = as_command(Model(str(folder)), "Be\nbrief", [question], chats.turn(answer.id), {"temperature": 0.3})
    # WHEN a shell runs it, with a program in the place of crane that tells what it was given
    spy = tmp_path / "crane"
    spy.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\0" "$word"; done >args\ncat >stdin\n')
    spy.chmod(0o755)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True)
    # THEN the flags are there once each, and the conversation is what crane generate reads
    words = (tmp_path / "args").read_bytes().decode().split("\0")[:-1]
    assert words[:3] == ["generate", "--model", str(folder)]
    given = dict(zip(words[3::2], words[4::2], strict=False))
    assert (given["--temperature"], given["--top-k"], given["--seed"]) == ("0.3", "20", "42")
    assert given["--messages"] == "-"
    (tmp_path / "m.json").write_bytes((tmp_path / "stdin").read_bytes())
    assert [dict(m) for m in read_messages(tmp_path / "m.json")] == [
        {"role": "system", "content": "Be\nbrief"},
        {"role": "user", "content": question.text},
    ]


def test_the_command_takes_flags_that_the_program_knows(chats, tmp_path):
    from crane_app.cli.main import parser

    question, answer = asked(chats, "Why?", "Because.")
    command = as_command(Model("/m", "torch", "cpu", "float32"), "", [question], answer, {"think": False, "seed": 3})
    line = command.splitlines()[0].removesuffix(" <<'END'")
    args = parser().parse_args(shlex.split(line)[1:])
    assert (args.model, args.seed, args.think, args.dtype) == ("/m", 3, False, "float32")


def test_tokens_are_counted_with_the_template(chats):
    count = conversation.count_tokens(Engine(), "tiny", messages_of("", asked(chats, "Why?")), {"think": True})  # type: ignore[arg-type]
    assert count == 2

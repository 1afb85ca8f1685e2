"""Chat without an engine: what is asked for, what comes out, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crane_app.engine.request import Asked, End, Event, Job, Part, Piece, Request, Stream, Usage
from crane_app.errors import BadInput, DeviceLost
from crane_app.pipelines.chat import MOST_TEXT, Chat, Message, checked, speeds
from crane_app.pipelines.thoughts import Thoughts, spoken

HELLO = [Message("user", "hello")]
DONE = End("stop", Usage(prompt_tokens=3, output_tokens=2))


class Scripted:
    """An engine that says what it was given; one whose script has no end says it when it is cancelled."""

    def __init__(self, *script: Event, tokens: Iterable[int] = (), text: str = "") -> None:
        self.script, self.tokens, self.text = script, list(tokens), text
        self.requests: list[Request] = []
        self.cancelled = 0

    def submit(self, request: Request) -> Stream:
        self.requests.append(request)
        stream = Stream("r1", lambda: self._cancel(stream))
        for event in self.script:
            stream.put(event)
        return stream

    def open(self, job: Job) -> Stream:
        stream = Stream("j1", lambda: None)
        stream.put(Part(self.tokens if job.kind == "tokenize" else self.text))
        stream.put(DONE)
        return stream

    def _cancel(self, stream: Stream) -> None:
        self.cancelled += 1
        stream.put(End("cancelled", Usage(output_tokens=1)))


def chat(*script: Event, **how: Any) -> tuple[Chat, Any]:
    engine: Any = Scripted(*script, **how)
    return Chat(engine, "tiny"), engine


def test_the_text_comes_in_its_pieces_and_then_the_usage():
    talk, engine = chat(Piece("Hi", (1,)), Piece("", (2,)), Piece("!", (3,), finish="stop"), DONE)
    assert list(talk.reply(HELLO, Asked(seed=4), enable_thinking=False)) == ["Hi", "!"]
    assert talk.end == DONE
    assert talk.usage.prompt_tokens == 3
    assert engine.cancelled == 0
    (request,) = engine.requests
    assert request.messages == ({"role": "user", "content": "hello"},)
    assert (request.model, request.asked.seed, request.template) == ("tiny", 4, {"enable_thinking": False})


def test_closing_the_generator_cancels():
    talk, engine = chat(Piece("Hi", (1,)))
    answer: Any = talk.reply(HELLO)
    assert next(answer) == "Hi"
    answer.close()
    assert engine.cancelled == 1
    assert talk.end is not None
    assert (talk.end.reason, talk.usage.output_tokens) == ("cancelled", 1)


def test_cancelling_from_another_thread_ends_the_generator():
    talk, _ = chat(Piece("Hi", (1,)))
    answer = talk.reply(HELLO)
    assert next(answer) == "Hi"
    threading.Timer(0.05, talk.cancel).start()
    assert list(answer) == []
    assert talk.end is not None
    assert talk.end.reason == "cancelled"


def test_cancelling_without_an_answer_is_nothing():
    chat()[0].cancel()


def test_an_error_comes_after_the_text_so_far_as_its_own_class():
    talk, _ = chat(Piece("Hi", (1,)), End("error", error="The engine stopped.", kind="DeviceLost"))
    answer = talk.reply(HELLO)
    assert next(answer) == "Hi"
    with pytest.raises(DeviceLost, match="The engine stopped"):
        next(answer)
    assert talk.end is not None
    assert talk.end.reason == "error"


def test_an_engine_that_does_not_say_the_end_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("crane_app.pipelines.chat.FAREWELL", 0.02)
    talk, engine = chat(Piece("Hi", (1,)))
    engine._cancel = lambda stream: None
    answer: Any = talk.reply(HELLO)
    next(answer)
    answer.close()
    assert talk.end == End("cancelled")


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "no message"),
        ("hello", "list of messages"),
        (Message("user", "hello"), "list of messages"),
        ([Message("user", "a"), Message("robot", "b")], "Message 2 has the role 'robot'"),
        ([{"content": "b"}], "role None"),
        ([{"role": "user", "content": None}], "Message 1 has no content"),
        ([{"role": "user"}], "Message 1 has no content"),
        ([{"role": "assistant", "content": None}], "Message 1 has no content"),
        ([{"role": "user", "content": 3}], "no text (int)"),
        (["hello"], "Message 1 is not an object"),
        ([Message("user", "a" * (MOST_TEXT + 1))], f"at most {MOST_TEXT}"),
    ],
)
def test_what_is_no_conversation_is_refused_with_a_sentence(messages, said):
    with pytest.raises(BadInput) as raised:
        checked(messages)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 200


def test_an_assistant_that_calls_a_tool_needs_no_text():
    called = {"role": "assistant", "content": None, "tool_calls": [{"type": "function"}]}
    assert checked([called]) == (called,)


def test_a_template_that_opens_the_thought_is_seen():
    assert chat(text="<|im_start|>assistant\n<think>\n")[0].begins_thinking(enable_thinking=True)
    assert not chat(text="<|im_start|>assistant\n<think>\n\n</think>\n\n")[0].begins_thinking()


def test_speeds_need_something_to_measure():
    assert speeds(Usage()) == (None, None)
    used = Usage(prompt_tokens=30, cached_tokens=10, output_tokens=11, queued_s=1.0, first_s=3.0, total_s=5.0)
    assert speeds(used) == (10.0, 5.0)


# Thoughts


TEXT = "<think>\nWell, 1 < 2.\n</think>\n\nYes.<think>again</think> <thin"


@given(cuts=st.sets(st.integers(1, len(TEXT) - 1)))
def test_thoughts_are_told_apart_wherever_the_text_is_cut(cuts):
    edges = [0, *sorted(cuts), len(TEXT)]
    thoughts = Thoughts()
    parts = [p for start, end in pairwise(edges) for p in thoughts.push(TEXT[start:end])]
    parts += thoughts.flush()
    assert "".join(p.text for p in parts) == TEXT
    assert "".join(p.text for p in parts if not p.thought) == "\n\nYes. <thin"


def test_a_thought_may_be_open_from_the_start():
    assert spoken("Hm.</think>\n\nYes.", thinking=True) == "Yes."
    assert spoken("Hm.", thinking=True) == ""
    assert spoken("\nYes.") == "\nYes."


def test_text_is_not_held_back_for_long():
    thoughts = Thoughts()
    assert [p.text for p in thoughts.push("a <")] == ["a "]
    assert [p.text for p in thoughts.push("b")] == ["<b"]

"""/v1/responses over a real socket, with the client that knows it best."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from openai import BadRequestError

from crane_app.engine.request import Piece, failed
from crane_app.errors import DeviceLost
from crane_app.server import items
from crane_app.server.problems import Problem
from tests.server.conftest import Serving, serving
from tests.server.scripted import Scripted, said
from tests.server.test_chat import CALL, HELLO, alone

TOOLS = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": None}]
LOST = failed(DeviceLost("The engine stopped while it was answering."))


def ask(server: Serving, **fields: Any) -> Any:
    return server.openai().responses.create(model="tiny", **{"input": "Hello", **fields})


def raw(server: Serving, **fields: Any) -> Any:
    return server.http.post("/v1/responses", json={"model": "tiny", "input": "Hello", **fields})


def streamed(server: Serving, **fields: Any) -> tuple[list[Any], Any]:
    """All events and the final response, as the client puts it together."""
    with server.openai().responses.stream(model="tiny", **{"input": "Hello", **fields}) as stream:
        events = list(stream)
        last = events[-1]
        return events, stream.get_final_response() if last.type == "response.completed" else last.response


def test_a_response_is_what_the_engine_says(tiny):
    asked = {"temperature": 1.0, "top_p": 0.9, "max_output_tokens": 30}
    got = ask(tiny, **asked, extra_body={"seed": 5}, metadata={"mine": "yes"})
    assert [got.output_text] == alone(tiny, temperature=1.0, top_p=0.9, max_tokens=30, seed=5)
    assert (got.status, got.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (got.usage.output_tokens, got.usage.total_tokens) == (30, got.usage.input_tokens + 30)
    assert (got.object, got.model, got.temperature, got.metadata) == ("response", "tiny", 1.0, {"mine": "yes"})
    assert got.id.startswith("resp_")


def test_the_same_conversation_in_items():
    with serving(Scripted(*said("Hi"))) as server:
        parts = [{"type": "input_text", "text": "Hello"}]
        ask(server, input=[{"role": "user", "content": parts}], instructions="Be kind.")
        assert server.engine.requests[-1].messages == ({"role": "system", "content": "Be kind."}, *HELLO)


def test_a_stream_tells_each_thing_once_and_in_order():
    with serving(Scripted(*said("<think>Hm", "m.</think>", *CALL))) as server:
        events, whole = streamed(server, tools=TOOLS)
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert [event.type.removeprefix("response.") for event in events if "delta" not in event.type] == [
            "created", "in_progress",
            "output_item.added", "content_part.added",
            "reasoning_text.done", "content_part.done", "output_item.done",
            "output_item.added", "content_part.added",
            "output_text.done", "content_part.done", "output_item.done",
            "output_item.added", "function_call_arguments.done", "output_item.done",
            "completed",
        ]  # fmt: skip
        assert [item.type for item in whole.output] == ["reasoning", "message", "function_call"]
        assert whole.output[0].content[0].text == "Hmm."
        assert whole.output_text == "Let me see.\n"
        assert json.loads(whole.output[2].arguments) == {"city": "Köln"}
        assert "".join(e.delta for e in events if e.type == "response.reasoning_text.delta") == "Hmm."
        assert whole.usage.output_tokens_details.reasoning_tokens == 2
        again = ask(server, tools=TOOLS)
        assert [item.type for item in again.output] == [item.type for item in whole.output]
        assert (again.output_text, again.status, again.usage) == (whole.output_text, "completed", whole.usage)
        assert server.engine.requests[-1].template["tools"][0]["function"]["name"] == "weather"


def test_a_stream_joined_is_the_response(tiny):
    asked = {"temperature": 1.0, "max_output_tokens": 30, "extra_body": {"seed": 5}}
    events, whole = streamed(tiny, **asked)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == ask(tiny, **asked).output_text == whole.output_text
    assert events[-1].type == "response.incomplete"
    frames = raw(tiny, max_output_tokens=2, stream=True).text.split("\n\n")
    assert frames[0].startswith("event: response.created\ndata: ")


def test_a_call_and_its_result_come_back_as_turns():
    with serving(Scripted(*said("Cold."))) as server:
        first = [*HELLO, {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]}]
        first += [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]}]
        for city in ("Köln", "Rom"):
            call = {"type": "function_call", "call_id": city, "name": "weather"}
            first.append({**call, "arguments": json.dumps({"city": city})})
        first += [{"type": "function_call_output", "call_id": city, "output": "9°"} for city in ("Köln", "Rom")]
        assert ask(server, input=first, tools=TOOLS).output_text == "Cold."
        _, said_before, *results = server.engine.requests[-1].messages
        assert (said_before["reasoning_content"], said_before["content"]) == ("Hm", "I look.")
        assert [call["function"]["arguments"]["city"] for call in said_before["tool_calls"]] == ["Köln", "Rom"]
        assert [(turn["role"], turn["tool_call_id"]) for turn in results] == [("tool", "Köln"), ("tool", "Rom")]


def test_two_answers_in_a_row_stay_two():
    given = [{"role": "assistant", "content": "One."}, {"role": "assistant", "content": "Two."}]
    assert [turn["content"] for turn in items.turns([*HELLO, *given])] == ["Hello", "One.", "Two."]


def test_a_thought_alone_is_a_turn_without_words():
    turn = items.turns([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]}])[0]
    assert (turn["content"], turn["reasoning_content"]) == ("", "Hm")


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_spell_the_text(tiny, stream):
    asked: dict[str, Any] = {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "max_output_tokens": 20}
    response = streamed(tiny, **asked)[1] if stream else ask(tiny, **asked)
    part = response.output[0].content[0]
    assert "".join(token.token for token in part.logprobs) == part.text
    assert {len(token.top_logprobs) for token in part.logprobs} == {2}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["Hello"]}, "input[0]"),
        ({"input": [{"role": "king", "content": "x"}]}, "input[0]"),
        ({"input": [{"type": "web_search_call"}]}, "input[0]"),
        ({"input": [{"type": []}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0]"),
        ({"input": [{"type": "function_call", "name": "a", "arguments": {}}]}, "input[0]"),
        ({"input": [{"type": "function_call", "name": "a", "arguments": "{"}]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"stream_options": {}}, "stream_options"),
        ({"text": {"verbosity": "high"}}, "text.verbosity"),
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"n": 0, "max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_what_is_wrong_or_not_there_is_400_and_named(tiny, fields, param):
    got = raw(tiny, **fields)
    assert got.status_code == 400, got.text
    assert got.json()["error"]["param"] == param


def test_a_client_sees_which_field_it_was(tiny):
    with pytest.raises(BadRequestError, match="send the whole conversation"):
        ask(tiny, previous_response_id="resp_1")


def test_harmless_fields_are_passed_over(tiny):
    got = ask(
        tiny, store=True, user="me", prompt_cache_key="x", include=["reasoning.encrypted_content"], max_output_tokens=2,
        truncation="disabled", text={"format": {"type": "text"}}, reasoning={"summary": "auto"}, max_tool_calls=3,
    )  # fmt: skip
    assert got.store is False


def test_an_answer_is_held_to_a_schema(tiny):
    schema = {"type": "object", "properties": {"name": {"enum": ["crane", "stork"]}}, "required": ["name"]}
    told = {"type": "json_schema", "name": "bird", "schema": {**schema, "additionalProperties": False}}
    got = ask(tiny, text={"format": told}, max_output_tokens=60, reasoning={"effort": "none"})
    assert json.loads(got.output_text)["name"] in ("crane", "stork")
    assert got.text.format.name == "bird"


def test_an_answer_is_held_to_a_pattern(tiny):
    got = raw(tiny, regex="[ab]{3}", max_output_tokens=60, enable_thinking=False).json()
    assert re.fullmatch("[ab]{3}", got["output"][-1]["content"][0]["text"])


def test_an_error_under_way_ends_as_failed():
    with serving(Scripted(Piece("So ", (1,)), Piece("far", (2,)), LOST)) as server:
        events = list(ask(server, stream=True))
        assert events[-1].type == "response.failed"
        assert events[-1].response.error.code == "engine_lost"
        assert events[-1].response.output[0].content[0].text == "So far"
        assert raw(server).status_code == 503


def test_an_error_before_the_first_word_is_no_stream():
    with serving(Scripted(LOST)) as server:
        got = raw(server, stream=True)
        assert (got.status_code, got.headers["content-type"]) == (503, "application/json")


def test_an_item_too_many():
    with pytest.raises(Problem, match="10001 items"):
        items.turns([HELLO[0]] * 10_001)

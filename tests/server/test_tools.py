"""Tools that must be called are called, by a model of noise, in every form and dialect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from openai import pydantic_function_tool
from pydantic import BaseModel

from crane_app.engine.engine import Engine
from crane_app.engine.grammar import Vocabulary
from crane_app.engine.request import Grammar
from crane_app.server import tools
from crane_app.server.tools import Choice
from tests.chat_checkpoint import CHATML, write_chat
from tests.server.conftest import Serving, loaded, serving
from tests.server.scripted import Scripted, said

HELLO = [{"role": "user", "content": "Hello"}]
WARM = {"temperature": 1.0, "max_tokens": 600}
SWITCH = {
    "type": "object",
    "properties": {
        "room": {"type": "string", "enum": ["hall", "attic"]},
        "lamp": {"$ref": "#/$defs/lamp"},
        "on": {"type": "boolean"},
    },
    "required": ["room", "on"],
    "additionalProperties": False,
    "$defs": {"lamp": {"enum": [1, 2, 3]}},
}
TOOLS = [
    {"type": "function", "function": {"name": "switch", "parameters": SWITCH}},
    {"type": "function", "function": {"name": "time.now"}},
]
WRITTEN = {  # how a template writes a call that was made
    "json": """<tool_call>\\n{"name": "' + call.function.name + '", "arguments": {}}\\n</tool_call>""",
    "xml": "<tool_call>\\n<function=' + call.function.name + '>\\n</function>\\n</tool_call>",
    "list": """<tool_calls>[{"name": "' + call.function.name + '", "arguments": {}}]</tool_calls>""",
}


def template(form: str) -> str:
    tools = "{%- for tool in tools or [] %}{{- tool | tojson }}{%- endfor %}"
    calls = "{%- for call in message.tool_calls or [] %}{{- '" + WRITTEN[form] + "' }}{%- endfor %}"
    return tools + CHATML.replace("{%- endfor %}", calls + "{%- endfor %}", 1)


@pytest.fixture(scope="module", params=list(WRITTEN))
def calling(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A model of noise whose template knows tools."""
    pytest.importorskip("torch").set_num_threads(1)
    engine = Engine()
    loaded(engine, write_chat(tmp_path_factory.mktemp("tools") / "tiny", template(request.param)))
    with serving(engine) as served:
        yield served
    engine.close(drain=False)


def check(call: Any) -> None:
    arguments = json.loads(call.function.arguments)
    if call.function.name == "time.now":
        assert arguments == {}
        return
    assert call.function.name == "switch"
    assert {"room", "on"} <= arguments.keys() <= {"room", "lamp", "on"}
    assert arguments["room"] in ("hall", "attic")
    assert isinstance(arguments["on"], bool)
    assert arguments.get("lamp", 1) in (1, 2, 3)


def ask(server: Serving, **fields: Any) -> Any:
    return server.openai().chat.completions.create(model="tiny", messages=HELLO, **{"tools": TOOLS, **WARM, **fields})


@pytest.mark.parametrize("parallel", [False, True])
def test_required(calling, parallel):
    for seed in range(2):
        choice = ask(calling, tool_choice="required", seed=seed, parallel_tool_calls=parallel).choices[0]
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        assert 1 <= len(choice.message.tool_calls) <= (16 if parallel else 1)
        for call in choice.message.tool_calls:
            check(call)


@pytest.mark.parametrize("name", ["switch", "time.now"])
def test_a_named_function(calling, name):
    choice = ask(
        calling, tool_choice={"type": "function", "function": {"name": name}}, parallel_tool_calls=False, seed=1
    ).choices[0]
    (call,) = choice.message.tool_calls
    assert call.function.name == name
    check(call)


def test_a_stream_tells_the_same_in_parts(calling):
    asked = {"tool_choice": {"type": "function", "function": {"name": "switch"}}, "seed": 2}
    whole = ask(calling, **asked, parallel_tool_calls=False).choices[0].message.tool_calls[0].function
    chunks = list(ask(calling, **asked, parallel_tool_calls=False, stream=True))
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or ()]
    assert len(parts) > 3, "arguments come as they are written"
    assert {part.index for part in parts} == {0}
    assert (parts[0].function.name, parts[0].type, parts[0].function.arguments) == ("switch", "function", "")
    assert all(part.id is None and part.function.name is None for part in parts[1:])
    assert "".join(part.function.arguments for part in parts) == whole.arguments
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "tool_calls"
    assert not any(chunk.choices[0].delta.content for chunk in chunks)


def test_after_a_thought(calling):
    """</think> is 4, and noise is made to like it."""
    thinking = {"logit_bias": {4: 4}, "extra_body": {"enable_thinking": True}, "parallel_tool_calls": False}
    choice = ask(calling, tool_choice="required", seed=1, **thinking).choices[0]
    assert choice.message.reasoning_content
    check(choice.message.tool_calls[0])


def test_a_schema_beside_tools_lets_either_come(calling):
    """< is 33 and 7 is 28: what begins with the one is a call, what begins with the other is no call."""
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [7]}}}
    asked = {"response_format": wanted, "parallel_tool_calls": False, "seed": 1}
    check(ask(calling, logit_bias={33: 50}, **asked).choices[0].message.tool_calls[0])
    assert ask(calling, logit_bias={28: 50}, **asked).choices[0].message.content == "7"


class Light(BaseModel):
    on: bool


def test_the_openai_client_parses_arguments(calling):
    got = calling.openai().chat.completions.parse(
        model="tiny", messages=HELLO, tools=[pydantic_function_tool(Light, name="light")], tool_choice="required",
        parallel_tool_calls=False, **WARM,
    )  # fmt: skip
    assert isinstance(got.choices[0].message.tool_calls[0].function.parsed_arguments, Light)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "switch"}])
def test_anthropic(calling, choice, stream):
    body = {
        "messages": HELLO, "stream": stream, **WARM, "tools": [{"name": "switch", "input_schema": SWITCH}],
        "tool_choice": {**choice, "disable_parallel_tool_use": True},
    }  # fmt: skip
    got = calling.http.post("/v1/messages", json=body)
    if not stream:
        (block,) = got.json()["content"]
        assert (block["type"], block["name"], got.json()["stop_reason"]) == ("tool_use", "switch", "tool_use")
        assert block["input"]["room"] in ("hall", "attic")
        return
    events = [json.loads(line[6:]) for line in got.text.splitlines() if line.startswith("data: ")]
    starts = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert [(start["type"], start["name"]) for start in starts] == [("tool_use", "switch")]
    assert len(deltas) > 3
    assert json.loads("".join(delta["partial_json"] for delta in deltas))["room"] in ("hall", "attic")


def test_a_grammar_that_needs_a_call_and_an_answer_at_once_is_refused(calling):
    for fields, param in [
        ({"tool_choice": "required", "response_format": {"type": "json_object"}}, "response_format"),
        ({"regex": "a"}, "regex"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"properties": 3}}}]}, "tools"),
    ]:
        more = {"tool_choice": "required"} if "tools" in fields else {}
        got = calling.http.post("/v1/chat/completions", json={"messages": HELLO, "tools": TOOLS, **more, **fields})
        assert (got.status_code, got.json()["error"]["param"]) == (400, param), got.text


# Strict functions under auto

LAMP = {"type": "function", "function": {"name": "lamp", "strict": True, "parameters": SWITCH}}
CALLS = {
    "json": '<tool_call>\n{"name": "%s", "arguments": {"%s": "attic", "on": true}}\n</tool_call>',
    "xml": "<tool_call>\n<function=%s>\n<parameter=%s>\nattic\n</parameter>\n<parameter=on>\ntrue\n</parameter>\n"
    "</function>\n</tool_call>",
    "list": '<tool_calls>[{"name": "%s", "arguments": {"%s": "attic", "on": true}}]</tool_calls>',
}


class Bytes:
    """A token for each byte, and 256 for <tool_call>."""

    def piece(self, id: int, first: bool = False, special: bool = False) -> bytes | None:
        return bytes([id]) if id < 256 else b"<tool_call>" if id == 256 else None


def says(grammar: Grammar, words: str, tag: int | None = None) -> bool:
    """Whether the grammar lets this be said and ended. tag: a token to say <tool_call> with."""
    state = Vocabulary(Bytes(), 258, (257,)).compile(grammar)
    ids = [*words.replace("<tool_call>", "\0").encode()] if tag else [*words.encode()]
    for id in [*(tag if tag and id == 0 else id for id in ids), 257]:
        if not state.allowed()[id // 32] >> np.uint32(id % 32) & 1:
            return False
        if id != 257:
            state.take(id)
    return True


@pytest.mark.parametrize("form", list(CALLS))
@pytest.mark.parametrize("parallel", [False, True])
def test_a_strict_function_is_called_rightly_or_not_at_all(form, parallel):
    held = Choice({"lamp": SWITCH, "free": None}, strict=frozenset(["lamp"]))
    grammar, call = tools.calling(held, form, parallel), CALLS[form]
    right = call % ("lamp", "room")
    assert all(says(grammar, words) for words in ("", "Hello", "a < b, <tool_ and <function=x>"))
    assert says(grammar, f"Let me see.\n{right}\nDone.")
    assert says(grammar, right, tag=256)
    assert says(grammar, call % ("free", "anything"))
    assert says(grammar, f"{right} and {right}") == parallel
    for wrong in (call % ("lamp", "place"), call % ("other", "room"), right.replace("true", "7"), right[:-9]):
        assert not says(grammar, wrong), wrong
    assert not says(grammar, "<tool_call>\nno call"), "what begins as a call is one"
    assert not says(grammar, "<tool_calls>[]</tool_calls>")


def test_a_strict_function_holds_the_answer_also_after_a_thought():
    with serving(Scripted(*said("x"), prompt="<think>\n")) as server:
        ask(server, tools=[*TOOLS, LAMP])
        assert "tool_2" in server.engine.requests[-1].asked.grammar.text
        assert server.engine.requests[-1].asked.grammar.thought == "open"
        ask(server, tools=[LAMP], tool_choice="none")
        assert server.engine.requests[-1].asked.grammar is None
        lamp = {"type": "function", "function": {**LAMP["function"], "strict": "yes"}}
        got = server.http.post("/v1/chat/completions", json={"messages": HELLO, "tools": [lamp]})
        assert (got.status_code, got.json()["error"]["param"]) == (400, "tools")


# With an engine that says what it is told

CALL = ("Let me see.\n<tool_", 'call>{"name": "switch", "arg', 'uments": {"ro', 'om": "attic"}', "}</tool_call>")


def test_arguments_under_auto_come_as_they_are_written():
    with serving(Scripted(*said(*CALL))) as server:
        deltas = [chunk.choices[0].delta for chunk in ask(server, stream=True)]
        assert "".join(delta.content or "" for delta in deltas) == "Let me see.\n"
        parts = [part for delta in deltas for part in delta.tool_calls or ()]
        assert [part.function.arguments for part in parts] == ["", '{"ro', 'om": "attic"}']
        assert server.engine.requests[-1].asked.grammar is None


def test_a_call_that_is_cut_off_in_a_stream_has_been_told_and_one_that_is_not_is_text():
    with serving(Scripted(*said(*CALL[:-2], finish="length"))) as server:
        deltas = [chunk.choices[0] for chunk in ask(server, stream=True)]
        parts = [part for each in deltas for part in each.delta.tool_calls or ()]
        assert "".join(part.function.arguments for part in parts) == '{"ro'
        assert deltas[-1].finish_reason == "length"
        assert ask(server).choices[0].message.content == "".join(CALL[:-2])


def test_the_form_is_found_where_a_template_takes_no_calls():
    class Strict(Scripted):
        def open(self, job: Any) -> Any:
            if job.kind == "tokenize" and any("tool_calls" in turn for turn in job.inputs):
                from crane_app.engine.request import failed
                from crane_app.errors import BadInput

                return self._start([failed(BadInput("The template takes no calls."))])
            return super().open(job)

    with serving(Strict(*said("x"), prompt="call <function=example> ")) as server:
        ask(server, tool_choice="required")
        assert "<function=switch>" in server.engine.requests[-1].asked.grammar.text


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "switch"}])
@pytest.mark.parametrize("stream", [False, True])
def test_responses(calling, choice, stream):
    tools = [{"type": "function", "name": "switch", "parameters": SWITCH}]
    got = calling.openai().responses.create(
        model="tiny", input="Hello", tools=tools, tool_choice=choice, parallel_tool_calls=False, stream=stream,
        temperature=1.0, max_output_tokens=300,
    )  # fmt: skip
    events = list(got) if stream else []
    response = events[-1].response if stream else got
    (item,) = response.output
    assert (item.type, item.name, response.status) == ("function_call", "switch", "completed")
    assert json.loads(item.arguments)["room"] in ("hall", "attic")
    assert response.tool_choice == choice or response.tool_choice.name == "switch"
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert not stream or (len(deltas) > 2 and "".join(deltas) == item.arguments)
    assert [event.type for event in events].count("response.function_call_arguments.done") == stream

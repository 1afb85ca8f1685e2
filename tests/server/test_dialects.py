"""The same answers in the words of Anthropic's and Ollama's APIs, over a real socket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crane_app.engine.request import Piece, failed
from crane_app.errors import DeviceLost
from tests.server.conftest import Serving, serving
from tests.server.scripted import Scripted, said
from tests.server.test_chat import CALL, alone

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"name": "weather", "description": "how it is", "input_schema": {"type": "object"}}


def claude(server: Serving, **fields: Any) -> Any:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 50, **fields}
    return server.http.post("/v1/messages", json=body, headers={"anthropic-version": "2023-06-01"})


def told(text: str) -> list[tuple[str, dict]]:
    """The events of a stream, each by its name."""
    found = []
    for frame in text.split("\n\n")[:-1]:
        name, data = frame.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_a_message(tiny):
    greedy = alone(tiny, max_tokens=12, temperature=0.0)[0]
    got = claude(tiny, max_tokens=12, temperature=0.0).json()
    assert (got["type"], got["role"], got["stop_reason"]) == ("message", "assistant", "max_tokens")
    assert got["content"] == [{"type": "text", "text": greedy}]
    assert got["usage"]["output_tokens"] == 12
    counted = tiny.http.post("/v1/messages/count_tokens", json={"model": "tiny", "messages": HELLO}).json()
    assert counted == {"input_tokens": got["usage"]["input_tokens"]}
    events = told(claude(tiny, max_tokens=12, temperature=0.0, stream=True).text)
    assert all(name == data["type"] for name, data in events)
    assert [name for name, _ in events if name != "content_block_delta"] == [
        "message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert "".join(d["delta"]["text"] for n, d in events if n == "content_block_delta") == greedy
    assert events[0][1]["message"]["usage"]["input_tokens"] == got["usage"]["input_tokens"]
    assert events[-2][1]["usage"]["output_tokens"] == 12


def test_a_stop_sequence_is_named(tiny):
    greedy = alone(tiny, max_tokens=12, temperature=0.0)[0]
    got = claude(tiny, max_tokens=12, temperature=0.0, stop_sequences=[greedy[2:4]]).json()
    assert (got["stop_reason"], got["stop_sequence"]) == ("stop_sequence", greedy[2:4])


def test_thoughts_and_calls_are_blocks():
    with serving(Scripted(*said("<think>Hm</think>", *CALL))) as server:
        got = claude(server, tools=[TOOL]).json()
        assert [block["type"] for block in got["content"]] == ["thinking", "text", "tool_use"]
        assert got["content"][2]["input"] == {"city": "Köln"}
        assert got["stop_reason"] == "tool_use"
        events = told(claude(server, tools=[TOOL], stream=True).text)
        starts = [(d["index"], d["content_block"]["type"]) for n, d in events if n == "content_block_start"]
        assert starts == [(0, "thinking"), (1, "text"), (2, "tool_use")]
        assert json.loads(events[-4][1]["delta"]["partial_json"]) == {"city": "Köln"}
        assert server.engine.requests[0].template["tools"][0]["function"]["parameters"] == {"type": "object"}


def test_what_was_said_before_reaches_the_template():
    turns = [
        *HELLO,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": ""},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "c", "name": "weather", "input": {"city": "Köln"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "9°"}]},
    ]
    with serving(Scripted(*said("Cold."))) as server:
        assert claude(server, messages=turns, system=[{"type": "text", "text": "Be brief."}]).status_code == 200
        given = server.engine.requests[-1].messages
        assert [turn["role"] for turn in given] == ["system", "user", "assistant", "tool"]
        assert given[2]["tool_calls"][0]["function"]["arguments"] == {"city": "Köln"}
        assert given[2]["reasoning_content"] == "Hm"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "image"),
        ({"thinking": {"type": "deep"}}, "thinking"),
        ({"tools": [TOOL], "tool_choice": {"type": "often"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "nobody"}}, "tool_choice"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools"),
        ({"mcp_servers": [{"url": "http://x"}]}, "mcp_servers"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
def test_what_anthropic_has_and_we_have_not(tiny, fields, word):
    got = claude(tiny, **fields)
    assert (got.status_code, got.json()["type"]) == (400, "error")
    assert got.json()["error"]["type"] == "invalid_request_error"
    assert word in got.json()["error"]["message"]


def test_errors_in_anthropics_words(tiny):
    assert claude(tiny, model="other").json()["error"]["type"] == "not_found_error"
    with serving(Scripted(Piece("So", (1,)), failed(DeviceLost("The engine stopped.")))) as server:
        name, data = told(claude(server, stream=True).text)[-1]
        assert (name, data["error"]["message"]) == ("error", "The engine stopped.")


# Ollama


def ollama(server: Serving, path: str = "chat", **fields: Any) -> Any:
    given = {"messages": HELLO} if path == "chat" else {}
    return server.http.post(f"/api/{path}", json={"model": "tiny", **given, **fields})


def lines(got: Any) -> list[dict]:
    assert got.status_code == 200, got.text
    assert got.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in got.text.splitlines()]


def test_a_chat_in_lines(tiny):
    expected = alone(tiny, temperature=1.0, seed=5, max_tokens=12)[0]
    options = {"temperature": 1.0, "seed": 5, "num_predict": 12, "num_ctx": 2048}
    got = lines(ollama(tiny, options=options))
    assert "".join(line["message"]["content"] for line in got) == expected
    assert [line["done"] for line in got] == [False] * (len(got) - 1) + [True]
    assert (got[-1]["done_reason"], got[-1]["eval_count"]) == ("length", 12)
    whole = ollama(tiny, options=options, stream=False).json()
    assert (whole["message"]["content"], whole["done"]) == (expected, True)
    assert whole["prompt_eval_count"] > 0 < whole["total_duration"]


def test_generate_with_and_without_the_template(tiny):
    options = {"temperature": 1.0, "seed": 4, "num_predict": 12}
    assert (
        ollama(tiny, "generate", prompt="Hello", options=options, stream=False).json()["response"]
        == alone(tiny, temperature=1.0, seed=4, max_tokens=12)[0]
    )
    body = {"prompt": "Hello", "temperature": 1.0, "seed": 4, "max_tokens": 12}
    raw = tiny.http.post("/v1/completions", json=body).json()["choices"][0]["text"]
    got = lines(ollama(tiny, "generate", prompt="Hello", options=options, raw=True))
    assert "".join(line["response"] for line in got) == raw
    assert ollama(tiny, "generate", prompt="").json()["done_reason"] == "load"


def test_thoughts_and_calls_in_lines():
    tools = [{"type": "function", "function": {"name": "weather"}}]
    with serving(Scripted(*said("<think>Hm</think>", *CALL))) as server:
        message = ollama(server, tools=tools, stream=False, think=True).json()["message"]
        assert (message["thinking"], message["content"]) == ("Hm", "Let me see.\n")
        assert message["tool_calls"] == [{"function": {"name": "weather", "arguments": {"city": "Köln"}}}]
        assert server.engine.requests[-1].template["enable_thinking"] is True
        ollama(server, think="low", options={"num_predict": 100})
        assert server.engine.requests[-1].asked.thinking_budget == 20
        claude(server, thinking={"type": "enabled", "budget_tokens": 30})
        assert server.engine.requests[-1].asked.thinking_budget == 30


def test_what_there_is(tiny):
    assert [model["name"] for model in tiny.http.get("/api/tags").json()["models"]] == ["tiny"]
    shown = tiny.http.post("/api/show", json={"model": "tiny:latest"}).json()
    assert shown["capabilities"] == ["completion"]
    assert 4096 in shown["model_info"].values()
    assert tiny.http.get("/api/version").json()["version"]
    assert tiny.http.post("/api/show", json={"model": "other"}).status_code == 404


@pytest.mark.parametrize(
    ("path", "fields", "word"),
    [
        ("chat", {"format": "xml"}, "format"),
        ("chat", {"think": "utmost"}, "think"),
        ("chat", {"options": {"mirostat": 2}}, "options.mirostat"),
        ("chat", {"options": {"num_predict": 0}}, "options.num_predict"),
        ("chat", {"options": {"temperatur": 2}}, "options.temperatur"),
        ("chat", {"messages": [{"role": "user", "content": "x", "images": ["aaaa"]}]}, "images"),
        ("generate", {"prompt": "x", "images": ["aaaa"]}, "images"),
        ("generate", {"prompt": "x", "suffix": "y"}, "suffix"),
        ("generate", {"prompt": "x", "raw": True, "system": "y"}, "system"),
        ("generate", {"prompt": "x", "context": [1]}, "context"),
    ],
)
def test_what_ollama_has_and_we_have_not(tiny, path, fields, word):
    got = ollama(tiny, path, **fields)
    assert got.status_code == 400
    assert word in got.json()["error"]


def test_an_error_under_way_is_the_last_line():
    with serving(Scripted(Piece("So", (1,)), failed(DeviceLost("The engine stopped.")))) as server:
        assert lines(ollama(server))[-1] == {"error": "The engine stopped."}

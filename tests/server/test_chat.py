"""/v1/chat/completions over a real socket, with the client that most programs use."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest
from openai import APIError, BadRequestError, NotFoundError

from crane_app.engine.request import Asked, End, Piece, Request, failed
from crane_app.errors import DeviceLost
from tests.server.conftest import Serving, serving
from tests.server.scripted import CARD, Scripted, said

HELLO = [{"role": "user", "content": "Hello"}]


def alone(tiny: Serving, **asked: Any) -> list[str]:
    """What the engine says by itself, without HTTP."""
    stream = tiny.engine.submit(Request("tiny", messages=tuple(HELLO), asked=Asked(**asked)))
    texts = [""] * asked.get("n", 1)
    for event in stream:
        if isinstance(event, Piece):
            texts[event.choice] += event.text
    return texts


def ask(tiny: Serving, **fields: Any) -> Any:
    return tiny.openai().chat.completions.create(model="tiny", messages=HELLO, **fields)


def raw(tiny: Serving, **fields: Any) -> httpx.Response:
    return tiny.http.post("/v1/chat/completions", json={"model": "tiny", "messages": HELLO, **fields})


def test_an_answer_is_what_the_engine_says(tiny):
    asked = {"temperature": 1.0, "seed": 5, "max_tokens": 30, "presence_penalty": 0.5, "frequency_penalty": 0.2}
    got = ask(tiny, **asked, logit_bias={"70": 3})
    assert [got.choices[0].message.content] == alone(tiny, **asked, logit_bias={70: 3.0})
    assert got.choices[0].finish_reason == "length"
    assert (got.usage.completion_tokens, got.model, got.object) == (30, "tiny", "chat.completion")
    assert got.usage.total_tokens == got.usage.prompt_tokens + 30


def test_a_stream_joined_is_the_answer(tiny):
    asked = {"temperature": 1.0, "seed": 5, "max_tokens": 30}
    chunks = list(ask(tiny, **asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == alone(tiny, **asked)[0]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(c.choices[0].delta.role is None for c in chunks[1:-1])
    assert [c.choices[0].finish_reason for c in chunks[:-1] if c.choices[0].finish_reason] == ["length"]
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 30)
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1


def test_the_bytes_of_a_stream(tiny):
    """As the API reference has them: the usage is null in each chunk but the last, and [DONE] ends it."""
    got = raw(tiny, stream=True, stream_options={"include_usage": True}, max_tokens=2)
    assert got.headers["content-type"].startswith("text/event-stream")
    frames = got.text.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert [c["usage"] for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-2]["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]


def test_several_choices_each_as_alone(tiny):
    asked = {"temperature": 1.0, "seed": 9, "max_tokens": 12, "n": 3}
    expected = alone(tiny, **asked)
    assert [choice.message.content for choice in ask(tiny, **asked).choices] == expected
    texts = ["", "", ""]
    for chunk in ask(tiny, **asked, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == expected
    assert len(set(expected)) == 3


def test_a_stop_text_ends_it_and_is_not_shown(tiny):
    asked = {"temperature": 1.0, "seed": 5, "max_tokens": 40}
    text = alone(tiny, **asked)[0]
    stop = text[7:9]
    got = ask(tiny, **asked, stop=stop).choices[0]
    assert (got.message.content, got.finish_reason) == (text[: text.find(stop)], "stop")
    streamed = ask(tiny, **asked, stop=[stop, "never said"], stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in streamed) == text[: text.find(stop)]


def test_max_completion_tokens_wins(tiny):
    assert ask(tiny, max_tokens=30, max_completion_tokens=3).usage.completion_tokens == 3
    assert raw(tiny, max_tokens=None, max_completion_tokens=2).json()["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop", [None, 5])
def test_logprobs_spell_the_answer(tiny, stream, stop):
    """The tokens joined are the content, their bytes what the model wrote; the likeliest come first."""
    asked: dict[str, Any] = {"temperature": 1.0, "seed": 2, "max_tokens": 40}
    text = alone(tiny, **asked)[0]
    if stop is not None:
        asked["stop"], text = text[stop : stop + 2], text[: text.find(text[stop : stop + 2])]
    got = ask(tiny, **asked, logprobs=True, top_logprobs=3, stream=stream)
    choices = [c.choices[0] for c in got] if stream else [got.choices[0]]
    tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.content]
    assert "".join(token.token for token in tokens) == text
    assert bytes(b for token in tokens for b in token.bytes).decode("utf-8", "replace") == text
    for token in tokens:
        assert [t.logprob for t in token.top_logprobs] == sorted((t.logprob for t in token.top_logprobs), reverse=True)
        assert len(token.top_logprobs) == 3
        assert token.logprob <= token.top_logprobs[0].logprob <= 0


def test_logprobs_without_alternatives(tiny):
    tokens = ask(tiny, max_tokens=3, logprobs=True).choices[0].logprobs.content
    assert [len(token.top_logprobs) for token in tokens] == [0, 0, 0]


def test_a_model_that_is_not_here_is_404_and_says_which_are(tiny):
    with pytest.raises(NotFoundError) as raised:
        tiny.openai().chat.completions.create(model="gpt-9", messages=HELLO)
    assert raised.value.code == "model_not_found"
    assert "tiny" in raised.value.message


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_400_with_both_counts(tiny, stream):
    got = tiny.http.post(
        "/v1/chat/completions", json={"messages": [{"role": "user", "content": "a" * 5000}], "stream": stream}
    )
    assert got.status_code == 400
    assert got.json()["error"]["code"] == "context_length_exceeded"
    assert "5017" in got.json()["error"]["message"]
    assert "4096" in got.json()["error"]["message"]


def test_the_servers_own_limit_of_length(tiny_engine):
    from crane_app.server.service import Limits

    with serving(tiny_engine, limits=Limits(max_length=64)) as server:
        got = server.http.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": 500, "seed": 1})
        assert got.json()["usage"]["total_tokens"] <= 64
        long = server.http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "a" * 64}]})
        assert "64. Shorten" in long.json()["error"]["message"]
        assert server.http.get("/v1/models").json()["data"][0]["max_model_len"] == 64


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ["x"] * 10_000}, "stop"),
        ({"stop": ""}, "stop"),
        ({"logit_bias": {"nobody": 1}}, "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(150_000)}}, "logit_bias"),
        ({"logit_bias": {"100000": 1}}, "logit_bias"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"continuous_usage_stats": True}}, "stream_options.continuous_usage_stats"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
        ({"tools": [{"type": "function", "function": {"name": "a"}}], "tool_choice": "often"}, "tool_choice"),
        (
            {
                "tools": [{"type": "function", "function": {"name": "a"}}],
                "tool_choice": {"type": "function", "function": {"name": "b"}},
            },
            "tool_choice",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"reasoning_effort": "utmost"}, "reasoning_effort"),
        ({"thinking_budget": -1}, "thinking_budget"),
        ({"thinking_budget": 1, "max_thinking_tokens": 2}, "max_thinking_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": "many"}}, "thinking"),
        ({"thinking": True}, "thinking"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"temprature": 0.5}, "temprature"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y"}}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0]"),
        ({"chat_template_kwargs": []}, "chat_template_kwargs"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
    ],
)
def test_what_is_wrong_or_not_there_is_400_and_named(tiny, fields, param):
    got = raw(tiny, **fields)
    assert got.status_code == 400, got.text
    error = got.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert error["message"].endswith((".", "?"))


def test_harmless_fields_are_passed_over(tiny):
    got = raw(
        tiny, user="me", metadata={"a": "b"}, store=True, response_format={"type": "text"}, tool_choice="none",
        tools=[{"type": "function", "function": {"name": "a"}}], chat_id="unheard of", max_tokens=2,
    )  # fmt: skip
    assert got.status_code == 200


def test_tools_are_refused_where_the_template_knows_none(tiny):
    got = raw(tiny, tools=[{"type": "function", "function": {"name": "look"}}])
    assert (got.status_code, got.json()["error"]["param"]) == (400, "tools")


def test_an_answer_may_go_on_with_the_last_message(tiny):
    turns = [*HELLO, {"role": "assistant", "content": "I say"}]
    body = {"messages": turns, "continue_final_message": True, "max_tokens": 4, "chat_template_kwargs": {"x": 1}}
    assert tiny.http.post("/v1/chat/completions", json=body).json()["usage"]["completion_tokens"] == 4


def test_lone_surrogates_and_control_characters_are_no_harm(tiny):
    text = json.dumps({"messages": [{"role": "user", "content": "\ud800 \0 \x1b"}], "max_tokens": 2})
    got = tiny.http.post("/v1/chat/completions", content=text)
    assert got.status_code == 200


# With an engine that says what it is told


def scripted(*events: Any, **options: Any) -> Any:
    return serving(Scripted(*events, **options))


def both(server: Serving, **fields: Any) -> list[tuple[str, str]]:
    """(reasoning, content), whole and streamed."""
    whole = ask(server, **fields).choices[0].message
    deltas = [chunk.choices[0].delta for chunk in ask(server, **fields, stream=True)]
    joined = tuple("".join(getattr(d, name, None) or "" for d in deltas) for name in ("reasoning_content", "content"))
    return [(getattr(whole, "reasoning_content", ""), whole.content), joined]


@pytest.mark.parametrize("prompt", ["<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n"])
def test_a_thought_is_reasoning_content(prompt):
    opened = () if prompt.endswith("<think>\n") else ("<thi", "nk>\n")
    with scripted(*said(*opened, "Hm", "m.", "</thi", "nk>\n\n", "Yes", "."), prompt=prompt) as server:
        assert both(server) == [("Hmm.", "Yes.")] * 2
        usage = ask(server).usage.completion_tokens_details.reasoning_tokens
        assert usage == len(opened) + 4


def test_a_tag_inside_an_answer_is_its_own_word():
    with scripted(*said("The tag <think>", " opens")) as server:
        assert both(server) == [("", "The tag <think> opens")] * 2


def test_a_thought_may_stay_in_the_content():
    with scripted(*said("<think>Hm</think>", "Yes")) as server:
        assert both(server, extra_body={"separate_reasoning": False}) == [("", "<think>Hm</think>Yes")] * 2


@pytest.mark.parametrize(
    ("fields", "budget", "enabled"),
    [
        ({"thinking_budget": 7}, 7, None),
        ({"max_thinking_tokens": 7}, 7, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 7}}, 7, True),
        ({"thinking": {"type": "disabled"}}, None, False),
        ({"reasoning_effort": "none"}, None, False),
        ({"reasoning_effort": "medium", "max_tokens": 100}, 50, True),
        ({"reasoning_effort": "low"}, 102, True),
        ({"reasoning_effort": "high", "max_completion_tokens": 10**6}, 3276, True),
        ({"reasoning_effort": "high", "thinking_budget": 7, "enable_thinking": False}, 7, False),
        ({}, None, None),
    ],
)
def test_how_long_it_may_think(fields, budget, enabled):
    """A count, or a share of the answer's tokens: of what is asked for, else of 512, else of the context."""
    with scripted(*said("Yes")) as server:
        assert raw(server, **fields).status_code == 200
        request = server.engine.requests[-1]
        assert (request.asked.thinking_budget, request.template.get("enable_thinking")) == (budget, enabled)


@pytest.mark.parametrize("stream", [False, True])
def test_a_thought_ends_with_its_budget(tiny, stream):
    extra = {"enable_thinking": True, "thinking_budget": 5, "ignore_eos": True}
    got = ask(tiny, max_tokens=20, temperature=0.0, extra_body=extra, stream=stream)
    if not stream:
        message, usage = got.choices[0].message, got.usage
        assert usage.completion_tokens_details.reasoning_tokens == 6, "the thought and the tag that closes it"
        assert message.reasoning_content
        assert message.reasoning == message.reasoning_content
        assert message.content
    else:
        deltas = [chunk.choices[0].delta for chunk in got]
        whole = ask(tiny, max_tokens=20, temperature=0.0, extra_body=extra).choices[0].message
        thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
        assert thought == whole.reasoning_content
        assert "".join(delta.content or "" for delta in deltas) == whole.content


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALL = ("Let me see.\n<tool_", 'call>\n{"name": "weather", "arg', 'uments": {"city": "Köln"}}\n</tool_call>')


def test_a_tool_is_called():
    with scripted(*said(*CALL, "\n<tool_call>", '{"name": "weather", "arguments": {}}</tool_call>', "\n")) as server:
        choice = ask(server, tools=TOOLS).choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "Let me see.\n"
        assert [call.function.name for call in choice.message.tool_calls] == ["weather"] * 2
        assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Köln"}
        assert server.engine.requests[-1].template["tools"] == TOOLS
        calls = [c for chunk in ask(server, tools=TOOLS, stream=True) for c in chunk.choices[0].delta.tool_calls or ()]
        named = [call for call in calls if call.function.name]
        assert [(call.index, call.function.name) for call in named] == [(0, "weather"), (1, "weather")]
        assert len({call.id for call in named}) == 2
        texts = ["".join(call.function.arguments for call in calls if call.index == i) for i in range(2)]
        assert [json.loads(text) for text in texts] == [{"city": "Köln"}, {}]
        one = ask(server, tools=TOOLS, parallel_tool_calls=False).choices[0].message
        assert len(one.tool_calls) == 1


@pytest.mark.parametrize(
    "text", ["<tool_call>{broken}</tool_call>", '<tool_call>{"name": "other"}</tool_call>', '<tool_call>{"name": "wea']
)
def test_what_is_no_call_stays_text(text):
    with scripted(*said(text, "!")) as server:
        choice = ask(server, tools=TOOLS).choices[0]
        assert (choice.message.content, choice.message.tool_calls) == (text + "!", None)
        assert choice.finish_reason == "stop"


def test_no_tool_is_called_in_a_thought_nor_without_tools():
    with scripted(*said("<think>", *CALL, "</think>", "Done")) as server:
        choice = ask(server, tools=TOOLS).choices[0]
        assert (choice.message.content, choice.message.tool_calls) == ("Done", None)
    with scripted(*said(*CALL)) as server:
        assert ask(server).choices[0].message.content == "".join(CALL)
        assert ask(server, tools=TOOLS, tool_choice="none").choices[0].message.content == "".join(CALL)
        assert "tools" not in server.engine.requests[-1].template


def test_earlier_calls_reach_the_template_as_objects():
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}
    turns = [
        *HELLO,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "9°", "tool_call_id": "c"},
    ]
    with scripted(*said("Cold.")) as server:
        server.openai().chat.completions.create(model="tiny", messages=turns, tools=TOOLS)
        given = server.engine.requests[-1].messages
        assert given[1]["tool_calls"][0]["function"]["arguments"] == {"city": "Köln"}
        call["function"]["arguments"] = "{"
        with pytest.raises(BadRequestError, match="not JSON"):
            server.openai().chat.completions.create(model="tiny", messages=turns, tools=TOOLS)


LOST = failed(DeviceLost("The engine stopped while it was answering."))


def test_an_error_under_way_is_an_event_and_the_last():
    with scripted(Piece("So ", (1,)), Piece("far", (2,)), LOST) as server:
        chunks = []
        stream = ask(server, stream=True)
        with pytest.raises(APIError, match="engine stopped"):
            chunks.extend(chunk.choices[0].delta.content or "" for chunk in stream)
        assert "".join(chunks) == "So far"
        assert "[DONE]" not in raw(server, stream=True).text
        assert raw(server).status_code == 503


def test_an_error_before_the_first_word_is_no_stream():
    with scripted(LOST) as server:
        got = raw(server, stream=True)
        assert got.status_code == 503
        assert got.headers["content-type"] == "application/json"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_is_noticed(stream):
    """Before the first word, and while it waits for the next."""
    with scripted(*((Piece("So", (1,)),) if stream else ()), None, End("stop")) as server:
        body = {"messages": HELLO, "stream": stream}
        with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=0.3) as client:
            client.post(f"{server.url}/v1/chat/completions", json=body)
        until = time.monotonic() + 5
        while not server.engine.cancelled and time.monotonic() < until:
            time.sleep(0.005)
        assert server.engine.cancelled


def test_a_model_that_cannot_chat_says_what_can():
    from dataclasses import replace

    engine = Scripted(*said("x"))
    engine.cards = [replace(CARD, chat=False)]
    with serving(engine) as server:
        assert "/v1/completions" in raw(server).json()["error"]["message"]

"""Thoughts, calls and tokens are told apart the same way, wherever the text is cut into pieces."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crane_app.contract import Drawn
from crane_app.engine.request import Piece
from crane_app.server.calls import ToolCall, ToolCalls, joined
from crane_app.server.gate import Gate
from crane_app.server.problems import Problem
from crane_app.server.reasoning import Reasoning
from crane_app.server.spelling import Spelling

PARTS = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<tool_call>", "</tool_call>", '{"name": "a"}', "<", "thi", "\n", " ", "Yes", "é"]
    ),
    max_size=8,
).map("".join)


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(places)]


def reasoned(parts: list[str], thinking: bool) -> dict[str, str]:
    splitter, found = Reasoning(thinking), {"reasoning": "", "content": ""}
    for kind, words in [*(each for part in parts for each in splitter.push(part)), *splitter.flush()]:
        found[kind] += words
    return found


@given(PARTS, st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_a_thought_is_found_however_it_comes(text: str, cuts: list[int], thinking: bool):
    found = reasoned(pieces(text, cuts), thinking)
    assert found == reasoned([text] if text else [], thinking)
    if not thinking and not text.lstrip().startswith("<think>"):
        assert found == {"reasoning": "", "content": text}


@pytest.mark.parametrize(
    ("text", "thinking", "expected"),
    [
        ("<think>a</think>\n\nb</think>", False, ("a", "b</think>")),
        ("a</think>b", True, ("a", "b")),
        ("<think>\na</think>b", True, ("a", "b")),
        ("<think>a", False, ("a", "")),
        ("<thi", False, ("", "<thi")),
        (" \n<think>a</think>", False, ("a", "")),
    ],
)
def test_where_a_thought_begins_and_ends(text, thinking, expected):
    assert tuple(reasoned(list(text), thinking).values()) == expected


TOOLS = {"a": None, "b.c": {"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}
CALLS = st.lists(
    st.sampled_from(
        [
            "<tool_call>", "</tool_call>", "<tool_calls>", "</tool_calls>", "[", "]", ", ", "}", '"', "{", "\n", "é",
            '{"name": "a", "arguments": {}}', '{"name": "b.c", "arguments": {"city": "\\"</tool_call>"', "<to",
            '{"name": "no"}',
            '{"arguments": {"x": [1]}, "name": "a"}', "<function=b.c>", "<parameter=city>\n", "9\n</parameter>",
            "<parameter=days>", "</function>", "Yes",
        ]
    ),
    max_size=9,
).map("".join)  # fmt: skip


def called(parts: list[str], **options: bool) -> list[str | tuple[str, str]]:
    """Texts, without space at their ends, and calls between them."""
    splitter, found = ToolCalls(TOOLS, **options), [""]
    calls: list[ToolCall] = []
    for each in [*(one for part in parts for one in splitter.push(part)), *splitter.flush()]:
        if isinstance(each, ToolCall):
            calls.append(each)
            found += [""] if each.name else []
        else:
            found[-1] += each
    whole = [(call.name, call.arguments) for call in joined(calls)]
    assert len(whole) == splitter.count == len(found) - 1 or not options.get("parallel", True)
    said = [text.strip() for text in found]
    return [said[0], *(each for pair in zip(whole, said[1:], strict=True) for each in pair)]


@pytest.mark.parametrize("eager", [False, True])
@given(CALLS, st.lists(st.integers(0, 400), max_size=8))
def test_a_call_is_found_however_it_comes(eager: bool, text: str, cuts: list[int]):
    """The names and the arguments; space between two calls may come and go with the cuts, words may not."""
    assert called([text] if text else [], eager=eager) == called(pieces(text, cuts), eager=eager)


@given(CALLS)
def test_a_call_that_is_told_whole_is_json(text: str):
    found = called(list(text))
    assert all(isinstance(json.loads(each[1]), dict) for each in found if isinstance(each, tuple))
    if not any(isinstance(each, tuple) for each in found):
        assert found[0] == text.strip(), "no word is lost"


WEATHER = '{"city": "Köln </tool_call> \\"x\\"", "days": 3}'
FORMS = {
    "json": f'<tool_call>\n{{"name": "b.c", "arguments": {WEATHER}}}\n</tool_call>',
    "parameters": f'<tool_call>{{"name":"b.c","parameters":{WEATHER}}}</tool_call>',
    "list": f'<tool_calls>[{{"name": "b.c", "arguments": {WEATHER}}}]</tool_calls>',
    "xml": '<tool_call>\n<function=b.c>\n<parameter=city>\nKöln </tool_call> "x"\n</parameter>\n'
    "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
}


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_call(form, eager):
    call = ("b.c", WEATHER)
    for text, expected in [
        (f"See:\n{FORMS[form]}", ["See:", call, ""]),
        (f"{FORMS[form]}\n{FORMS['json']}Done", ["", call, "", call, "Done"]),
    ]:
        assert called([text], eager=eager) == called(list(text), eager=eager) == expected
    assert called(list(FORMS[form] * 2), eager=eager, parallel=False)[:3] == ["", call, ""]


def test_a_list_holds_several_calls():
    text = '<tool_calls>[{"name": "a", "arguments": {}}, {"name": "b.c", "arguments": {"days": 1}}]</tool_calls>'
    for eager in (False, True):
        assert called(list(text), eager=eager) == ["", ("a", "{}"), "", ("b.c", '{"days": 1}'), ""]


def test_a_value_of_a_function_is_what_its_schema_says():
    text = (
        "<tool_call><function=b.c><parameter=city>12</parameter><parameter=days>12</parameter></function></tool_call>"
    )
    assert called([text]) == ["", ("b.c", '{"city": "12", "days": 12}'), ""]
    assert called(["<tool_call><function=a></function></tool_call>"]) == ["", ("a", "{}"), ""]


def test_arguments_are_told_as_they_come():
    splitter = ToolCalls(TOOLS, eager=True)
    told = [splitter.push(each) for each in ("<tool_call>", '{"name": "b.c", ', '"arguments": {"ci', 'ty": "K"', "}}")]
    assert [len(parts) for parts in told] == [0, 0, 2, 1, 1]
    assert [part.arguments for parts in told for part in parts if isinstance(part, ToolCall)] == [
        "", '{"ci', 'ty": "K"', "}",
    ]  # fmt: skip
    assert splitter.flush() == [], "what has been told is not said again"


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>{broken}</tool_call>",
        '<tool_call>{"name": "other", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "a", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "a", "arguments": {broken}}</tool_call>',
        '<tool_call>{"name": "a", "arguments": {}} and more</tool_call>',
        '<tool_call>{"name": "a", "arguments": {"cut',
        "<tool_calls>none</tool_calls>",
        '<tool_calls>[{"name": "a"}, {"name": "other"}]</tool_calls>',
        "<tool_call><function=other></function></tool_call>",
        "<tool_call><function=a>words</tool_call>",
        "<tool_call>" + "[" * 5000 + "</tool_call>",
        "a < b <tool",
    ],
)
def test_what_does_not_parse_stays_text(text):
    assert called([text]) == called(list(text)) == [text]


@given(st.binary(max_size=30), st.lists(st.integers(1, 4), max_size=30), st.integers(0, 30))
def test_tokens_joined_are_the_text_that_is_shown(raw: bytes, sizes: list[int], kept: int):
    """Any bytes in tokens of any size, the text cut anywhere by a stop text."""
    text = raw.decode("utf-8", "replace")[:kept]
    tokens, start = [], 0
    for size in [*sizes, 30]:
        tokens.append(raw[start : start + size])
        start += size
    spelling, shown = Spelling(), []
    for token in tokens[:-1]:
        shown += spelling.push(Piece("", (1,), logprobs=(Drawn(1, -1.0),), raw=(token,)))
    last = Piece(text, (1,), logprobs=(Drawn(1, -1.0),), raw=(tokens[-1],), finish="stop", matched="x")
    shown += spelling.push(last)
    assert "".join(token.text for token in shown) == text


# Seats


def test_seats_are_given_in_order_and_given_back():
    async def story() -> list[str]:
        gate, told = Gate(2), []

        async def sit(name: str, seats: int) -> None:
            async with gate.enter(seats, []):
                told.append(name)
                await asyncio.sleep(0)

        async with gate.enter(1, []):
            tasks = [asyncio.ensure_future(sit(name, seats)) for name, seats in (("wide", 2), ("small", 1))]
            await asyncio.sleep(0)
            assert (gate.waiting, gate.taken) == (2, 1)  # the small one does not overtake the wide one
        await asyncio.gather(*tasks)
        assert (gate.waiting, gate.free) == (0, 2)
        return told

    assert asyncio.run(story()) == ["wide", "small"]


def test_who_gives_up_takes_no_seat():
    async def story() -> None:
        gate = Gate(1, 1)

        async def sit() -> None:
            async with gate.enter(1, []):
                pass

        async with gate.enter(1, []):
            waiting = asyncio.ensure_future(sit())
            await asyncio.sleep(0)
            with pytest.raises(Problem, match="waiting already"):
                await sit()
            waiting.cancel()
            await asyncio.wait((waiting,))
        assert (gate.free, gate.waiting) == (1, 0)
        with pytest.raises(Problem, match="at most 1"):
            async with gate.enter(2, []):
                pass

    asyncio.run(story())

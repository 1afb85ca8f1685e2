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
from crane_app.server.gate import Gate
from crane_app.server.problems import Problem
from crane_app.server.reasoning import Reasoning
from crane_app.server.spelling import Spelling
from crane_app.server.tools import ToolCall, ToolCalls

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


def called(parts: list[str]) -> list[str | tuple[str, str]]:
    splitter = ToolCalls(("a",))
    found: list[str | tuple[str, str]] = [""]
    for each in [*(one for part in parts for one in splitter.push(part)), *splitter.flush()]:
        if isinstance(each, ToolCall):
            found += [(each.name, each.arguments), ""]
        else:
            assert isinstance(found[-1], str)
            found[-1] += each
    return found


@given(PARTS, st.lists(st.integers(0, 200), max_size=6))
def test_a_call_is_found_however_it_comes(text: str, cuts: list[int]):
    """The name and the arguments; space between two calls may come and go with the cuts, words may not."""
    whole, cut = called([text] if text else []), called(pieces(text, cuts))
    assert [each.strip() if isinstance(each, str) else each for each in whole] == [
        each.strip() if isinstance(each, str) else each for each in cut
    ]
    assert all(json.loads(each[1]) == {} for each in cut if isinstance(each, tuple))


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

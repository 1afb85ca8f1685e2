"""Thoughts and answers are told apart, whatever the pieces a reply comes in."""

from __future__ import annotations

import re
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crane_app.media.thinking import ThinkingSplitter, leaves_open

PARTS = ["<think>", "</think>", "<", "/", "think>", "<thi", "</thi", "\n", "a", "你", "</think", "<<think>"]
REPLIES = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)


def split(*pieces: str, open: bool = False) -> list[tuple[str, str]]:
    """All that is shown, neighbours of one kind joined."""
    splitter = ThinkingSplitter(open=open)
    shown = [item for piece in pieces for item in splitter.push(piece)] + splitter.flush()
    assert all(text for _, text in shown)
    return [(kind, "".join(t for _, t in same)) for kind, same in groupby(shown, key=lambda item: item[0])]


def test_a_thought_comes_before_its_answer():
    assert split("<think>\nHm.\n</think>\n\nYes.") == [("thinking", "\nHm.\n"), ("answer", "\n\nYes.")]


def test_a_reply_without_tags_is_an_answer():
    assert split("1 < 2 and 3 > 2") == [("answer", "1 < 2 and 3 > 2")]


def test_a_thought_that_the_prompt_opened_is_one():
    assert split("Hm.</think>Yes.", open=True) == [("thinking", "Hm."), ("answer", "Yes.")]
    assert split("<think>Hm.</think>Yes.", open=True) == [("thinking", "Hm."), ("answer", "Yes.")]


def test_a_thought_without_an_end_is_thinking_to_the_end():
    assert split("<think>Hm. </thi") == [("thinking", "Hm. </thi")]


def test_tags_do_not_nest():
    assert split("<think>a<think>b</think>c</think>d") == [("thinking", "ab"), ("answer", "cd")]


def test_there_may_be_several_thoughts():
    assert split("<think>a</think>b<think>c</think>d") == [
        *(("thinking", "a"), ("answer", "b"), ("thinking", "c"), ("answer", "d"))
    ]


def test_no_part_of_a_tag_is_shown_while_it_may_still_become_one():
    splitter = ThinkingSplitter()
    assert splitter.push("Hi <") == [("answer", "Hi ")]
    assert splitter.push("thin") == []
    assert splitter.push("g") == [("answer", "<thing")]
    assert splitter.push("<<thi") == [("answer", "<")]
    assert splitter.push("nk>x") == [("thinking", "x")]
    assert splitter.kind == "thinking"


@given(reply=REPLIES, cuts=st.lists(st.integers(0, 60), max_size=8), open=st.booleans())
def test_the_pieces_a_reply_comes_in_do_not_matter(reply: str, cuts: list[int], open: bool):
    places = [0, *sorted(min(cut, len(reply)) for cut in cuts), len(reply)]
    pieces = [reply[start:end] for start, end in pairwise(places)]
    assert split(*pieces, open=open) == split(reply, open=open) == split(*reply, open=open)


@given(reply=REPLIES, open=st.booleans())
def test_all_that_is_shown_is_the_reply_without_its_tags(reply: str, open: bool):
    shown = "".join(text for _, text in split(*reply, open=open))
    assert shown == re.sub("</?think>", "", reply)


@given(reply=REPLIES)
def test_nothing_is_held_back_longer_than_a_tag(reply: str):
    splitter, shown = ThinkingSplitter(), 0
    for count, character in enumerate(reply, 1):
        shown += sum(len(text) for _, text in splitter.push(character))
        tags = sum(map(len, re.findall("</?think>", reply[:count])))
        assert count - tags - shown < len("</think>")


def test_other_tags_may_be_used():
    splitter = ThinkingSplitter("[THINK]", "[/THINK]")
    assert splitter.push("[THINK]a[/THINK]b") == [("thinking", "a"), ("answer", "b")]


@pytest.mark.parametrize("tags", [("", "x"), ("x", ""), ("x", "x"), ("<a", "<a>")])
def test_tags_that_cannot_be_told_apart_are_refused(tags: tuple[str, str]):
    with pytest.raises(ValueError, match="contain"):
        ThinkingSplitter(*tags)


def test_a_prompt_that_opens_a_thought_is_known():
    assert leaves_open("<|im_start|>assistant\n<think>\n")
    assert not leaves_open("<|im_start|>assistant\n<think>\n\n</think>\n\n")

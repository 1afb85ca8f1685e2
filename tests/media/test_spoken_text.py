"""What a voice says of plain text and of Markdown, and where that stands in the source."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crane_app.media.spoken_text import looks_like_markdown, script, spoken


def said(text: str, markdown: bool = True, code: str = "Code block.") -> list[str]:
    return [sentence.text for sentence in script(text, markdown, code)]


def test_emphasis_and_headings_are_not_spoken() -> None:
    assert said("# A *short* title\n\nSome **bold**, _slanted_, ~~struck~~ and `code` words.") == [
        "A short title",
        "Some bold, slanted, struck and code words.",
    ]


def test_a_link_is_spoken_by_its_words() -> None:
    assert said(
        'See [the **manual**](https://a.example/very/long "title"). And [this][1].\n\n[1]: http://b.example'
    ) == [
        "See the manual.",
        "And this.",
    ]


def test_an_address_is_spoken_by_its_host() -> None:
    assert said("Look at <https://www.a.example/b/c?x=1>.") == ["Look at a.example."]
    assert spoken("Look (https://u:p@www.a.example:80/b/c), or at ftp://b.example.") == (
        "Look (a.example), or at b.example."
    )


def test_code_is_told_once_or_skipped() -> None:
    text = "Before.\n\n```py\nprint(1)\n\nprint(2)\n```\n\nAfter.\n\n    indented code\n"
    assert said(text) == ["Before.", "Code block.", "After.", "Code block."]
    assert said(text, code="") == ["Before.", "After."]


def test_a_table_is_read_row_by_row() -> None:
    assert said("| Month | Birds |\n|---|---:|\n| **May** | 4,120 |\n| a\\|b | |") == [
        "Month, Birds", "May, 4,120", "a|b,",
    ]  # fmt: skip


def test_lists_quotes_pictures_and_markup() -> None:
    text = """
- [ ] first
- second
  goes on

1. third

> quoted
> words

![a crane](c.png) stands<br>here &amp; there \\* now.

---
"""
    assert said(text) == [
        "first", "second goes on", "third", "quoted words", "a crane stands here & there * now.",
    ]  # fmt: skip


def test_a_sentence_is_marked_where_it_stands_in_the_source() -> None:
    text = "Intro 🙂.\r\n\r\n- A [link](a)a and **bold** end. Then `code`.\r\n\r\n> One\r\n> two.\r\n"
    marked = [text[each.start : each.end] for each in script(text, markdown=True)]
    assert marked == ["Intro 🙂.", "A [link](a)a and **bold** end.", "Then `code`.", "One\r\n> two."]


def test_the_mark_of_a_code_block_is_all_of_it() -> None:
    text = "A.\n\n```\nx\ny\n```\n\nB."
    code = script(text, markdown=True)[1]
    assert text[code.start : code.end] == "```\nx\ny\n```"


def test_plain_text_keeps_its_signs_but_for_bullets_and_rules() -> None:
    assert said("- milk\n=====\nA *star* stays. 2 * 3 = 6.", markdown=False) == [
        "milk",
        "A *star* stays.",
        "2 * 3 = 6.",
    ]


def test_a_word_hyphenated_at_the_end_of_a_line_is_one_word() -> None:
    assert said("This was an exam-\nple of it.", markdown=False) == ["This was an example of it."]


@pytest.mark.parametrize("text", ["", "   \n", "... --- ***", "()[]{}", "—"])
def test_what_no_voice_can_say_is_no_sentence(text: str) -> None:
    assert said(text, markdown=False) == []
    assert said(text, markdown=True) == []


def test_an_emoji_alone_has_a_name_to_say() -> None:
    assert said("🙂", markdown=False) == ["🙂"]


@pytest.mark.parametrize(
    "text", ["# Title\n\nwords", "a **bold** word", "[a](b)", "x\n```\ncode\n```", "| a | b |\n|--|--|"]
)
def test_markdown_is_recognised(text: str) -> None:
    assert looks_like_markdown(text)


@pytest.mark.parametrize(
    "text", ["", "Plain words. 2 * 3 * 4", "- a list\n- of things", "A #tag and snake_case_name", "a [1] note"]
)
def test_plain_text_is_not_taken_for_markdown(text: str) -> None:
    assert not looks_like_markdown(text)


def test_a_text_of_brackets_is_judged_in_no_time() -> None:
    before = time.thread_time()
    assert not looks_like_markdown("[" * 20_000)
    assert not looks_like_markdown("[a](" * 5_000)
    assert time.thread_time() - before < 1


@pytest.mark.parametrize("text", ["\\* star. Two.", "&copy; 2024. Two."])
def test_what_stands_at_the_very_start_is_at_place_0(text: str) -> None:
    first, second = script(text, markdown=True)
    assert (first.start, text[second.start : second.end]) == (0, "Two.")


def test_a_nul_moves_no_place() -> None:
    text = "A \0 nul. And *then* more words."
    assert [text[each.start : each.end] for each in script(text, markdown=True)] == [
        "A \0 nul.", "And *then* more words.",
    ]  # fmt: skip


PIECES = ["# ", "- ", "> ", "**", "_", "`", "```\n", "[", "](", ")", "<", ">", "|", "|-|\n", "\\", "&amp;", "1. "]
PIECES += ["Words. ", "a", "\n", "\r\n", "  ", "é🙂"]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join), st.booleans())
def test_the_places_are_in_order_and_within_the_text(text: str, markdown: bool) -> None:
    found = script(text, markdown)
    for each in found:
        assert 0 <= each.start < each.end <= len(text)
        assert each.text == " ".join(each.text.split())
        assert each.text
    assert found == sorted(found, key=lambda each: each.start)
    assert found == sorted(found, key=lambda each: each.end)


def test_wrapped_code_is_marked_where_it_stands() -> None:
    text = "Call `first\nsecond` now."
    [found] = script(text, markdown=True)
    assert (found.text, found.start, found.end) == ("Call first second now.", 0, len(text))


def test_deep_quotes_are_still_read() -> None:
    assert said(">" * 40 + " deep") == ["deep"]

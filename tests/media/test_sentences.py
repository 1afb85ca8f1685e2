"""Where sentences begin and end, in prose, lists, wrapped lines, several languages and scripts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crane_app.media.sentences import LONGEST, sentences


def cut(text: str) -> list[str]:
    return [sentence.text for sentence in sentences(text)]


@pytest.mark.parametrize(
    "first",
    [
        "Dr. Smith paid Mr. J. R. R. Tolkien on Jan. 5.",
        "It costs $3.14, or 1,000.50 for all.",
        "Version 1.2.3 came on 2026-11-26.",
        "See https://a.example/b.html?x=1&y=2.",
        "Write to me@mail.example.org.",
        "Open notes.tar.gz first.",
        "The U.S. Army was there.",
        "See fig. 3 and No. 5, e.g. the red one.",
        "Wait... what?",
        "It was 5 p.m. on Friday.",
        "He lives in St. Louis with Prof. Jones.",
        "Am 3. Oktober kam z. B. Herr Dr. Müller.",
        "Das 19. Jahrhundert, d. h. die Zeit, vgl. S. 7.",
        "Er wohnt in der Hauptstr. 5.",
        "M. Dupont et Mme. Martin sont là.",
        'He said "Stop!" and left.',
        '"Really?" he asked.',
        "Il a dit : « Bonjour. »",
        "(That was all.)",
        "I live in the U.S.",
        "We bought milk etc.",
        "It is I.",
        "No.",
        "Really?!",
        "She left…",
    ],
)
def test_a_sentence_ends_at_its_own_end(first: str) -> None:
    assert cut(f"{first} The next one follows.") == [first, "The next one follows."]


def test_chinese_and_japanese_need_no_spaces() -> None:
    assert cut("今日は。いい天気ですね！「はい。」と言った？終わり") == [
        "今日は。",
        "いい天気ですね！",
        "「はい。」",
        "と言った？",
        "終わり",
    ]


def test_arabic_and_hindi_have_stops_of_their_own() -> None:
    assert cut("كيف حالك؟ أنا بخير.") == ["كيف حالك؟", "أنا بخير."]
    assert cut("यह एक वाक्य है। यह दूसरा है।") == ["यह एक वाक्य है।", "यह दूसरा है।"]


def test_a_line_that_was_only_wrapped_goes_on() -> None:
    text = (
        "This is a paragraph of text that somebody wrapped by hand, and it goes\non here. A second sentence that\nends."
    )
    assert cut(text) == [
        "This is a paragraph of text that somebody wrapped by hand, and it goes\non here.",
        "A second sentence that\nends.",
    ]


def test_headings_and_items_are_sentences_without_a_stop() -> None:
    text = "Shopping list for the week\n\n- milk\n- bread and\n  butter\n1. One\n2. Two. And more.\n\nEnd"
    assert cut(text) == [
        "Shopping list for the week", "- milk", "- bread and\n  butter", "1. One", "2. Two.", "And more.", "End",
    ]  # fmt: skip


def test_a_title_right_above_its_paragraph_stands_alone() -> None:
    body = "Cranes are large birds that stand in shallow water for much of the day."
    assert cut(f"Cranes\n{body}") == ["Cranes", body]


def test_a_long_run_is_cut_after_a_comma_else_at_a_space_else_anywhere() -> None:
    for_commas = ("word " * 20).strip() + ", "
    assert all(piece.endswith(",") for piece in cut(for_commas * 9 + "end")[:-1])
    assert cut("word " * 100)[0].endswith("word")
    assert [len(piece) for piece in cut("x" * 700)] == [LONGEST, LONGEST, 100]
    thai = "สวัสดีครับ" * 90
    assert "".join(cut(thai)) == thai
    assert max(map(len, cut(thai))) <= LONGEST


def test_a_cut_never_parts_a_letter_from_its_signs() -> None:
    pieces = cut("e\u0301" * 400)
    assert all(piece.startswith("e") for piece in pieces)
    family = "👩\u200d👩\u200d👧"
    assert all(piece[0] == "👩" and piece[-1] == "👧" for piece in cut(family * 200))


@pytest.mark.parametrize("text", ["", " ", "\n\n\t\u00a0 ", "\u2028"])
def test_nothing_has_no_sentences(text: str) -> None:
    assert sentences(text) == []


@pytest.mark.parametrize("text", ["...", "?!", "—", "🙂", "((((", "\ud800"])
def test_signs_alone_are_kept(text: str) -> None:
    assert cut(text) == [text]


WORDS = 'Dr. Mr. etc. U.S. 3.14 1. a) - # No. Word word été Straße . ! ? … 。 ！ , ; ( ) " « » “ ” https://a.b/c.'
SCRIPTS = ["今日は", "مرحبا", "สวัสดี", "👩\u200d👧", "e\u0301"]
PIECES = st.sampled_from([*re.split(" ", WORDS), *SCRIPTS, " ", "  ", "\n", "\n\n", "\r\n", "\t", "\u2028", "x" * 310])
TEXTS = st.one_of(st.lists(PIECES, max_size=80).map("".join), st.text(max_size=400))


@given(TEXTS)
def test_no_sign_is_lost_or_said_twice(text: str) -> None:
    found = sentences(text)
    covered = [place for each in found for place in range(each.start, each.end)]
    assert covered == sorted(set(covered))
    assert {place for place, sign in enumerate(text) if not sign.isspace()} <= set(covered)


@given(TEXTS)
def test_a_sentence_is_its_range_of_the_text_trimmed_and_not_too_long(text: str) -> None:
    for each in sentences(text):
        assert each.text == text[each.start : each.end]
        assert each.text == each.text.strip()
        assert 0 < len(each.text) <= LONGEST

"""Words are found wherever they stand: any script, any case, any sign, in 100,000 messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crane_app.library.chats import Chats
from crane_app.library.schema import excerpt, searchable
from tests.library.test_chats import cost


@pytest.fixture
def chats(tmp_path: Path):
    opened = Chats.open(tmp_path / "chats.db")
    yield opened
    opened.close()


def keep(chats: Chats, *texts: str) -> list[int]:
    """Each text as the only turn of a conversation: the turns' numbers."""
    return [chats.add(chats.new(), "user", text).id for text in texts]


def turns(chats: Chats, words: str) -> list[int | None]:
    return [found.turn for found in chats.search(words)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The crane flies", "crane"),
        ("The crane flies", "RAN"),
        ("The crane flies", "flies the"),
        ("The crane flies", "f"),
        ("日本語の本を読む", "日本"),
        ("日本語の本を読む", "本を読"),
        ("我喜歡鶴", "鶴"),
        ("한국어 문장", "한국어"),
        ("ﾊﾝｶｸ カナ", "ハンカク"),
        ("ＡＢＣ", "abc"),
        ("Straße", "STRASSE"),
        ("Ärger in Łódź", "ärger łódź"),
        ("cafe\u0301", "café"),
        ("Ωmega", "ωm"),
        ('say "hello world" now', '"hello'),
        ('a "b" c', '"b"'),
        ("a OR b NOT c", "NOT"),
        ("x NEAR/2 y", "near/2"),
        ("col:value*", "value*"),
        ("100% of_all", "0% f_a"),
        ("it's (a) test; --x", "it's (a) --x"),
        ("back\\slash", "k\\s"),
        ("before\0after the nul", "after"),
        ("\U0001f426 bird", "\U0001f426"),
        ("the end", "end"),
    ],
)
def test_words_are_found(chats: Chats, text: str, words: str):
    (number,) = keep(chats, text)
    keep(chats, "something else altogether", "2 + 2")
    assert turns(chats, words) == [number]


NOWHERE = ["", "   ", "\0", "crane flew", "cranes", "rane f lies w", '"crane flies"', "%%%", "___"]


@pytest.mark.parametrize("words", NOWHERE)
def test_what_is_not_there_is_not_found(chats: Chats, words: str):
    keep(chats, "The crane flies", "another")
    assert turns(chats, words) == []


@given(st.text(max_size=40), st.data())
def test_any_piece_of_a_text_finds_it(text: str, data: st.DataObject):
    chats = Chats.in_memory()
    (number,) = keep(chats, text)
    words = searchable(text.encode("utf-8", "replace").decode()).split()
    if words:
        word = data.draw(st.sampled_from(words))
        begin = data.draw(st.integers(0, len(word) - 1))
        end = data.draw(st.integers(begin + 1, len(word)))
        piece = word[begin:end]
        # A combining sign at the beginning of a piece would be composed with nothing, or differently.
        if searchable(piece) == piece:
            assert turns(chats, piece) == [number]


@given(st.text(max_size=60))
def test_no_words_are_an_error(words: str):
    chats = Chats.in_memory()
    keep(chats, "The crane flies")
    chats.search(words)


def test_a_pasted_page_can_be_looked_for(chats: Chats):
    (number,) = keep(chats, "lorem ipsum dolor sit amet " * 1000)
    assert turns(chats, "lorem ipsum dolor sit amet " * 1000) == [number]


def test_titles_come_first_and_then_the_newest(chats: Chats):
    first, second = keep(chats, "an old crane", "a new crane")
    titled = chats.new("Cranes")
    found = chats.search("crane")
    assert found[0].chat.id == titled
    assert [each.turn for each in found] == [None, second, first]
    assert [each.turn for each in chats.search("crane", limit=2)] == [None, second]


def test_hidden_versions_are_found_too(chats: Chats):
    chat = chats.new()
    old = chats.add(chat, "user", "zebrafinch")
    chats.add(chat, "user", "wombat")
    assert [turn.text for turn in chats.path(chat)] == ["wombat"]
    assert turns(chats, "zebrafinch") == [old.id]


def test_an_answer_that_is_still_being_made_is_found_when_it_ends(chats: Chats):
    turn = chats.add(chats.new(), "assistant", "", state="running")
    chats.update(turn.id, text="zebrafinch")
    assert turns(chats, "zebrafinch") == []
    chats.update(turn.id, state="done")
    assert turns(chats, "zebrafinch") == [turn.id]


def test_a_changed_text_is_found_by_its_new_words_alone(chats: Chats):
    (number,) = keep(chats, "zebrafinch")
    chats.update(number, text="wombat")
    assert turns(chats, "zebrafinch") == []
    assert turns(chats, "wombat") == [number]


def test_an_excerpt_shows_the_word_on_one_line():
    text = "a" * 500 + "\n\n the Crane\tflies " + "b" * 500
    shown = excerpt(text, ["crane"])
    assert "the Crane flies" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert len(shown) < 130


def test_an_excerpt_of_what_was_found_in_another_form_is_the_beginning():
    assert excerpt("ＡＢＣ and so on", ["abc"]) == "ＡＢＣ and so on"


@pytest.fixture(scope="module")
def hundred_thousand(tmp_path_factory) -> Chats:
    """1,000 conversations of 100 turns, each with a number of its own in words, some in Japanese."""
    chats = Chats.open(tmp_path_factory.mktemp("many") / "chats.db")
    names = [(f"Talk {number}", "m", "", "{}", float(number), float(number)) for number in range(1000)]
    rows = []
    for number in range(100_000):
        chat, place = number // 100 + 1, number % 100
        text = f"message nr{number}x of the conversation, {'鳥が飛ぶ' if number % 1000 == 7 else 'a bird flies'}. " * 3
        parent = number if place else None
        rows.append((number + 1, chat, parent, "user", text, "[]", "done", "", json.dumps({}), float(number), 1, 1))
    with chats._database.writing() as connection:
        connection.executemany(
            "INSERT INTO chats (title, model, system, options, created, changed) VALUES (?, ?, ?, ?, ?, ?)", names
        )
        connection.executemany(
            "INSERT INTO turns (id, chat, parent, role, text, attachments, state, model, facts, created, picked,"
            " writer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
    yield chats
    chats.close()


@pytest.mark.slow
class TestAmongAHundredThousand:
    @pytest.mark.parametrize(("words", "number"), [("nr77777x", 77_778), ("NR205X bird", 206), ("nr99999x", 100_000)])
    def test_one_is_found_without_reading_the_others(self, hundred_thousand: Chats, words: str, number: int):
        found: list = []
        spent = cost(hundred_thousand, lambda: found.extend(hundred_thousand.search(words)))
        assert [each.turn for each in found] == [number]
        assert spent < 100

    def test_a_word_that_is_everywhere_gives_the_newest(self, hundred_thousand: Chats):
        found: list = []
        spent = cost(hundred_thousand, lambda: found.extend(hundred_thousand.search("conversation", limit=50)))
        assert [each.turn for each in found] == list(range(100_000, 99_950, -1))
        assert spent < 100

    def test_two_characters_are_found_too(self, hundred_thousand: Chats):
        assert len(hundred_thousand.search("鳥が", limit=1000)) == 100

    def test_a_conversation_is_shown_without_reading_the_others(self, hundred_thousand: Chats):
        assert len(hundred_thousand.path(500)) == 100
        assert cost(hundred_thousand, lambda: hundred_thousand.path(500)) < 100
        assert cost(hundred_thousand, lambda: hundred_thousand.chats()) < 100

    def test_one_of_the_conversations_is_purged(self, hundred_thousand: Chats):
        hundred_thousand.delete(1)
        hundred_thousand.purge(older_than_s=0)
        assert hundred_thousand.search("nr5x") == []
        assert [found.turn for found in hundred_thousand.search("nr105x")] == [106]

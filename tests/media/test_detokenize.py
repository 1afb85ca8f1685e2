"""Text that is shown while tokens arrive: never half a character, never a part of a stop string."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from crane_app.media.detokenize import Detokenizer, StopText
from crane_app.media.tokenizer import Tokenizer

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Every byte is a token, and "he" and a special token are too."""
    pieces = [*ALPHABET, "he"]
    library = tokenizers.Tokenizer(models.BPE({piece: id for id, piece in enumerate(pieces)}, [("h", "e")]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    return opened(library, tmp_path_factory.mktemp("bytes"))


@pytest.fixture(scope="module")
def sentence_piece(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """SentencePiece with byte fallback: every byte is a token, and so are ▁, a, ▁a and a special token."""
    vocabulary = {piece: id for id, piece in enumerate([*BYTES, "▁", "a", "▁a"])}
    library = tokenizers.Tokenizer(models.BPE(vocabulary, [("▁", "a")], byte_fallback=True))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return opened(library, tmp_path_factory.mktemp("pieces"))


def opened(library: tokenizers.Tokenizer, folder: Path) -> Tokenizer:
    library.add_special_tokens(["<|end|>"])
    library.save(str(folder / "tokenizer.json"))
    return Tokenizer.open(folder)


@pytest.fixture(params=["byte_level", "sentence_piece"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(request.param)


def streamed(tokenizer: Tokenizer, ids: list[int], special: bool = False) -> list[str]:
    detokenizer = Detokenizer(tokenizer, special)
    return [*(detokenizer.push(id) for id in ids), detokenizer.flush()]


# ---- tokens to text


def test_an_emoji_of_four_tokens_appears_with_the_last_one(tokenizer: Tokenizer):
    ids = tokenizer.encode("🙂a")
    shown = streamed(tokenizer, ids)
    assert [text for text in shown if text] == ["🙂", "a"]
    assert shown[-2:] == ["a", ""]


def test_a_lone_byte_is_replaced_once_it_cannot_be_completed(byte_level: Tokenizer):
    first, second, third, _ = byte_level.encode("🙂")
    a = byte_level.encode("a")[0]
    assert streamed(byte_level, [first, second, a]) == ["", "", "\ufffda", ""]
    assert streamed(byte_level, [first, first]) == ["", "\ufffd", "\ufffd"]
    assert streamed(byte_level, [third]) == ["\ufffd", ""]
    assert streamed(byte_level, [first, second, third]) == ["", "", "", "\ufffd"]


def test_a_special_token_amid_a_character_does_not_break_it(byte_level: Tokenizer):
    first, *rest = byte_level.encode("é")
    (end,) = byte_level.encode("<|end|>", special=True)
    assert streamed(byte_level, [first, end, *rest]) == ["", "", "é", ""]
    assert "".join(streamed(byte_level, [first, end, *rest], special=True)) == "\ufffd<|end|>\ufffd"


def test_the_leading_space_goes_unless_the_ids_continue_a_text(sentence_piece: Tokenizer):
    ids = sentence_piece.encode("a a")
    (end,) = sentence_piece.encode("<|end|>", special=True)[-1:]
    assert "".join(streamed(sentence_piece, [end, *ids])) == "a a"
    detokenizer = Detokenizer(sentence_piece, continues=True)
    assert "".join(map(detokenizer.push, ids)) == " a a"


@given(ids=st.lists(st.integers(-1, 262)), special=st.booleans())
def test_pieces_joined_are_the_whole(byte_level: Tokenizer, sentence_piece: Tokenizer, ids: list[int], special: bool):
    for tokenizer in (byte_level, sentence_piece):
        assert "".join(streamed(tokenizer, ids, special)) == tokenizer.decode(ids, special=special)


@given(text=st.text(min_size=1))
def test_a_valid_text_never_shows_a_replacement(byte_level: Tokenizer, sentence_piece: Tokenizer, text: str):
    assume("\ufffd" not in text and "▁" not in text)
    for tokenizer in (byte_level, sentence_piece):
        shown = streamed(tokenizer, tokenizer.encode(text))
        assert "".join(shown) == text
        assert "\ufffd" not in "".join(shown)


def test_a_token_costs_no_more_in_a_long_reply(tokenizer: Tokenizer):
    def seconds(count: int, detokenizer: Detokenizer) -> float:
        start = time.perf_counter()
        for _ in range(count):
            detokenizer.push(3 + 0xE4)
        return time.perf_counter() - start

    detokenizer = Detokenizer(tokenizer)
    early = min(seconds(2_000, detokenizer) for _ in range(5))
    seconds(50_000, detokenizer)
    late = min(seconds(2_000, detokenizer) for _ in range(5))
    assert late < 10 * early


# ---- stop strings


def cut(text: str, stops: list[str]) -> str:
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]


def parts(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


def run(stops: list[str], pieces: list[str]) -> tuple[str, bool, StopText]:
    stop_text, shown, stopped = StopText(stops), "", False
    for piece in pieces:
        text, stopped = stop_text.push(piece)
        shown += text
        assert shown == cut("".join(pieces), stops)[: len(shown)]
        if stopped:
            break
    return shown + stop_text.flush(), stopped, stop_text


def test_a_stop_word_may_straddle_two_tokens():
    stop_text = StopText(["STOP"])
    assert stop_text.push("so ST") == ("so ", False)
    assert stop_text.push("OP and") == ("", True)
    assert stop_text.matched == "STOP"
    assert stop_text.push("more") == ("", True)
    assert stop_text.flush() == ""


def test_what_only_began_like_a_stop_word_is_shown():
    stop_text = StopText(["aab"])
    assert stop_text.push("aa") == ("", False)
    assert stop_text.push("a") == ("a", False)
    assert stop_text.push("c") == ("aac", False)
    assert stop_text.push("aa") == ("", False)
    assert stop_text.flush() == "aa"
    assert stop_text.matched is None


def test_the_stop_word_that_begins_first_wins_however_the_text_is_cut():
    for pieces in (["xabcdy"], ["xabc", "dy"], list("xabcdy")):
        assert run(["bc", "abcd"], pieces)[0] == "x"
        assert run(["bc", "abcd"], pieces)[2].matched == "abcd"
    for pieces in (["xabcy"], ["xabc", "y"], list("xabcy"), ["xabc"]):
        assert run(["bc", "abcd"], pieces)[0] == "xa"
        assert run(["bc", "abcd"], pieces)[2].matched == "bc"
    assert run(["ab", "abc"], ["xabc"])[2].matched == "ab"


def test_without_stop_words_everything_is_shown_at_once():
    stop_text = StopText([])
    assert stop_text.push("any") == ("any", False)
    assert stop_text.flush() == ""


def test_an_empty_stop_word_is_refused():
    with pytest.raises(ValueError, match="empty"):
        StopText(["a", ""])


@given(
    text=st.text("ab🙂", max_size=30),
    stops=st.lists(st.text("ab🙂", min_size=1, max_size=5), max_size=4),
    places=st.lists(st.integers(0, 100), max_size=8),
)
def test_what_is_shown_is_the_text_up_to_the_earliest_stop_word(text: str, stops: list[str], places: list[int]):
    shown, stopped, stop_text = run(stops, parts(text, places))
    whole = cut(text, stops)
    assert shown == whole
    assert (stop_text.matched is not None) == any(stop in text for stop in stops)
    if stop_text.matched is not None:
        assert text[len(whole) :].startswith(stop_text.matched)
    assert not stopped or stop_text.matched is not None


@given(text=st.text("ab", max_size=20), stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_no_more_is_held_back_than_may_begin_a_stop_word(text: str, stops: list[str]):
    stop_text, shown = StopText(stops), ""
    for count, character in enumerate(text, 1):
        piece, stopped = stop_text.push(character)
        shown += piece
        if stopped or any(stop in text[:count] for stop in stops):
            break
        held = text[len(shown) : count]
        assert held == "" or any(stop.startswith(held) for stop in stops)


def test_many_long_stop_words_cost_no_more_than_one():
    stop_text = StopText([f"{'a' * 500}{number}" for number in range(2_000)])
    start = time.perf_counter()
    for _ in range(20_000):
        stop_text.push("a")
    assert time.perf_counter() - start < 2

"""A tokenizer that holds only what texts can be made of gives the ids of one that holds all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crane_app.media import growing
from crane_app.media.files.gguf import Gguf
from crane_app.media.gguf_words import Vocabulary
from crane_app.media.growing import FITS, LONG, Growing
from crane_app.media.tokenizer import Tokenizer
from tests.media.test_gguf_words import HARD, KINDS, opened, said_of, write


@pytest.fixture(scope="module", params=sorted(KINDS))
def both(request, tmp_path_factory):
    """The file of a vocabulary, and the tokenizer of its tokenizer.json."""
    folder, library = tmp_path_factory.mktemp("growing"), KINDS[request.param]()
    file = write(folder / "model.gguf", pre=request.param, **said_of(library))
    return file, opened(library, folder / "json")


def held(tokenizer: Tokenizer) -> int:
    return tokenizer._library.get_vocab_size()


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("text", HARD)
def test_the_first_text_has_the_ids_of_the_tokenizer_json(both, text, special):
    file, theirs = both
    ours = Tokenizer.open(file)
    assert ours.encode(text, special) == theirs.encode(text, special)
    assert ours.decode(range(ours.size), special=True) == theirs.decode(range(ours.size), special=True)


@given(texts=st.lists(st.text(max_size=12) | st.sampled_from(HARD), min_size=1, max_size=3))
def test_so_has_any_text_after_any_other(both, texts):
    file, theirs = both
    ours = Tokenizer.open(file)
    assert [ours.encode(text) for text in texts] == [theirs.encode(text) for text in texts]


def test_it_holds_what_texts_so_far_can_be_made_of_and_no_more(both):
    file, theirs = both
    ours = Tokenizer.open(file)
    before = held(ours)
    ours.encode("cat")
    some = held(ours)
    ours.encode("cat")
    assert before < some == held(ours) < held(theirs)


def test_after_some_texts_and_for_a_long_one_it_holds_all(both):
    file, theirs = both
    ours = Tokenizer.open(file)
    for text in ["It's", "naïve", "你好，世界", "Привет", "https", "camelCase", "12345678", "def f(x)"][: FITS + 1]:
        ours.encode(text)
    other = Tokenizer.open(file)
    other.encode("a" * (LONG + 1))
    assert held(ours) == held(other) == held(theirs)
    assert [ours.encode(text) for text in HARD] == [theirs.encode(text) for text in HARD]


def test_any_token_has_its_id_and_ids_are_compared_over_all(both):
    file, theirs = both
    ours = Tokenizer.open(file)
    assert ours.id_of("<|im_end|>") == theirs.id_of("<|im_end|>")
    assert Tokenizer.open(file).id_of("Ġthe") == theirs.id_of("Ġthe")
    assert ours.id_of("no such token") is None
    assert ours.unlike(theirs) is None


def test_bytes_that_are_no_utf8_are_found(tmp_path):
    said = said_of(KINDS["gpt-2"]())
    file = write(tmp_path / "model.gguf", pre="gpt-2", **said)
    raw = file.read_bytes()
    place = raw.index(b"camelCase") if b"camelCase" in raw else raw.index("Ġthe".encode())
    file.write_bytes(raw[:place] + b"\xff" + raw[place + 1 :])
    found = Vocabulary(Gguf.open(file))
    assert not growing.spelt(found.texts)


def test_a_large_vocabulary_is_taken_whole(both, monkeypatch):
    file, theirs = both
    monkeypatch.setattr(growing, "MOST", 10)
    ours = Tokenizer.open(file)
    assert held(ours) == held(theirs)
    assert [ours.encode(text) for text in HARD] == [theirs.encode(text) for text in HARD]


def test_a_merge_is_a_fault_where_a_token_of_it_is_lacking(tmp_path):
    said = said_of(KINDS["gpt-2"]())
    file = write(tmp_path / "model.gguf", pre="gpt-2", **said)
    vocabulary = Vocabulary(Gguf.open(file))
    pairs = vocabulary.metadata["tokenizer.ggml.merges"].pairs()
    assert growing.fault(vocabulary.texts, vocabulary.shown, pairs) == ""
    lacking = vocabulary.shown.copy()
    lacking[vocabulary.texts[:].index(pairs[0][0] + pairs[0][1])] = False
    assert "lacks" in growing.fault(vocabulary.texts, lacking, pairs)


def test_where_it_is_whole_it_does_not_grow(both):
    file, _ = both
    words = Tokenizer.open(file)._growing
    assert isinstance(words, Growing)
    words.take_all()
    assert not words.take([0, 1])

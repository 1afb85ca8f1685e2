"""A tokenizer from a GGUF file gives the ids of the tokenizer.json that it came from, on texts that are hard to cut."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import sentencepiece
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from crane_app.errors import BadCheckpoint, CraneError, Unsupported
from crane_app.media.chat_template import ChatTemplate
from crane_app.media.tokenizer import Tokenizer

HARD = [
    "",
    " ",
    "  two  spaces   three ",
    "\n\n\r\n\t\ttabs\n",
    "It's we'll I'M they'Re 'tis",
    "naïve café e\u0301 Å \u212b \ufb01 ﬃ",
    "1 22 333 4444 12345678 ٣٤٥ 三百",
    "你好，世界。日本語のテキスト カタカナ 한국어",
    "Привет, мир! Ελληνικά עברית العربية हिन्दी ไทย",
    "👩‍👩‍👧‍👦 🇩🇪 ✈️ 😀😀 \U0001f9d1\U0001f3fd",
    "def f(x):\n    return x**2  # comment\n\n\nclass A: pass",
    "https://example.org/a?b=c&d=%20#e user@example.com",
    "a\u00a0b\u2003c\u200bd\u3000e",
    "!!! ??? ... --- ~~~ ### $$$ ''' \"\"\"",
    "<|im_start|>user\n<think>hm</think><|im_end|>",
    "camelCase snake_case SCREAMING_CASE kebab-case",
    "\x00\x01\x7f\x80\ufffd\uffff",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "The cat sat on the mat, and it's the 2nd time! " * 3,
]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
HUNYUAN = [
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
]


def trained(splits: list[Any], nfc: bool = False, **model: Any) -> tokenizers.Tokenizer:
    """A byte-level tokenizer with special tokens and a tag that is not special."""
    library = tokenizers.Tokenizer(models.BPE(**model))
    if nfc:
        library.normalizer = normalizers.NFC()
    library.pre_tokenizer = pre_tokenizers.Sequence(splits)
    library.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    library.train_from_iterator(
        HARD * 2, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    )
    library.add_special_tokens(SPECIALS)
    library.add_tokens([AddedToken(tag, normalized=False) for tag in ("<think>", "</think>")])
    return library


def pieces(*words: str) -> list[Any]:
    return [
        *(pre_tokenizers.Split(Regex(word), "isolated") for word in words),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


KINDS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "qwen2": lambda: trained(pieces(QWEN2), nfc=True),
    "llama-bpe": lambda: trained(pieces(LLAMA3), ignore_merges=True),
    "hunyuan-dense": lambda: trained(pieces(*HUNYUAN)),
    "smollm": lambda: trained([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    "gpt-2": lambda: trained([pre_tokenizers.ByteLevel(add_prefix_space=False)]),
}


def write(path: Path, architecture: str = "qwen2", **said: Any) -> Path:
    """A GGUF file with nothing but metadata; names are those of tokenizer.ggml, '' for none."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in said.items():
        key = key.replace("__", ".")
        key = key if "." in key else f"tokenizer.ggml.{key}"
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def said_of(library: tokenizers.Tokenizer) -> dict[str, Any]:
    """What convert_hf_to_gguf.py writes of a byte-level tokenizer, with two rows of padding."""
    told = json.loads(library.to_str())
    vocabulary = library.get_vocab()
    tokens = [""] * len(vocabulary)
    for text, id in vocabulary.items():
        tokens[id] = text
    kinds = [1] * len(tokens)
    for token in told["added_tokens"]:
        kinds[token["id"]] = 3 if token["special"] else 4
    tokens += [f"[PAD{id}]" for id in range(len(tokens), len(tokens) + 2)]
    merges = [" ".join(pair) for pair in told["model"]["merges"]]
    return {"model": "gpt2", "tokens": tokens, "token_type": [*kinds, 5, 5], "merges": merges}


def opened(library: tokenizers.Tokenizer, folder: Path) -> Tokenizer:
    """The same tokenizer from its tokenizer.json."""
    folder.mkdir()
    library.save(str(folder / "tokenizer.json"))
    return Tokenizer.open(folder)


@pytest.fixture(scope="module", params=sorted(KINDS))
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Tokenizer]:
    folder, library = tmp_path_factory.mktemp("words"), KINDS[request.param]()
    file = write(folder / "model.gguf", pre=request.param, **said_of(library))
    return Tokenizer.open(file), opened(library, folder / "json")


@pytest.mark.parametrize("special", [False, True])
def test_hard_texts_have_the_ids_of_the_tokenizer_json(both, special):
    ours, theirs = both
    for text in HARD:
        ids = theirs.encode(text, special)
        assert ours.encode(text, special) == ids, text
        assert ours.decode(ids) == theirs.decode(ids)
        assert ours.decode(ids, special=True) == theirs.decode(ids, special=True)


@given(text=st.text(max_size=40))
def test_any_text_has_the_ids_of_the_tokenizer_json(both, text):
    ours, theirs = both
    assert ours.encode(text) == theirs.encode(text)
    assert ours.encode(text, True) == theirs.encode(text, True)


def test_it_has_the_same_ids_and_the_same_special_ones(both):
    ours, theirs = both
    assert (ours.size, ours.special_ids) == (theirs.size, theirs.special_ids)


# SentencePiece


@pytest.fixture(scope="module")
def piece_model() -> sentencepiece.SentencePieceProcessor:
    """A small SentencePiece BPE like Llama's: no normalisation, bytes for what has no piece, digits apart."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in HARD if text.strip() and "\x00" not in text] * 3),
        model_writer=model,
        vocab_size=500,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        character_coverage=0.98,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def said_of_pieces(model: sentencepiece.SentencePieceProcessor) -> dict[str, Any]:
    """What convert_hf_to_gguf.py writes of a SentencePiece model."""
    every = range(model.vocab_size())
    kind = [
        2
        if model.is_unknown(i)
        else 3
        if model.is_control(i)
        else 6
        if model.is_byte(i)
        else 5
        if model.is_unused(i)
        else 1
        for i in every
    ]
    return {
        "model": "llama",
        "pre": "default",
        "tokens": [model.id_to_piece(i) for i in every],
        "scores": [float(model.get_score(i)) for i in every],
        "token_type": kind,
        "bos_token_id": model.bos_id(),
        "eos_token_id": model.eos_id(),
        "unknown_token_id": model.unk_id(),
    }


def test_sentence_pieces_have_the_ids_of_the_sentencepiece_library(piece_model, tmp_path):
    ours = Tokenizer.open(write(tmp_path / "model.gguf", "llama", **said_of_pieces(piece_model)))
    for text in HARD:
        if "\x00" not in text:  # the library ends a text there
            assert ours.encode(text) == piece_model.encode(text), text
            assert ours.decode(ours.encode(text)) == text


def test_texts_of_sentence_pieces_begin_with_their_token(piece_model, tmp_path):
    said = said_of_pieces(piece_model)
    assert Tokenizer.open(write(tmp_path / "a.gguf", "llama", **said)).bos == piece_model.bos_id()
    assert Tokenizer.open(write(tmp_path / "b.gguf", "llama", add_bos_token=False, **said)).bos is None


# What the file may lack or say wrongly


@pytest.mark.parametrize(
    ("said", "error", "word"),
    [
        ({"tokens": None}, BadCheckpoint, "no tokenizer"),
        ({"tokens": [1, 2]}, BadCheckpoint, "tokens"),
        ({"tokens": ["a", "a"], "token_type": [1, 1]}, BadCheckpoint, "two ids"),
        ({"token_type": [1]}, BadCheckpoint, "token_type"),
        ({"merges": ["a"]}, BadCheckpoint, "merges"),
        ({"merges": ["a b c"]}, BadCheckpoint, "merges"),
        ({"merges": ["absent b"]}, BadCheckpoint, "merges of tokens that it lacks"),
        ({"merges": ["b a"]}, BadCheckpoint, "merges of tokens that it lacks"),
        ({"model": "bert"}, Unsupported, "bert"),
        ({"model": 7}, BadCheckpoint, "model"),
        ({"pre": "klingon"}, Unsupported, "klingon"),
        ({"model": "llama"}, BadCheckpoint, "score"),
        ({"model": "llama", "scores": [0.5]}, BadCheckpoint, "score"),
        ({"add_bos_token": 3}, BadCheckpoint, "add_bos_token"),
    ],
    ids=str,
)
def test_a_broken_tokenizer_is_a_sentence(tmp_path, said, error, word):
    good = {"model": "gpt2", "pre": "qwen2", "tokens": ["a", "b", "ab"], "token_type": [1, 1, 1], "merges": ["a b"]}
    with pytest.raises(error, match=word) as raised:
        Tokenizer.open(write(tmp_path / "model.gguf", **{**good, **said}))
    assert "model.gguf" in str(raised.value)


def test_files_from_before_names_split_as_their_family_does(tmp_path):
    library = KINDS["qwen2"]()
    ours = Tokenizer.open(write(tmp_path / "model.gguf", "qwen3", **said_of(library)))
    theirs = opened(library, tmp_path / "json")
    assert [ours.encode(text) for text in HARD] == [theirs.encode(text) for text in HARD]
    with pytest.raises(Unsupported, match="default"):
        Tokenizer.open(write(tmp_path / "llama.gguf", "llama", **said_of(library)))


# Chat templates


def test_the_chat_template_comes_with_its_tokens(tmp_path):
    said = said_of(KINDS["qwen2"]())
    end = said["tokens"].index("<|im_end|>")
    source = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    file = write(tmp_path / "model.gguf", "llama", tokenizer__chat_template=source, eos_token_id=end, **said)
    template = ChatTemplate.open(file)
    assert template is not None
    assert template.text([{"role": "user", "content": "Hi"}]) == "Hi<|im_end|>"


def test_named_templates_are_found(tmp_path):
    file = write(
        tmp_path / "model.gguf",
        tokenizer__chat_template="plain",
        tokenizer__chat_templates=["tool_use"],
        tokenizer__chat_template__tool_use="tools",
    )
    template = ChatTemplate.open(file)
    assert template is not None
    assert template.sources == {"default": "plain", "tool_use": "tools"}


def test_without_a_template_the_family_has_one_or_there_is_none(tmp_path):
    assert "im_start" in ChatTemplate.open(write(tmp_path / "a.gguf", "qwen3")).sources["default"]
    assert ChatTemplate.open(write(tmp_path / "b.gguf", "llama")) is None


def test_a_template_that_is_no_text_is_not_used(tmp_path):
    assert ChatTemplate.open(write(tmp_path / "a.gguf", "llama", tokenizer__chat_template=7)) is None


def test_numbers_in_the_metadata_never_become_tokens(tmp_path):
    """An id past the end names nothing."""
    said = said_of(KINDS["gpt-2"]())
    file = write(tmp_path / "a.gguf", pre="gpt-2", bos_token_id=2**31, add_bos_token=True, **said)
    assert Tokenizer.open(file).bos is None


@given(kinds=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=3, max_size=3), texts=st.lists(st.text(), min_size=3))
def test_any_tokens_of_any_kind_are_a_tokenizer_or_a_sentence(tmp_path_factory, kinds, texts):
    file = tmp_path_factory.mktemp("any") / "model.gguf"
    write(file, model="gpt2", pre="qwen2", tokens=texts, token_type=np.array(kinds, np.int32).tolist(), merges=["a b"])
    with contextlib.suppress(CraneError):
        Tokenizer.open(file).encode("abc", special=True)

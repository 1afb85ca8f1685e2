"""Ids and text: markup typed by a person stays text, and damaged files are named."""

from __future__ import annotations

import json
import os
import re
import threading
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.media.tokenizer import Tokenizer
from crane_app.media.word_splits import QWEN2_WORDS

SENTENCES = [
    "The cat sat on the mat, and it's the 2nd time!",
    "naïve café: 你好 world",
    "<b>im_end</b> think",
]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TYPED = "Stop.<|im_end|>\n<|im_start|>system <think> now"


def byte_level() -> tokenizers.Tokenizer:
    """Qwen2's kind: byte-level BPE, special tokens, a tag that is not special, and a run of spaces."""
    library = tokenizers.Tokenizer(models.BPE())
    library.normalizer = normalizers.NFC()
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(QWEN2_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(SENTENCES, trainer)
    library.add_special_tokens(SPECIALS)
    library.add_tokens([AddedToken("<think>", normalized=False), AddedToken("    ", normalized=False)])
    return library


def byte_fallback() -> tokenizers.Tokenizer:
    """Llama's kind: SentencePiece BPE, unknown characters as bytes, a leading space that is not text."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdehlorst"]
    merges = [("▁", "a"), ("t", "h"), ("th", "e"), ("▁", "the"), ("l", "l"), ("▁", "▁")]
    vocabulary = {piece: id for id, piece in enumerate([*pieces, *("".join(pair) for pair in merges)])}
    library = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    library.add_special_tokens(["<unk>", "<s>", "</s>"])
    library.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 1)])
    return library


def put(folder: Path, library: tokenizers.Tokenizer, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    library.save(str(folder / "tokenizer.json"))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


byte_level_library, byte_fallback_library = byte_level(), byte_fallback()


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.open(put(tmp_path_factory.mktemp("qwen"), byte_level()))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.open(put(tmp_path_factory.mktemp("llama"), byte_fallback()))


# ---- markup


def test_markup_typed_by_a_person_stays_text(qwen: Tokenizer):
    ids = qwen.encode(TYPED)
    library = byte_level()
    markup = {library.token_to_id(token) for token in [*SPECIALS, "<think>"]}
    assert markup.isdisjoint(ids)
    assert qwen.decode(ids) == TYPED


def test_a_template_s_markup_becomes_its_ids(qwen: Tokenizer):
    assert qwen.encode(TYPED, special=True) == byte_level().encode(TYPED, add_special_tokens=False).ids
    assert len(qwen.encode("<|im_start|><think>", special=True)) == 2


def test_a_run_of_spaces_is_text_and_keeps_its_token(qwen: Tokenizer):
    spaces = byte_level().token_to_id("    ")
    assert qwen.encode("a    b")[1] == spaces
    assert qwen.encode("a    b", special=True)[1] == spaces


def test_what_the_files_call_special_is_remembered(qwen: Tokenizer):
    library = byte_level()
    assert qwen.special_ids == {library.token_to_id(token) for token in SPECIALS}
    shown = qwen.encode("<|im_start|><think>a", special=True)
    assert qwen.decode(shown) == "<think>a"
    assert qwen.decode(shown, special=True) == "<|im_start|><think>a"


@pytest.mark.parametrize("kind", ["unigram", "words", "bpe"])
def test_markup_that_the_model_s_own_vocabulary_holds_stays_text(tmp_path: Path, kind: str):
    pieces = ["<unk>", "</s>", "▁", "a", "<", "/", "s", ">", "☃"]
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    library = tokenizers.Tokenizer(
        {
            "unigram": lambda: models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], 0),
            "words": lambda: models.WordLevel(vocabulary, unk_token="<unk>"),
            "bpe": lambda: models.BPE(vocabulary, [], unk_token="<unk>", ignore_merges=True),
        }[kind]()
    )
    library.decoder = decoders.Fuse()
    library.add_special_tokens(["<unk>", "</s>", "☃"])
    library.encode_special_tokens = True
    assert 1 in library.encode("</s>").ids  # the library alone lets it through
    tokenizer = Tokenizer.open(put(tmp_path, library))
    for text in ("</s>", "</s></s>", "a</s>☃", "☃"):
        assert not {1, 8} & set(tokenizer.encode(text))
        assert 1 in tokenizer.encode(text + "</s>", special=True)
    if kind != "words":
        assert tokenizer.decode(tokenizer.encode("a</s>")) == "a</s>"
    assert tokenizer.encode("q") == [0]  # an unknown character is the unknown token, special or not


def test_both_modes_may_be_used_by_many_threads(qwen: Tokenizer):
    expected = {special: qwen.encode(TYPED, special=special) for special in (False, True)}
    wrong: list[bool] = []

    def encode(special: bool) -> None:
        wrong.extend(special for _ in range(300) if qwen.encode(TYPED, special=special) != expected[special])

    threads = [threading.Thread(target=encode, args=(number % 2 == 0,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_long_text_does_not_hold_up_other_threads(qwen: Tokenizer):
    thread = threading.Thread(target=qwen.encode, args=("so and so it goes " * 50_000,))
    thread.start()
    turns = 0
    while thread.is_alive():
        qwen.piece(5, first=False)
        time.sleep(0.001)
        turns += 1
    assert turns > 10


# ---- text


@given(text=st.text())
def test_text_comes_back_composed(qwen: Tokenizer, text: str):
    assert qwen.decode(qwen.encode(text)) == unicodedata.normalize("NFC", text)


@given(text=st.text("the all▁<0x>s/ 你é\n\0🙂", max_size=30))
def test_text_comes_back_from_bytes(llama: Tokenizer, text: str):
    assert llama.decode(llama.encode(text)) == text.replace("▁", " ")


def test_lone_surrogates_are_replaced_and_nul_is_kept(qwen: Tokenizer):
    assert qwen.decode(qwen.encode("a\ud800b\udfff\0c")) == "a\ufffdb\ufffd\0c"
    assert qwen.encode("") == []


def test_truncation_and_padding_in_the_file_are_ignored(tmp_path: Path):
    library = byte_level()
    library.enable_truncation(3)
    library.enable_padding(length=50)
    assert len(Tokenizer.open(put(tmp_path, library)).encode("x y z " * 10)) > 50
    assert len(Tokenizer.open(tmp_path).encode("x")) == 1


# ---- decoding


@given(ids=st.lists(st.integers(0, 345)))
def test_any_ids_decode_as_the_library_decodes_them(qwen: Tokenizer, ids: list[int]):
    for special in (False, True):
        expected = byte_level_library.decode(ids, skip_special_tokens=not special)
        assert qwen.decode(ids, special=special) == expected


@given(ids=st.lists(st.integers(0, 2) | st.integers(259, 280) | st.sampled_from([35, 68]), max_size=12))
def test_pieces_decode_as_the_library_decodes_them(llama: Tokenizer, ids: list[int]):
    for special in (False, True):
        expected = byte_fallback_library.decode(ids, skip_special_tokens=not special)
        assert llama.decode(ids, special=special) == expected


def test_one_invalid_byte_does_not_spoil_the_characters_beside_it(llama: Tokenizer):
    ids = [3 + byte for byte in "你".encode()] + [3 + 0xFF]
    assert llama.decode(ids) == "你\ufffd"
    assert byte_fallback_library.decode(ids) == "\ufffd" * 4


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
def test_metaspace_decodes_as_in_the_library(tmp_path: Path, scheme: str):
    library = tokenizers.Tokenizer(models.BPE({"<s>": 0, "▁": 1, "▁a": 2, "b▁": 3}, []))
    library.decoder = decoders.Metaspace(prepend_scheme=scheme)
    library.add_special_tokens(["<s>"])
    tokenizer = Tokenizer.open(put(tmp_path, library))
    for ids in ([2, 3, 1, 2], [1, 2], [0, 2, 2], [3, 3], [0], []):
        assert tokenizer.decode(ids) == library.decode(ids)


def test_unknown_ids_decode_to_nothing(qwen: Tokenizer, tmp_path: Path):
    text = qwen.encode("cat")
    assert qwen.decode([-1, *text, qwen.size, 2**31, 2**40]) == "cat"
    assert qwen.size == byte_level_library.get_vocab_size()
    library = tokenizers.Tokenizer(models.BPE({"a": 0, "b": 9}, []))
    library.decoder = decoders.ByteLevel()
    gaps = Tokenizer.open(put(tmp_path, library))
    assert (gaps.size, gaps.decode(range(12))) == (10, "ab")


def test_an_added_word_is_not_read_as_bytes(tmp_path: Path):
    library = byte_level()
    library.add_tokens(["coração"])
    tokenizer = Tokenizer.open(put(tmp_path, library))
    ids = tokenizer.encode("coração")
    assert len(ids) == 1
    assert tokenizer.decode(ids) == "coração"


def test_a_decoder_that_cannot_be_spelled_is_refused(tmp_path: Path):
    library = byte_level()
    for decoder in (decoders.CTC(), decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 0, 1)]), None):
        library.decoder = decoder
        with pytest.raises(Unsupported, match=r"tokenizer\.json.*--tokens"):
            Tokenizer.open(put(tmp_path, library))


# ---- the beginning of a text


def test_bos_is_known_and_never_added(qwen: Tokenizer, llama: Tokenizer):
    assert (qwen.bos, llama.bos) == (None, 1)
    assert llama.encode("<s>a", special=True).count(1) == 1
    assert llama.encode("a", special=True).count(1) == 0


def test_the_configuration_has_the_last_word_on_bos(tmp_path: Path):
    assert Tokenizer.open(put(tmp_path, byte_fallback(), add_bos_token=False, bos_token="<s>")).bos is None
    assert Tokenizer.open(put(tmp_path, byte_level(), bos_token="<|endoftext|>")).bos is None
    start = byte_level_library.token_to_id("<|endoftext|>")
    for token in ("<|endoftext|>", {"content": "<|endoftext|>"}):
        assert Tokenizer.open(put(tmp_path, byte_level(), add_bos_token=True, bos_token=token)).bos == start
    assert Tokenizer.open(put(tmp_path, byte_level(), add_bos_token=True, bos_token=None)).bos is None


def test_an_end_that_is_added_is_no_beginning(tmp_path: Path):
    library = byte_fallback()
    library.post_processor = processors.TemplateProcessing("$A </s>", "$A $B </s>", [("</s>", 2)])
    assert Tokenizer.open(put(tmp_path, library)).bos is None


# ---- vocab.json and merges.txt


def split(folder: Path) -> dict[str, Any]:
    """byte_level() as vocab.json, merges.txt and the entries of added_tokens_decoder."""
    whole = json.loads(byte_level().to_str())
    (folder / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    merges = [" ".join(pair) for pair in whole["model"]["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return {str(token.pop("id")): token for token in whole["added_tokens"]}


def test_vocabulary_and_merges_are_qwen2_s_tokenizer(tmp_path: Path, qwen: Tokenizer):
    config = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": split(tmp_path)}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.open(tmp_path)
    for text in [*SENTENCES, TYPED, "e\u0301t\u00e9 12345\r\n\r\n  x"]:
        for special in (False, True):
            assert tokenizer.encode(text, special=special) == qwen.encode(text, special=special)
    assert (tokenizer.size, tokenizer.special_ids) == (qwen.size, qwen.special_ids)


def test_added_tokens_keep_the_ids_of_their_file(tmp_path: Path):
    split(tmp_path)
    (tmp_path / "added_tokens.json").write_text('{"<|im_end|>": 900, "<tool>": 700}')
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    tokenizer = Tokenizer.open(tmp_path)
    assert tokenizer.encode("<tool><|im_end|>", special=True) == [700, 900]
    assert (tokenizer.size, tokenizer.special_ids) == (901, {900})


def test_vocabulary_and_merges_of_another_kind_are_refused(tmp_path: Path):
    split(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    with pytest.raises(Unsupported, match=r"GPT2Tokenizer needs a tokenizer\.json"):
        Tokenizer.open(tmp_path)


# ---- bad files


def test_without_a_tokenizer_ids_still_work(tmp_path: Path):
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.json: is missing.*--tokens"):
        Tokenizer.open(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path):
    whole = byte_level().to_str()
    for text in ("", "{}", "[]", "<html>", whole[: len(whole) // 2], whole.replace('"BPE"', '"XYZ"'), "\0"):
        (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
        with pytest.raises(BadCheckpoint, match=r"tokenizer\.json: is not a tokenizer"):
            Tokenizer.open(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.json: is not a tokenizer"):
        Tokenizer.open(tmp_path)
    put(tmp_path, byte_level())
    (tmp_path / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(BadCheckpoint, match=r"tokenizer_config\.json"):
        Tokenizer.open(tmp_path)


def test_a_panic_of_the_library_is_a_damaged_file(tmp_path: Path):
    whole = json.loads(byte_fallback().to_str())
    whole["post_processor"]["special_tokens"] = {}
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.json: is not a tokenizer"):
        Tokenizer.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("merges.txt", "#version: 0.2\nh e l\n", "merges.txt"),
        ("merges.txt", "qqq zzz\n", "vocab.json"),
        ("vocab.json", '{"a": "b"}', "vocab.json"),
        ("vocab.json", '{"a": 1, "b": 1}', "vocab.json"),
        ("added_tokens.json", '{"<x>": "y"}', "vocab.json"),
        ("added_tokens.json", "[]", "added_tokens.json"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": 5}}', "tokenizer_config.json"),
    ],
)
def test_damaged_parts_are_named(tmp_path: Path, name: str, text: str, named: str):
    split(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(BadCheckpoint, match=re.escape(named)):
        Tokenizer.open(tmp_path)


def test_a_file_too_large_is_not_read(tmp_path: Path):
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(200 << 20)
    with pytest.raises(BadCheckpoint, match="larger than any tokenizer"):
        Tokenizer.open(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX")
def test_a_pipe_in_place_of_the_file_does_not_hang(tmp_path: Path):
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(BadCheckpoint, match="is not a file"):
        Tokenizer.open(tmp_path)


@given(place=st.floats(0, 0.999), piece=st.sampled_from(["", '"', "{", "]", "0", "-1", "null", "\\u0000", "é"]))
def test_a_changed_file_never_surprises(tmp_path_factory: pytest.TempPathFactory, place: float, piece: str):
    folder = tmp_path_factory.getbasetemp() / "changed"
    folder.mkdir(exist_ok=True)
    whole = byte_fallback_library.to_str()
    start = int(place * len(whole))
    (folder / "tokenizer.json").write_text(whole[:start] + piece + whole[start + 1 :], encoding="utf-8")
    try:
        tokenizer = Tokenizer.open(folder)
        tokenizer.decode(tokenizer.encode("the cat <s> 你", special=True))
        tokenizer.decode(tokenizer.encode("the cat <s> 你"))
    except (BadCheckpoint, Unsupported) as error:
        str(error).encode()  # fit to be shown


# ---- the reference


@pytest.mark.oracle
def test_transformers_agrees(tmp_path: Path, qwen: Tokenizer):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    texts = [*SENTENCES, TYPED, "  two  spaces\n\n\n12345 don't DON'T", "e\u0301 — “quoted”\u3000全角", ""]
    config = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": split(tmp_path)}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    parts = Tokenizer.open(tmp_path)
    oracle = transformers.Qwen2Tokenizer.from_pretrained(tmp_path)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=byte_level())
    for text in texts:
        expected = oracle(text, add_special_tokens=False).input_ids
        assert parts.encode(text, special=True) == expected
        assert qwen.encode(text, special=True) == fast(text, add_special_tokens=False).input_ids
        assert qwen.decode(expected) == oracle.decode(expected, skip_special_tokens=True)

"""Tokenizer and chat templates from the metadata of a GGUF file, as the tokenizer.json they were made from.

Keys: ggml's docs/gguf.md and gguf-py's constants.py. Merges by score: transformers,
convert_slow_tokenizer.py, generate_merges.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.media.files.gguf import Gguf
from crane_app.media.files.gguf_header import NO_TEXTS, Texts
from crane_app.media.growing import TWICE, Growing, fault
from crane_app.media.word_splits import SAME, SPLITTINGS, UNNAMED, Splitting

UNKNOWN, CONTROL, USER, UNUSED = 2, 3, 4, 5  # gguf-py, TokenType
PADDING = re.compile(r"\[PAD\d+\]")  # rows of the table that no token has; the converter names them so
NAMED = {"bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "mask": "mask"}


class Told:
    """What a file says of its tokenizer; which tokens have names."""

    def __init__(self, gguf: Gguf) -> None:
        self.file, self.metadata = gguf.folder, gguf.metadata
        tokens = self._find("tokens")
        if not isinstance(tokens, Texts) or not len(tokens):
            self.refuse("has no tokenizer in its metadata; ids still work (--tokens)")
        self.texts = tokens

    def refuse(self, fault: str) -> NoReturn:
        raise BadCheckpoint(f"{self.file}: {fault}")

    def _find(self, key: str) -> Any:
        return self.metadata.get(f"tokenizer.ggml.{key}")

    def find(self, key: str, kind: type, default: Any) -> Any:
        value = self._find(key)
        if value is None:
            return default
        if type(value) is not kind:
            self.refuse(f"tokenizer.ggml.{key} must be a {kind.__name__}, not {value!r:.60}")
        return value

    def named(self) -> dict[str, str]:
        """bos_token, eos_token and so on, as far as the file names them."""
        found = {}
        for name, key in NAMED.items():
            id = self.find(f"{key}_token_id", int, None)
            if id is not None and 0 <= id < len(self.texts):
                found[f"{name}_token"] = self.texts[id]
        return found


class Vocabulary(Told):
    """The tokens of a file by id, with their kinds. size: the largest id that is no padding, + 1. shown: bool, which
    are no padding.
    """

    def __init__(self, gguf: Gguf) -> None:
        super().__init__(gguf)
        kinds = self._find("token_type")
        if kinds is None:
            kinds = np.ones(len(self.texts), np.int32)
        if not isinstance(kinds, np.ndarray) or kinds.shape != (len(self.texts),):
            self.refuse("does not say of each token what kind it is (tokenizer.ggml.token_type)")
        self.kinds = kinds
        self.shown = np.ones(len(kinds), bool)
        self.shown[[id for id in self.of(UNUSED) if PADDING.fullmatch(self.texts[id])]] = False
        self.size = int(self.shown.nonzero()[0].max(initial=-1)) + 1

    def of(self, *kinds: int) -> list[int]:
        """Ids of the tokens of these kinds, in their order."""
        found: list[int] = np.flatnonzero(np.isin(self.kinds, kinds)).tolist()
        return found

    def added(self, special: tuple[int, ...]) -> list[Any]:
        """Tokens that are found in a text before anything else, in the order of their ids."""
        from tokenizers import AddedToken

        every = ((self.texts[id], int(self.kinds[id])) for id in self.of(*special, USER))
        return [AddedToken(text, special=kind in special, normalized=False) for text, kind in every]


def tokenizer(gguf: Gguf) -> tuple[Any, dict[str, Any], int]:
    """The library's tokenizer or one that grows, what tokenizer_config.json would say, and the largest id + 1.

    Raises BadCheckpoint and Unsupported.
    """
    vocabulary = Vocabulary(gguf)
    model = vocabulary.find("model", str, "none")
    if model == "gpt2":
        words, bos = _byte_level(vocabulary, gguf.metadata.get("general.architecture"))
    elif model == "llama":
        words, bos = _sentence_pieces(vocabulary), True
    else:
        raise Unsupported(f"{gguf.folder}: has a tokenizer of the kind {model!r:.40}; Crane knows gpt2 and llama")
    named: dict[str, Any] = dict(vocabulary.named())
    named["add_bos_token"] = vocabulary.find("add_bos_token", bool, bos) and "bos_token" in named
    return words, named, vocabulary.size


def templates(gguf: Gguf) -> tuple[dict[str, str], dict[str, str]]:
    """Chat templates by name, and the tokens that they may name."""
    told = gguf.metadata
    names = told.get("tokenizer.chat_templates", ())
    found = {name: told.get(f"tokenizer.chat_template.{name}") for name in names if isinstance(name, str)}
    found["default"] = told.get("tokenizer.chat_template")
    kept = {name: text for name, text in found.items() if isinstance(text, str)}
    return kept, Told(gguf).named() if "tokenizer.ggml.tokens" in told else {}


def _byte_level(vocabulary: Vocabulary, architecture: Any) -> tuple[Growing, bool]:
    """Byte-level BPE, and whether its texts begin with a token of their own."""
    name = vocabulary.find("pre", str, "default")
    name = UNNAMED.get(architecture, name) if name == "default" else SAME.get(name, name)
    splitting = SPLITTINGS.get(name)
    if splitting is None:
        raise Unsupported(
            f"{vocabulary.file}: splits texts in a way called {name!r:.40} (tokenizer.ggml.pre), which Crane does not "
            f"know. It knows: {', '.join(SPLITTINGS)}."
        )
    texts = vocabulary.metadata.get("tokenizer.ggml.merges", NO_TEXTS)
    merges = texts.pairs() if isinstance(texts, Texts) else None
    if merges is None:
        vocabulary.refuse("has merges that are not two tokens each (tokenizer.ggml.merges)")
    if wrong := fault(vocabulary.texts, vocabulary.shown, merges):
        vocabulary.refuse(wrong)
    added = vocabulary.added((CONTROL,))
    held = np.isin(vocabulary.kinds, (CONTROL, USER))
    make = partial(_library, splitting, added)
    return Growing(vocabulary.texts, vocabulary.shown, held, merges, make), splitting.bos


def _library(splitting: Splitting, added: list[Any], ids: dict[str, int], merges: Sequence[tuple[str, str]]) -> Any:
    """The library's tokenizer of some tokens."""
    import tokenizers
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

    library = tokenizers.Tokenizer(models.BPE(ids, merges, ignore_merges=splitting.whole))
    if splitting.nfc:
        library.normalizer = normalizers.NFC()
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if splitting.digits else []
    steps += [pre_tokenizers.Split(Regex(words), "isolated") for words in splitting.words]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splitting.gpt2))
    library.pre_tokenizer = pre_tokenizers.Sequence(steps)
    library.decoder = decoders.ByteLevel()
    library.add_tokens(added)
    return library


def _sentence_pieces(vocabulary: Vocabulary) -> Any:
    """SentencePiece's BPE: what two pieces make is merged by its score, what has no piece is spelt in bytes."""
    import tokenizers
    from tokenizers import decoders, models, normalizers

    scores = vocabulary.metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, np.ndarray) or scores.shape != (len(vocabulary.texts),):
        vocabulary.refuse("does not give each token a score (tokenizer.ggml.scores)")
    unknown = vocabulary.named().get("unk_token")
    if unknown is None:
        unknown = next((vocabulary.texts[id] for id in vocabulary.of(UNKNOWN)), None)
    texts = list(vocabulary.texts)
    ids = {texts[id]: id for id in np.flatnonzero(vocabulary.shown).tolist()}
    if len(ids) < np.count_nonzero(vocabulary.shown):
        vocabulary.refuse(TWICE)
    pairs = list(_merges(texts, vocabulary.of(1), scores))
    library = tokenizers.Tokenizer(models.BPE(ids, pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefix = vocabulary.find("add_space_prefix", bool, True)
    start = [normalizers.Prepend("▁")] if prefix else []
    library.normalizer = normalizers.Sequence([*start, normalizers.Replace(" ", "▁")])
    end = [decoders.Strip(" ", 1, 0)] if prefix else []
    library.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *end])
    library.add_tokens(vocabulary.added((UNKNOWN, CONTROL)))
    return library


def _merges(texts: list[str], normal: list[int], scores: np.ndarray) -> Iterator[tuple[str, str]]:
    """Every way in which one of the `normal` pieces is two others, the best piece first.

    Of equal scores the piece that was listed first, and of its ways the one whose parts were.
    """
    ids = {texts[id]: id for id in normal}
    for id in sorted(normal, key=lambda id: (-scores[id], id)):
        text = texts[id]
        ways = ((text[:cut], text[cut:]) for cut in range(1, len(text)))
        yield from sorted(
            (way for way in ways if way[0] in ids and way[1] in ids), key=lambda w: (ids[w[0]], ids[w[1]])
        )

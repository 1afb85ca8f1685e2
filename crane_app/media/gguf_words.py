"""Tokenizer and chat templates from the metadata of a GGUF file, as the tokenizer.json they were made from.

Keys: ggml's docs/gguf.md and gguf-py's constants.py. Merges by score: transformers,
convert_slow_tokenizer.py, generate_merges.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any, NoReturn

import numpy as np

from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.media.files.gguf import Gguf
from crane_app.media.files.gguf_header import Texts
from crane_app.media.freed import give_back
from crane_app.media.word_splits import SAME, SPLITTINGS, UNNAMED

UNKNOWN, CONTROL, USER, UNUSED = 2, 3, 4, 5  # gguf-py, TokenType
MOST_TOKENS = 1 << 22
PADDING = re.compile(r"\[PAD\d+\]")  # rows of the table that no token has; the converter names them so
NAMED = {"bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "mask": "mask"}


class Told:
    """What a file says of its tokenizer; which tokens have names."""

    def __init__(self, gguf: Gguf) -> None:
        self.file, self.metadata = gguf.folder, gguf.metadata
        tokens = self._find("tokens")
        if not isinstance(tokens, Sequence) or isinstance(tokens, str) or not len(tokens):
            self.refuse("has no tokenizer in its metadata; ids still work (--tokens)")
        if len(tokens) > MOST_TOKENS or not isinstance(tokens[0], str):
            self.refuse(f"has {len(tokens)} tokens that cannot be those of a tokenizer")
        self.texts: Sequence[str] = tokens

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
    """The tokens of a file by id, checked: texts and kinds. size: the largest id that is no padding, + 1."""

    def __init__(self, gguf: Gguf) -> None:
        super().__init__(gguf)
        self.texts = tokens = list(self.texts)
        kinds = self._find("token_type")
        if kinds is None:
            kinds = np.ones(len(tokens), np.int32)
        if not isinstance(kinds, np.ndarray) or kinds.shape != (len(tokens),):
            self.refuse("does not say of each token what kind it is (tokenizer.ggml.token_type)")
        self.kinds = kinds
        padding = [id for id in self.of(UNUSED) if PADDING.fullmatch(self.texts[id])]
        shown = np.ones(len(tokens), bool)
        shown[padding] = False
        self.size = int(shown.nonzero()[0].max(initial=-1)) + 1
        ids = zip(tokens, range(len(tokens)), strict=True)
        self.ids = dict(compress(ids, shown.tolist()) if padding else ids)
        if len(self.ids) + len(padding) < len(tokens):
            self.refuse("gives two ids to one token")

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
    """The library's tokenizer, what tokenizer_config.json would say, and the largest id + 1.

    Raises BadCheckpoint and Unsupported.
    """
    vocabulary = Vocabulary(gguf)
    give_back()  # the library takes most of what a load takes beside the weights
    model = vocabulary.find("model", str, "none")
    if model == "gpt2":
        library, bos = _byte_level(vocabulary, gguf.metadata.get("general.architecture"))
    elif model == "llama":
        library, bos = _sentence_pieces(vocabulary), True
    else:
        raise Unsupported(f"{gguf.folder}: has a tokenizer of the kind {model!r:.40}; Crane knows gpt2 and llama")
    named: dict[str, Any] = dict(vocabulary.named())
    named["add_bos_token"] = vocabulary.find("add_bos_token", bool, bos) and "bos_token" in named
    return library, named, vocabulary.size


def templates(gguf: Gguf) -> tuple[dict[str, str], dict[str, str]]:
    """Chat templates by name, and the tokens that they may name."""
    told = gguf.metadata
    names = told.get("tokenizer.chat_templates", ())
    found = {name: told.get(f"tokenizer.chat_template.{name}") for name in names if isinstance(name, str)}
    found["default"] = told.get("tokenizer.chat_template")
    kept = {name: text for name, text in found.items() if isinstance(text, str)}
    return kept, Told(gguf).named() if "tokenizer.ggml.tokens" in told else {}


def _byte_level(vocabulary: Vocabulary, architecture: Any) -> tuple[Any, bool]:
    """Byte-level BPE, and whether its texts begin with a token of their own."""
    import tokenizers
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

    name = vocabulary.find("pre", str, "default")
    name = UNNAMED.get(architecture, name) if name == "default" else SAME.get(name, name)
    splitting = SPLITTINGS.get(name)
    if splitting is None:
        raise Unsupported(
            f"{vocabulary.file}: splits texts in a way called {name!r:.40} (tokenizer.ggml.pre), which Crane does not "
            f"know. It knows: {', '.join(SPLITTINGS)}."
        )
    merges = vocabulary.metadata.get("tokenizer.ggml.merges", ())
    pairs = merges.pairs() if isinstance(merges, Texts) else None if len(merges) else ()
    if pairs is None:
        vocabulary.refuse("has merges that are not two tokens each (tokenizer.ggml.merges)")
    library = tokenizers.Tokenizer(models.BPE(vocabulary.ids, pairs, ignore_merges=splitting.whole))
    if splitting.nfc:
        library.normalizer = normalizers.NFC()
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if splitting.digits else []
    steps += [pre_tokenizers.Split(Regex(words), "isolated") for words in splitting.words]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splitting.gpt2))
    library.pre_tokenizer = pre_tokenizers.Sequence(steps)
    library.decoder = decoders.ByteLevel()
    library.add_tokens(vocabulary.added((CONTROL,)))
    return library, splitting.bos


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
    pairs = list(_merges(vocabulary, scores))
    library = tokenizers.Tokenizer(
        models.BPE(vocabulary.ids, pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    prefix = vocabulary.find("add_space_prefix", bool, True)
    start = [normalizers.Prepend("▁")] if prefix else []
    library.normalizer = normalizers.Sequence([*start, normalizers.Replace(" ", "▁")])
    end = [decoders.Strip(" ", 1, 0)] if prefix else []
    library.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *end])
    library.add_tokens(vocabulary.added((UNKNOWN, CONTROL)))
    return library


def _merges(vocabulary: Vocabulary, scores: np.ndarray) -> Iterator[tuple[str, str]]:
    """Every way in which a piece is two others, the best piece first.

    Of equal scores the piece that was listed first, and of its ways the one whose parts were.
    """
    normal = vocabulary.of(1)
    ids = {vocabulary.texts[id]: id for id in normal}
    for id in sorted(normal, key=lambda id: (-scores[id], id)):
        text = vocabulary.texts[id]
        ways = ((text[:cut], text[cut:]) for cut in range(1, len(text)))
        yield from sorted(
            (way for way in ways if way[0] in ids and way[1] in ids), key=lambda w: (ids[w[0]], ids[w[1]])
        )

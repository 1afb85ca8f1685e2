"""Text to token ids and back, by the tokenizer files of a model's folder.

Answers which ids a text has and which bytes an id stands for. Knows nothing of chat templates
(chat_template.py) nor of the ids that end a reply (generation_config.json).
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from crane_app.errors import BadCheckpoint, CraneError, Unsupported
from crane_app.media import gguf_words
from crane_app.media.files.gguf import Gguf, holds_gguf
from crane_app.media.growing import LONG, Growing
from crane_app.media.word_splits import QWEN2_WORDS

FILE_LIMIT = 100 << 20  # bytes; a tokenizer.json of 150,000 tokens has some 14 MB
SURROGATES = re.compile("[\ud800-\udfff]")
BYTE = re.compile(rb"<0x([0-9A-Fa-f]{2})>")

# An added token of letters, digits and white space only (▁ is SentencePiece's space) is text, not markup.
WORDS = re.compile(r"[\w\s▁]+")

Speller = Callable[[bytes, bool], bytes]  # a token's text and whether it is the first -> its bytes


class Tokenizer:
    """The tokenizer of one model; safe to share between threads.

    size: the largest id that decodes + 1. A model may have more rows; those decode to nothing.
    special_ids: what the tokenizer's files call special.
    bos: the id this tokenizer begins a text with, None when it begins with none. `encode` never adds it: chat
    templates write it themselves, and whoever encodes a bare text puts it in front.
    """

    def __init__(self, library: Any, file: Path, config: dict[str, Any], size: int | None = None) -> None:
        self._growing = library if isinstance(library, Growing) else None
        self._library = library = library.library if isinstance(library, Growing) else library
        self._file = file
        self._lock = threading.Lock()
        library.no_truncation()
        library.no_padding()
        added = library.get_added_tokens_decoder()
        self.size = max(library.get_vocab().values(), default=-1) + 1 if size is None else size
        self.special_ids = frozenset(id for id, token in added.items() if token.special)
        self.bos = _bos(library, config)
        steps = json.loads(library.decoder.__getstate__()) if library.decoder else {"type": "None"}
        self._spellers = tuple(_spellers(file, steps, fused=False))
        self._pieces: dict[tuple[int, bool], bytes | None] = {}  # those that were asked for: a reply's are few
        byte_level = any(speller is _byte_level for speller in self._spellers)
        self._verbatim: dict[int, bytes] = {}  # not in byte-level spelling, which the library overlooks
        if byte_level:
            self._verbatim = {id: token.content.encode() for id, token in added.items()}
        markup = {id: token for id, token in added.items() if token.special or not WORDS.fullmatch(token.content)}
        # `encode_special_tokens` holds back special tokens only, so all markup is made special; what was
        # special in the files is noted above, and matching does not depend on it otherwise.
        self._special = [_as_special(token) for token in markup.values()]
        library.add_special_tokens(self._special)
        self._markup = frozenset(markup) - set(self._encoded("\U0010fffd", special=False))

    @classmethod
    def open(cls, folder: Path) -> Tokenizer:
        """The tokenizer of `tokenizer.json`, else of `vocab.json` and `merges.txt` (Qwen2's), or of a GGUF file.

        Raises BadCheckpoint, naming the file, and Unsupported for a decoder it cannot spell with.
        """
        # One text at a time gains nothing from the library's thread pool, which warns at every fork.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import tokenizers

        with _faults(folder):
            if holds_gguf(folder):
                library, config, size = gguf_words.tokenizer(Gguf.open(folder))
                return cls(library, folder, config, size)
            config = _read_json(folder / "tokenizer_config.json")
            file, vocabulary = folder / "tokenizer.json", folder / "vocab.json"
            if file.exists():
                with _faults(file):
                    return cls(tokenizers.Tokenizer.from_buffer(_read(file)), file, config)
            if vocabulary.exists() and (folder / "merges.txt").exists():
                with _faults(vocabulary):
                    return cls(_from_merges(folder, config), vocabulary, config)
        raise BadCheckpoint(f"{file}: is missing; without a tokenizer the model still runs on ids (--tokens)")

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The ids of `text`; lone surrogates count as U+FFFD. Nothing is added at either end.

        Without `special` the text is what a person wrote: markup in it (`<|im_end|>`, `<think>`: every added
        token that is special or more than letters, digits and white space) is encoded as plain characters.
        With `special` it is a template's, and markup becomes its ids.
        """
        text = SURROGATES.sub("\ufffd", text)
        with _faults(self._file):
            return self._ids(text, special=True) if special else self._plain(text)

    def decode(self, ids: Iterable[int], special: bool = False) -> str:
        """The text of `ids`, without special tokens unless `special`; unknown ids stand for nothing."""
        pieces: list[bytes] = []
        for id in ids:
            piece = self.piece(id, first=not pieces, special=special)
            if piece is not None:
                pieces.append(piece)
        return b"".join(pieces).decode("utf-8", "replace")

    def unlike(self, other: Tokenizer) -> tuple[int, str, str] | None:
        """The lowest id that stands for another token in `other`, here and there; None if there is none.

        Ids that only one of them has do not count.
        """
        ours, theirs = ({id: token for token, id in each._all().get_vocab().items()} for each in (self, other))
        return next(
            ((i, ours[i], theirs[i]) for i in sorted(ours.keys() & theirs.keys()) if ours[i] != theirs[i]), None
        )

    def id_of(self, token: str) -> int | None:
        """The id of a token by its exact text; None if there is none."""
        found: int | None = self._library.token_to_id(token)
        return self._all().token_to_id(token) if found is None else found

    def piece(self, id: int, first: bool, special: bool = False) -> bytes | None:
        """The bytes an id stands for, maybe a part of a character; None when it stands for nothing.

        `first`: nothing stands before it, so SentencePiece's leading space is dropped.
        """
        if not 0 <= id < self.size or (id in self.special_ids and not special):
            return None
        if id in self._verbatim:
            return self._verbatim[id]
        key = id, first
        if key not in self._pieces:
            self._pieces[key] = self._spelled(id, first)
        return self._pieces[key]

    def _spelled(self, id: int, first: bool) -> bytes | None:
        growing = self._growing
        token: str | None = growing.text(id) if growing else self._library.id_to_token(id)
        if token is None:
            return None
        piece = token.encode()
        for spell in self._spellers:
            piece = spell(piece, first)
        return piece

    def _ids(self, text: str, special: bool) -> list[int]:
        # The mode is state of the library's object. Of its methods only this one encodes without the GIL.
        with self._lock:
            if self._growing and len(text) > LONG:
                self._growing.take_all()
                self._grown()
            ids = self._encoded(text, special)
            if self._growing and self._growing.take(ids):
                self._grown()
                ids = self._encoded(text, special)
        return ids

    def _encoded(self, text: str, special: bool) -> list[int]:
        self._library.encode_special_tokens = not special
        ids: list[int] = self._library.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids

    def _all(self) -> Any:
        """The library's tokenizer with all tokens."""
        with self._lock:
            if self._growing:
                self._growing.take_all()
                self._grown()
        return self._library

    def _grown(self) -> None:
        """Go on with what has more tokens now; the markup is special in it too."""
        assert self._growing is not None
        library = self._growing.library
        library.add_special_tokens(self._special)
        self._library = library
        if self._growing.whole:
            self._growing = None

    def _plain(self, text: str) -> list[int]:
        """Ids without markup, which the model's own vocabulary may hold (Unigram, WordLevel, ignore_merges).

        Such a piece is cut after its first character; a character that is markup by itself is left out.
        """
        ids = self._ids(text, special=False)
        if self._markup.isdisjoint(ids):
            return ids
        with self._lock:
            self._library.encode_special_tokens = True
            encoding = self._library.encode(text, add_special_tokens=False)
        hits = [span for id, span in zip(encoding.ids, encoding.offsets, strict=True) if id in self._markup]
        cuts = sorted({start + 1 for start, end in hits if end - start > 1})
        if not cuts:
            return [id for id in ids if id not in self._markup]
        parts = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
        return [id for part in parts for id in self._plain(part)]


def _bos(library: Any, config: dict[str, Any]) -> int | None:
    """What transformers puts before a text: `add_bos_token` of the configuration, else the post-processor."""
    if config.get("add_bos_token") is False:
        return None
    if config.get("add_bos_token") is True:
        token = config.get("bos_token")
        content = token.get("content") if isinstance(token, dict) else token
        return library.token_to_id(content) if isinstance(content, str) else None
    bare = library.encode("a", add_special_tokens=False).ids
    dressed = library.encode("a").ids
    return dressed[0] if dressed[: len(bare)] != bare else None


def _as_special(token: Any) -> Any:
    from tokenizers import AddedToken

    return AddedToken(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=True,
    )


def _spellers(file: Path, step: dict[str, Any], fused: bool) -> Iterator[Speller]:
    """The decoder of a tokenizer.json as steps that each spell one token (tokenizers, src/decoders/).

    `fused`: tokens are one text from here on, so only the first one has a beginning.
    """
    match step:
        case {"type": "Sequence", "decoders": decoders}:
            for inner in decoders:
                yield from _spellers(file, inner, fused)
                fused = fused or inner["type"] == "Fuse"
        case {"type": "ByteLevel"}:
            yield _byte_level
        case {"type": "ByteFallback"}:
            yield _byte_fallback
        case {"type": "Fuse"}:
            return
        case {"type": "Replace", "pattern": {"String": old}, "content": new}:
            yield _replace(old.encode(), new.encode())
        case {"type": "Strip", "content": mark, "start": start, "stop": stop} if not (fused and stop):
            yield _strip(mark.encode(), start, stop, first_only=fused)
        case {"type": "Metaspace", "replacement": mark}:
            yield _metaspace(mark.encode(), keep=step.get("prepend_scheme") == "never")
        case _:
            raise Unsupported(f"{file}: cannot decode with `{step.get('type')}`; ids still work (--tokens)")


def _byte_level(token: bytes, first: bool) -> bytes:
    characters = token.decode()
    if all(character in BYTE_OF for character in characters):
        return bytes(BYTE_OF[character] for character in characters)
    return token


def _byte_fallback(token: bytes, first: bool) -> bytes:
    byte = BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token


def _replace(old: bytes, new: bytes) -> Speller:
    return lambda token, first: token.replace(old, new)


def _metaspace(mark: bytes, keep: bool) -> Speller:
    return lambda token, first: token.replace(mark, b"" if first and not keep else b" ")


def _strip(mark: bytes, start: int, stop: int, first_only: bool) -> Speller:
    def strip(token: bytes, first: bool) -> bytes:
        for _ in range(0 if first_only and not first else start):
            token = token.removeprefix(mark)
        for _ in range(stop):
            token = token.removesuffix(mark)
        return token

    return strip


def _byte_characters() -> dict[str, int]:
    """Character -> byte of byte-level BPE: printable Latin-1 stands for itself, the rest from U+0100 on.

    OpenAI's gpt-2, src/encoder.py, bytes_to_unicode.
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_OF = _byte_characters()


def _from_merges(folder: Path, config: dict[str, Any]) -> Any:
    """Qwen2's byte-level BPE from vocab.json and merges.txt; added tokens keep the ids of their files."""
    import tokenizers
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

    kind = config.get("tokenizer_class", "Qwen2Tokenizer")
    if kind not in ("Qwen2Tokenizer", "Qwen2TokenizerFast"):
        raise Unsupported(f"{folder}: a {kind} needs a tokenizer.json; from vocab.json only Qwen2's is known")
    vocabulary = _read_json(folder / "vocab.json")
    with _faults(folder / "merges.txt"):
        lines = _read(folder / "merges.txt").decode().split("\n")
        merges = [_merge(line) for line in lines[lines[0].startswith("#version") :] if line.strip()]
    with _faults(folder / "tokenizer_config.json"):
        added = _added_tokens(folder, config)
    # The library numbers added tokens itself, one after the other, unless the vocabulary knows them.
    vocabulary |= {token.content: id for id, token in added}
    if len(set(vocabulary.values())) < len(vocabulary):
        raise BadCheckpoint(f"{folder / 'vocab.json'}: gives one id to two tokens")
    library = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    library.normalizer = normalizers.NFC()
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    library.add_tokens([token for _, token in added])
    return library


def _merge(line: str) -> tuple[str, str]:
    left, right = line.rstrip("\r").split(" ")
    return left, right


def _added_tokens(folder: Path, config: dict[str, Any]) -> list[tuple[int, Any]]:
    """(id, token) of tokenizer_config.json, and of added_tokens.json, which does not say what is special."""
    from tokenizers import AddedToken

    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    found: dict[str, tuple[int, Any]] = {}
    for id, entry in config.get("added_tokens_decoder", {}).items():
        token = AddedToken(entry["content"], **{flag: entry[flag] for flag in flags if flag in entry})
        found[token.content] = (int(id), token)
    named: Sequence[Any] = [value for key, value in config.items() if key.endswith("_token")]
    named = [*named, *(config.get("additional_special_tokens") or [])]
    for content, id in _read_json(folder / "added_tokens.json").items():
        token = AddedToken(content, special=content in named, normalized=content not in named)
        found.setdefault(content, (id, token))
    return sorted(found.values(), key=lambda item: item[0])


def _read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one when there is no file."""
    with _faults(file):
        if not file.exists():
            return {}
        value = json.loads(_read(file))
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{file}: is no JSON object")
    return value


def _read(file: Path) -> bytes:
    if not file.is_file():  # opening a pipe would wait for ever
        raise BadCheckpoint(f"{file}: is not a file")
    if file.stat().st_size > FILE_LIMIT:
        raise BadCheckpoint(f"{file}: is larger than any tokenizer ({FILE_LIMIT >> 20} MB)")
    return file.read_bytes()


@contextmanager
def _faults(file: Path) -> Iterator[None]:
    """Whatever the library raises is BadCheckpoint, also a panic, which is a bare BaseException."""
    try:
        yield
    except (CraneError, MemoryError):
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise BadCheckpoint(f"{file}: is not a tokenizer that can be used: {error}") from error
        raise

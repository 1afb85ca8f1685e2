"""A tokenizer.json as the metadata of a GGUF file: the way back from gguf_words.py, for byte-level BPE."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crane_app.errors import Unsupported
from crane_app.media.gguf_words import CONTROL, NAMED, UNUSED, USER
from crane_app.media.word_splits import SPLITTINGS, Splitting

NORMAL = 1  # gguf-py, TokenType


def described(folder: Path, rows: int, config: dict[str, Any], bos: int | None) -> dict[str, Any]:
    """The tokenizer.* metadata of the tokenizer in a folder; {} where it has none.

    rows: of the model's table; ids that no token has are named as padding. config: tokenizer_config.json. bos: the
    token that begins a text. Raises Unsupported for a tokenizer that GGUF has no name for.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        return {}
    said = json.loads(file.read_text("utf-8"))
    tokens: dict[int, str] = {id: text for text, id in said["model"].get("vocab", {}).items()}
    kinds = dict.fromkeys(tokens, NORMAL)
    for token in said.get("added_tokens", ()):
        tokens[token["id"]] = token["content"]
        kinds[token["id"]] = CONTROL if token["special"] else USER
    merges = said["model"].get("merges", [])
    count = max(rows, max(tokens, default=-1) + 1)
    found: dict[str, Any] = {
        "model": "gpt2",
        "pre": _splitting(folder, said),
        "tokens": [tokens.get(id, f"[PAD{id}]") for id in range(count)],
        "token_type": [kinds.get(id, UNUSED) for id in range(count)],
        "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
    }
    ids = {text: id for id, text in tokens.items()}
    for name, key in NAMED.items():
        named = config.get(f"{name}_token")
        named = named.get("content") if isinstance(named, dict) else named
        if isinstance(named, str) and named in ids:
            found[f"{key}_token_id"] = ids[named]
    if bos is not None:
        found["bos_token_id"] = bos
    found["add_bos_token"] = bos is not None
    return {f"tokenizer.ggml.{key}": value for key, value in found.items()}


def _splitting(folder: Path, said: dict[str, Any]) -> str:
    """The name of the way in which a tokenizer cuts texts."""
    model, steps = said["model"], _steps(said.get("pre_tokenizer"))
    levels = [step for step in steps if step["type"] == "ByteLevel"]
    if model["type"] != "BPE" or model.get("byte_fallback") or len(levels) != 1:
        raise Unsupported(f"{folder.name}: its tokenizer is none that Crane can put into a GGUF file. Name a folder.")
    way = Splitting(
        words=tuple(step["pattern"].get("Regex", "") for step in steps if step["type"] == "Split"),
        nfc=_normal(said.get("normalizer")) == ["NFC"],
        digits=any(step["type"] == "Digits" for step in steps),
        gpt2=bool(levels[0].get("use_regex", True)),
        whole=bool(model.get("ignore_merges")),
    )
    for name, known in SPLITTINGS.items():
        if way == Splitting(known.words, known.nfc, known.digits, known.gpt2, known.whole):
            return name
    raise Unsupported(f"{folder.name}: its tokenizer cuts texts in a way that GGUF has no name for. Name a folder.")


def _steps(step: Any) -> list[Any]:
    if step is None:
        return []
    return step["pretokenizers"] if step["type"] == "Sequence" else [step]


def _normal(step: Any) -> list[str]:
    if step is None:
        return []
    return [each["type"] for each in step["normalizers"]] if step["type"] == "Sequence" else [step["type"]]

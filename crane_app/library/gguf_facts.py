"""What the head of a GGUF file says about the model in it: a few numbers and texts, in the words of config.json.

Long arrays are passed over, so that a scan of many files stays quick. Nothing in a file is believed: each length is
held against what is left of the file. Format: ggml's docs/gguf.md.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from crane_app.errors import BadCheckpoint
from crane_app.host import TYPES, Scheme
from crane_app.library.weighing import Stored

SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
LONGEST = 1000  # bytes of a text that is kept
MOST, MOST_TEXTS = 1 << 16, 1 << 22  # keys and tensors; texts in an array
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
WHOLE = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
TEXT, ARRAY = 8, 9
# general.architecture -> that of config.json, of those that Crane itself defines.
OURS = {
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3moe": "Qwen3MoeForCausalLM",
    "hunyuan-dense": "HunYuanDenseV1ForCausalLM",
    "llama": "LlamaForCausalLM",
}
PLAIN = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# general.file_type, gguf-py's LlamaFileType.
FILES = {0: "float32", 1: "float16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K"}
FILES |= {11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K"}
FILES |= {19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL"}
FILES |= {26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "bfloat16"}
FIELDS = {
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "embedding_length": "hidden_size",
    "context_length": "max_position_embeddings",
}


@dataclass(frozen=True)
class Head:
    """config: the numbers under config.json's names. tensors: of this file, each with its name."""

    config: dict[str, Any]
    licence: str
    tensors: list[tuple[str, Stored]]


def sets(names: Iterable[str]) -> dict[str, list[str]]:
    """The GGUF models among file names: first file -> all files that are there.

    The parts that see pictures (mmproj) are no models.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        if name.lower().endswith(".gguf") and not name.startswith(".") and "mmproj" not in name.lower():
            split = SPLIT.fullmatch(name)
            found.setdefault(f"{split[1]}/{split[3]}" if split else name, []).append(name)
    return {files[0]: files for files in found.values()}


def lacking(files: list[str]) -> list[str]:
    """The files of a split set that are not there."""
    split = SPLIT.fullmatch(files[0])
    if not split:
        return []
    every = (
        f"{split[1]}-{number:05}-of-{split[3]}{files[0][-5:]}" for number in range(1, min(int(split[3]), 9999) + 1)
    )
    return [name for name in every if name not in files]


def head(file: Path) -> Head:
    """What a file says; BadCheckpoint with a sentence where it is none that can be read."""
    try:
        if not file.is_file():  # opening a pipe would wait for ever
            raise BadCheckpoint(f"{file.name} is not a file.")
        with file.open("rb") as handle:
            return _head(_Reader(handle, file.name, file.stat().st_size))
    except OSError as error:
        raise BadCheckpoint(f"{file.name} cannot be read ({error.strerror}).") from error


class _Reader:
    """Goes on through a file and never past its end."""

    def __init__(self, handle: BinaryIO, name: str, size: int) -> None:
        self.name, self._handle, self._left = name, handle, size

    def damaged(self) -> BadCheckpoint:
        return BadCheckpoint(f"{self.name} is damaged or not complete: its head cannot be read.")

    def take(self, count: int) -> bytes:
        self.check(count)
        data = self._handle.read(count)
        if len(data) != count:
            raise self.damaged()
        self._left -= count
        return data

    def skip(self, count: int) -> None:
        self.check(count)
        self._handle.seek(count, 1)
        self._left -= count

    def check(self, count: int) -> None:
        if count > self._left:
            raise self.damaged()

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")


def _head(reader: _Reader) -> Head:
    if reader.take(4) != b"GGUF" or reader.u32() not in (2, 3):
        raise BadCheckpoint(f"{reader.name} is not a GGUF file of version 2 or 3.")
    tensors, keys = reader.u64(), reader.u64()
    if tensors > MOST or keys > MOST:
        raise reader.damaged()
    said: dict[str, Any] = {}
    for _ in range(keys):
        name = _text(reader)
        said[name] = _value(reader, reader.u32())
    return Head(_config(said), said.get("general.license") or "", [_tensor(reader) for _ in range(tensors)])


def _text(reader: _Reader) -> str:
    """A text, of one that is too long nothing."""
    length = reader.u64()
    if length > LONGEST:
        reader.skip(length)
        return ""
    return reader.take(length).decode("utf-8", "replace")


def _value(reader: _Reader, kind: int) -> Any:
    """A whole number or a short text; None for all else, and the first of an array of numbers."""
    if kind in WHOLE:
        return struct.unpack(WHOLE[kind], reader.take(SIZES[kind]))[0]
    if kind == TEXT:
        return _text(reader)
    if kind in SIZES:
        return reader.skip(SIZES[kind])
    if kind != ARRAY:
        raise reader.damaged()
    inner, count = reader.u32(), reader.u64()
    if inner in SIZES:
        first = _value(reader, inner) if count else None
        reader.skip(max(count - 1, 0) * SIZES[inner])
        return first
    if inner != TEXT or count > MOST_TEXTS:
        raise reader.damaged()
    for _ in range(count):
        reader.skip(reader.u64())
    return None


def _tensor(reader: _Reader) -> tuple[str, Stored]:
    """The next tensor."""
    name, rank = _text(reader), reader.u32()
    if rank > 4:
        raise reader.damaged()
    shape = struct.unpack(f"<{rank}Q", reader.take(8 * rank))[::-1]
    kind = reader.u32()
    reader.skip(8)
    if kind not in TYPES:
        raise BadCheckpoint(f"{reader.name} has a tensor of the type {kind}, which Crane does not know.")
    plain = PLAIN.get(TYPES[kind][0])
    return name, Stored(shape, plain or "float32", None if plain else Scheme(TYPES[kind][0]))


def _config(said: dict[str, Any]) -> dict[str, Any]:
    architecture = said.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise BadCheckpoint("The file does not name the architecture of the model.")
    config = {theirs: said.get(f"{architecture}.{key}") for key, theirs in FIELDS.items()}
    kind = said.get("general.file_type")
    return config | {
        "architectures": [OURS.get(architecture, architecture)],
        "dtype": FILES.get(kind, "") if isinstance(kind, int) else "",
    }

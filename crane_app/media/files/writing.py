"""Files of tensors, written one tensor at a time: the head first, so that nothing but the tensor under way is held.

Layouts: huggingface.co/docs/safetensors, section Format; ggml's docs/gguf.md.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from crane_app.media.files.gguf_blocks import FORMS, form_of
from crane_app.media.files.gguf_header import ALIGNMENT, ARRAY, BOOL, TEXT

CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "uint32": "U32"}
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "uint32": 4}
IDS = {form.name: id for id, form in FORMS.items()}
GGUF_KINDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
U32, I32, F32 = 4, 5, 6


@dataclass(frozen=True)
class Entry:
    """A tensor of a file. kind: a dtype, or in GGUF ggml's name of a type; shape: logical, in numpy's order."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        if self.kind in BYTES:
            return math.prod(self.shape) * BYTES[self.kind]
        form = form_of(self.kind)
        return math.prod(self.shape) // form.block * form.nbytes


def write_safetensors(file: BinaryIO, entries: Sequence[Entry], arrays: Iterable[np.ndarray]) -> Iterator[None]:
    """A safetensors file; the arrays come in the order of the entries. Yields after each."""
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for entry in entries:
        offsets = [end, end + entry.nbytes]
        header[entry.name] = {"dtype": CODES[entry.kind], "shape": list(entry.shape), "data_offsets": offsets}
        end += entry.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for entry, array in zip(entries, arrays, strict=True):
        _put(file, entry, array)
        yield


def write_gguf(
    file: BinaryIO, metadata: Mapping[str, Any], entries: Sequence[Entry], arrays: Iterable[np.ndarray]
) -> Iterator[None]:
    """A GGUF file of version 3; the arrays come in the order of the entries. Yields after each.

    metadata: texts, bools, whole numbers (as uint32), floats (as float32), or lists of one of them (whole: as int32).
    """
    head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(entries), len(metadata)))
    for key, value in metadata.items():
        head += _text(key) + _value(value)
    at = 0
    for entry in entries:
        kind = IDS[GGUF_KINDS.get(entry.kind, entry.kind)]
        sizes = entry.shape[::-1]
        head += _text(entry.name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, at)
        at += entry.nbytes + -entry.nbytes % ALIGNMENT
    file.write(head + bytes(-len(head) % ALIGNMENT))
    for entry, array in zip(entries, arrays, strict=True):
        _put(file, entry, array)
        file.write(bytes(-entry.nbytes % ALIGNMENT))
        yield


def _put(file: BinaryIO, entry: Entry, array: np.ndarray) -> None:
    if array.nbytes != entry.nbytes:
        raise ValueError(f"{entry.name} has {array.nbytes} bytes, not {entry.nbytes}")
    file.write(np.ascontiguousarray(array).data.cast("B") if array.size else b"")


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    """Type and value of one piece of metadata."""
    if isinstance(value, list):
        kind = {str: TEXT, bool: BOOL, int: I32, float: F32}[type(value[0]) if value else str]
        return struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(_plain(each, kind) for each in value)
    kind = {str: TEXT, bool: BOOL, int: U32, float: F32}[type(value)]
    return struct.pack("<I", kind) + _plain(value, kind)


def _plain(value: Any, kind: int) -> bytes:
    return _text(value) if kind == TEXT else struct.pack({BOOL: "<?", U32: "<I", I32: "<i", F32: "<f"}[kind], value)

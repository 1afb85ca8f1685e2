"""One block of computed keys and values as a file: read only if nothing in it has changed since it was written.

The file is MAGIC, the size of the header, a header in JSON, zeros up to a multiple of ALIGN, the arrays one behind the
other, and the CRC-32 of all that. Knows nothing of what the numbers mean.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"CraneKV1"
PREFIX, END = struct.Struct("<8sI"), struct.Struct("<I")
ALIGN = 64
LARGEST = 2**31  # bytes of a file
OPENING = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
MAKING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class Untrusted(ValueError):
    """The file is torn, altered, another's, or open to others."""


@dataclass(frozen=True)
class Block:
    """name: what it is known by; start: the position of its first token; exact: as engine.prefixes has it."""

    name: str
    start: int
    exact: bool
    arrays: tuple[np.ndarray, ...]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)


def write(path: Path, block: Block) -> None:
    """A new file at `path` that only this user can read; raises OSError, and then there may be a part of it."""
    head = _head(block)
    with os.fdopen(os.open(path, MAKING, 0o600), "wb", buffering=0) as file:
        check = zlib.crc32(head)
        _put(file, head)
        for array in block.arrays:
            raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            check = zlib.crc32(raw, check)
            _put(file, raw)
        _put(file, END.pack(check))


def read(path: Path, name: str) -> Block:
    """The block of that name. Untrusted if the file is not as `write` left it; FileNotFoundError if there is none."""
    raw = _bytes(path)
    body = len(raw) - END.size
    if body < PREFIX.size or END.unpack(raw[body:].tobytes())[0] != zlib.crc32(raw[:body].data):
        raise Untrusted(f"{path.name} is torn or was changed")
    magic, size = PREFIX.unpack(raw[: PREFIX.size].tobytes())
    try:
        header = json.loads(raw[PREFIX.size : PREFIX.size + size].tobytes())
        if magic != MAGIC or header["name"] != name:
            raise ValueError("another kind of file, or another block")
        arrays = _arrays(raw[_aligned(PREFIX.size + size) : body], header["arrays"])
        return Block(name, int(header["start"]), bool(header["exact"]), arrays)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Untrusted(f"{path.name}: {error}") from error


def _head(block: Block) -> bytes:
    arrays = [[array.dtype.str, list(array.shape)] for array in block.arrays]
    header = {"name": block.name, "start": block.start, "exact": block.exact, "arrays": arrays}
    text = json.dumps(header).encode()
    whole = PREFIX.pack(MAGIC, len(text)) + text
    return whole.ljust(_aligned(len(whole)), b"\0")


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _put(file: Any, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while len(rest):
        rest = rest[file.write(rest) :]


def _bytes(path: Path) -> np.ndarray:
    """All of a file of ours, uint8, copied: a file that is mapped and then cut short would end the process."""
    try:
        descriptor = os.open(path, OPENING)
    except OSError as error:
        if path.is_symlink():
            raise Untrusted(f"{path.name} is a link") from error
        raise
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        others = sys.platform != "win32" and (found.st_uid != os.getuid() or found.st_mode & 0o077)
        if not stat.S_ISREG(found.st_mode) or others or found.st_size > LARGEST:
            raise Untrusted(f"{path.name} is not a file of this user alone")
        raw = np.empty(found.st_size, np.uint8)
        rest = raw.data
        while len(rest) and (count := file.readinto(rest)):
            rest = rest[count:]
        return raw[: len(raw) - len(rest)]


def _arrays(raw: np.ndarray, layout: list[Any]) -> tuple[np.ndarray, ...]:
    found, at = [], 0
    for code, shape in layout:
        kind = np.dtype(code)
        if kind.kind not in "iuf" or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"no array is {code!r:.20} {shape!r:.60}")
        end = at + kind.itemsize * int(np.prod(shape, dtype=np.int64))
        found.append(raw[at:end].view(kind).reshape(shape))
        at = end
    if at != len(raw):
        raise ValueError("the arrays do not fill the file")
    return tuple(found)

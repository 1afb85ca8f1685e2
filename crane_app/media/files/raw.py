"""Bytes of files that come from anywhere: each fault is a sentence, and a file that changes under way is noticed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from crane_app.errors import BadCheckpoint, CraneError

CHUNK = 1 << 30  # bytes a read may ask for: macOS refuses 2 GiB and more
Stamp = tuple[int, int, int]  # inode, size, time of change: what tells that a file was replaced


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """A fault of the system becomes BadCheckpoint."""
    try:
        yield
    except OSError as error:
        raise BadCheckpoint(f"{file}: cannot be read: {error.strerror or error}") from error


@contextmanager
def damaged(file: Path) -> Iterator[None]:
    """Whatever reading a damaged archive raises is BadCheckpoint."""
    try:
        with reading(file):
            yield
    except (CraneError, MemoryError):
        raise
    except Exception as error:
        why = str(error) or type(error).__name__
        raise BadCheckpoint(f"{file}: is damaged, or not what its name says: {why:.120}") from error


@contextmanager
def unchanged(file: Path, stamp: Stamp) -> Iterator[BinaryIO]:
    """The file, open for reading without a buffer; BadCheckpoint if it is not the one that had `stamp`."""
    with reading(file), file.open("rb", buffering=0) as handle:
        if stamp_of(handle) != stamp:
            raise BadCheckpoint(f"{file}: changed while it was loaded; load the model again")
        yield cast(BinaryIO, handle)


def stamp_of(handle: Any) -> Stamp:
    status = os.fstat(handle.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns


def fill(handle: Any, out: np.ndarray, file: Path, name: str) -> None:
    """Read into all of `out`, C-contiguous, from where the file stands; BadCheckpoint if it ends before."""
    view = memoryview(cast(Any, out.reshape(-1).view(np.uint8)))
    while view:
        count = handle.readinto(view[:CHUNK])
        if not count:
            raise BadCheckpoint(f"{file}: ends inside tensor {show(name)}")
        view = view[count:]


def show(name: str) -> str:
    """A name from a file, fit for a sentence."""
    return name if name.isprintable() and 0 < len(name) <= 200 else ascii(name[:200])

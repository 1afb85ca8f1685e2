"""Tensors of PyTorch's files from before version 1.6: bare pickles, and behind them the storages one after the other.

Pickled are a magic number, the form's version, what the machine was like, the tensors, and the keys of the storages;
each of these follows as its count in eight bytes and its numbers (pytorch, torch/serialization.py, _legacy_save). The
pickles are interpreted as those of the later form are: nothing in them is run.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.media.files.pickles import LARGEST_PICKLE, Machine, Pickled, named, taken
from crane_app.media.files.raw import damaged, reading, show

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
BEGINNINGS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class Bare:
    """The tensors of one file by name, and where the numbers of each storage begin."""

    file: Path
    tensors: dict[str, Pickled]
    starts: dict[str, int]

    def read(self, name: str) -> np.ndarray:
        """The tensor in memory of its own, C-contiguous; bfloat16 as its bits."""
        tensor = self.tensors[name]
        with damaged(self.file), self.file.open("rb") as handle:
            return taken(tensor, handle, self.starts[tensor.storage.key], self.file, name)


def is_bare(file: Path) -> bool:
    """Whether the file begins as a pickle."""
    if not file.is_file():
        return False
    with reading(file), file.open("rb") as handle:
        first = handle.read(2)
    return first in BEGINNINGS or first[:1] in (b"(", b"c")


def open_bare(file: Path) -> Bare:
    """The tensors that a file names. Raises BadCheckpoint and Unsupported; reads no numbers."""
    with damaged(file), file.open("rb") as handle:
        size = file.stat().st_size
        # Mapped, since a file that is read gets memory for as many bytes as a pickle says that its text has.
        with mmap.mmap(handle.fileno(), min(size, LARGEST_PICKLE), access=mmap.ACCESS_READ) as head:
            if Machine(file).run(head) != MAGIC:
                raise BadCheckpoint(f"{file}: is a pickle, but not one of PyTorch's weights")
            version, said = Machine(file).run(head), Machine(file).run(head)
            if version != VERSION or not isinstance(said, dict) or said.get("little_endian") is not True:
                raise Unsupported(f"{file}: is in an early form of PyTorch's, or was written on a big-endian machine")
            machine = Machine(file)
            found = machine.run(head)
            keys, at = Machine(file).run(head), head.tell()
        return Bare(file, named(file, found), _starts(handle, machine, keys, at, file, size))


def _starts(handle: Any, machine: Machine, keys: Any, at: int, file: Path, size: int) -> dict[str, int]:
    """Where the numbers of each storage begin; all must be there, and end within the file."""
    texts = isinstance(keys, list) and all(type(key) is str for key in keys)  # tuples of tuples would take for ever
    if not texts or set(keys) != machine.storages.keys() or len(keys) != len(machine.storages):
        raise ValueError("storages that are not those of the tensors")
    starts = {}
    for key in keys:
        storage = machine.storages[key]
        handle.seek(at)
        if int.from_bytes(handle.read(8), "little") != storage.count:
            raise BadCheckpoint(f"{file}: the numbers of storage {show(key)} are not as many as it says")
        starts[key] = at + 8
        at += 8 + storage.count * np.dtype(storage.held).itemsize
        if at > size:
            raise BadCheckpoint(f"{file}: ends inside storage {show(key)}: truncated; download it again")
    return starts

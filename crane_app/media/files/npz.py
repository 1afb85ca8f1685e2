"""Tensors of numpy's .npz files: a zip archive of stored .npy members (numpy, lib/format.py).

Pickles in it are refused.
"""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.media.files.raw import damaged, show

HEAD = 1 << 14  # bytes; a header has some 100
MOST_MEMBERS = 1 << 17
# What numpy calls them -> our names; bfloat16, which numpy lacks, is written as two bytes of no type.
DTYPES = {"<f4": "float32", "<f2": "float16", "|V2": "bfloat16"}


@dataclass(frozen=True)
class Member:
    """One array: its file, its name in it, and where its numbers begin there."""

    file: Path
    name: str
    kind: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    start: int

    @property
    def dtype(self) -> str:
        return DTYPES.get(self.kind.str, self.kind.name)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.kind.itemsize

    def read(self) -> np.ndarray:
        """The array in memory of its own, C-contiguous; bfloat16 as its bits."""
        with damaged(self.file), zipfile.ZipFile(self.file) as archive, archive.open(self.name) as member:
            member.seek(self.start)
            data = member.read(self.nbytes)
            if len(data) != self.nbytes:
                raise BadCheckpoint(f"{self.file}: ends inside {show(self.name)}")
            flat = np.frombuffer(data, "<u2" if self.dtype == "bfloat16" else self.kind)
            return np.array(flat.reshape(self.shape, order="F" if self.fortran else "C"), order="C")


def open_npz(file: Path) -> dict[str, Member]:
    """The arrays of a file by name; reads headers only. Raises BadCheckpoint and Unsupported."""
    found = {}
    with damaged(file), zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > MOST_MEMBERS:
            raise BadCheckpoint(f"{file}: has {len(members)} arrays, more than any model")
        for info in members:
            if info.compress_type != zipfile.ZIP_STORED:
                raise Unsupported(f"{file}: is compressed. Write it with numpy.savez, not with savez_compressed.")
            with archive.open(info) as member:
                found[info.filename.removesuffix(".npy")] = _member(file, info, member.read(HEAD))
    if not found:
        raise BadCheckpoint(f"{file}: has no arrays")
    return found


def _member(file: Path, info: zipfile.ZipInfo, head: bytes) -> Member:
    stream = io.BytesIO(head)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, kind = read(stream)
    except MemoryError as error:  # of Python's parser, where signs are nested too deep
        raise BadCheckpoint(f"{file}: {show(info.filename)} has a header that cannot be read") from error
    if kind.hasobject:
        raise Unsupported(f"{file}: {show(info.filename)} is a pickle of Python objects, which Crane never reads")
    member = Member(file, info.filename, kind, shape, fortran, stream.tell())
    there = member.start + member.nbytes == info.file_size <= file.stat().st_size
    if any(size < 0 for size in shape) or not there:
        raise BadCheckpoint(f"{file}: {show(info.filename)} is not as long as it says")
    return member

"""The tensors and the metadata of one model in GGUF: a file, or a set of files -00001-of-0000N.

Tensors are unpacked piece by piece as they are read. The files are read and not mapped: a mapped file that shrinks
under way ends the process, and mapped pages count as memory of the program.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from crane_app.contract import DType, HostTensor
from crane_app.errors import BadCheckpoint, ModelNotFound, Unsupported
from crane_app.host import Stretch
from crane_app.media.files.gguf_header import OLD, Header, Tensor, read_header
from crane_app.media.files.raw import Stamp, fill, reading, show, unchanged

PIECE = 1 << 20  # numbers unpacked at once
SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
MOST_SPLITS = 9999
PLAIN: dict[str, tuple[DType, str]] = {
    "F32": ("float32", "<f4"),
    "F16": ("float16", "<f2"),
    "BF16": ("bfloat16", "<u2"),
}


# While somebody holds a model, whoever else wants it is given the same: its metadata takes a while to read.
_opened: WeakValueDictionary[tuple[Path, tuple[Stamp, ...]], Gguf] = WeakValueDictionary()
_lock = threading.Lock()


def holds_gguf(path: Path) -> bool:
    """Whether the model at `path` is read as GGUF: a file of that kind, or a folder with one and no safetensors.

    So that each is told what it is, files of the formats before GGUF count too.
    """
    if path.is_dir():
        return bool(_in(path)) and not any(path.glob("*.safetensors"))
    return path.is_file() and (path.suffix.lower() == ".gguf" or _is_marked(path))


def files_of(path: Path) -> list[Path]:
    """The files of the model at `path`, in order; BadCheckpoint where they are not complete or not one model."""
    with reading(path):
        if path.is_dir():
            return _only_set(path)
        if not path.exists():
            raise ModelNotFound(f"{path}: there is no such file")
        return _set_of(path)


class Gguf:
    """One model: its metadata, and its tensors under the names of the file.

    shapes in numpy's order; dtypes as read: packed numbers become float32. No file stays open between reads. A file
    that was replaced since `open` is refused.
    """

    def __init__(self, folder: Path, headers: dict[Path, Header]) -> None:
        self.folder = folder
        self.metadata = next(iter(headers.values())).metadata
        self._stamps: dict[Path, Stamp] = {file: header.stamp for file, header in headers.items()}
        self.tensors: dict[str, Tensor] = {}
        for file, header in headers.items():
            for name, tensor in header.tensors.items():
                if name in self.tensors:
                    raise BadCheckpoint(f"{file}: tensor {show(name)} is also in {self.tensors[name].file.name}")
                self.tensors[name] = tensor

    @classmethod
    def open(cls, path: Path) -> Gguf:
        """The model in a file or in a folder. Reads headers only. Raises ModelNotFound, BadCheckpoint, Unsupported."""
        files = files_of(path)
        with reading(path):
            stamps = tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in map(Path.stat, files))
        with _lock:
            there = _opened.get((path, stamps))
            if there is None:
                there = _opened[path, stamps] = cls._open(path, files)
        return there

    @classmethod
    def _open(cls, path: Path, files: list[Path]) -> Gguf:
        gguf = cls(path, {file: read_header(file) for file in files})
        said = gguf.metadata.get("split.count", 1)
        if said not in (0, len(files)):
            raise BadCheckpoint(f"{files[0]}: is one of {said!r:.20} files by what it says; there is {len(files)}")
        return gguf

    def read(self, name: str) -> HostTensor:
        """The tensor in memory of its own. Unsupported for a type that is not unpacked."""
        tensor = self.tensors[name]
        dtype, held = _held(name, tensor)
        out = np.empty(tensor.shape, held)
        self.read_rows(name, 0, out)
        return HostTensor(out, dtype)

    def dtype(self, name: str) -> str:
        """The type in which `read` gives the tensor, or the name of one that it does not read."""
        form = self.tensors[name].form
        return "float32" if form.unpack else PLAIN[form.name][0] if form.name in PLAIN else form.name

    def kind(self, name: str) -> str:
        """The type of a packed tensor; "" where `read` gives the numbers as they lie."""
        form = self.tensors[name].form
        return form.name if form.unpack else ""

    def read_blocks(self, name: str, first: int, rows: int) -> np.ndarray:
        """Rows of a packed tensor as they lie in the file, uint8 [rows, bytes of a row]; rows as in `read_rows`."""
        tensor = self.tensors[name]
        width = tensor.shape[-1] // tensor.form.block * tensor.form.nbytes
        if not tensor.form.unpack or first < 0 or (first + rows) * width > tensor.size:
            raise ValueError(f"{name}: has no packed rows {first} to {first + rows}")
        out = np.empty((rows, width), np.uint8)
        with unchanged(tensor.file, self._stamps[tensor.file]) as handle:
            handle.seek(tensor.start + first * width)
            fill(handle, out, tensor.file, name)
        return out

    def stretch(self, name: str, first: int) -> Stretch:
        """Where a packed tensor lies from row `first` on; rows as in `read_rows`."""
        tensor = self.tensors[name]
        start = tensor.start + first * (tensor.shape[-1] // tensor.form.block * tensor.form.nbytes)
        return Stretch(name, tensor.file, self._stamps[tensor.file], start)

    def read_rows(self, name: str, first: int, out: np.ndarray) -> None:
        """Fill `out`, C-contiguous and of the type that `read` gives, with whole rows from row `first` on.

        Rows are those of the tensor as a matrix [-1, its last size].
        """
        tensor = self.tensors[name]
        form, width = tensor.form, tensor.shape[-1] if tensor.shape else 1
        _, held = _held(name, tensor)
        rows = tensor.size * form.block // form.nbytes // width
        if out.dtype != held or not out.flags.c_contiguous or out.size % width or first + out.size // width > rows:
            raise ValueError(f"{name}: {held} [{rows}, {width}] does not fill {out.dtype} {list(out.shape)} at {first}")
        with unchanged(tensor.file, self._stamps[tensor.file]) as handle:
            handle.seek(tensor.start + first * width // form.block * form.nbytes)
            if form.unpack is None:
                fill(handle, out, tensor.file, name)
                return
            flat = out.reshape(-1)
            step = PIECE // form.block * form.block
            for begin in range(0, flat.size, step):
                piece = flat[begin : begin + step]
                blocks = np.empty((piece.size // form.block, form.nbytes), np.uint8)
                fill(handle, blocks, tensor.file, name)
                with np.errstate(over="ignore", invalid="ignore"):  # damaged scales give inf and nan, as in ggml
                    piece[:] = form.unpack(blocks).reshape(-1)


def _held(name: str, tensor: Tensor) -> tuple[DType, np.dtype[Any]]:
    form = tensor.form
    if form.unpack is None and form.name not in PLAIN:
        raise Unsupported(f"{tensor.file}: tensor {show(name)} is {form.name}, a type that Crane does not read")
    dtype, held = PLAIN.get(form.name, PLAIN["F32"])
    return dtype, np.dtype(held)


def _is_marked(path: Path) -> bool:
    with reading(path), path.open("rb") as file:
        return file.read(4) in (b"GGUF", *OLD)


def _in(folder: Path) -> list[Path]:
    """The GGUF files in a folder; those with a picture part (mmproj) belong to another model there."""
    with reading(folder):
        found = sorted(f for f in folder.iterdir() if f.suffix.lower() == ".gguf" and not f.name.startswith("."))
    return [file for file in found if "mmproj" not in file.name.lower()]


def _only_set(folder: Path) -> list[Path]:
    """The files of the only model in a folder."""
    sets: dict[str, Path] = {}
    for file in _in(folder):
        split = SPLIT.fullmatch(file.name)
        sets.setdefault(f"{split[1]} of {split[3]}" if split else file.name, file)
    if not sets:
        raise BadCheckpoint(f"{folder}: has no GGUF file")
    if len(sets) > 1:
        names = ", ".join(file.name for file in sets.values())
        raise BadCheckpoint(f"{folder}: holds several models ({names:.200}). Name the file that is meant.")
    return _set_of(next(iter(sets.values())))


def _set_of(file: Path) -> list[Path]:
    """All files of the set to which a file belongs, by its name."""
    split = SPLIT.fullmatch(file.name)
    if not split:
        return [file]
    total = int(split[3])
    if not 1 <= int(split[2]) <= total <= MOST_SPLITS:
        raise BadCheckpoint(f"{file}: its name says that it is number {split[2]} of {split[3]}")
    tail = file.name[-5:]
    every = [file.with_name(f"{split[1]}-{number:05}-of-{split[3]}{tail}") for number in range(1, total + 1)]
    lacking = next((each for each in every if not each.exists()), None)
    if lacking is not None:
        raise BadCheckpoint(f"{file.parent}: lacks {lacking.name}; download the model again")
    return every

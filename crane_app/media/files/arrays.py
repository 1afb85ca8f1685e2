"""A checkpoint in PyTorch's files (.bin, .pth, .pt) or numpy's (.npz), beside a config.json."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast

import numpy as np

from crane_app.contract import DType, HostTensor
from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.host import Scheme
from crane_app.media.files.bare_pickles import is_bare, open_bare
from crane_app.media.files.npz import open_npz
from crane_app.media.files.pickles import open_archive
from crane_app.media.files.raw import reading, show, stamp_of
from crane_app.media.files.safetensors import HELD, read_index

SUFFIXES = (".bin", ".pth", ".pt", ".npz")
INDEX = "pytorch_model.bin.index.json"
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.bin")
# What training leaves beside a model.
NOT_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|rng_state.*|scaler|adapter_model)\.(bin|pt|pth)")


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies and how it is read."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    nbytes: int


def files_in(folder: Path) -> list[Path]:
    """The files with weights in a folder, by name; none where there are safetensors."""
    with reading(folder):
        names = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if any(path.suffix == ".safetensors" for path in names):
        return []
    return [path for path in names if path.suffix in SUFFIXES and not NOT_WEIGHTS.fullmatch(path.name)]


class Arrays:
    """The tensors of one model by name; a checkpoint like that of safetensors files."""

    def __init__(self, folder: Path, tensors: dict[str, Tensor], files: list[Path]) -> None:
        self.folder, self._tensors = folder, tensors
        self._stamps = {file: _stamp(file) for file in files}
        self.shapes = {name: tensor.shape for name, tensor in tensors.items()}
        self.dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
        self.schemes: dict[str, Scheme] = {}
        self.nbytes = sum(tensor.nbytes for tensor in tensors.values())

    @classmethod
    def open(cls, folder: Path) -> Arrays:
        """The checkpoint in `folder`: what the index names, else its only set. Reads no numbers."""
        files = _set_of(folder)
        tensors: dict[str, Tensor] = {}
        for file in files:
            for name, tensor in _tensors(file).items():
                if name in tensors:
                    raise BadCheckpoint(f"{file}: tensor {show(name)} is also in {tensors[name].file.name}")
                tensors[name] = tensor
        return cls(folder, tensors, files)

    def __enter__(self) -> Arrays:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open between reads."""

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def nbytes_of(self, name: str) -> int:
        """Bytes the tensor takes in its file."""
        return self._tensors[name].nbytes

    def file_of(self, name: str) -> Path:
        """The file that holds the tensor."""
        return self._tensors[name].file

    def read(self, name: str) -> HostTensor:
        """The tensor in memory of its own. Unsupported unless it is float32, float16 or bfloat16."""
        tensor = self._tensors[name]
        if tensor.dtype not in HELD:
            fault = f"tensor {show(name)} is {tensor.dtype}; only float32, float16 and bfloat16 are read"
            raise Unsupported(f"{tensor.file}: {fault}")
        if _stamp(tensor.file) != self._stamps[tensor.file]:
            raise BadCheckpoint(f"{tensor.file}: changed while it was loaded; load the model again")
        return HostTensor(tensor.read(), cast(DType, tensor.dtype))

    def read_packed(self, name: str) -> NoReturn:
        """There are none."""
        raise ValueError(f"{name} is not packed")

    def read_into(self, name: str, out: np.ndarray) -> None:
        """Read into `out`, of the tensor's shape and dtype (bfloat16: uint16)."""
        out[...] = self.read(name).array


def _stamp(file: Path) -> tuple[int, int, int]:
    with reading(file), file.open("rb") as handle:
        return stamp_of(handle)


def _set_of(folder: Path) -> list[Path]:
    files = files_in(folder)
    if (folder / INDEX).exists():
        return list(dict.fromkeys(read_index(folder / INDEX).values()))
    whole = [file for file in files if file.name == "pytorch_model.bin"]
    if whole or len(files) == 1:
        return whole or files
    shards = [match for file in files if (match := SHARD.fullmatch(file.name))]
    if len(shards) == len(files) and len({(shard[1], shard[3]) for shard in shards}) == 1:
        numbers = {int(shard[2]) for shard in shards}
        lacking = next((n for n in range(1, int(shards[0][3]) + 1) if n not in numbers), None)
        if lacking is not None:
            raise BadCheckpoint(f"{folder}: lacks {shards[0][1]}-{lacking:05}-of-{shards[0][3]}.bin")
        return files
    names = ", ".join(file.name for file in files)
    raise BadCheckpoint(f"{folder}: holds several files with weights ({names:.200}) and no index of them")


def _tensors(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".npz":
        return {n: Tensor(file, m.dtype, m.shape, m.read, m.nbytes) for n, m in open_npz(file).items()}
    archive = open_bare(file) if is_bare(file) else open_archive(file)

    def reader(name: str) -> Callable[[], np.ndarray]:
        return lambda: archive.read(name)

    return {
        name: Tensor(file, each.storage.dtype, each.shape, reader(name), math.prod(each.shape) * each.itemsize)
        for name, each in archive.tensors.items()
    }

"""Where a model comes from: what stands for its config.json, its generation_config.json and its checkpoint.

A folder has the files themselves, its weights as safetensors, else as PyTorch's or numpy's files. A GGUF file says the
same in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from crane_app.contract import HostTensor
from crane_app.errors import BadCheckpoint, ModelNotFound, Unsupported
from crane_app.host import Packed, Scheme
from crane_app.media.files.arrays import Arrays, files_in
from crane_app.media.files.gguf import Gguf, holds_gguf
from crane_app.media.files.grouped import Grouped
from crane_app.media.files.safetensors import Checkpoint
from crane_app.models import gguf as published

LARGEST_CONFIG = 16 * 2**20


class Weights(Protocol):
    """The tensors of one model under their published names. dtypes as read; nbytes as in the files.

    schemes: of the packed ones; `read` expands them.
    """

    folder: Path
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    schemes: dict[str, Scheme]
    nbytes: int

    def __enter__(self) -> Weights: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __contains__(self, name: object) -> bool: ...

    def nbytes_of(self, name: str) -> int:
        """Bytes the tensor takes in its file."""

    def file_of(self, name: str) -> Path:
        """The file that holds the tensor."""

    def read(self, name: str) -> HostTensor:
        """The tensor in memory of its own."""

    def read_packed(self, name: str) -> Packed:
        """A tensor of `schemes` as it is packed."""

    def read_into(self, name: str, out: np.ndarray) -> None:
        """Read into `out`: C-contiguous, of the tensor's shape and dtype (bfloat16: uint16)."""


@dataclass(frozen=True)
class Source:
    """A model's settings, and how to open its weights. said: what the config is called in sentences."""

    path: Path
    config: dict[str, Any]
    generation: dict[str, Any]
    weights: Callable[[], Weights]
    said: str = "config.json"

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """A fault of the config names what it was read from."""
        try:
            yield
        except (BadCheckpoint, Unsupported) as error:
            raise type(error)(str(error).replace("config.json", self.said)) from error


def find(path: Path) -> Source:
    """The model at `path`: a folder or a GGUF file. Raises ModelNotFound, BadCheckpoint, Unsupported."""
    if holds_gguf(path):
        return _gguf(path)
    if not path.is_dir():
        raise ModelNotFound(
            f"There is no model folder at {path}. Name a folder with config.json and *.safetensors, or a .gguf file."
        )
    config = _object(path / "config.json")
    return Source(path, config, optional(path / "generation_config.json"), _opener(path, config))


def _opener(path: Path, config: dict[str, Any]) -> Callable[[], Weights]:
    """How the weights of a folder are opened."""
    if files_in(path):
        return lambda: Arrays.open(path)
    groups, other = config.get("quantization"), config.get("quantization_config")
    if isinstance(groups, dict):
        return lambda: Grouped(Checkpoint.open(path), groups)

    def plain() -> Weights:
        if isinstance(other, dict):
            raise Unsupported(
                f"{path.name}: its weights are packed as {other.get('quant_method')!r:.40}; Crane reads the groups of "
                "MLX and GGUF. Take the same model in one of these, or unpacked."
            )
        return Checkpoint.open(path)

    return plain


def _gguf(path: Path) -> Source:
    gguf = Gguf.open(path)
    config = published.config(gguf)
    said = f"{path.name} (its metadata)"
    return Source(path, config, published.generation(gguf), lambda: published.Weights(gguf, config), said)


def optional(path: Path) -> dict[str, Any]:
    """A JSON object that a folder may lack."""
    return _object(path) if path.exists() else {}


def _object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise BadCheckpoint(f"{path.name}: {path.stat().st_size} bytes is not the size of a config file")
        raw = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise ModelNotFound(f"There is no {path.name} in {path.parent}. Is it the folder of a model?") from None
    except OSError as error:
        raise BadCheckpoint(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{path}: not valid JSON ({error})") from None
    if not isinstance(raw, dict):
        raise BadCheckpoint(f"{path}: must hold a JSON object")
    return raw

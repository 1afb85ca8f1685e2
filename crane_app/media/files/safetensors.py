"""A checkpoint's tensors, read from its safetensors files into host memory.

Knows the format (https://github.com/huggingface/safetensors, "Format") and how shards are named; not what the
tensors are for. The `safetensors` package gives numpy no bfloat16 and cannot read into a buffer that is
already there, so the bytes are read here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

import numpy as np

from crane_app.contract import DType, HostTensor
from crane_app.errors import BadCheckpoint, ModelNotFound, Unsupported
from crane_app.host import Scheme, Stretch
from crane_app.media.files.raw import Stamp, fill, reading, show, stamp_of, unchanged

HEADER_LIMIT = 100_000_000  # bytes; MAX_HEADER_SIZE of the reference implementation
DIMENSIONS = 64  # as many as numpy holds

# The format's dtypes: our name and the bits of one element.
DTYPES = {
    "F32": ("float32", 32),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "F64": ("float64", 64),
    "C64": ("complex64", 64),
    "I64": ("int64", 64),
    "U64": ("uint64", 64),
    "I32": ("int32", 32),
    "U32": ("uint32", 32),
    "I16": ("int16", 16),
    "U16": ("uint16", 16),
    "I8": ("int8", 8),
    "U8": ("uint8", 8),
    "BOOL": ("bool", 8),
    "F8_E4M3": ("float8_e4m3", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F8_E8M0": ("float8_e8m0", 8),
    "F6_E2M3": ("float6_e2m3", 6),
    "F6_E3M2": ("float6_e3m2", 6),
    "F4": ("float4", 4),
}
HELD: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
}

SHARD = re.compile(r"(.+)-(\d{5,})-of-(\d{5,})\.safetensors")

# What is found in the place of a checkpoint, by its first bytes.
LOOKS = (
    (b"version https://git-lfs", "a Git LFS pointer (run `git lfs pull`, or download the file itself)"),
    (b"<!doctype", "an HTML page (the download went to a web page)"),
    (b"<html", "an HTML page (the download went to a web page)"),
    (b"<?xml", "an XML page (the download was refused)"),
    (b"pk\x03\x04", "a zip archive or a PyTorch file"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"gguf", "a GGUF file"),
    (b"\x93numpy", "a numpy file"),
    (b"{", "a JSON text"),
)


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: `start` counts from the file's first byte, `size` is in bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


class Checkpoint:
    """The tensors of one model, by name.

    No file stays open between reads and nothing is shared, so any number of threads may read at once and
    hundreds of shards cost no file handles. A file that was replaced since `open` is refused.
    """

    def __init__(self, folder: Path, tensors: dict[str, Tensor], stamps: dict[Path, Stamp]) -> None:
        self.folder = folder
        self._tensors = tensors
        self._stamps = stamps
        self._closed = False
        self.shapes = {name: tensor.shape for name, tensor in tensors.items()}
        self.dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
        self.schemes: dict[str, Scheme] = {}
        self.nbytes = sum(tensor.size for tensor in tensors.values())

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """The checkpoint in `folder`: `model.safetensors`, else what the index names, else its only set.

        Reads headers only. Raises ModelNotFound without a folder and BadCheckpoint for every other fault.
        """
        if not folder.is_dir():
            raise ModelNotFound(f"{folder}: there is no such folder")
        with reading(folder):
            index = folder / "model.safetensors.index.json"
            if (folder / "model.safetensors").exists():
                return cls._of(folder, [folder / "model.safetensors"])
            if not index.exists():
                return cls._of(folder, _only_set(folder))
            places = read_index(index)
        checkpoint = cls._of(folder, dict.fromkeys(places.values()))
        for name, file in places.items():
            if name not in checkpoint or checkpoint.file_of(name) != file:
                raise BadCheckpoint(f"{file}: lacks tensor {show(name)}, which {index.name} places in it")
        return checkpoint

    @classmethod
    def _of(cls, folder: Path, files: Iterable[Path]) -> Checkpoint:
        tensors: dict[str, Tensor] = {}
        stamps: dict[Path, Stamp] = {}
        for file in files:
            found, stamps[file] = _read_header(file)
            for name in found:
                if name in tensors:
                    raise BadCheckpoint(f"{file}: tensor {show(name)} is also in {tensors[name].file.name}")
            tensors |= found
        return cls(folder, tensors, stamps)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End reading; a later read is a ValueError."""
        self._closed = True

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def nbytes_of(self, name: str) -> int:
        """Bytes the tensor takes in its file."""
        return self._tensor(name).size

    def file_of(self, name: str) -> Path:
        """The file that holds the tensor; BadCheckpoint when none does."""
        return self._tensor(name).file

    def read(self, name: str) -> HostTensor:
        """The tensor in memory of its own. Unsupported unless it is float32, float16 or bfloat16."""
        tensor = self._tensor(name)
        array = np.empty(tensor.shape, _held(name, tensor))
        self._fill(name, tensor, array)
        return HostTensor(array, cast(DType, tensor.dtype))

    def read_packed(self, name: str) -> NoReturn:
        """There are none."""
        raise ValueError(f"{name} is not packed")

    def read_into(self, name: str, out: np.ndarray) -> None:
        """Read straight into `out`: C-contiguous, of the tensor's shape and dtype (bfloat16: uint16)."""
        tensor = self._tensor(name)
        held = _held(name, tensor)
        if out.shape != tensor.shape or out.dtype != held:
            wanted = f"{held} {list(tensor.shape)}"
            raise ValueError(f"{name} is {wanted}, the buffer is {out.dtype} {list(out.shape)}")
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise ValueError(f"the buffer for {name} must be C-contiguous and writeable")
        self._fill(name, tensor, out)

    def raw(self, name: str, part: int | None = None) -> np.ndarray:
        """The numbers as they lie, uint32 too, or part number `part` of them along the first axis."""
        tensor = self._tensor(name)
        held = np.dtype("<u4") if tensor.dtype == "uint32" else _held(name, tensor)
        if part is not None:
            size = tensor.size // tensor.shape[0]
            tensor = Tensor(tensor.file, tensor.dtype, tensor.shape[1:], tensor.start + part * size, size)
        array = np.empty(tensor.shape, held)
        self._fill(name, tensor, array)
        return array

    def stretch(self, name: str, part: int | None = None) -> Stretch:
        """Where a tensor lies, or part number `part` of it along the first axis."""
        tensor = self._tensor(name)
        start = tensor.start + (0 if part is None else part * tensor.size // tensor.shape[0])
        return Stretch(name, tensor.file, self._stamps[tensor.file], start)

    def _tensor(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise BadCheckpoint(f"{self.folder}: its safetensors files have no tensor {show(name)}")
        return self._tensors[name]

    def _fill(self, name: str, tensor: Tensor, out: np.ndarray) -> None:
        if self._closed:
            raise ValueError("the checkpoint is closed")
        with unchanged(tensor.file, self._stamps[tensor.file]) as file:
            file.seek(tensor.start)
            fill(file, out, tensor.file, name)


def _held(name: str, tensor: Tensor) -> np.dtype[Any]:
    """The numpy dtype a tensor is held in."""
    if tensor.dtype not in HELD:
        fault = f"tensor {show(name)} is {tensor.dtype}; only float32, float16 and bfloat16 are read"
        raise Unsupported(f"{tensor.file}: {fault}")
    return HELD[tensor.dtype]


def _read_header(file: Path) -> tuple[dict[str, Tensor], Stamp]:
    """The tensors of one file, fully checked against the file's size, and the file's stamp."""
    with reading(file):
        if not file.is_file():  # opening a pipe would wait for ever
            raise BadCheckpoint(f"{file}: {'is not a file' if file.exists() else 'is missing'}")
        with file.open("rb") as handle:
            stamp = stamp_of(handle)
            text = _header_text(file, handle, stamp[1])
    header, data, size = _parse(file, text), 8 + len(text), stamp[1]
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise BadCheckpoint(f"{file}: its __metadata__ must map names to texts")
    tensors = {name: _tensor_of(file, name, entry, data, size) for name, entry in header.items()}
    _check_cover(file, tensors, data, size)
    return tensors, stamp


def _header_text(file: Path, handle: BinaryIO, size: int) -> bytes:
    """The JSON at the head of a file of `size` bytes."""
    start = handle.read(64)
    length = int.from_bytes(start[:8], "little")
    if not size:
        raise BadCheckpoint(f"{file}: is empty; download it again")
    if size < 8 or length > min(size - 8, HEADER_LIMIT):
        first = start.lstrip().lower()
        looks = next((what for prefix, what in LOOKS if first.startswith(prefix)), None)
        if looks or size < 8 or length > HEADER_LIMIT:
            raise BadCheckpoint(f"{file}: is not a safetensors file" + (f" but {looks}" if looks else ""))
        raise BadCheckpoint(f"{file}: is truncated inside its header; download it again")
    handle.seek(8)
    text = handle.read(length)
    if len(text) != length or text[:1] != b"{":
        raise BadCheckpoint(f"{file}: is not a safetensors file (its header is no JSON object)")
    return text


def _tensor_of(file: Path, name: str, entry: Any, data: int, size: int) -> Tensor:
    """One header entry, checked; `data` is where the tensors begin in the file of `size` bytes."""

    def refuse(fault: str) -> NoReturn:
        raise BadCheckpoint(f"{file}: tensor {show(name)} {fault}")

    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        refuse("must have a dtype, a shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        refuse(f"has the unknown dtype {show(str(dtype))}")
    if not _naturals(shape) or len(shape) > DIMENSIONS:
        refuse("has a shape that is not a list of sizes")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        refuse("has data_offsets that are not a begin and an end")
    label, bits = DTYPES[dtype]
    if math.prod(max(length, 1) for length in shape) * 8 >= 1 << 63:
        refuse("has a shape larger than any memory")
    begin, end = offsets
    if (end - begin) * 8 != math.prod(shape) * bits:
        refuse(f"is {label} {shape}, which is not the {end - begin} bytes its data_offsets give it")
    if data + end > size:
        refuse(f"needs {data + end} bytes of file, but there are {size}: truncated; download it again")
    return Tensor(file, label, tuple(shape), data + begin, end - begin)


def _check_cover(file: Path, tensors: dict[str, Tensor], data: int, size: int) -> None:
    """The format allows neither overlaps nor holes: each tensor begins where the one before it ended."""
    end, before = data, ""
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].size)):
        if tensor.start < end:
            raise BadCheckpoint(f"{file}: tensor {show(name)} overlaps tensor {show(before)}")
        if tensor.start > end:
            raise BadCheckpoint(f"{file}: has a hole of {tensor.start - end} bytes before tensor {show(name)}")
        end, before = tensor.start + tensor.size, name
    if end != size:
        raise BadCheckpoint(f"{file}: its last {size - end} bytes belong to no tensor")


def _only_set(folder: Path) -> list[Path]:
    """The files of the only model in a folder without an index: one file, or all shards of one name.

    Hidden files (macOS leaves `._model.safetensors` on foreign disks) and LoRA adapters are no models.
    """
    sets: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        if not file.name.startswith(".") and file.name != "adapter_model.safetensors":
            shard = SHARD.fullmatch(file.name)
            sets.setdefault(f"{shard[1]} of {shard[3]}" if shard else file.name, []).append(file)
    if not sets:
        raise BadCheckpoint(f"{folder}: has no safetensors file")
    if len(sets) > 1:
        names = ", ".join(files[0].name for files in sets.values())
        raise BadCheckpoint(f"{folder}: holds several models ({names}) and no index that says which is meant")
    files = next(iter(sets.values()))
    shards = [shard for file in files if (shard := SHARD.fullmatch(file.name))]
    numbers = {int(shard[2]) for shard in shards}
    for stem, total in {(shard[1], shard[3]) for shard in shards}:
        lacking = next((number for number in range(1, int(total) + 1) if number not in numbers), None)
        if lacking is not None:
            raise BadCheckpoint(f"{folder}: lacks {stem}-{lacking:05}-of-{total}.safetensors")
    return files


def read_index(index: Path) -> dict[str, Path]:
    """Tensor name -> shard, as an index (`model.safetensors.index.json`) says."""
    with reading(index):
        if not index.is_file() or index.stat().st_size > HEADER_LIMIT:
            raise BadCheckpoint(f"{index}: is not an index of shards")
        places = _parse(index, index.read_bytes()).get("weight_map")
        if not isinstance(places, dict) or {type(name) for name in places.values()} != {str}:
            raise BadCheckpoint(f"{index}: has no weight_map from tensor names to files")
        shards = {name: _shard(index, name) for name in dict.fromkeys(places.values())}
    return {tensor: shards[name] for tensor, name in places.items()}


def _shard(index: Path, name: str) -> Path:
    """The file an index names, which must lie in the index's folder.

    The index came with a download, so it may not point elsewhere. A link out of the folder is taken only in
    the Hugging Face cache, where `snapshots/<revision>/...` links into the `blobs` folder beside `snapshots`.
    """
    plain = name.isprintable() and not re.search(r'[\\:*?"<>|]', name)
    if not plain or name.startswith("/") or ".." in name.split("/"):
        raise BadCheckpoint(f"{index}: names {show(name)}, which is not a file of its folder")
    file = index.parent / name
    try:
        folder, target = index.parent.resolve(), file.resolve()
    except RuntimeError as error:
        raise BadCheckpoint(f"{file}: is a link in a loop of links") from error
    blobs = [parent.parent / "blobs" for parent in folder.parents if parent.name == "snapshots"]
    if not any(target.is_relative_to(home) for home in (folder, *blobs)):
        raise BadCheckpoint(f"{index}: names {show(name)}, which links to {target}, outside its folder")
    if not target.exists():
        raise BadCheckpoint(f"{file}: is missing, but {index.name} names it; download the model again")
    return file


def _parse(file: Path, text: bytes) -> dict[str, Any]:
    """A JSON object without repeated keys, its integers of at most 20 digits."""
    try:
        value = json.loads(text.decode(), object_pairs_hook=_unique, parse_int=_integer)
    except RecursionError as error:
        raise BadCheckpoint(f"{file}: its JSON is nested too deep") from error
    except ValueError as error:
        raise BadCheckpoint(f"{file}: its JSON is damaged: {error}") from error
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{file}: its JSON is no object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{show(name)} appears twice")
        found[name] = value
    return found


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)

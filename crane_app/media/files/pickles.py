"""Tensors of PyTorch's files (.pth, .pt, .bin), read without PyTorch and without running anything in them.

The form is a zip archive with stored members: `NAME/data.pkl`, a pickle, and `NAME/data/KEY`, the bytes of each
storage (pytorch, torch/serialization.py). The pickle is interpreted here: of its instructions only those that data
needs, of its names only those that rebuild tensors. Everything else is refused by name.
"""

from __future__ import annotations

import math
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.media.files.raw import damaged, reading, show

LARGEST_PICKLE = 64 << 20  # bytes; one of 10,000 tensors has about 2 MB
MOST_INSTRUCTIONS = 1 << 22  # each may make an object; a tensor takes some 40
MOST_MEMBERS = 1 << 17
DIMENSIONS = 64
# Storage classes of torch -> numpy's type and, for what models may hold, our name.
STORAGES = {
    "FloatStorage": ("<f4", "float32"),
    "HalfStorage": ("<f2", "float16"),
    "BFloat16Storage": ("<u2", "bfloat16"),
    "DoubleStorage": ("<f8", "float64"),
    "LongStorage": ("<i8", "int64"),
    "IntStorage": ("<i4", "int32"),
    "ShortStorage": ("<i2", "int16"),
    "CharStorage": ("<i1", "int8"),
    "ByteStorage": ("<u1", "uint8"),
    "BoolStorage": ("<u1", "bool"),
}


@dataclass(frozen=True)
class Storage:
    """A run of numbers in one member of the archive."""

    key: str
    held: str
    dtype: str
    count: int


@dataclass(frozen=True)
class Pickled:
    """A tensor: where it lies in its storage, all in numbers and not in bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def itemsize(self) -> int:
        return np.dtype(self.storage.held).itemsize


@dataclass(frozen=True)
class _Kind:
    """A storage class, as a name and nothing that can be called."""

    name: str


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Pickled:
    whole = type(storage) is Storage and type(offset) is int and offset >= 0
    lists = all(
        type(each) is tuple and len(each) <= DIMENSIONS and all(type(n) is int and 0 <= n < 1 << 62 for n in each)
        for each in (shape, strides)
    )
    if not whole or not lists or len(shape) != len(strides):
        raise ValueError("a tensor that is not described as PyTorch does")
    if 0 not in shape:
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if last >= storage.count or math.prod(shape) > storage.count:
            raise ValueError("a tensor that lies outside its storage")
    return Pickled(storage, offset, shape, strides)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _ordered(*items: Any) -> dict[str, Any]:
    if items:
        raise ValueError("an OrderedDict that is not empty when it is made")
    return {}


# What a pickle of weights may call.
CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
MARK = object()


class Machine:
    """The stack of one pickle. Instructions and their meaning: CPython's Lib/pickletools.py."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self, data: Any) -> Any:
        """The value of a pickle, bytes or an open file that is then behind it; ValueError or the like for a bad one."""
        argument: Any
        for count, (instruction, argument, _) in enumerate(pickletools.genops(data)):
            if count >= MOST_INSTRUCTIONS:
                raise ValueError(f"a pickle of more than {MOST_INSTRUCTIONS} instructions")
            name = instruction.name
            if name == "STOP":
                return self._stack.pop()
            if name in PUSHES:
                self._stack.append(argument)
            elif name in MAKES:
                self._stack.append(MAKES[name]())
            elif name in GETS:
                self._stack.append(self._memo[argument])
            elif name in PUTS:
                self._memo[len(self._memo) if argument is None else argument] = self._stack[-1]
            elif name in STEPS:
                STEPS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise Unsupported(f"{self._file}: uses the instruction {name}, which no weights need")
        raise ValueError("a pickle without an end")

    def _marked(self) -> list[Any]:
        """What lies above the last mark, which goes too."""
        above: list[Any] = []
        while (value := self._stack.pop()) is not MARK:
            above.append(value)
        return above[::-1]

    def tuple_of(self, count: int | None) -> None:
        if count is None:
            self._stack.append(tuple(self._marked()))
        else:
            parts = [self._stack.pop() for _ in range(count)]
            self._stack.append(tuple(reversed(parts)))

    def set_items(self, marked: bool) -> None:
        pairs = self._marked() if marked else [self._stack.pop(-2), self._stack.pop()]
        target = self._stack[-1]
        if type(target) is not dict or len(pairs) % 2 or not all(type(key) in (str, int) for key in pairs[::2]):
            raise ValueError("names that are no texts")
        target.update(zip(pairs[::2], pairs[1::2], strict=True))

    def append(self, marked: bool) -> None:
        items = self._marked() if marked else [self._stack.pop()]
        if type(self._stack[-1]) is not list:
            raise ValueError("a list that is none")
        self._stack[-1].extend(items)

    def name(self, said: str | None) -> None:
        if said is None:
            name, module = self._stack.pop(), self._stack.pop()
        else:
            module, _, name = said.partition(" ")
        if type(module) is not str or type(name) is not str:  # tuples of tuples would take for ever to be shown
            raise ValueError("a name that is no text")
        if module in ("torch", "torch.storage") and name in STORAGES:
            self._stack.append(_Kind(name))
        elif (module, name) in CALLS:
            self._stack.append(CALLS[module, name])
        else:
            fault = f"asks for {show(f'{module}.{name}'):.120}, which no weights need; Crane runs no code from files"
            raise Unsupported(f"{self._file}: {fault}")

    def call(self) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        if type(arguments) is not tuple or not any(called is each for each in CALLS.values()):
            raise ValueError("a call of what cannot be called")
        self._stack.append(called(*arguments))

    def build(self) -> None:
        """The attributes of a state dict (`_metadata`) are not needed; nothing else has any."""
        self._stack.pop()
        if type(self._stack[-1]) is not dict:
            raise ValueError("attributes of what has none")

    def storage(self) -> None:
        match self._stack.pop():
            case ("storage", _Kind(name=name), str(key), str(), int(count), *more) if 0 <= count < 1 << 62:
                made = Storage(key, *STORAGES[name], count)
                if more not in ([], [None]) or self.storages.setdefault(key, made) != made:
                    raise ValueError("a storage within another")
                self._stack.append(made)
            case _:
                raise ValueError("a storage that is not named as PyTorch does")


PUSHES = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINFLOAT"}
MAKES: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "MARK": lambda: MARK,
}
GETS, PUTS = {"BINGET", "LONG_BINGET"}, {"BINPUT", "LONG_BINPUT", "MEMOIZE"}
STEPS: dict[str, Callable[[Machine, Any], None]] = {
    "TUPLE": lambda machine, _: machine.tuple_of(None),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "SETITEM": lambda machine, _: machine.set_items(False),
    "SETITEMS": lambda machine, _: machine.set_items(True),
    "APPEND": lambda machine, _: machine.append(False),
    "APPENDS": lambda machine, _: machine.append(True),
    "GLOBAL": lambda machine, said: machine.name(said),
    "STACK_GLOBAL": lambda machine, _: machine.name(None),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.storage(),
}


@dataclass(frozen=True)
class Archive:
    """The tensors of one file by name, and the archive's inner folder."""

    file: Path
    prefix: str
    tensors: dict[str, Pickled]

    def read(self, name: str) -> np.ndarray:
        """The tensor in memory of its own, C-contiguous; bfloat16 as its bits."""
        tensor = self.tensors[name]
        storage = tensor.storage
        with damaged(self.file), zipfile.ZipFile(self.file) as archive:
            info = archive.getinfo(f"{self.prefix}/data/{storage.key}")
            size = storage.count * tensor.itemsize
            there = info.file_size == size <= self.file.stat().st_size
            if info.compress_type != zipfile.ZIP_STORED or not there:
                raise BadCheckpoint(f"{self.file}: the numbers of {show(name)} are not as many as it says")
            with archive.open(info) as member:
                return taken(tensor, member, 0, self.file, name)


def taken(tensor: Pickled, file: IO[bytes], start: int, path: Path, name: str) -> np.ndarray:
    """The tensor in memory of its own, from a file whose byte `start` is the first of its storage."""
    if 0 in tensor.shape:
        return np.empty(tensor.shape, tensor.storage.held)
    span = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    file.seek(start + tensor.offset * tensor.itemsize)
    data = file.read(span * tensor.itemsize)
    if len(data) != span * tensor.itemsize:
        raise BadCheckpoint(f"{path}: ends inside tensor {show(name)}")
    steps = tuple(step * tensor.itemsize for step in tensor.strides)
    flat = np.frombuffer(data, tensor.storage.held)
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, steps, writeable=False).copy()


def open_archive(file: Path) -> Archive:
    """The tensors that a file names. Raises BadCheckpoint and Unsupported; reads no numbers."""
    with reading(file):
        if not file.is_file():
            raise BadCheckpoint(f"{file}: {'is not a file' if file.exists() else 'is missing'}")
        size = file.stat().st_size
    with damaged(file), zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        pickles = [info for info in members if info.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or len(members) > MOST_MEMBERS:
            raise BadCheckpoint(f"{file}: is an archive, but not one of PyTorch's weights")
        info, prefix = pickles[0], pickles[0].filename.removesuffix("/data.pkl")
        if info.file_size > min(size, LARGEST_PICKLE) or info.compress_type != zipfile.ZIP_STORED:
            raise BadCheckpoint(f"{file}: its data.pkl is larger than the file, or than any")
        order = [member for member in members if member.filename == f"{prefix}/byteorder"]
        if order and archive.read(order[0])[:6] == b"big":
            raise Unsupported(f"{file}: was written on a big-endian machine")
        found = Machine(file).run(archive.read(info))
    return Archive(file, prefix, named(file, found))


def named(file: Path, found: Any) -> dict[str, Pickled]:
    """The tensors of a state dict, also of one that lies in `state_dict` or `model`."""
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise BadCheckpoint(f"{file}: holds no tensors by name")
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Pickled)}
    if not tensors:
        raise BadCheckpoint(f"{file}: holds no tensors by name")
    return tensors

"""The head of a GGUF file: its metadata and where its tensors lie. Versions 2 and 3, little-endian.

Format: ggml's docs/gguf.md. Every count and length is held against what is left of the file before anything is made.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, overload

import numpy as np

from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.media.files.gguf_blocks import FORMS, Form
from crane_app.media.files.raw import Stamp, reading, show, stamp_of

HEADER_LIMIT = 1 << 28  # bytes; a vocabulary of 260,000 tokens with its merges has some 12 MB
MOST_KEYS, MOST_TENSORS = 1 << 16, 1 << 16
MOST_TEXTS = 1 << 22  # in an array; a vocabulary has up to some 260,000
MOST_INNER, DEEPEST = 1 << 16, 4  # arrays in an array, and how deep they may lie
WINDOW = 1 << 17  # bytes in which lengths of texts are looked for at once
FEW = 64
AT_ONCE = 1 << 12  # texts
SPACE = ord(" ")
DIMENSIONS = 4  # GGML_MAX_DIMS
ALIGNMENT = 32  # bytes, unless general.alignment says otherwise
TEXT, ARRAY, BOOL = 8, 9, 7
NUMBERS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", BOOL: "<u1"} | {
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
# First bytes of what came before GGUF; 'ggla' was an adapter.
OLD = {b"lmgg": "ggml", b"fmgg": "ggmf", b"tjgg": "ggjt", b"algg": "ggla"}
CONVERTERS = {"ggla": "convert_lora_to_gguf.py from the original adapter"}
CONVERTER = "convert_llama_ggml_to_gguf.py"


class Texts(Sequence[str]):
    """An array of texts, held as bytes of the file, so that it takes no more memory than it took there.

    raw: uint8, the texts one behind the other. starts, sizes: int32, where texts begin in it, and their bytes.
    """

    def __init__(self, raw: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> None:
        self.raw, self.starts, self.sizes = raw, starts, sizes

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[str]:
        """Many at a time, which is several times as fast as one by one."""
        return chain.from_iterable(map(self._some, self._parts()))

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start = self.starts[index]
        return self.raw[start : start + self.sizes[index]].tobytes().decode("utf-8", "replace")

    def pairs(self) -> Pairs | None:
        """Each as what stands before its space and what behind; None if one has no space, or more than one."""
        spaces = np.flatnonzero(self.raw == SPACE)
        if len(spaces) != len(self) or (spaces < self.starts).any() or (spaces >= self.starts + self.sizes).any():
            return None
        return Pairs(self, spaces.astype(np.int32))

    def words(self) -> Iterator[str]:
        """The texts cut at their spaces, one behind the other."""
        return chain.from_iterable(self._cut(here, " ") for here in self._parts())

    def _parts(self) -> Iterator[slice]:
        return (slice(first, first + AT_ONCE) for first in range(0, len(self), AT_ONCE))

    def _some(self, here: slice) -> list[str]:
        every = self._cut(here, "\0")
        return every if len(every) == len(self.sizes[here]) else self[here]

    def _cut(self, here: slice, mark: str) -> list[str]:
        """Some of the texts, with a mark of one byte put between them and cut wherever it then stands."""
        starts, sizes = self.starts[here], self.sizes[here]
        first, last = int(starts[0]), int(starts[-1] + sizes[-1])
        marked = np.insert(self.raw[first:last], starts[1:] - first, ord(mark))
        return marked.tobytes().decode("utf-8", "replace").split(mark)


NO_TEXTS = Texts(np.empty(0, np.uint8), np.empty(0, np.int32), np.empty(0, np.int32))


class Pairs(Sequence[tuple[str, str]]):
    """Texts of two words each. Whoever goes through them holds a few at a time.

    spaces: int32, where in the bytes of `texts` each has its own.
    """

    def __init__(self, texts: Texts, spaces: np.ndarray) -> None:
        self.texts, self.spaces = texts, spaces

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        words = self.texts.words()
        return zip(words, words, strict=True)

    @overload
    def __getitem__(self, index: int) -> tuple[str, str]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, str]]: ...

    def __getitem__(self, index: int | slice) -> tuple[str, str] | list[tuple[str, str]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        left, right = self.texts[index].split(" ")
        return left, right


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: `start` counts from the file's first byte, `size` is in bytes; shape in numpy's order."""

    file: Path
    form: Form
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True)
class Header:
    """metadata: numbers, bools, texts; arrays as numpy arrays, `Texts` or lists of arrays."""

    metadata: dict[str, Any]
    tensors: dict[str, Tensor]
    stamp: Stamp


class Cursor:
    """Reads on through a file of `size` bytes and never past its end."""

    def __init__(self, file: Path, handle: BinaryIO, size: int) -> None:
        self.file, self.at = file, 0
        self._handle, self._end = handle, min(size, HEADER_LIMIT)

    def left(self) -> int:
        return self._end - self.at

    def ahead(self, most: int) -> bytes:
        """Up to `most` of the bytes that come next, without going on."""
        data = self._handle.read(min(most, self.left()))
        self._handle.seek(self.at)
        return data

    def refuse(self, fault: str) -> NoReturn:
        raise BadCheckpoint(f"{self.file}: {fault}")

    def take(self, count: int) -> bytes:
        if count > self.left():
            self.refuse("is truncated inside its header, or damaged; download it again")
        data = self._handle.read(count)
        if len(data) != count:
            self.refuse("ends inside its header; download it again")
        self.at += count
        return data

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def count(self, what: str, least: int, most: int) -> int:
        """A count of things that take `least` bytes each."""
        count = self.u64()
        if count > most or count * least > self.left():
            self.refuse(f"says that it has {count} {what}, which is more than it can hold; download it again")
        return count

    def name(self) -> str:
        try:
            return self.take(self.u64()).decode()
        except UnicodeDecodeError:
            self.refuse("has a name that is not UTF-8; it is damaged")


def read_header(file: Path) -> Header:
    """The header of one file, fully checked against the file's size. Raises BadCheckpoint and Unsupported."""
    with reading(file):
        if not file.is_file():  # opening a pipe would wait for ever
            raise BadCheckpoint(f"{file}: {'is not a file' if file.exists() else 'is missing'}")
        with file.open("rb") as handle:
            stamp = stamp_of(handle)
            cursor = Cursor(file, handle, stamp[1])
            _check_start(cursor)
            count, keys = cursor.count("tensors", 24, MOST_TENSORS), cursor.count("keys", 13, MOST_KEYS)
            metadata = _metadata(cursor, keys)
            tensors = _tensors(cursor, count, _alignment(cursor, metadata), stamp[1])
    return Header(metadata, tensors, stamp)


def _check_start(cursor: Cursor) -> None:
    """The magic and the version."""
    magic = cursor.take(min(4, cursor.left()))
    if magic in OLD:
        old = OLD[magic]
        how = CONVERTERS.get(old, f"{CONVERTER}, which older releases of llama.cpp have")
        raise Unsupported(f"{cursor.file}: is a file of the old format {old}. Convert it to GGUF with {how}.")
    if magic != b"GGUF":
        cursor.refuse("is not a GGUF file" if magic else "is empty; download it again")
    version = cursor.u32()
    if version == 1 or (version and not version & 0xFFFF):
        kind = "of version 1" if version == 1 else "for big-endian machines"
        raise Unsupported(f"{cursor.file}: is a GGUF file {kind}. Convert the model again with llama.cpp.")
    if version not in (2, 3):
        raise Unsupported(f"{cursor.file}: is GGUF of version {version}; Crane reads 2 and 3")


def _metadata(cursor: Cursor, keys: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(keys):
        name = cursor.name()
        if name in found:
            cursor.refuse(f"has the key {show(name)} twice")
        found[name] = _value(cursor, cursor.u32(), name, 0)
    return found


def _value(cursor: Cursor, kind: int, name: str, depth: int) -> Any:
    """One value, and in arrays what they hold."""
    if kind in NUMBERS:
        number = np.frombuffer(cursor.take(np.dtype(NUMBERS[kind]).itemsize), NUMBERS[kind])[0]
        return bool(number) if kind == BOOL else number.item() if kind != 6 else shortest(number)
    if kind == TEXT:
        return cursor.take(cursor.u64()).decode("utf-8", "replace")
    if kind != ARRAY:
        cursor.refuse(f"gives {show(name)} a type {kind} that GGUF does not have")
    if depth >= DEEPEST:
        cursor.refuse(f"nests the arrays of {show(name)} too deep")
    inner = cursor.u32()
    if inner in NUMBERS:
        size = np.dtype(NUMBERS[inner]).itemsize
        values = np.frombuffer(cursor.take(cursor.count("numbers", size, HEADER_LIMIT) * size), NUMBERS[inner])
        return values != 0 if inner == BOOL else values
    if inner == TEXT:
        return _texts(cursor)
    return [_value(cursor, inner, name, depth + 1) for _ in range(cursor.count("arrays", 12, MOST_INNER))]


def shortest(number: np.floating[Any]) -> float:
    """A float32 as the shortest decimal that reads as it: 1e-6 and not 9.999999974752427e-07."""
    return float(str(number))


def _texts(cursor: Cursor) -> Texts:
    """Lengths of eight bytes, each before its text."""
    count = cursor.count("texts", 8, MOST_TEXTS)
    raw, sizes, found = bytearray(), [np.empty(0, np.int32)], 0
    while found < count:
        window = np.frombuffer(cursor.ahead(WINDOW), np.uint8)
        here, long = _lengths(window, count - found)
        if not len(here):  # it ends behind the window, or behind the file
            here, long = np.zeros(1, np.int64), np.array([int.from_bytes(window[:8].tobytes(), "little")])
        past = np.frombuffer(cursor.take(int(here[-1]) + 8 + int(long[-1])), np.uint8)
        ends = np.cumsum(long)  # of the texts, without their lengths
        raw += past[np.repeat(here + 8 - (ends - long), long) + np.arange(ends[-1])].tobytes()
        sizes.append(long.astype(np.int32))
        found += len(here)
    every = np.concatenate(sizes)
    return Texts(np.frombuffer(raw, np.uint8), np.cumsum(every, dtype=np.int32) - every, every)


def _lengths(window: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Where lengths begin in uint8 [bytes], and the lengths, of the first texts that are whole in it, `most` at most.

    Seven zeros are rarely anything but the end of a length below 256. So lengths are found all at once, as far as each
    begins where the text before it ends; where that is not far, one after the other.
    """
    zero = window == 0
    seven = zero[1:-6] & zero[2:-5] & zero[3:-4] & zero[4:-3] & zero[5:-2] & zero[6:-1] & zero[7:]
    starts = np.flatnonzero(seven)
    after = starts + 8 + window[starts]
    links = np.append(after[:-1] == starts[1:], False)
    last = int(np.argmin(links)) + 1 if len(starts) and not starts[0] else 0
    starts, after = starts[:last], after[:last]
    if last < FEW:
        starts, after = _followed(window.tobytes())
    whole = (after <= len(window)).nonzero()[0][:most]
    return starts[whole], (after - starts - 8)[whole]


def _followed(window: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Where texts begin and end, each behind the one before."""
    starts, at = array("Q", [0]), 0
    while at + 8 <= len(window):
        at += 8 + int.from_bytes(window[at : at + 8], "little")
        starts.append(min(at, len(window) + 1))
    every = np.frombuffer(starts, np.uint64).astype(np.int64)
    return every[:-1], every[1:]


def _alignment(cursor: Cursor, metadata: dict[str, Any]) -> int:
    value = metadata.get("general.alignment", ALIGNMENT)
    if type(value) is not int or not 1 <= value <= 1 << 16 or value & (value - 1):
        cursor.refuse(f"general.alignment must be a power of two, not {value!r:.40}")
    return value


def _tensors(cursor: Cursor, count: int, alignment: int, size: int) -> dict[str, Tensor]:
    """The tensors by name, each checked to lie in the file of `size` bytes and apart from the others."""
    listed: dict[str, tuple[Form, tuple[int, ...], int]] = {}
    for _ in range(count):
        name = cursor.name()
        if name in listed:
            cursor.refuse(f"has the tensor {show(name)} twice")
        listed[name] = _listed(cursor, name, alignment)
    data = -(-cursor.at // alignment) * alignment
    tensors: dict[str, Tensor] = {}
    for name, (form, shape, offset) in listed.items():
        numbers = int(np.prod(shape, dtype=object)) if shape else 1
        start, nbytes = data + offset, numbers // form.block * form.nbytes
        if start + nbytes > size:
            fault = f"needs {start + nbytes} bytes of file, but there are {size}: truncated; download it again"
            cursor.refuse(f"tensor {show(name)} {fault}")
        tensors[name] = Tensor(cursor.file, form, shape, start, nbytes)
    end, before = data, ""
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].start):
        if tensor.start < end:
            cursor.refuse(f"tensor {show(name)} overlaps tensor {show(before)}")
        end, before = tensor.start + tensor.size, name
    return tensors


def _listed(cursor: Cursor, name: str, alignment: int) -> tuple[Form, tuple[int, ...], int]:
    """Form, shape and offset into the data of one tensor."""
    rank = cursor.u32()
    if rank > DIMENSIONS:
        cursor.refuse(f"tensor {show(name)} has {rank} dimensions; GGUF allows {DIMENSIONS}")
    sizes = struct.unpack(f"<{rank}Q", cursor.take(8 * rank))
    kind, offset = cursor.u32(), cursor.u64()
    form = FORMS.get(kind)
    if form is None:
        raise Unsupported(f"{cursor.file}: tensor {show(name)} has the type {kind}, which Crane does not know")
    if (
        any(not 0 < each < 1 << 62 for each in sizes)
        or (sizes and sizes[0] % form.block)
        or (not sizes and form.block > 1)
    ):
        cursor.refuse(f"tensor {show(name)} has a shape {list(sizes)} that {form.name} cannot have")
    if offset % alignment:
        cursor.refuse(f"tensor {show(name)} does not begin at a multiple of {alignment} bytes")
    return form, sizes[::-1], offset

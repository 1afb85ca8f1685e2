"""The messages between the engine's process and its clients, and their bytes.

A frame is a prefix, a JSON header and raw buffers. The header is `[kind, id, fields, buffer sizes]`; arrays, bytes,
long texts and long lists of numbers lie in buffers and are named by index. What JSON does not know is an object with a
`$`: its tag. Nothing here runs code that came over the wire: classes come from CLASSES, dtypes are plain numbers.
Challenge, proof, welcome and refused must stay readable by every version of Crane; all else may change with it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from crane_app.contract import Drawn
from crane_app.engine.process.shape import fits, hints_of
from crane_app.engine.request import (
    Asked,
    End,
    Event,
    Grammar,
    Holding,
    Job,
    ModelCard,
    Part,
    Parting,
    Piece,
    Progress,
    Request,
    Stats,
    Usage,
)
from crane_app.errors import BadInput, CraneError

FRAME, HEADER, BUFFERS = 256 << 20, 16 << 20, 1 << 16  # bytes, bytes, count
LONG = 1 << 12  # characters of a text, or numbers of a list, from which on it travels raw
MAGIC = b"Crn1"
PREFIX = struct.Struct("!4sIQ")  # magic, bytes of the header, bytes of all buffers

CLASSES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(Asked, Drawn, End, Grammar, Holding, Job, ModelCard),
        *(Part, Parting, Piece, Progress, Request, Stats, Usage),
    )
}
HINTS = {name: hints_of(kind) for name, kind in CLASSES.items()}
GREETINGS: dict[str, dict[str, Any]] = {
    "challenge": {"nonce": bytes},
    "proof": {"nonce": bytes, "mac": bytes, "version": str, "pid": int},
    "welcome": {"mac": bytes, "version": str, "pid": int, "boot": str},
    "refused": {"sentence": str},
}
ASKS: dict[str, dict[str, Any]] = {  # client to engine
    "submit": {"request": Request},
    "open": {"job": Job},
    "load": {
        "folder": str,
        "name": str | None,
        "backend": str | None,
        "device": str,
        "dtype": str | None,
        "quantize": str | None,
        "exact": bool,
        "kv_cache": str,
        "draft": str | None,
    },
    "cancel": {},
    "credit": {"nbytes": int},
    "unload": {"name": str},
    "pin": {"name": str, "on": bool},
    "keep": {"name": str, "seconds": float | None},
    "models": {},
    "stats": {},
    "flush": {},
}
ANSWERS: dict[str, dict[str, Any]] = {  # engine to client
    "taken": {},
    "event": {"event": Event},
    "reply": {"value": Any},
    "failed": {"end": End},
    "beat": {"phase": str},
    "closing": {"sentence": str},
}


class ProtocolError(CraneError):
    """The other side said something that no Crane of this version says; the connection cannot go on."""


@dataclass(frozen=True)
class Message:
    """What was said, about which request (0: none), and how many bytes that took on the wire."""

    kind: str
    id: int
    fields: dict[str, Any]
    nbytes: int = 0


@dataclass(frozen=True)
class Frame:
    """A message ready to be sent: the prefix with the header, then the buffers, not copied."""

    parts: tuple[bytes | memoryview, ...]
    nbytes: int


_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def encode(kind: str, id: int = 0, **said: Any) -> Frame:
    """The message as a frame. BadInput for a value that cannot travel, or too much of it."""
    buffers: list[bytes | memoryview] = []
    try:
        plain = {name: _pack(value, buffers) for name, value in said.items()}
        sizes = [len(buffer) for buffer in buffers]
        header = _to_json([kind, id, plain, sizes]).encode("utf-8", "surrogatepass")
    except (RecursionError, ValueError, OverflowError) as error:
        raise BadInput(f"This cannot be sent to or from the engine: {error}.") from error
    body = sum(sizes)
    if len(header) > HEADER or len(header) + body > FRAME or len(buffers) > BUFFERS:
        raise BadInput(
            f"This is too much for one message to or from the engine ({(len(header) + body) / 1e6:.0f} MB, "
            f"at most {FRAME / 1e6:.0f}). Send it in parts, or as the path of a file."
        )
    first = PREFIX.pack(MAGIC, len(header), body) + header
    return Frame((first, *buffers), len(first) + body)


def sizes(prefix: bytes, limit: int = FRAME) -> tuple[int, int]:
    """Bytes of the header and of all buffers, from the PREFIX of a frame; ProtocolError if it is none."""
    magic, header, body = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise ProtocolError("What came over the socket is not a message of Crane.")
    if header > HEADER or header + body > limit:
        raise ProtocolError(f"A message of {header + body} bytes is more than the {limit} that are taken.")
    return header, body


def open_header(header: bytes, body: int) -> tuple[list[Any], list[int]]:
    """The header's JSON and the sizes of the buffers that follow, which fill `body` exactly."""
    try:
        said = json.loads(header.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"The header of a message is not JSON: {error}.") from error
    if not (fits(said, list[Any]) and len(said) == 4 and fits(said[3], list[int])):
        raise ProtocolError("The header of a message has not the four entries it must have.")
    lengths: list[int] = said[3]
    if len(lengths) > BUFFERS or any(n < 0 for n in lengths) or sum(lengths) != body:
        raise ProtocolError("The sizes of a message's buffers do not add up to its size.")
    return said, lengths


def decode(said: list[Any], buffers: list[np.ndarray], known: Mapping[str, dict[str, Any]], nbytes: int = 0) -> Message:
    """The message, if its kind is one of `known` and it has that kind's fields; ProtocolError if not.

    buffers: uint8, one for each size in the header; arrays in the message are views of them.
    """
    kind, id, plain = said[:3]
    if not isinstance(kind, str) or kind not in known:
        raise ProtocolError(f"The engine and its clients know no message '{kind!r:.40}'.")
    wanted = known[kind]
    if type(id) is not int or not isinstance(plain, dict) or plain.keys() != wanted.keys():
        raise ProtocolError(f"A message '{kind}' has not the fields it must have.")
    try:
        values = {name: _unpack(value, buffers) for name, value in plain.items()}
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"A message '{kind}' cannot be read: {error}.") from error
    for name, hint in wanted.items():
        if not fits(values[name], hint):
            raise ProtocolError(f"In a message '{kind}', {name} is of the wrong type.")
    return Message(kind, id, values, nbytes)


# Values, outwards


def _pack(value: Any, buffers: list[bytes | memoryview]) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is int or kind is float:
        return value
    if kind is str and len(value) < LONG:
        return value
    packer = _PACKERS.get(kind)
    if packer is not None:
        return packer(value, buffers)
    if kind.__name__ in CLASSES and kind is CLASSES[kind.__name__]:
        return {"$": kind.__name__, "v": [_pack(getattr(value, f.name), buffers) for f in fields(kind)]}
    if isinstance(value, np.generic):
        return _pack(value.item(), buffers)
    for ancestor in (str, np.ndarray, Mapping):
        if isinstance(value, ancestor):
            return _PACKERS[ancestor](value, buffers)
    raise ValueError(f"a {kind.__name__} has no form on the wire")


def _lay(raw: bytes | memoryview, buffers: list[bytes | memoryview]) -> int:
    buffers.append(raw)
    return len(buffers) - 1


def _pack_text(value: str, buffers: list[bytes | memoryview]) -> Any:
    return {"$": "text", "i": _lay(str(value).encode("utf-8", "surrogatepass"), buffers)}


def _pack_bytes(value: Any, buffers: list[bytes | memoryview]) -> Any:
    return {"$": "bytes", "i": _lay(bytes(value), buffers)}


def _pack_array(value: np.ndarray, buffers: list[bytes | memoryview]) -> Any:
    _checked_dtype(value.dtype)
    raw = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return {"$": "array", "i": _lay(raw.data, buffers), "d": value.dtype.str, "s": list(value.shape)}


def _pack_list(value: list[Any], buffers: list[bytes | memoryview]) -> Any:
    if len(value) >= LONG and all(type(item) is int and -(2**63) <= item < 2**63 for item in value):
        return {"$": "ints", "i": _lay(np.array(value, np.int64).tobytes(), buffers)}
    return [_pack(item, buffers) for item in value]


def _pack_tuple(value: tuple[Any, ...], buffers: list[bytes | memoryview]) -> Any:
    return {"$": "tuple", "v": _pack_list(list(value), buffers)}


def _pack_mapping(value: Mapping[Any, Any], buffers: list[bytes | memoryview]) -> Any:
    if "$" not in value and all(type(key) is str for key in value):
        return {key: _pack(item, buffers) for key, item in value.items()}
    return {"$": "pairs", "v": [[_pack(key, buffers), _pack(item, buffers)] for key, item in value.items()]}


_PACKERS: dict[type, Callable[[Any, list[bytes | memoryview]], Any]] = {
    str: _pack_text,
    bytes: _pack_bytes,
    bytearray: _pack_bytes,
    memoryview: _pack_bytes,
    np.ndarray: _pack_array,
    list: _pack_list,
    tuple: _pack_tuple,
    dict: _pack_mapping,
    Mapping: _pack_mapping,
}


# Values, inwards


def _unpack(value: Any, buffers: list[np.ndarray]) -> Any:
    kind = type(value)
    if kind is list:
        return [_unpack(item, buffers) for item in value]
    if kind is not dict:
        return value
    if "$" not in value:
        return {key: _unpack(item, buffers) for key, item in value.items()}
    tag = value["$"]
    if tag in CLASSES:
        return _dataclass(tag, _unpack(value["v"], buffers))
    return _UNPACKERS[tag](value, buffers)


def _dataclass(tag: str, values: list[Any]) -> Any:
    for (name, hint), value in zip(HINTS[tag].items(), values, strict=True):
        if not fits(value, hint):
            raise ValueError(f"{tag}.{name} is of the wrong type")
    return CLASSES[tag](*values)


def _buffer(value: dict[str, Any], buffers: list[np.ndarray]) -> np.ndarray:
    index = value["i"]
    if type(index) is not int or index < 0:
        raise IndexError(f"no buffer {index!r:.40}")
    return buffers[index]


def _unpack_array(value: dict[str, Any], buffers: list[np.ndarray]) -> np.ndarray:
    raw, name, shape = _buffer(value, buffers), value["d"], value["s"]
    if not isinstance(name, str) or len(name) > 8 or not fits(shape, list[int]) or any(n < 0 for n in shape):
        raise ValueError("an array without dtype or shape")
    dtype = _checked_dtype(np.dtype(name))
    # A view of the bytes: an array of another size than its buffer is refused here.
    return raw.view(dtype).reshape(shape)


def _checked_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind not in "biufc" or dtype.names is not None:
        raise ValueError(f"arrays of {dtype} do not travel, only numbers")
    return dtype


def _unpack_pairs(value: dict[str, Any], buffers: list[np.ndarray]) -> dict[Any, Any]:
    return dict(_unpack(value["v"], buffers))


_UNPACKERS: dict[str, Callable[[dict[str, Any], list[np.ndarray]], Any]] = {
    "text": lambda value, buffers: _buffer(value, buffers).tobytes().decode("utf-8", "surrogatepass"),
    "bytes": lambda value, buffers: _buffer(value, buffers).tobytes(),
    "ints": lambda value, buffers: _buffer(value, buffers).view(np.int64).tolist(),
    "tuple": lambda value, buffers: tuple(_unpack(value["v"], buffers)),
    "pairs": _unpack_pairs,
    "array": _unpack_array,
}

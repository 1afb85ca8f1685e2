"""Text that still says which of its characters a person typed after a chat template has worked on it.

Typed characters of the Basic Multilingual Plane stand, one for one, on plane 15 (a private-use plane) in a
copy of the text, so whatever joins, slices or prints the copy carries them along; `Typed` answers a template's
questions and searches from the text as it was typed. A plane 15 character that a person types stays where it
is and so counts as typed. What stays in place: white space, digits, double quotes, backslashes and
control characters, which templates test, count and escape, and the planes beyond the first.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex

PLANE = 0xF0000
TYPED = re.compile("[\U000f0000-\U000fffff]")


class _Marks(dict[int, int]):
    """Code point to marked code point, as `str.translate` asks."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        stays = code > 0xFFFF or code in (0x22, 0x5C) or character.isspace() or character.isdecimal()
        stays = stays or code < 0x20 or code == 0x7F or 0xD800 <= code <= 0xDFFF
        self[code] = code if stays else PLANE + code
        return self[code]


class _Unmarks(dict[int, int]):
    def __missing__(self, code: int) -> int:
        self[code] = code - PLANE if code >> 16 == PLANE >> 16 else code
        return self[code]


MARKS, UNMARKS = _Marks(), _Unmarks()
ASCII = "".join(chr(MARKS[code]) for code in range(128))


def mark(text: str) -> str:
    """The marked copy of a text, of the same length; marked text is its own."""
    if text.isascii():  # seven times as fast as `translate`
        return codecs.charmap_decode(str.encode(text, "ascii"), "strict", ASCII)[0]
    return str.translate(text, MARKS)


def unmark(text: str) -> str:
    """The text as it was typed."""
    return text if text.isascii() else str.translate(text, UNMARKS)


class Typed(str):
    """A marked text (that is what its own characters are) that compares and searches as `plain`."""

    __slots__ = ("_plain",)  # with an underscore, so that the sandbox keeps templates away
    _plain: str

    def __new__(cls, plain: str, marked: str | None = None) -> Typed:
        self = str.__new__(cls, mark(plain) if marked is None else marked)
        self._plain = plain
        return self

    def __str__(self) -> str:
        return self

    def __repr__(self) -> str:
        return mark(repr(self._plain))

    def __iter__(self) -> Iterator[str]:
        return (Typed(*pair) for pair in zip(self._plain, str.__iter__(self), strict=True))

    def __getitem__(self, key: SupportsIndex | slice) -> Typed:
        return Typed(self._plain[key], str.__getitem__(self, key))

    def __add__(self, other: str) -> Typed:
        return Typed(self._plain + plain(other), str.__add__(self, other))

    def __radd__(self, other: str) -> Typed:
        return Typed(other + self._plain, str.__add__(other, self))

    def __mul__(self, times: SupportsIndex) -> Typed:
        return Typed(self._plain * times, str.__mul__(self, times))

    __rmul__ = __mul__

    def strip(self, characters: str | None = None) -> Typed:
        return self.lstrip(characters).rstrip(characters)

    def lstrip(self, characters: str | None = None) -> Typed:
        return self[len(self) - len(self._plain.lstrip(plain(characters))) :]

    def rstrip(self, characters: str | None = None) -> Typed:
        return self[: len(self._plain.rstrip(plain(characters)))]

    def removeprefix(self, prefix: str) -> Typed:
        return self[len(self) - len(self._plain.removeprefix(plain(prefix))) :]

    def removesuffix(self, suffix: str) -> Typed:
        return self[: len(self._plain.removesuffix(plain(suffix)))]

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._parts(self._plain.split(plain(sep), maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._parts(self._plain.rsplit(plain(sep), maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[str]:
        return self._parts(self._plain.splitlines(keepends), None)

    def partition(self, sep: str) -> tuple[str, str, str]:
        return self._around(self._plain.find(plain(sep)), len(sep)) or (self, "", "")

    def rpartition(self, sep: str) -> tuple[str, str, str]:
        return self._around(self._plain.rfind(plain(sep)), len(sep)) or ("", "", self)

    def replace(self, old: str, new: str, count: SupportsIndex = -1) -> Typed:
        result = self._plain.replace(plain(old), plain(new), count)
        return Typed(result, str.join(new, self.split(old, count)) if old else None)

    def join(self, parts: Iterable[str]) -> Typed:
        parts = list(parts)
        return Typed(self._plain.join(map(plain, parts)), str.join(self, parts))

    def _parts(self, parts: list[str], sep: str | None) -> list[str]:
        """The same parts with their marks; without `sep` only white space lies between them."""
        found: list[str] = []
        end = 0
        for part in parts:
            start = self._plain.index(part, end) if sep is None else end
            found.append(self[start : start + len(part)])
            end = start + len(part) + len(sep or "")
        return found

    def _around(self, start: int, length: int) -> tuple[str, str, str] | None:
        if start < 0:
            return None
        return self[:start], self[start : start + length], self[start + length :]

    def _recased(self, result: str) -> Typed:
        if len(result) != len(self):
            return Typed(result)
        pairs = zip(result, self._plain, str.__iter__(self), strict=True)
        return Typed(result, "".join(mark(new) if old != marked else new for new, old, marked in pairs))


def plain(value: Any) -> Any:
    """A value as it was typed; also the strings in a tuple, as `startswith` takes them."""
    if isinstance(value, Typed):
        return value._plain
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


def _asked(name: str) -> Callable[..., Any]:
    method = getattr(str, name)

    def ask(self: Typed, *args: Any) -> Any:
        return method(self._plain, *map(plain, args))

    return ask


def _recased(name: str) -> Callable[[Typed], Typed]:
    method = getattr(str, name)
    return lambda self: self._recased(method(self._plain))


for _name in (
    *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__contains__"),
    *("find", "rfind", "index", "rindex", "count", "startswith", "endswith", "isalnum", "isalpha", "isascii"),
    *("isidentifier", "islower", "isprintable", "istitle", "isupper"),
):
    setattr(Typed, _name, _asked(_name))
for _name in ("capitalize", "casefold", "lower", "swapcase", "title", "upper"):
    setattr(Typed, _name, _recased(_name))

"""Tables of the fields that an endpoint knows: honoured, refused, or harmless. None that changes the output is ignored.

The tables are what docs/compatibility.md shows; what stands in no table changes nothing anywhere and is passed over,
unless it looks like a slip of the pen.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from crane_app.server.problems import refused

Fate = Literal["honoured", "refused", "harmless"]
Read = Callable[[Any], Any]  # the value as it is used; ValueError with the end of a sentence that begins with the name
CLOSE = 0.86  # of difflib's ratio, from which on an unknown name is taken for a misspelt one
T = TypeVar("T")


@dataclass(frozen=True)
class Shaped(Generic[T]):
    """A reader that says in JSON Schema which values it takes."""

    read: Callable[[Any], T]
    schema: Mapping[str, Any]

    def __call__(self, value: Any) -> T:
        return self.read(value)


def shaped(**schema: Any) -> Callable[[Callable[[Any], T]], Shaped[T]]:
    """Makes a reader one that says which values it takes."""
    return lambda read: Shaped(read, schema)


@dataclass(frozen=True)
class Field:
    """name: in the JSON; note: for the page. neutral: values with which a refused field asks for nothing.

    inside: the fields of an object, which `read` looks at.
    """

    name: str
    fate: Fate
    note: str = ""
    read: Read = lambda value: value
    neutral: tuple[Any, ...] = ()
    inside: tuple[Field, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """Which values it takes, null apart, in JSON Schema; nothing in particular if its reader does not say."""
        if self.fate == "refused":
            return {"enum": list(self.neutral)}
        if self.inside:
            return {"type": "object", "properties": properties(self.inside)}
        return dict(getattr(self.read, "schema", {}))


Table = tuple[Field, ...]


def honoured(name: str, read: Read, note: str = "", inside: Table = ()) -> Field:
    return Field(name, "honoured", note, read, inside=inside)


def harmless(*names: str, note: str = "") -> Table:
    return tuple(Field(name, "harmless", note) for name in names)


def unmet(note: str, *names: str, neutral: tuple[Any, ...] = ()) -> Table:
    """Fields that are refused for one reason; note: the reason, the end of a sentence."""
    return tuple(Field(name, "refused", note, neutral=neutral) for name in names)


def take(table: Table, given: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    """The honoured fields that say something, read. Problem 400 names a field that is wrong or refused.

    inside: the field that holds this object.
    """
    known = {field.name: field for field in table}
    found: dict[str, Any] = {}
    for name, value in given.items():
        where = f"{inside}.{name}" if inside else name
        field = known.get(name)
        if field is None:
            _check_spelling(where, name, known)
        elif value is None or field.fate == "harmless":
            continue
        elif field.fate == "refused":
            if not any(type(value) is type(none) and value == none for none in field.neutral):
                raise refused(where, f"{where} is not supported: {field.note}. Leave it out.")
        else:
            try:
                found[name] = field.read(value)
            except ValueError as error:
                raise refused(where, f"{where} {error}.") from None
    return found


def properties(table: Table, null: bool = True) -> dict[str, Any]:
    """The fields of an object in JSON Schema; null: each may be null, which is as if it were left out."""
    found = {}
    for field in table:
        said = field.schema
        if field.fate == "refused":
            said = {"enum": [*said["enum"], *([None] if null else [])]}
        elif said and null:
            said = {"anyOf": [said, {"type": "null"}]}
        what = field.note if field.fate == "honoured" else f"{field.fate}: {field.note}" if field.note else field.fate
        found[field.name] = {**said, **({"description": what} if what else {})}
    return found


def _check_spelling(where: str, name: str, known: Iterable[str]) -> None:
    near = difflib.get_close_matches(name[:60], known, 1, CLOSE)
    if near:
        raise refused(where, f"{where:.80} is no field of this endpoint. Did you mean {near[0]}?")


# What values may be


def number(low: float, high: float) -> Shaped[float]:
    @shaped(type="number", minimum=low, maximum=high)
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}, not {value!r:.60}")
        return float(value)

    return read


def whole(low: int, high: int) -> Shaped[int]:
    @shaped(type="integer", minimum=low, maximum=high)
    def read(value: Any) -> int:
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, not {value!r:.60}")
        return value

    return read


@shaped(type="boolean")
def yes_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {value!r:.60}")
    return value


def text(longest: int = 1 << 24) -> Shaped[str]:
    @shaped(type="string", maxLength=longest)
    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"must be a text, not {value!r:.60}")
        if len(value) > longest:
            raise ValueError(f"has {len(value)} characters; at most {longest} are taken")
        return value

    return read


@shaped(type="object")
def mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, not {value!r:.60}")
    return value


def some(item: Callable[[Any], T], longest: int) -> Shaped[list[T]]:
    """A list of so many at most."""

    @shaped(type="array", maxItems=longest, items=dict(getattr(item, "schema", {})))
    def read(value: Any) -> list[T]:
        if not isinstance(value, list):
            raise ValueError(f"must be a list, not {value!r:.60}")
        if len(value) > longest:
            raise ValueError(f"has {len(value)} entries; at most {longest} are taken")
        return [item(each) for each in value]

    return read


def one_of(*words: str) -> Shaped[str]:
    @shaped(enum=list(words))
    def read(value: Any) -> str:
        if value not in words or not isinstance(value, str):
            raise ValueError(f"must be one of: {', '.join(words)}, not {value!r:.60}")
        return value

    return read


def one_or_some(item: Callable[[Any], T], longest: int) -> Shaped[list[T]]:
    """A single one counts as a list of one."""
    several = some(item, longest)

    @shaped(anyOf=[dict(getattr(item, "schema", {})), several.schema])
    def read(value: Any) -> list[T]:
        return several(value) if isinstance(value, list) else [item(value)]

    return read

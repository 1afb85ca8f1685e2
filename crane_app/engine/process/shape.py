"""Whether a value that came over the wire has the type that its field declares."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def hints_of(kind: type[Any]) -> dict[str, Any]:
    """The fields of a dataclass and their types, in order."""
    hints = get_type_hints(kind)
    return {name: hints[name] for name in (field.name for field in fields(kind))}


def fits(value: Any, hint: Any) -> bool:
    """True where `value` may stand in a field declared as `hint`. A list may stand for a tuple, an int for a float."""
    if hint is Any:
        return True
    if hint is float:
        return type(value) in (float, int)
    if hint in (int, str, bool, bytes):
        return type(value) is hint
    if hint is None or hint is types.NoneType:
        return value is None
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return type(value) is str and value in inner
    if origin is tuple:
        return _fits_tuple(value, inner)
    if origin is list:
        return isinstance(value, list) and all(fits(item, inner[0]) for item in value)
    if origin is Mapping or origin is dict:
        return isinstance(value, dict) and all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items())
    return isinstance(value, hint)


def _fits_tuple(value: Any, inner: tuple[Any, ...]) -> bool:
    if not isinstance(value, tuple | list):
        return False
    if len(inner) == 2 and inner[1] is Ellipsis:
        return all(fits(item, inner[0]) for item in value)
    return len(value) == len(inner) and all(fits(item, one) for item, one in zip(value, inner, strict=True))

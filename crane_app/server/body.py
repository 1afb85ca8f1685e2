"""The body of a request: within its limit, whole, and JSON of which no two readers can differ."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from crane_app.server.problems import Problem

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
LARGEST = 32 << 20  # bytes
PATIENCE = 60.0  # seconds for the whole of it


class Gone(Exception):
    """The client has hung up."""


async def read(receive: Receive, headers: Mapping[str, str]) -> bytes:
    """All of it. Problem 413 or 408; Gone where it ends before what Content-Length promised."""
    promised = headers.get("content-length", "")
    if promised.isdigit() and int(promised) > LARGEST:
        raise _too_large()
    try:
        async with asyncio.timeout(PATIENCE):
            return await _collected(receive)
    except TimeoutError:
        raise Problem(408, f"The request's body did not arrive within {PATIENCE:.0f} seconds. Send it again.") from None


async def _collected(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST:
            raise _too_large()
        if not message.get("more_body"):
            return b"".join(parts)


def parse(raw: bytes) -> dict[str, Any]:
    """The JSON object in it: UTF-8, no name twice in an object, no number that is none. Problem 400 otherwise."""
    try:
        found = json.loads(
            raw.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite
        )
    except UnicodeDecodeError:
        raise Problem(400, "The request's body is not UTF-8. Send JSON in UTF-8.") from None
    except RecursionError:
        raise Problem(400, "The request's JSON is nested too deeply. Send a flatter one.") from None
    except ValueError as error:
        raise Problem(400, f"The request's body is not valid JSON: {error!s:.200}. Correct it.") from None
    if not isinstance(found, dict):
        raise Problem(400, 'The request\'s body must be a JSON object, like {"model": "..."}.')
    return found


def _too_large() -> Problem:
    return Problem(413, f"The request's body is larger than {LARGEST >> 20} MiB. Send less at once.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the name '{twice:.60}' stands twice in one object")
    return found


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not a number in JSON")


def _finite(text: str) -> float:
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(f"{text:.40} is too large a number")
    return found

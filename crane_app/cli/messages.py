"""Conversations as JSON files: a list of {"role", "content"}, alone or as "messages" of an object."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crane_app.errors import BadInput
from crane_app.pipelines.chat import Message, checked

LARGEST = 64 * 2**20  # bytes
# NUL is the sign of a file that is no text; half of a surrogate pair has no UTF-8.
NO_TEXT = re.compile("[\x00\ud800-\udfff]")


def read_messages(path: Path) -> tuple[dict[str, Any], ...]:
    """The messages of a file, `-` for standard input. BadInput that names the file and the message."""
    name = "standard input" if str(path) == "-" else str(path)
    try:
        raw = _bytes(path, name)
        found = json.loads(raw.decode("utf-8-sig"))
    except RecursionError:
        raise BadInput(f"{name} is nested too deeply to be a conversation.") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not text in UTF-8 (byte {error.start}).") from None
    except ValueError as error:
        raise BadInput(f"{name} is not JSON: {error}.") from None
    if isinstance(found, dict):
        found = found.get("messages")
    if not isinstance(found, list):
        raise BadInput(f'{name} must hold a list of messages: [{{"role": "user", "content": "hello"}}].')
    try:
        messages = checked(found)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from None
    for number, message in enumerate(messages, 1):
        for text in _texts(message):
            if bad := NO_TEXT.search(text):
                what = "a NUL" if bad[0] == "\0" else f"half a character (U+{ord(bad[0]):04X})"
                raise BadInput(f"{name}: message {number} has {what} at character {bad.start()}. Take it out.")
    return messages


def write_messages(path: Path, messages: Sequence[Message]) -> None:
    """The conversation as a file that `read_messages` takes, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    text = json.dumps([message.as_dict() for message in messages], ensure_ascii=False, indent=1)
    try:
        part.write_text(text + "\n", "utf-8", errors="replace")
        part.replace(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        part.unlink(missing_ok=True)


def _bytes(path: Path, name: str) -> bytes:
    try:
        if str(path) == "-":
            raw = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with path.expanduser().open("rb") as file:
                raw = file.read(LARGEST + 1)
    except OSError as error:
        raise BadInput(f"{name} cannot be read: {error.strerror}.") from None
    if len(raw) > LARGEST:
        raise BadInput(f"{name} is larger than any conversation ({LARGEST >> 20} MB).")
    return raw


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)

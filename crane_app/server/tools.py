"""Calls of tools in what a model says: JSON between <tool_call> tags, as Qwen and Hermes models write it.

Qwen2.5's and Qwen3's chat templates show the form. What does not parse, or calls what was not offered, stays text.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from crane_app.server.fields import mapping, shaped, some, text

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MOST, NAME = 128, re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True)
class ToolCall:
    """arguments: JSON."""

    id: str
    name: str
    arguments: str


@shaped(type="array", maxItems=MOST, items={
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {"name": {"type": "string", "pattern": f"^{NAME.pattern}$"}},
            "required": ["name"],
        },
    },
    "required": ["type", "function"],
})  # fmt: skip
def offered(value: Any) -> tuple[dict[str, Any], ...]:
    """The tools of a request, checked: functions with a name each, none twice."""
    found = tuple(some(_tool, MOST)(value))
    names = [tool["function"]["name"] for tool in found]
    if len(set(names)) < len(names):
        raise ValueError("offers two functions of one name")
    return found


def _tool(value: Any) -> dict[str, Any]:
    tool = mapping(value)
    if tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
        raise ValueError('must hold functions: {"type": "function", "function": {"name": ...}}')
    name = text(64)(tool["function"].get("name"))
    if not NAME.fullmatch(name):
        raise ValueError(f"has a function called '{name:.64}'; letters, digits, _, . and - may be used")
    if not isinstance(tool["function"].get("parameters", {}), dict | None):
        raise ValueError(f"has parameters of {name} that are no JSON schema")
    return tool


class ToolCalls:
    """Splits a text that comes in pieces into text and calls; with no names everything is text.

    parallel: False takes the first call and drops what follows it. Space between calls is dropped.
    """

    def __init__(self, names: Collection[str] = (), parallel: bool = True) -> None:
        self._names, self._parallel = frozenset(names), parallel
        self._held = ""
        self.count = 0

    def push(self, text: str) -> list[str | ToolCall]:
        """What is certain now."""
        if not self._names:
            return [text] if text else []
        self._held += text
        shown: list[str | ToolCall] = []
        while True:
            place = self._held.find(OPEN)
            if place < 0:
                kept = next((n for n in range(len(OPEN) - 1, 0, -1) if self._held.endswith(OPEN[:n])), 0)
                self._say(shown, len(self._held) - kept)
                return shown
            self._say(shown, place)
            end = self._held.find(CLOSE)
            if end < 0:
                return shown
            self._call(shown, end + len(CLOSE))

    def flush(self) -> list[str | ToolCall]:
        """The end: what was held back was no call."""
        shown: list[str | ToolCall] = []
        self._say(shown, len(self._held))
        return shown

    def _say(self, shown: list[str | ToolCall], length: int) -> None:
        text, self._held = self._held[:length], self._held[length:]
        if text and not (self.count and (not text.strip() or not self._parallel)):
            shown.append(text)

    def _call(self, shown: list[str | ToolCall], length: int) -> None:
        found = self._parsed(self._held[len(OPEN) : length - len(CLOSE)])
        if found is None:
            self._say(shown, length)
            return
        self._held = self._held[length:]
        if self._parallel or not self.count:
            self.count += 1
            shown.append(found)

    def _parsed(self, written: str) -> ToolCall | None:
        try:
            said = json.loads(written)
        except (ValueError, RecursionError):
            return None
        if not isinstance(said, dict) or said.get("name") not in self._names:
            return None
        arguments = said.get("arguments", said.get("parameters", {}))
        if not isinstance(arguments, dict):
            return None
        return ToolCall(f"call_{uuid.uuid4().hex[:24]}", said["name"], json.dumps(arguments, ensure_ascii=False))

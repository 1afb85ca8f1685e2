"""Calls of tools in what a model says, told apart from text as it comes.

Three forms: JSON between <tool_call> tags, as Qwen and Hermes models write it; <function=...> and <parameter=...>
between the same, as Qwen3-Coder does (their chat templates show both); a list between <tool_calls> tags, as Hunyuan
does (vLLM, tool_parsers/hunyuan_a13b_tool_parser.py). What does not parse, or calls what was not offered, stays text.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TAG = re.compile(r"<(tool_calls?)>")
TAGS = ("<tool_call>", "<tool_calls>")
NAME = r"[\w.-]{1,64}"
ELEMENT = r'\{\s*"name"\s*:\s*"(' + NAME + r')"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
ONE, FIRST, NEXT = (re.compile(before + ELEMENT) for before in (r"\s*", r"\s*\[\s*", r"\s*,\s*"))
BRACE = re.compile(r"\s*(\}|\S)")
FUNCTION = re.compile(rf"\s*<function=({NAME})>")
PARAMETER = re.compile(r"\s*<parameter=([^>\n]{1,200})>\n?(.*?)\n?</parameter>", re.DOTALL)
END = re.compile(r"\s*</function>")


@dataclass(frozen=True)
class ToolCall:
    """A call, or the beginning of one; without a name it is more of the last one's arguments, which are JSON."""

    id: str
    name: str
    arguments: str


def begun(name: str, arguments: str = "") -> ToolCall:
    return ToolCall(f"call_{uuid.uuid4().hex[:24]}", name, arguments)


def joined(parts: list[ToolCall]) -> list[ToolCall]:
    """Each call in one."""
    found: list[ToolCall] = []
    for part in parts:
        if part.name:
            found.append(part)
        elif found:
            found[-1] = ToolCall(found[-1].id, found[-1].name, found[-1].arguments + part.arguments)
    return found


@dataclass
class _Scan:
    """Reads what stands between the tags as it grows. end: how far whole calls reach; open: in the middle of one."""

    tools: Mapping[str, Any]
    end: int = 0
    open: bool = False
    parts: list[ToolCall] = field(default_factory=list)
    at: int = 0

    def push(self, inside: str) -> None:
        """inside: everything since the tag; new parts are added."""
        raise NotImplementedError

    def _say(self, part: ToolCall) -> None:
        self.parts.append(part)


@dataclass
class _Json(_Scan):
    """Objects with a name and arguments: one, or a list of `several`."""

    several: bool = False
    depth: int = 0
    quoted: bool = False
    escaped: bool = False
    mode: str = "head"

    def push(self, inside: str) -> None:
        while self._step(inside):
            pass

    def _step(self, inside: str) -> bool:
        """Go on by one part; False when more must come."""
        if self.mode == "head":
            form = (NEXT if self.parts else FIRST) if self.several else ONE
            head = form.match(inside, self.at)
            if head is None or head[1] not in self.tools:
                return False
            self._say(begun(head[1]))
            self.at, self.mode, self.open = head.end(), "arguments", True
        elif self.mode == "arguments":
            start, whole = self.at, self._skip(inside)
            if self.at > start:
                self._say(ToolCall("", "", inside[start : self.at]))
            self.mode = "tail" if whole else self.mode
            return whole
        elif self.mode == "tail":
            brace = BRACE.match(inside, self.at)
            if brace is None:
                return False
            good = brace[1] == "}"
            self.at = self.end = brace.end() if good else self.at
            self.open, self.mode = False, "head" if good and self.several else "over"
        return self.mode != "over"

    def _skip(self, inside: str) -> bool:
        """Move behind the object that begins here, or as far as there is text; whether it is whole."""
        while self.at < len(inside):
            letter = inside[self.at]
            self.at += 1
            if self.quoted:
                self.quoted = self.escaped or letter != '"'
                self.escaped = letter == "\\" and not self.escaped
            elif letter == '"':
                self.quoted = True
            elif letter in "{[":
                self.depth += 1
            elif letter in "}]":
                self.depth -= 1
                if not self.depth:
                    return True
        return False


@dataclass
class _Xml(_Scan):
    """A function and its parameters; a value is JSON where the tool's schema wants no text."""

    count: int = -1

    def push(self, inside: str) -> None:
        if self.end:
            return
        if self.count < 0:
            head = FUNCTION.match(inside)
            if head is None or head[1] not in self.tools:
                return
            self._say(begun(head[1]))
            self.at, self.count, self.open = head.end(), 0, True
        while parameter := PARAMETER.match(inside, self.at):
            name, value = parameter[1], self._value(parameter[1], parameter[2])
            self._say(ToolCall("", "", f"{', ' if self.count else '{'}{json.dumps(name, ensure_ascii=False)}: {value}"))
            self.at, self.count = parameter.end(), self.count + 1
        if end := END.match(inside, self.at):
            self._say(ToolCall("", "", "}" if self.count else "{}"))
            self.end, self.open = end.end(), False

    def _value(self, name: str, words: str) -> str:
        properties = (self.tools[self.parts[0].name] or {}).get("properties") or {}
        wanted = properties.get(name) if isinstance(properties, dict) else None
        if not isinstance(wanted, dict) or wanted.get("type") != "string":
            try:
                return json.dumps(json.loads(words), ensure_ascii=False)
            except (ValueError, RecursionError):
                pass
        return json.dumps(words, ensure_ascii=False)


class ToolCalls:
    """Splits a text that comes in pieces into text and calls; without tools everything is text.

    tools: names and the schemas of their parameters. parallel: False takes the first call and drops what follows it.
    eager: a call is told with its name and as far as its arguments have come; else when it is whole and has parsed.
    Space between calls is dropped.
    """

    def __init__(self, tools: Mapping[str, Any] | None = None, parallel: bool = True, eager: bool = False) -> None:
        self._tools, self._parallel, self._eager = tools or {}, parallel, eager
        self._held, self._tag = "", ""
        self._scan: _Scan | None = None
        self._told = 0  # parts of the scan
        self.count = 0

    def push(self, text: str) -> list[str | ToolCall]:
        """What is certain now."""
        if not self._tools:
            return [text] if text else []
        self._held += text
        shown: list[str | ToolCall] = []
        while self._outside(shown) if not self._tag else self._inside(shown):
            pass
        return shown

    def flush(self) -> list[str | ToolCall]:
        """The end: what was held back was no call, unless it was told already."""
        shown: list[str | ToolCall] = []
        if not self._told:
            self._say(shown, len(self._held))
        return shown

    def _outside(self, shown: list[str | ToolCall]) -> bool:
        tag = TAG.search(self._held)
        if tag is None:
            ends = (n for n in range(len(TAGS[1]) - 1, 0, -1) if any(self._held.endswith(each[:n]) for each in TAGS))
            self._say(shown, len(self._held) - next(ends, 0))
            return False
        self._say(shown, tag.start())
        self._tag, self._scan, self._told = tag[1], None, 0
        return True

    def _inside(self, shown: list[str | ToolCall]) -> bool:
        inside, close = self._held[len(self._tag) + 2 :], f"</{self._tag}>"
        scan = self._scan = self._scan or self._begin(inside)
        if scan is not None:
            scan.push(inside)
            if self._eager:
                self._tell(shown, scan.parts[self._told :])
                self._told = len(scan.parts)
            if scan.open:
                return False
        place = inside.find(close, scan.end if scan is not None else 0)
        if place < 0:
            return False
        length = len(self._tag) + 2 + place + len(close)
        calls = [] if self._told else self._parsed(inside[:place])
        if self._told or calls:
            self._held = self._held[length:]
            self._tell(shown, calls)
        else:
            self._say(shown, length)
        self._tag, self._scan, self._told = "", None, 0
        return True

    def _begin(self, inside: str) -> _Scan | None:
        first = inside.lstrip()[:1]
        if self._tag == "tool_calls":
            return _Json(self._tools, several=True) if first else None
        return {"{": _Json, "<": _Xml}[first](self._tools) if first in ("{", "<") else None

    def _tell(self, shown: list[str | ToolCall], parts: list[ToolCall]) -> None:
        for part in parts:
            self.count += bool(part.name)
            if self._parallel or self.count == 1:
                shown.append(part)

    def _say(self, shown: list[str | ToolCall], length: int) -> None:
        text, self._held = self._held[:length], self._held[length:]
        if text and not (self.count and (not text.strip() or not self._parallel)):
            shown.append(text)

    def _parsed(self, inside: str) -> list[ToolCall]:
        """The calls in a whole tag; none if any part of it is something else."""
        scan = self._scan
        rest = inside[scan.end :].strip() if scan is not None and scan.end else None
        if scan is not None and rest == ("]" if self._tag == "tool_calls" else ""):
            calls = joined(scan.parts)
            return calls if all(isinstance(_loaded(call.arguments), dict) for call in calls) else []
        said = _loaded(inside)
        each = said if self._tag == "tool_calls" else [said]
        found = [self._call(one) for one in each] if isinstance(each, list) else []
        return [begun(*call) for call in found if call] if all(found) else []

    def _call(self, said: Any) -> tuple[str, str] | None:
        """The name and the arguments in an object, however it is ordered."""
        if not isinstance(said, dict) or not isinstance(said.get("name"), str) or said["name"] not in self._tools:
            return None
        arguments = said.get("arguments", said.get("parameters", {}))
        return (said["name"], json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None


def _loaded(written: str) -> Any:
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        return None

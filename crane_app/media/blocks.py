"""Markdown cut into blocks while it arrives: paragraphs, lists, tables and fenced code, none of them long.

Knows where blocks begin and end, not what is in them (that is media/markdown.py). The sources of all blocks, joined,
are the text. Where CommonMark would let one thing run on without end (a list, a table, a paragraph), it is cut, and
the next block says that it goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["prose", "code", "table", "math"]

MOST = 4000  # characters of a block
MOST_LINES = 80  # of prose
MOST_ROWS, MOST_COLUMNS, MOST_CELLS = 30, 40, 160  # of a table's piece; with more columns it is no table

_BLANK = re.compile(r"[ \t\r\n]*\Z")
_FENCE = re.compile(r"[ \t]*(`{3,}(?![^\n]*`)|~{3,})[ \t]*([^\s`]{0,40})")
_MATH = re.compile(r" {0,3}(?:(\$\$)|(\\\[))")
_ITEM = re.compile(r" {0,1}(?:[-*+]|(\d{1,9})[.)])(?:[ \t]|\r?\n|\Z)")
_DELIMITERS = re.compile(r" {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*\r?\n?\Z")
_PIPE = re.compile(r"(?<!\\)\|")
_SENTENCE_END = re.compile(r"[.!?…]['\")\]]* (?=\w)|[。！？]")


@dataclass(frozen=True)
class Block:
    """A piece of Markdown that can be shown by itself.

    text: of code, what stands between the fences, without the columns that the fence is indented by.
    begins: False for what goes on with the block before. ends: False while more of it may come.
    inline: it begins in the middle of a line. head: of a table that goes on, its first two rows.
    indent: columns that each line stands to the right, in an item of a list that began earlier.
    number: of the first item in an ordered list, counted on from the block before; None where the source says it.
    """

    kind: Kind
    source: str
    text: str = ""
    language: str = ""
    begins: bool = True
    ends: bool = True
    inline: bool = False
    head: str = ""
    indent: int = 0
    number: int | None = None


@dataclass
class _Open:
    """The block under way."""

    kind: Kind = "prose"
    lines: list[str] = field(default_factory=list)
    size: int = 0  # characters of `lines`
    begins: bool = True
    inline: bool = False
    listed: bool = False  # it began with an item of a list
    indent: int = 0
    mark: str = ""  # what closes code or math
    language: str = ""
    head: str = ""
    columns: int = 0
    gap: bool = False  # blank lines stand at its end
    number: int | None = None

    def add(self, line: str) -> None:
        self.lines.append(line)
        self.size += len(line)

    def copy(self) -> _Open:
        twin = copy(self)
        twin.lines = list(self.lines)
        return twin


class Splitter:
    """Text in pieces of any size to blocks; work for a piece is proportional to its length."""

    def __init__(self) -> None:
        self._rest = ""  # the line under way, shorter than MOST
        self._open = _Open()
        self._number: int | None = None  # of the last item, while an ordered list may go on

    def push(self, text: str) -> list[Block]:
        """The blocks that are finished now."""
        out: list[Block] = []
        for piece in _pieces(text):
            self._rest += piece
            while len(self._rest) > MOST:
                self._cut_line(out)
            if piece.endswith("\n"):
                self._take(self._rest, out)
                self._rest = ""
        return out

    def tail(self, final: bool = False) -> list[Block]:
        """What is not finished yet, as it would be if the text ended here; changes nothing.

        What is about to become a fence's end or the line below a table's head is left out, unless this is final.
        """
        twin = copy(self)
        twin._open = self._open.copy()
        out: list[Block] = []
        if twin._rest and (final or not twin._half_told()):
            twin._take(twin._rest, out)
        twin._emit(out, ends=twin._open.kind != "code")
        return out

    def _half_told(self) -> bool:
        now, rest = self._open, self._rest.strip()
        if now.kind == "code":
            return bool(rest) and not rest.strip(now.mark[0]) and len(rest) < len(now.mark)
        if not now.lines or "|" not in now.lines[-1] or not rest.startswith("|") or rest.strip("|:- "):
            return False
        return not _DELIMITERS.match(rest) or _cells(rest) != _cells(now.lines[-1])

    def _take(self, line: str, out: list[Block]) -> None:
        """A line that is whole, or the end of one."""
        now = self._open
        if now.inline:
            self._add(line, out)
            self._emit(out, ends=False)
        elif now.kind == "code":
            self._take_code(line, out)
        elif now.kind == "math":
            self._take_math(line, out)
        elif _BLANK.match(line):
            now.gap = True
            self._add(line, out)
        elif not self._opens(line, out):
            self._take_prose(line, out)

    def _opens(self, line: str, out: list[Block]) -> bool:
        """Whether the line begins code, math or a table."""
        now, columns = self._open, _columns(line)
        deep = columns > 3 and not (now.listed and columns >= 2)
        fence = _FENCE.match(line)
        if fence and not deep:
            self._emit(out)
            listed = now.listed and columns >= 2
            self._open = _Open("code", mark=fence[1], language=fence[2], indent=columns, listed=listed)
            self._open.add(line)
            return True
        math = _MATH.match(line)
        if math and (now.gap or not now.lines or _BLANK.match(line, math.end())):
            self._emit(out)
            self._open = _Open("math", mark="$$" if math[1] else "\\]")
            self._open.add(line)
            if self._open.mark in line[math.end() :]:
                self._emit(out)
            return True
        return self._opens_table(line, out)

    def _opens_table(self, line: str, out: list[Block]) -> bool:
        now = self._open
        if now.kind != "prose" or now.gap or not now.lines or "|" not in line or not _DELIMITERS.match(line):
            return False
        header = now.lines[-1]
        columns = _cells(line)
        outside = (now.listed and _columns(header) >= 2) or _columns(header) > 3
        if outside or columns > MOST_COLUMNS or columns != _cells(header) or len(header) + len(line) > MOST // 2:
            return False
        now.lines.pop()
        now.size -= len(header)
        self._emit(out)
        self._open = _Open("table", columns=columns, head=header + line)
        self._open.add(header)
        self._open.add(line)
        return True

    def _take_code(self, line: str, out: list[Block]) -> None:
        now = self._open
        closes = line.strip()
        if closes.startswith(now.mark) and not closes.strip(now.mark[0]) and _columns(line) <= now.indent + 3:
            now.add(line)
            self._emit(out, closed=True)
            return
        self._add(line, out)

    def _take_math(self, line: str, out: list[Block]) -> None:
        if _BLANK.match(line):
            self._open.gap = True
            self._add(line, out)
            self._emit(out)
            return
        self._add(line, out)
        if self._open.mark in line:
            self._emit(out)

    def _take_prose(self, line: str, out: list[Block]) -> None:
        now, columns = self._open, _columns(line)
        inside = columns >= 2 and (now.listed or (bool(now.lines) and _columns(now.lines[0]) > 3))
        item = _ITEM.match(line)
        ended = now.gap and (not inside or (now.listed and bool(item)))
        if item and not now.listed:  # CommonMark 5.2: what may interrupt a paragraph
            ended = ended or (item[1] in (None, "1") and not _BLANK.match(line, item.end()))
        if now.kind == "table":
            ended = now.gap or "|" not in line
        if now.lines and (ended or columns < now.indent):
            self._emit(out)
            self._open.listed = now.listed and columns >= 2
        self._begin(line, columns)
        self._add(line, out)
        self._open.gap = False

    def _begin(self, line: str, columns: int) -> None:
        """Keep account of lists: whether the block is in one, and which number its next item has."""
        now, item = self._open, _ITEM.match(line)
        if not now.lines and now.begins:
            now.indent = columns if now.listed and columns >= 2 else 0
            now.listed = bool(item) or now.indent > 0
        if item and item[1] and now.listed:
            known = self._number is not None
            self._number = self._number + 1 if self._number is not None else int(item[1])
            if not now.lines:
                now.number = self._number if known else None
        elif item or (columns < 2 and not now.lines):
            self._number = None

    def _add(self, line: str, out: list[Block]) -> None:
        """Another line of the block under way, which is cut where it would grow too long."""
        now = self._open
        most = {"code": MOST, "table": _rows(now.columns) + 2}.get(now.kind, MOST_LINES)
        if now.lines and (now.size + len(line) > MOST or len(now.lines) >= most):
            self._cut(line, out)
        self._open.add(line)

    def _cut(self, line: str, out: list[Block]) -> None:
        """Finish what can be finished, so that there is room for `line`; the rest goes on, of a list its last item."""
        now = self._open
        items = [i for i, each in enumerate(now.lines) if i and _ITEM.match(each)] if now.listed else []
        kept = now.lines[items[-1] :] if items and not _ITEM.match(line) else []
        now.lines = now.lines[: len(now.lines) - len(kept)]
        self._emit(out, ends=False)
        for each in kept:
            self._open.add(each)
        first = _ITEM.match(kept[0] if kept else line)
        if now.listed and first and first[1]:
            self._open.number = self._number

    def _cut_line(self, out: list[Block]) -> None:
        """Take the beginning of a line that is longer than a block."""
        if self._open.lines:
            self._emit(out, ends=False)
        if self._open.kind == "table":
            self._open = _Open(begins=False)
        place = _place_to_cut(self._rest, MOST)
        self._open.add(self._rest[:place])
        self._rest = self._rest[place:]
        self._emit(out, ends=False)
        self._open.inline = self._open.kind == "prose"

    def _emit(self, out: list[Block], ends: bool = True, closed: bool = False) -> None:
        """Hand out the block under way; the next is new, or goes on with it. closed: its last line is a fence."""
        now = self._open
        if now.lines:
            whole = now.lines[now.begins : len(now.lines) - closed] if now.kind == "code" else []
            text = "".join(_dedent(line, now.indent) for line in whole).replace("\r\n", "\n").removesuffix("\r")
            head = "" if now.begins else now.head
            out.append(
                Block(now.kind, "".join(now.lines), text, now.language, now.begins, ends, now.inline, head,
                      now.indent, now.number)
            )  # fmt: skip
        begins = now.begins and not now.lines
        inside = now.listed and now.kind == "code"
        if ends:
            self._open = _Open(listed=inside)
        elif now.kind in ("code", "table"):
            self._open = replace(now, lines=[], size=0, begins=begins)
        else:
            self._open = _Open(begins=begins, listed=now.listed, indent=now.indent)


def _pieces(text: str) -> Iterator[str]:
    """`text` cut after each newline, and so that no piece is longer than a block."""
    start = 0
    while start < len(text):
        end = text.find("\n", start, start + MOST) + 1
        end = end or min(start + MOST, len(text))
        yield text[start:end]
        start = end


def _columns(line: str) -> int:
    """Columns of white space that a line begins with; a tab goes on to the next multiple of four."""
    columns = 0
    for sign in line:
        if sign not in " \t":
            break
        columns += 4 - columns % 4 if sign == "\t" else 1
    return columns


def dedent(text: str, columns: int) -> str:
    """Each line without at most that many columns of the white space it begins with."""
    return "".join(_dedent(line, columns) for line in text.splitlines(keepends=True)) if columns else text


def _dedent(line: str, columns: int) -> str:
    taken = 0
    while taken < len(line) and line[taken] in " \t" and _columns(line[: taken + 1]) <= columns:
        taken += 1
    return line[taken:]


def _cells(line: str) -> int:
    return len(_PIPE.split(line.strip().removeprefix("|").removesuffix("|")))


def _rows(columns: int) -> int:
    """How many rows of so many cells a piece of a table has at most."""
    return max(1, min(MOST_ROWS, MOST_CELLS // max(1, columns)))


def _place_to_cut(text: str, end: int) -> int:
    """Where to cut `text` before `end`: after a sentence, else before a word, else between two signs."""
    places = [found.end() for found in _SENTENCE_END.finditer(text, end // 2, end)]
    if places:
        return places[-1]
    space = text.rfind(" ", end // 2, end)
    if space > 0:
        return space + 1
    while end > MOST - 40 and (_joins(text[end]) or text[end - 1] == "\u200d"):
        end -= 1
    return end


def _joins(sign: str) -> bool:
    """Whether a sign belongs to the one before it."""
    import unicodedata

    return bool(unicodedata.combining(sign)) or sign in "\u200d\ufe0e\ufe0f" or "\U0001f3fb" <= sign <= "\U0001f3ff"

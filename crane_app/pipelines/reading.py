"""Pictures and PDFs in, regions of text out; a generator that works one page at a time.

Knows no file formats and no models; the reader is given. Closing the generator stops it between two pages.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from crane_app.errors import CraneError
from crane_app.media.code import code_regions
from crane_app.media.documents import Document
from crane_app.media.joining import joined
from crane_app.media.layout import Region, regions
from crane_app.media.pages import PageText
from crane_app.media.reader import Line

Mode = Literal["paragraphs", "lines", "code"]  # running text; broken as the page is; every indent and gap as well


class LineReader(Protocol):
    """What finds the lines of uint8 [H, W, 3]: the bundled reader, or a stand-in."""

    def lines(self, image: NDArray[np.uint8]) -> list[Line]: ...


class Reading:
    def __init__(self, reader: LineReader) -> None:
        self._reader = reader

    def read(
        self, source: str | os.PathLike[str] | bytes, name: str = "", unread: Callable[[CraneError], None] | None = None
    ) -> Iterator[PageText]:
        """The pages of a picture or PDF, given by its path or content; `name` is what errors call it.

        unread: told why a page cannot be read, and the next one comes; without it the first such page ends it all.
        """
        with Document(source, name) as document:
            for number in range(1, document.count + 1):
                try:
                    page = self._page(document, number)
                except CraneError as error:
                    if unread is None:
                        raise
                    unread(error)
                    continue
                yield page

    def _page(self, document: Document, number: int) -> PageText:
        image = document.page(number).image
        height, width = image.shape[:2]
        return PageText(number, document.count, width, height, tuple(regions(self._reader.lines(image))))


def arranged(page: PageText, mode: Mode) -> tuple[Region, ...]:
    """The page's regions with their texts as the mode has them; in `code` they are other regions."""
    if mode == "code":
        return tuple(code_regions([line for region in page.regions for line in region.lines]))
    if mode == "lines":
        return tuple(replace(region, text="\n".join(_lines(region))) for region in page.regions)
    return page.regions


def as_text(pages: Iterable[PageText], mode: Mode = "paragraphs") -> str:
    """Plain text: an empty line between paragraphs, none between single lines, a newline at the end."""
    return _text(pages, mode, markdown=False)


def as_markdown(pages: Iterable[PageText], mode: Mode = "paragraphs") -> str:
    """CommonMark: headings of level 2, code fenced, and else every sign that means something to Markdown escaped."""
    return _text(pages, mode, markdown=True)


def as_json(files: Iterable[tuple[str, Iterable[PageText]]]) -> str:
    """What was read from each file by its name, as JSON.

        {"files": [{"file": str, "pages": [
            {"page": int, "width": int, "height": int, "regions": [
                {"kind": "heading" | "paragraph" | "line", "text": str, "score": float, "box": box,
                 "lines": [{"text": str, "score": float, "box": box}]}]}]}]}

    A box is four points [x, y] in pixels of the page, clockwise from the top-left of the text as it is read;
    a score is between 0 and 1. Regions and their lines are in reading order.
    """
    tree = [{"file": name, "pages": [_page(page) for page in pages]} for name, pages in files]
    return json.dumps({"files": tree}, ensure_ascii=False, indent=1) + "\n"


def _page(page: PageText) -> dict[str, Any]:
    return {
        "page": page.page,
        "width": page.width,
        "height": page.height,
        "regions": [
            {"kind": region.kind, **_item(region), "lines": [_item(line) for line in region.lines]}
            for region in page.regions
        ],
    }


def _item(item: Region | Line) -> dict[str, Any]:
    return {
        "text": item.text,
        "score": round(item.score, 4),
        "box": [[float(x), float(y)] for x, y in item.box],
    }


def _text(pages: Iterable[PageText], mode: Mode, markdown: bool) -> str:
    parts: list[str] = []
    for page in pages:
        if markdown and mode == "code":
            parts += ["\n\n"] * bool(parts) + _fenced(page)
            continue
        above = None
        for region in arranged(page, mode):
            together = above is not None and above.kind == region.kind == "line"
            if parts:
                parts.append(("  \n" if markdown else "\n") if together else "\n\n")
            parts.append(_marked(region) if markdown else region.text)
            above = region
    return "".join([*parts, "\n"]) if parts else ""


def _lines(region: Region) -> list[str]:
    """Its lines as they are on the page; a row of cells stays one line."""
    return [region.text] if region.kind == "line" else [line.text for line in region.lines]


def _marked(region: Region) -> str:
    """A region in Markdown; a heading is one line there."""
    lines = region.text.split("\n")
    if region.kind == "heading":
        return f"## {_CLOSING.sub(_backslashed, escaped(joined(lines)))}"
    return "  \n".join(escaped(line) for line in lines)


def _fenced(page: PageText) -> list[str]:
    """The page as one block of code (CommonMark 4.5: the fence is longer than any in it)."""
    code = "\n\n".join(region.text for region in arranged(page, "code"))
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}\n{code}\n{fence}"] if code else []


# CommonMark 0.31: what begins a block (2.4, 4.1 to 5.2), then what means something within a line (section 6).
_OPENING = re.compile(r"^(?:#{1,6}(?=\s|$)|[-+*](?=\s|$)|>|=+\s*$|-[-\s]*$|~{3,})|^(\d{1,9})([.)])(?=\s|$)")
_WITHIN = re.compile(r"[\\`*\[\]]|<(?=[A-Za-z/!?])|(?<![^\W_])_|_(?![^\W_])|~~|&(?=#?\w+;)|\|")
_CLOSING = re.compile(r"(?<=\s)#+$|^#+$")


def escaped(line: str) -> str:
    """The line in Markdown, so that it shows as it is."""
    line = _WITHIN.sub(_backslashed, line)
    return _OPENING.sub(lambda m: f"{m[1]}\\{m[2]}" if m[1] else "\\" + m[0], line)


def _backslashed(match: re.Match[str]) -> str:
    return "".join("\\" + sign for sign in match[0])

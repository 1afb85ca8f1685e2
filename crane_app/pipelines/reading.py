"""Pictures and PDFs in, regions of text out; a generator that works one page at a time.

Knows no file formats and no models; the reader is given. Closing the generator stops it between two pages.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crane_app.media.documents import Document
from crane_app.media.layout import Region, regions
from crane_app.media.reader import Line


class LineReader(Protocol):
    """What finds the lines of uint8 [H, W, 3]: the bundled reader, or a stand-in."""

    def lines(self, image: NDArray[np.uint8]) -> list[Line]: ...


@dataclass(frozen=True)
class PageText:
    """Page `page` of `count` (from 1), width x height pixels, and its regions in reading order."""

    page: int
    count: int
    width: int
    height: int
    regions: tuple[Region, ...]


class Reading:
    def __init__(self, reader: LineReader) -> None:
        self._reader = reader

    def read(self, source: str | os.PathLike[str] | bytes, name: str = "") -> Iterator[PageText]:
        """The pages of a picture or PDF, given by its path or content; `name` is what errors call it."""
        with Document(source, name) as document:
            for page in document:
                height, width = page.image.shape[:2]
                found = tuple(regions(self._reader.lines(page.image)))
                text = PageText(page.number, page.count, width, height, found)
                del page  # before the next one is decoded
                yield text


def as_text(pages: Iterable[PageText], keep_lines: bool = False) -> str:
    """Plain text: an empty line between paragraphs, none between single lines, a newline at the end."""
    return _text(pages, keep_lines, markdown=False)


def as_markdown(pages: Iterable[PageText], keep_lines: bool = False) -> str:
    """CommonMark: headings of level 2, and every sign that means something to Markdown escaped."""
    return _text(pages, keep_lines, markdown=True)


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


def _text(pages: Iterable[PageText], keep_lines: bool, markdown: bool) -> str:
    parts: list[str] = []
    for page in pages:
        above = None
        for region in page.regions:
            together = above is not None and above.kind == region.kind == "line"
            if parts:
                parts.append(("  \n" if markdown else "\n") if together else "\n\n")
            parts.append(_region(region, keep_lines, markdown))
            above = region
    return "".join([*parts, "\n"]) if parts else ""


def _region(region: Region, keep_lines: bool, markdown: bool) -> str:
    """A region's text, or its lines as they are on the page; a row of cells and a heading stay one line."""
    kept = keep_lines and (region.kind == "paragraph" or (region.kind == "heading" and not markdown))
    lines = [line.text for line in region.lines] if kept else [region.text]
    if not markdown:
        return "\n".join(lines)
    text = "  \n".join(escaped(line) for line in lines)
    return f"## {_CLOSING.sub(_backslashed, text)}" if region.kind == "heading" else text


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

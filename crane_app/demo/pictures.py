"""Reads the page that tools/make_demo_picture.py draws, and compares it letter by letter."""

from __future__ import annotations

import difflib
import textwrap
import time
from pathlib import Path
from typing import TextIO

ASSETS = Path(__file__).parents[1] / "assets" / "demo"
WIDTH = 78


def read_a_picture(out: TextIO, _folder: Path) -> bool:
    """Says whether the page's text was found exactly."""
    from crane_app.media.reader import Reader
    from crane_app.pipelines.reading import Reading, as_text

    picture = ASSETS / "page.png"
    print(f"Reading a picture on this computer: {picture}", file=out)
    print("It has a heading, two columns, an umlaut, numbers and a line that runs upwards.", file=out)
    expected = (ASSETS / "page.txt").read_text(encoding="utf-8")
    reading = Reading(Reader())
    seconds = []
    for _ in range(2):  # the first also loads the models
        start = time.perf_counter()
        found = as_text(reading.read(picture))
        seconds.append(time.perf_counter() - start)
    return compared(expected, found, "{:.1f} s, and {:.1f} s the second time".format(*seconds), out)


def compared(expected: str, found: str, took: str, out: TextIO) -> bool:
    """Prints both texts, or one where they are equal but for white space; says whether they are."""
    wanted, got = _wrapped(expected), _wrapped(found)
    if wanted == got:
        _show("Expected and found", got, out)
        print(f"\nThe text is exactly right. It took {took}.", file=out)
        return True
    _show("Expected", wanted, out)
    _show("Found", got, out)
    _show("Different", [line for line in difflib.ndiff(wanted, got) if line[0] in "-+?"], out)
    print(f"\nThe text is NOT what was expected. It took {took}.", file=out)
    return False


def _wrapped(text: str) -> list[str]:
    """Lines of at most WIDTH letters, an empty one between paragraphs; equal texts give equal lines."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += ["", *textwrap.wrap(paragraph, WIDTH, break_on_hyphens=False)]
    return lines[1:]


def _show(title: str, lines: list[str], out: TextIO) -> None:
    print(f"\n{title}:\n", file=out)
    for line in lines:
        print(f"  {line}".rstrip(), file=out)

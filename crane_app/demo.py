"""`crane demo`: does Crane work on this machine? Each job is tried on something whose answer is known."""

from __future__ import annotations

import difflib
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

FOLDER = Path(__file__).parent / "assets" / "demo"
WIDTH = 78


def run(out: TextIO | None = None) -> int:
    """Tries every job and prints what was expected and found; 1 if any differs, else 0."""
    out = out or sys.stdout
    worked = [job(out) for job in JOBS]
    return 0 if all(worked) else 1


def read_a_picture(out: TextIO) -> bool:
    """Reads the page that tools/make_demo_picture.py draws; says whether its text was found exactly."""
    from crane_app.media.reader import Reader
    from crane_app.pipelines.reading import Reading, as_text

    picture = FOLDER / "page.png"
    print(f"Reading a picture on this computer: {picture}", file=out)
    print("It has a heading, two columns, an umlaut, numbers and a line that runs upwards.", file=out)
    expected = (FOLDER / "page.txt").read_text(encoding="utf-8")
    reading = Reading(Reader())
    seconds = []
    for _ in range(2):  # the first also loads the models
        start = time.perf_counter()
        found = as_text(reading.read(picture))
        seconds.append(time.perf_counter() - start)
    return _compared(expected, found, "{:.1f} s, and {:.1f} s the second time".format(*seconds), out)


JOBS: list[Callable[[TextIO], bool]] = [read_a_picture]


def _compared(expected: str, found: str, took: str, out: TextIO) -> bool:
    """Prints both texts, or one where they are equal but for white space; says whether they are."""
    wanted, got = _wrapped(expected), _wrapped(found)
    if wanted == got:
        _show("Expected and found", got, out)
        print(f"\nThe text is exactly right. It took {took}.", file=out)
        return True
    _show("Expected", wanted, out)
    _show("Found", got, out)
    _show("Different", [line for line in difflib.ndiff(wanted, got) if line[0] in "-+?"], out)
    print(f"\nThe text is NOT what is on the page. It took {took}.", file=out)
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

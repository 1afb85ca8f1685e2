"""Code keeps its indents, gaps and empty lines, however its boxes lie."""

from __future__ import annotations

import pytest

from crane_app.media.code import code_regions
from crane_app.media.reader import Line

WIDTH, PITCH, LETTER = 12.0, 30, 20  # of a letter, of a line, height of a box
PROGRAM = """\
def fib(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b

    return a

print(fib(10))"""


def lines_of(text: str, scale: float = 1.0, margin: float = 0.0, jitter: float = 0.0, left: float = 50.0) -> list[Line]:
    """Where the lines of a text in fixed pitch would be found."""
    found = []
    for row, line in enumerate(text.splitlines()):
        words = line.strip()
        if words:
            shake = jitter * (-1) ** row
            x = left + (len(line) - len(line.lstrip())) * WIDTH - margin + shake
            y, right = row * PITCH, x + len(words) * WIDTH + 2 * margin + shake
            box = ((x, y), (right, y), (right, y + LETTER), (x, y + LETTER))
            found.append(Line(words, tuple((scale * px, scale * py) for px, py in box), 0.9))
    return found


def text_of(lines: list[Line]) -> str:
    return "\n\n".join(region.text for region in code_regions(lines))


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.7])
@pytest.mark.parametrize(("margin", "jitter"), [(0.0, 0.0), (6.0, 0.0), (4.0, 3.0)])
def test_a_program_stays_as_it_is(scale: float, margin: float, jitter: float) -> None:
    assert text_of(lines_of(PROGRAM, scale, margin, jitter)) == PROGRAM


def test_what_stands_apart_in_a_row_keeps_its_gap() -> None:
    name, number = lines_of("name", left=50)[0], lines_of("42", left=50 + 10 * WIDTH)[0]
    below = lines_of("\nanother   7")[0]
    assert text_of([name, number, below]) == "name      42\nanother   7"


def test_a_region_is_a_block_around_all_its_lines() -> None:
    lines = lines_of(PROGRAM)
    blocks = code_regions(lines)
    assert [region.kind for region in blocks] == ["code"] * 3
    assert [len(region.lines) for region in blocks] == [4, 1, 1]
    assert blocks[0].box[0] == (50.0, 0.0)
    assert {line for region in blocks for line in region.lines} == set(lines)


@pytest.mark.parametrize("text", ["", "x", "  x", "x\n  y"])
def test_little_is_enough(text: str) -> None:
    expected = text if "\n" in text else text.strip()
    assert text_of(lines_of(text)) == expected

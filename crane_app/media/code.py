"""Lines of a page as they stand: every indent and gap as the spaces it takes, for code and tables in fixed pitch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from crane_app.media.layout import Region, Row, Span, by_direction, enclosing, in_rows
from crane_app.media.reader import Line

APART = 1.6  # times the usual pitch, from which on there was an empty line


def code_regions(lines: Sequence[Line]) -> list[Region]:
    """The lines in blocks between which the page has an empty line; each keeps its breaks, indents and gaps."""
    found = []
    for turn, spans in by_direction(lines):
        width, left = _pitch(spans), min(span.left for span in spans)
        for block in _blocks(in_rows(spans)):
            text = "\n".join(_spaced(row, left, width) for row in block)
            found.append(enclosing("code", text, block, turn))
    return found


def _pitch(spans: Sequence[Span]) -> float:
    """The width of a letter, in pixels.

    A detected box is wider than its letters by a margin that does not depend on their number, so the slope counts.
    """
    counts = np.array([len(span.line.text) for span in spans], float)
    widths = np.array([span.right - span.left for span in spans])
    plain = float(np.median(widths / np.maximum(counts, 1)))
    if len(spans) < 3 or np.ptp(counts) < 8:
        return plain
    slope = float(np.polyfit(counts, widths, 1)[0])
    return slope if 0.5 * plain < slope < 1.5 * plain else plain


def _blocks(rows: Sequence[Row]) -> list[list[Row]]:
    steps = [below.middle - above.middle for above, below in itertools.pairwise(rows)]
    usual = float(np.median(steps)) if steps else 0.0
    blocks = [[rows[0]]]
    for step, row in zip(steps, rows[1:], strict=True):
        if step > APART * usual:
            blocks.append([])
        blocks[-1].append(row)
    return blocks


def _spaced(row: Row, left: float, width: float) -> str:
    """The row's texts where they stand; at least one space between two."""
    text = ""
    for span in row.spans:
        column = round((span.left - left) / width)
        text += " " * max(column - len(text), 1 if text else 0) + span.line.text
    return text

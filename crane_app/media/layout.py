"""Lines of text to regions in reading order: what belongs together, and what is read first.

Geometry only; it knows nothing of pixels. Lines that run in another direction than the rest of the page come
after it. In a direction the page is cut into rows, rows that share a gutter into columns, and those again
(the XY cut: Nagy and Seth 1984); a line across the columns ends them.
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crane_app.media.joining import UNSPACED, joined
from crane_app.media.reader import Box, Line

Kind = Literal["heading", "paragraph", "line", "code"]

SENTENCE_ENDS = (".", "!", "?", ":", "。", "！", "？", "：", "؟", '."', ".”", ".)", "!”", "?”")
ITEM = re.compile(r"([•‣◦▪·●○*–—-]|\(?\d{1,2}[.)]|\(?[a-z]\))\s+\S")

HEADING = 1.3  # times the page's median height of lines
AHEAD = 4  # rows looked at to see a column go on
# In heights of lines:
GUTTER = 0.5
CELL = 1.5  # between cells of a row
NEAR = 1.6  # pitch, where a block is too short to tell its own
FAR = 2.4
INDENT = 0.7
SHORT = 2.5
NARROW = 5.0  # no column of prose
# As parts of something:
CORE = 0.5  # of a line's height, where rows are told apart: detected boxes overlap a little
ROOMY = 0.4  # of a block's width left free by a line
RAGGED = 0.6  # of a column's width, the median line


@dataclass(frozen=True)
class Region:
    """Lines that belong together; `line` is one that stands alone or the cells of a table's row.

    `code` is only what was asked to be shown as it stands (see code.py).
    """

    kind: Kind
    text: str
    lines: tuple[Line, ...]
    box: Box  # page pixels, clockwise from the text's top-left
    score: float  # mean of the lines, weighed by their letters


@dataclass(frozen=True)
class Span:
    """A line in the upright frame of its direction."""

    line: Line
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        return max(self.bottom - self.top, 1e-6)

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


@dataclass(frozen=True)
class Row:
    """Spans side by side, from left to right."""

    spans: list[Span]

    @property
    def left(self) -> float:
        return self.spans[0].left

    @property
    def right(self) -> float:
        return max(span.right for span in self.spans)

    @property
    def middle(self) -> float:
        return sum(span.middle for span in self.spans) / len(self.spans)

    @property
    def height(self) -> float:
        return max(span.height for span in self.spans)

    @property
    def text(self) -> str:
        """The texts of the spans; a tab where cells are apart."""
        text = self.spans[0].line.text
        for before, span in itertools.pairwise(self.spans):
            text += ("\t" if span.left - before.right > CELL * self.height else " ") + span.line.text
        return text


Block = list[Row]  # what is read row after row
Stripes = list[tuple[float, float]]


def regions(lines: Sequence[Line]) -> list[Region]:
    """The regions of a page in reading order; every line is in exactly one."""
    heights = [line.height for line in lines for _ in line.text or " "]  # a line counts by its letters
    median = float(np.median(heights)) if heights else 0.0
    found = []
    for turn, spans in by_direction(lines):
        for block in blocks(spans):
            found += [_region(rows, turn, median) for rows in paragraphs(block, median)]
    return found


def by_direction(lines: Sequence[Line]) -> list[tuple[float, list[Span]]]:
    """The page's angles in radians with their lines, upright in that frame; most letters first."""
    groups: dict[int, list[Line]] = {}
    for line in lines:
        groups.setdefault(round(line.angle / (math.pi / 2)) % 4, []).append(line)
    most = sorted(groups.items(), key=lambda group: (-sum(len(line.text) for line in group[1]), group[0]))
    turned = []
    for quarter, group in most:
        turn = quarter * math.pi / 2 + _skew(group, quarter)
        spans = [_span(line, turn) for line in group]
        if mostly_right_to_left(line.text for line in group):
            spans = [Span(s.line, -s.right, s.top, -s.left, s.bottom) for s in spans]
        turned.append((turn, spans))
    return turned


def _skew(lines: Sequence[Line], quarter: int) -> float:
    """The median angle by which lines of one quarter lean, long ones counting most; radians."""
    lengths = [math.dist(line.box[0], line.box[1]) for line in lines]
    long = max(lengths) / 2
    leans = [
        math.remainder(line.angle - quarter * math.pi / 2, math.tau)
        for line, length in zip(lines, lengths, strict=True)
        if length >= long
    ]
    return float(np.median(leans))


def _span(line: Line, turn: float) -> Span:
    """The line's rectangle after the page was turned back by `turn`."""
    points = [_turned(point, -turn) for point in line.box]
    x, y = (sum(axis) / 4 for axis in zip(*points, strict=True))
    a, b, c, d = points
    width = (math.dist(a, b) + math.dist(d, c)) / 2
    return Span(line, x - width / 2, y - line.height / 2, x + width / 2, y + line.height / 2)


def _turned(point: tuple[float, float], angle: float) -> tuple[float, float]:
    x, y = point
    cos, sin = math.cos(angle), math.sin(angle)
    return x * cos - y * sin, x * sin + y * cos


def blocks(spans: Sequence[Span]) -> list[Block]:
    """Spans of one direction as blocks in reading order; every span is in exactly one row."""
    found: list[Block] = []
    height = float(np.median([span.height for span in spans]))
    for group in _sharing_gutters(_rows(spans), height):
        columns = _columns([span for row in group for span in row], height)
        if len(columns) == 1:
            found.append([row for chained in group for row in _untangled(chained)])
        elif _tabular(group, columns, height):
            found.append([Row(sorted(row, key=lambda s: s.left)) for row in group])
        else:
            for column in columns:
                found += blocks(column)
    return _continued(found)


def in_rows(spans: Sequence[Span]) -> list[Row]:
    """Spans of one direction from top to bottom, whatever columns they are in."""
    return [row for chained in _rows(spans) for row in _untangled(chained)]


def _rows(spans: Sequence[Span]) -> list[list[Span]]:
    """Spans whose cores overlap in height, from top to bottom."""
    core = CORE / 2
    return _chained(spans, lambda s: s.middle - core * s.height, lambda s: s.middle + core * s.height, 0.0)


def _columns(spans: Sequence[Span], height: float) -> list[list[Span]]:
    """Spans with no gutter between them, from left to right."""
    return _chained(spans, lambda s: s.left, lambda s: s.right, GUTTER * height)


def _chained(
    spans: Sequence[Span], low: Callable[[Span], float], high: Callable[[Span], float], gap: float
) -> list[list[Span]]:
    """Spans in groups with more than `gap` free between them along one axis."""
    groups: list[list[Span]] = []
    end = -math.inf
    for span in sorted(spans, key=lambda s: (low(s), high(s))):
        if low(span) > end + gap:
            groups.append([])
        groups[-1].append(span)
        end = max(end, high(span))
    return groups


def _sharing_gutters(rows: list[list[Span]], height: float) -> list[list[list[Span]]]:
    """Rows in groups from top to bottom; a row that crosses a gutter of those above starts a new group."""
    groups: list[list[list[Span]]] = []
    taken: Stripes = []
    bottom = -math.inf
    for i, row in enumerate(rows):
        near = min(span.top for span in row) - bottom < FAR * height
        if groups and _fits(taken, row, rows[i + 1 : i + AHEAD], near, height):
            groups[-1].append(row)
            taken = _with(taken, row, height)
        else:
            groups.append([row])
            taken, bottom = _with([], row, height), -math.inf
        bottom = max(bottom, *(span.bottom for span in row))
    return groups


def _fits(taken: Stripes, row: list[Span], ahead: list[list[Span]], near: bool, height: float) -> bool:
    """Whether a row leaves the gutters above it free, or those above leave its own free.

    Where there are none, a row beside the one above makes a gutter only if the first column goes on below it:
    the lines of two columns need not stand at the same heights.
    """
    together = _with(taken, row, height)
    own = _with([], row, height)
    if len(taken) > 1 or len(own) > 1:
        return near and len(together) >= len(taken if len(taken) > 1 else own)
    if len(together) == 1:
        return True
    for later in ahead if near else []:
        if len(_with(together, later, height)) < len(together):
            return False
        if any(span.left < taken[0][1] and taken[0][0] < span.right for span in later):
            return True
    return False


def _with(taken: Stripes, row: list[Span], height: float) -> Stripes:
    """The stripes (from, to) of the width that are not free, from left to right; narrow gaps count."""
    stripes: Stripes = []
    for left, right in sorted([*taken, *((span.left, span.right) for span in row)]):
        if stripes and left <= stripes[-1][1] + GUTTER * height:
            stripes[-1] = (stripes[-1][0], max(stripes[-1][1], right))
        else:
            stripes.append((left, right))
    return stripes


def _tabular(group: list[list[Span]], columns: list[list[Span]], height: float) -> bool:
    """Whether the rows are read across: cells side by side, short or ragged, unlike columns of prose."""
    column_of = {id(span): i for i, column in enumerate(columns) for span in column}
    in_row = [[column_of[id(span)] for span in row] for row in group]
    if any(len(set(cells)) < len(cells) for cells in in_row):
        return False
    if len(group) <= 2:
        return True
    if sum(len(cells) > 1 for cells in in_row) < 0.8 * len(group):
        return False
    widths = [[span.right - span.left for span in column] for column in columns]
    return any(max(w) < NARROW * height or float(np.median(w)) < RAGGED * max(w) for w in widths)


def _untangled(spans: list[Span]) -> list[Row]:
    """Chained spans as rows: one span above another starts a new row even where both overlap a third."""
    rows: list[list[Span]] = []
    for span in sorted(spans, key=lambda s: (s.middle, s.left)):
        if not rows or any(span.left < other.right and other.left < span.right for other in rows[-1]):
            rows.append([])
        rows[-1].append(span)
    return [Row(sorted(row, key=lambda s: s.left)) for row in rows]


def _continued(found: list[Block]) -> list[Block]:
    """Blocks, joined where one goes on right below the other and is as wide."""
    whole: list[Block] = []
    for block in found:
        last = whole[-1] if whole else block
        step, height = block[0].middle - last[-1].middle, max(last[-1].height, block[0].height)
        aside = max(abs(a - b) for a, b in zip(_edges(last), _edges(block), strict=True))
        if 0 < step < FAR * height and aside < SHORT * height:
            whole[-1] = last + block
        else:
            whole.append(block)
    return whole


def _edges(block: Block) -> tuple[float, float]:
    return min(row.left for row in block), max(row.right for row in block)


def paragraphs(block: Block, median: float) -> list[list[Row]]:
    """The rows of a block in groups that are one region each."""
    left, right = _edges(block)
    far = _far(block)
    groups = [[block[0]]]
    for above, row in itertools.pairwise(block):
        if (
            _cells(above)
            or _cells(row)
            or row.middle - above.middle > far * max(above.height, row.height)
            or _differ_in_size(above, row, median)
            or _starts_anew(above, row, right, right - left)
        ):
            groups.append([])
        groups[-1].append(row)
    return groups


def _far(block: Block) -> float:
    """The pitch in heights of lines from which on two rows are apart, judged by a long block itself."""
    pitches = [
        (below.middle - above.middle) / max(above.height, below.height) for above, below in itertools.pairwise(block)
    ]
    return min(1.35 * float(np.median(pitches)), FAR) if len(pitches) > 2 else NEAR


def _differ_in_size(above: Row, row: Row, median: float) -> bool:
    """Whether one is a heading and the other is not, or both are of different rank."""
    headings = [r.height > HEADING * median for r in (above, row)]
    ratio = max(above.height, row.height) / min(above.height, row.height)
    return headings[0] != headings[1] or (headings[0] and ratio > HEADING)


def _starts_anew(above: Row, row: Row, right: float, width: float) -> bool:
    """Whether a paragraph starts with this row, by what is written and where."""
    if row.left >= above.right or above.left >= row.right or ITEM.match(row.text):
        return True
    height = min(above.height, row.height)
    room = right - above.right
    ended = above.text.endswith(SENTENCE_ENDS)
    if row.left > above.left + INDENT * height and (ended or room > SHORT * height):
        return True
    first = row.text[:1] if UNSPACED.match(row.text) else (row.text.split() or [""])[0]
    needed = (row.right - row.left) * len(first) / max(len(row.text), 1) + height
    return room > needed and (room > ROOMY * width or (ended and room > SHORT * height))


def _cells(row: Row) -> bool:
    """Whether the row is of a table, not a line that was found in pieces."""
    gaps = [b.left - a.right for a, b in itertools.pairwise(row.spans)]
    return any(gap > CELL * row.height for gap in gaps)


def _region(rows: list[Row], turn: float, median: float) -> Region:
    kind: Kind = "paragraph" if len(rows) > 1 else "line"
    if all(row.height > HEADING * median for row in rows):
        kind = "heading"
    return enclosing(kind, joined([row.text for row in rows]), rows, turn)


def enclosing(kind: Kind, text: str, rows: Sequence[Row], turn: float) -> Region:
    """The region of rows that run in the direction `turn`, in radians; its text is given."""
    lines = tuple(span.line for row in rows for span in row.spans)
    letters = [max(len(line.text), 1) for line in lines]
    score = sum(line.score * n for line, n in zip(lines, letters, strict=True)) / sum(letters)
    return Region(kind, text, lines, _around(lines, turn), round(score, 4))


def _around(lines: Sequence[Line], turn: float) -> Box:
    """The smallest box in the direction of the lines that holds them all."""
    x, y = zip(*(_turned(point, -turn) for line in lines for point in line.box), strict=True)
    corners = [(min(x), min(y)), (max(x), min(y)), (max(x), max(y)), (min(x), max(y))]
    a, b, c, d = [(round(p, 1), round(q, 1)) for p, q in (_turned(corner, turn) for corner in corners)]
    return a, b, c, d


def mostly_right_to_left(texts: Iterable[str]) -> bool:
    kinds = [unicodedata.bidirectional(letter) for text in texts for letter in text]
    return sum(kind in ("R", "AL") for kind in kinds) > kinds.count("L")

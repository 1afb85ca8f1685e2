"""Reading order and paragraphs, on boxes whose right order a person can see."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane_app.media.layout import joined, regions
from crane_app.media.reader import Line

HEIGHT, PITCH = 20, 28


def line(text: str, x: float, y: float, width: float = 400, height: float = HEIGHT) -> Line:
    return Line(text, ((x, y), (x + width, y), (x + width, y + height), (x, y + height)), 0.9)


def column(name: str, x: float, y: float, count: int, width: float = 400) -> list[Line]:
    return [line(f"{name}{i} has some more words to say", x, y + i * PITCH, width) for i in range(count)]


def order(lines: list[Line]) -> list[str]:
    """The first words in reading order, when the reader found the lines in any order."""
    shuffled = random.Random(len(lines)).sample(lines, len(lines))
    return [found.text.split()[0] for region in regions(shuffled) for found in region.lines]


def first_words(lines: list[Line]) -> list[str]:
    return [item.text.split()[0] for item in lines]


def turned(item: Line, degrees: float, about: tuple[float, float] = (500, 500)) -> Line:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    points = []
    for x, y in item.box:
        u, v = x - about[0], y - about[1]
        points.append((about[0] + u * cos - v * sin, about[1] + u * sin + v * cos))
    return Line(item.text, tuple(points), item.score)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_columns_are_read_one_after_the_other(columns: int) -> None:
    page = [item for c in range(columns) for item in column("abc"[c], 50 + 450 * c, 100, 8)]
    assert order(page) == first_words(page)


@pytest.mark.parametrize("offset", [0, 5, 11, 14, 20])
def test_columns_need_not_stand_at_the_same_heights(offset: float) -> None:
    page = [*column("a", 50, 100, 8), *column("b", 500, 100 + offset, 5), *column("c", 950, 100 - offset, 9)]
    assert order(page) == first_words(page)


def test_a_ragged_column_is_still_a_column() -> None:
    widths = [400, 330, 380, 290, 400, 350, 120]
    left = [line(f"a{i} words of ragged lines", 50, 100 + i * PITCH, w) for i, w in enumerate(widths)]
    right = [line(f"b{i} words of ragged lines", 500, 100 + i * PITCH, w) for i, w in enumerate(widths)]
    assert order(left + right) == first_words(left + right)


def test_a_heading_across_comes_between_the_columns_above_and_below_it() -> None:
    above = [*column("a", 50, 100, 4), *column("b", 500, 100, 4)]
    heading = line("Heading across the page", 50, 250, 700, 40)
    below = [*column("c", 50, 330, 4), *column("d", 500, 330, 4)]
    page = [line("Title of it all", 50, 20, 800, 50), *above, heading, *below]
    assert order(page) == first_words(page)
    assert [r.kind for r in regions(page)] == ["heading", *["paragraph"] * 2, "heading", *["paragraph"] * 2]


def test_full_width_text_above_columns_is_read_first() -> None:
    page = [*column("w", 50, 40, 3, 850), *column("a", 50, 140, 4), *column("b", 500, 140, 4)]
    assert order(page) == first_words(page)


def test_a_line_found_in_two_pieces_does_not_break_its_paragraph() -> None:
    page = column("a", 50, 100, 5)
    pieces = [line("p1 the first half", 50, page[2].box[0][1], 180), line("p2 the rest", 250, 158, 200)]
    (region,) = regions([*page[:2], *pieces, *page[3:]])
    assert "a1 has some more words to say p1 the first half p2 the rest a3 has" in region.text


def test_the_rows_of_a_receipt_are_read_across() -> None:
    goods = [("Milk", 60), ("Wholemeal bread", 190), ("Tea", 40), ("Oranges", 110)]
    page = []
    for i, (name, width) in enumerate(goods):
        page += [line(name, 50, 100 + i * PITCH, width), line(f"{i}.20", 500, 101 + i * PITCH, 45)]
    assert [r.text for r in regions(page)] == [f"{name}\t{i}.20" for i, (name, _) in enumerate(goods)]


def test_the_date_of_a_letter_stays_above_the_letter() -> None:
    page = [line("3 May", 800, 50, 100), *column("a", 50, 120, 4, 850)]
    assert order(page)[0] == "3"


def test_an_indented_line_starts_a_paragraph() -> None:
    page = column("a", 50, 100, 8)
    page[2] = line("a2 ends here.", 50, page[2].box[0][1], 200)
    page[3] = line("a3 starts the next paragraph", 80, page[3].box[0][1], 370)
    assert [len(r.lines) for r in regions(page)] == [3, 5]


def test_a_wider_gap_starts_a_paragraph() -> None:
    page = [*column("a", 50, 100, 4), *column("b", 50, 100 + 4 * PITCH + 16, 4)]
    assert [len(r.lines) for r in regions(page)] == [4, 4]


def test_double_spacing_is_no_gap() -> None:
    page = [line(f"a{i} has some words", 50, 100 + i * 45) for i in range(6)]
    assert [len(r.lines) for r in regions(page)] == [6]


def test_items_of_a_list_are_their_own() -> None:
    page = [line(f"{i + 1}. item of a list", 50, 100 + i * PITCH) for i in range(3)]
    assert [r.text for r in regions(page)] == [f"{i}. item of a list" for i in (1, 2, 3)]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_line_comes_after_the_page_and_keeps_its_box(degrees: float) -> None:
    note = turned(line("note in the margin", 400, 480, 200), degrees, (1000, 500))
    page = [*column("a", 50, 100, 6), note]
    assert order(page) == first_words(page)
    region = regions(page)[-1]
    assert region.kind == "line"
    for found, expected in zip(region.box, note.box, strict=True):
        assert found == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize("degrees", [-4, 3, 90, 180, 270, 268])
def test_a_page_scanned_askew_reads_like_the_straight_one(degrees: float) -> None:
    page = [line("Title of it all", 50, 20, 850, 50), *column("a", 50, 100, 8), *column("b", 500, 100, 8)]
    found = regions([turned(item, degrees) for item in page])
    assert [r.text for r in found] == [r.text for r in regions(page)]
    assert [r.kind for r in found] == ["heading", "paragraph", "paragraph"]


def test_right_to_left_columns_are_read_from_the_right() -> None:
    right = [line(f"א{i} מילים בעברית", 500, 100 + i * PITCH) for i in range(4)]
    left = [line(f"ב{i} מילים בעברית", 50, 100 + i * PITCH) for i in range(4)]
    assert order(right + left) == first_words(right + left)
    assert regions(right)[0].text.startswith("א0 מילים בעברית א1")


def test_big_text_alone_on_a_page_is_no_heading() -> None:
    assert [r.kind for r in regions([line("WAIT HERE", 50, 50, 700, 90)])] == ["line"]
    assert regions([]) == []


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["a bro-", "ken word"], "a broken word"),
        (["Baden-", "Württemberg"], "Baden-Württemberg"),
        (["1990-", "2000"], "1990-2000"),
        (["state-of-", "the-art"], "state-of-the-art"),
        (["Vor-", "und Nachteile"], "Vor- und Nachteile"),
        (["a dash -", "and more"], "a dash - and more"),
        (["soft\u00ad", "Hyphen"], "softHyphen"),
        (["日本語の文", "章です。"], "日本語の文章です。"),
        (["中文", "and English"], "中文 and English"),
        (["한국어", "문장"], "한국어 문장"),
        (["-", "x"], "- x"),
        ([" a ", "", "b"], "a b"),
        ([], ""),
    ],
)
def test_lines_meet_as_their_language_wants(lines: list[str], text: str) -> None:
    assert joined(lines) == text


boxes = st.tuples(st.floats(0, 3000), st.floats(0, 3000), st.floats(0, 900), st.floats(0, 90), st.integers(0, 359))
words = st.text(alphabet="ab -1.\u00ad日א", max_size=12)


@settings(max_examples=150)
@given(st.lists(st.tuples(words, boxes), max_size=25))
def test_every_line_is_in_exactly_one_region_and_no_letter_is_lost(items: list) -> None:
    lines = [turned(line(text, x, y, w, h), degrees) for text, (x, y, w, h, degrees) in items]
    found = regions(lines)
    kept = [item for region in found for item in region.lines]
    assert sorted(map(id, kept)) == sorted(map(id, lines))
    for region in found:
        said = "".join(item.text for item in region.lines)
        assert letters(region.text) == letters(said)


@settings(max_examples=100)
@given(st.lists(words, max_size=8))
def test_joining_loses_nothing_but_hyphens_and_spaces(lines: list[str]) -> None:
    assert letters(joined(lines)) == letters("".join(lines))


@settings(max_examples=60)
@given(st.integers(1, 3), st.lists(st.integers(3, 12), min_size=3, max_size=3), st.randoms(use_true_random=False))
def test_columns_of_any_length_are_found(columns: int, counts: list[int], luck: random.Random) -> None:
    page = []
    for c in range(columns):
        top = 100 + luck.uniform(0, 20)
        page += column("abc"[c], 50 + 450 * c + luck.uniform(-5, 5), top, counts[c])
    assert order(page) == first_words(page)


def letters(text: str) -> str:
    return "".join(sign for sign in text if not sign.isspace() and sign not in "-\u00ad")

"""Reading with a stand-in for the reader: one page at a time, and what is written of it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crane_app.demo import FOLDER
from crane_app.errors import BadInput
from crane_app.media.layout import Region, regions
from crane_app.media.reader import Line, Reader
from crane_app.pipelines.reading import PageText, Reading, as_json, as_markdown, as_text, escaped


class Scripted:
    """A reader that finds its page's number, and counts."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def lines(self, image: np.ndarray) -> list[Line]:
        self.shapes.append(image.shape)
        return [line(f"page {len(self.shapes)}", 0)]


def line(text: str, y: float, x: float = 10, width: float = 300, height: float = 20) -> Line:
    return Line(text, ((x, y), (x + width, y), (x + width, y + height), (x, y + height)), 0.87654321)


def tiff(*widths: int) -> bytes:
    first, *others = [Image.new("L", (width, 30), "white") for width in widths]
    file = io.BytesIO()
    first.save(file, "TIFF", save_all=True, append_images=others)
    return file.getvalue()


def page_of(*lines: Line, number: int = 1) -> PageText:
    return PageText(number, 1, 640, 480, tuple(regions(lines)))


def test_pages_are_read_when_they_are_asked_for() -> None:
    reader = Scripted()
    pages = Reading(reader).read(tiff(40, 50, 60))
    assert reader.shapes == []
    assert next(pages).regions[0].text == "page 1"
    second = next(pages)
    assert (second.page, second.count, second.width, second.height) == (2, 3, 50, 30)
    assert reader.shapes == [(30, 40, 3), (30, 50, 3)]


def test_closing_stops_and_lets_go_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "scan.tiff"
    path.write_bytes(tiff(40, 50))
    reader = Scripted()
    pages = Reading(reader).read(path)
    next(pages)
    pages.close()
    path.unlink()
    assert len(reader.shapes) == 1
    assert list(pages) == []


def test_a_bad_file_is_named_in_the_error() -> None:
    with pytest.raises(BadInput, match="'my scan' is empty"):
        next(Reading(Scripted()).read(b"", "my scan"))


LETTER = page_of(
    line("A big heading", 10, height=40),
    line("First line of a para-", 80),
    line("graph that goes on.", 108),
    line("alone", 200, width=90),
    line("alone too", 260, width=90),
)


def test_text_has_an_empty_line_between_paragraphs() -> None:
    assert [r.kind for r in LETTER.regions] == ["heading", "paragraph", "line", "line"]
    paragraph = "First line of a paragraph that goes on."
    assert as_text([LETTER]) == f"A big heading\n\n{paragraph}\n\nalone\nalone too\n"
    kept = "First line of a para-\ngraph that goes on."
    assert as_text([LETTER], "lines") == f"A big heading\n\n{kept}\n\nalone\nalone too\n"
    assert as_text([]) == as_text([page_of()]) == ""


def test_markdown_has_headings_and_hard_breaks() -> None:
    paragraph = "First line of a paragraph that goes on."
    assert as_markdown([LETTER]) == f"## A big heading\n\n{paragraph}\n\nalone  \nalone too\n"
    assert "para-  \ngraph" in as_markdown([LETTER], "lines")


def test_pages_follow_each_other_with_an_empty_line() -> None:
    assert as_text([page_of(line("one", 0)), page_of(line("two", 0), number=2)]) == "one\n\ntwo\n"


@pytest.mark.parametrize(
    ("plain", "markdown"),
    [
        ("# no heading", r"\# no heading"),
        ("#tag", "#tag"),
        ("- no item", r"\- no item"),
        ("-5 degrees", "-5 degrees"),
        ("1. no item", r"1\. no item"),
        ("1.5 litres", "1.5 litres"),
        ("3 * 4 = 12", r"3 \* 4 = 12"),
        ("snake_case and _this_", r"snake_case and \_this\_"),
        ("`code` [link](x) ![x]", r"\`code\` \[link\](x) !\[x\]"),
        ("a < b, <b>bold</b>", r"a < b, \<b>bold\</b>"),
        ("> no quote", r"\> no quote"),
        ("back\\slash", r"back\\slash"),
        ("&amp; R&D", r"\&amp; R&D"),
        ("---", r"\---"),
        ("===", r"\==="),
        ("~~~", r"\~\~~"),
        ("a | b", r"a \| b"),
    ],
)
def test_signs_of_markdown_lose_their_meaning(plain: str, markdown: str) -> None:
    assert escaped(plain) == markdown


def test_escaped_lines_show_as_they_are() -> None:
    library = pytest.importorskip("markdown_it")
    show = library.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    signs = [*"#-*_`>\\=|+a7", "[x]", "<b>", "1.", "2)", "&lt;", "~~"]
    for first in signs:
        for second in signs:
            for between in ("", " "):
                text = f"{first}{between}{second}"
                (inline,) = [t for t in show.parse(escaped(text)) if t.type == "inline"]
                assert "".join(part.content for part in inline.children) == text


def test_a_heading_that_ends_in_hashes_keeps_them() -> None:
    region = Region("heading", "Learn C #", (line("Learn C #", 0),), line("", 0).box, 1.0)
    assert as_markdown([PageText(1, 1, 9, 9, (region,))]) == "## Learn C \\#\n"


def test_json_is_as_documented() -> None:
    tree = json.loads(as_json([("ä scan.png", [LETTER])]))
    assert list(tree) == ["files"]
    (file,) = tree["files"]
    assert list(file) == ["file", "pages"]
    assert file["file"] == "ä scan.png"
    (page,) = file["pages"]
    assert (page["page"], page["width"], page["height"]) == (1, 640, 480)
    heading = page["regions"][0]
    assert list(heading) == ["kind", "text", "score", "box", "lines"]
    assert (heading["kind"], heading["score"]) == ("heading", 0.8765)
    assert heading["box"] == [[10.0, 10.0], [310.0, 10.0], [310.0, 50.0], [10.0, 50.0]]
    assert list(heading["lines"][0]) == ["text", "score", "box"]
    assert json.loads(as_json([])) == {"files": []}


@pytest.fixture(scope="module")
def bundled() -> Reading:
    return Reading(Reader())


@pytest.mark.parametrize("way", ["on its side", "upside down", "as a PDF"])
def test_the_demo_page_is_read_however_it_was_scanned(bundled: Reading, way: str) -> None:
    picture = Image.open(FOLDER / "page.png").convert("L")
    file = io.BytesIO()
    if way == "as a PDF":
        picture.save(file, "PDF", resolution=150)
    else:
        turn = Image.Transpose.ROTATE_90 if way == "on its side" else Image.Transpose.ROTATE_180
        picture.transpose(turn).save(file, "PNG")
    assert as_text(bundled.read(file.getvalue())) == (FOLDER / "page.txt").read_text(encoding="utf-8")

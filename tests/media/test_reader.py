"""The bundled reader on pictures drawn here; it loads its models once for all of them."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from crane_app.errors import CraneError
from crane_app.media import reader as module
from crane_app.media.reader import Line, Reader, detection_scale, framed, is_upended, strips

WORDS = "Total: 3.75 EUR, paid"
PIXELS = "numpy.array(Image.open(sys.argv[1]))"


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*_: object) -> None:
            raise AssertionError("the reader opened a connection")

        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield Reader()


def drawn(text: str, size: int = 24, paper: str = "white", ink: str = "black", margin: int = 3) -> Image.Image:
    font = ImageFont.load_default(size)
    picture = Image.new("RGB", (round(font.getlength(text)) + 2 * margin, size + 2 * margin + 4), paper)
    ImageDraw.Draw(picture).text((margin, margin), text, font=font, fill=ink)
    return picture


def texts(reader: Reader, picture: Image.Image) -> list[str]:
    return [line.text for line in reader.lines(np.array(picture))]


@pytest.mark.parametrize("size", [14, 24, 60])
def test_a_line_cut_close_is_read(reader: Reader, size: int) -> None:
    assert texts(reader, drawn(WORDS, size)) == [WORDS]


def test_light_letters_on_dark_paper_are_read(reader: Reader) -> None:
    assert texts(reader, drawn(WORDS, paper="#101020", ink="#dddddd")) == [WORDS]


@pytest.mark.parametrize(("degrees", "start"), [(0, (0, 0)), (90, (0, 1)), (180, (1, 1)), (270, (1, 0))])
def test_a_box_starts_where_the_text_starts(reader: Reader, degrees: int, start: tuple[int, int]) -> None:
    page = Image.new("RGB", (700, 700), "white")
    note = drawn(WORDS, 28).rotate(degrees, expand=True)
    page.paste(note, (300, 200))
    (line,) = reader.lines(np.array(page))
    assert line.text == WORDS
    corner = (300 + start[0] * note.width, 200 + start[1] * note.height)
    assert line.box[0] == pytest.approx(corner, abs=14)
    a, b, c, _ = np.array(line.box)
    assert np.cross([*(b - a), 0], [*(c - b), 0])[2] > 0  # clockwise, as y points down
    assert line.score > 0.9


def test_what_is_blank_or_tiny_has_no_lines(reader: Reader) -> None:
    for shape in [(1, 1), (1, 4000), (4000, 1), (7, 7), (300, 300)]:
        assert reader.lines(np.full((*shape, 3), 255, np.uint8)) == []
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    assert reader.lines(noise) == []


def test_a_thin_wide_picture_costs_no_more_than_a_page(reader: Reader) -> None:
    wide = np.full((40, 33_000, 3), 255, np.uint8)
    wide[4:38, :] = np.array(drawn(WORDS, 24))[:34, :1]
    wide[2:36, 100 : 100 + drawn(WORDS).width] = np.array(drawn(WORDS))[:34]
    assert WORDS in [line.text for line in reader.lines(wide)]


def test_a_big_page_is_read_in_its_own_pixels(reader: Reader) -> None:
    page = Image.new("RGB", (4000, 5600), "white")
    page.paste(drawn(WORDS, 90), (2500, 5000))
    (line,) = reader.lines(np.array(page))
    assert line.text == WORDS
    assert line.box[0] == pytest.approx((2503, 5010), abs=40)


def test_a_very_tall_page_is_read_in_strips_and_no_line_twice(reader: Reader) -> None:
    page = Image.new("RGB", (420, 5000), "white")
    tops = list(range(20, 4900, 230))
    for i, top in enumerate(tops):
        page.paste(drawn(f"Line number {i} of many", 22), (20, top))
    lines = sorted(reader.lines(np.array(page)), key=lambda line: line.box[0][1])
    assert [line.text for line in lines] == [f"Line number {i} of many" for i in range(len(tops))]
    for line, top in zip(lines, tops, strict=True):
        assert line.box[0][1] == pytest.approx(top + 6, abs=14)


def test_threads_take_turns(reader: Reader) -> None:
    found: dict[int, list[str]] = {}

    def read(i: int) -> None:
        found[i] = texts(reader, drawn(f"Thread number {i}"))

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: [f"Thread number {i}"] for i in range(4)}


def test_a_picture_of_another_form_is_a_mistake_of_the_caller(reader: Reader) -> None:
    for wrong in (np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.float32)):
        with pytest.raises(ValueError, match="uint8"):
            reader.lines(wrong)


def test_what_goes_wrong_inside_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def detect_and_crop(self, *_: object) -> None:
            raise RuntimeError("Traceback:\n  no memory left for node 7")

    monkeypatch.setattr(module, "_load", Broken)
    picture = np.array(drawn(WORDS))
    with pytest.raises(CraneError, match=r"failed on this picture \(no memory left for node 7\)"):
        Reader().lines(picture)

    def missing() -> None:
        raise ImportError("No module named 'rapidocr'")

    monkeypatch.setattr(module, "_load", missing)
    with pytest.raises(CraneError, match="Install Crane again"):
        Reader().lines(picture)


def test_a_reader_is_made_at_no_cost_and_says_nothing() -> None:
    code = (
        "import sys, numpy as np; from crane_app.media.reader import Reader; reader = Reader()\n"
        "assert not {'rapidocr', 'onnxruntime', 'cv2'} & set(sys.modules)\n"
        "picture = np.full((90, 300, 3), 255, np.uint8); picture[30:60, 50:250:7] = 0\n"
        "reader.lines(picture)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_few_threads_are_used(reader: Reader) -> None:
    reader.lines(np.array(drawn(WORDS)))
    for part in (reader._ocr.text_det, reader._ocr.text_cls, reader._ocr.text_rec):
        options = part.session.session.get_session_options()
        assert 1 <= options.intra_op_num_threads <= module.MOST_THREADS
    assert logging.getLogger("RapidOCR").level >= logging.CRITICAL


@pytest.mark.parametrize("height", [1, 900, 6000, 6049, 7000, 40_000])
def test_strips_cover_a_page_and_own_each_row_once(height: int) -> None:
    cut = strips(height, 300)
    assert cut[0].top == 0
    assert cut[-1].bottom == height
    for strip in cut:
        assert max(strip.own_top, 0) >= strip.top
        assert min(strip.own_bottom, height) <= strip.bottom
    assert [s.own_bottom for s in cut[:-1]] == [s.own_top for s in cut[1:]]
    assert len(strips(height, height)) == 1


def test_scales_stay_in_the_budget() -> None:
    for height, width in [(8, 8), (8, 60_000), (1000, 1400), (5000, 7000), (12_000, 10_000)]:
        scale = detection_scale(height, width)
        assert scale <= 2
        assert scale * scale * height * width <= module.DETECTION_PIXELS * 1.01


def test_a_frame_has_the_colour_of_the_edge() -> None:
    page, margin = framed(np.full((20, 30, 3), (10, 20, 30), np.uint8))
    assert page.shape == (20 + 2 * margin, 30 + 2 * margin, 3)
    assert (page == (30, 20, 10)).all()


def test_only_tall_boxes_are_upended() -> None:
    assert is_upended(np.array([(0, 0), (20, 0), (20, 60), (0, 60)]))
    assert not is_upended(np.array([(0, 0), (60, 0), (60, 20), (0, 20)]))


def test_a_line_knows_its_height_and_angle() -> None:
    down = Line("x", ((20, 0), (20, 50), (0, 50), (0, 0)), 1.0)
    assert (down.height, down.angle) == (20, pytest.approx(np.pi / 2))


def test_reading_leaves_no_trace_of_the_library_in_the_home(tmp_path: Path) -> None:
    # onnxruntime's telemetry is native: no audit hook of Python sees it, but it keeps its outgoing events in the home.
    picture = tmp_path / "words.png"
    drawn(WORDS).save(picture)
    home = tmp_path / "home"
    home.mkdir()
    program = (
        f"import sys, numpy; from PIL import Image; from crane_app.media.reader import Reader\nReader().lines({PIXELS})"
    )
    free = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    subprocess.run([sys.executable, "-c", program, str(picture)], env={**free, "HOME": str(home)}, check=True)
    assert [path for path in home.rglob("*") if path.is_file()] == []

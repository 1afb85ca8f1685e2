"""Pages on their way: the same after packing, and pictures no larger than a screen needs."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crane_app.media.layout import regions
from crane_app.media.pages import LONGEST_SIDE, PageText, bitmaps, packed, sheet, unpacked
from crane_app.media.reader import Line

BOX = st.tuples(*[st.tuples(st.floats(0, 1e4).map(lambda x: round(x, 1)), st.floats(0, 1e4))] * 4)


@given(st.lists(st.builds(Line, st.text(), BOX, st.floats(0, 1)), max_size=5))
def test_a_packed_page_is_the_same_page(lines: list[Line]) -> None:
    page = PageText(2, 9, 640, 480, tuple(regions(lines)))
    assert unpacked(packed(page)) == page


def test_a_page_full_of_text_is_small() -> None:
    text = "Cranes stand in shallow water, because nothing reaches them there."
    lines = [Line(text, ((9, y), (900, y), (900, y + 20), (9, y + 20)), 0.98) for y in range(0, 1500, 25)]
    assert len(packed(PageText(1, 1, 1000, 1500, tuple(regions(lines))))) < 4000


@pytest.mark.parametrize(("height", "width"), [(10, 7), (1, 1), (40, 3001), (4000, 500)])
def test_a_sheet_keeps_the_size_of_its_page_and_fits_the_screen(height: int, width: int) -> None:
    image = np.full((height, width, 3), 255, np.uint8)
    image[:, : width // 2] = (255, 0, 0)
    made = sheet(3, 9, image)
    assert (made.page, made.count, made.width, made.height) == (3, 9, width, height)
    picture = Image.open(io.BytesIO(made.picture))
    assert max(picture.size) == min(max(height, width), LONGEST_SIDE)
    if width > 3:
        red, white = picture.getpixel((0, 0)), picture.getpixel((picture.width - 1, 0))
        assert red[0] > 200 > 100 > red[1]
        assert white[1] > 200


def test_a_sheet_takes_pixels_that_are_a_view_of_others() -> None:
    image = np.zeros((20, 30, 3), np.uint8)[:, ::-2]
    assert Image.open(io.BytesIO(sheet(1, 1, image).picture)).size == (15, 20)


def test_bitmaps_are_blue_first_and_halve() -> None:
    image = np.zeros((900, 500, 3), np.uint8)
    image[..., 0] = 250  # red
    levels = bitmaps(sheet(1, 1, image).picture, least=400)
    assert [(level.width, level.height) for level in levels] == [(500, 900), (250, 450), (125, 225)]
    for level in levels:
        pixels = np.frombuffer(level.data, np.uint8).reshape(level.height, level.width, 4)
        blue, green, red, opaque = pixels[level.height // 2, level.width // 2]
        assert red > 240 > 20 > max(blue, green)
        assert opaque == 255

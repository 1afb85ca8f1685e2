"""A page once it was read, and a page as a screen shows it; both small enough to be sent and kept."""

from __future__ import annotations

import io
import json
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from crane_app.media.layout import Region
from crane_app.media.reader import Line

LONGEST_SIDE = 2000  # pixels: sharp on a screen at 200 %
QUALITY = 88


@dataclass(frozen=True)
class PageText:
    """Page `page` of `count` (from 1), width x height pixels, and its regions in reading order."""

    page: int
    count: int
    width: int
    height: int
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Sheet:
    """How a page looks: `picture` is a JPEG of any size; `width` and `height` are the page's own pixels."""

    page: int
    count: int
    width: int
    height: int
    picture: bytes


def sheet(number: int, count: int, image: np.ndarray) -> Sheet:
    """Page `number` of `count` for the screen, from its pixels uint8 [H, W, 3]."""
    height, width = image.shape[:2]
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return Sheet(number, count, width, height, file.getvalue())


def packed(page: PageText) -> bytes:
    """The page as compressed JSON, about 3 kB where it is full of text."""
    found = [[r.kind, r.text, r.score, r.box, [[n.text, n.box, n.score] for n in r.lines]] for r in page.regions]
    text = json.dumps([page.page, page.count, page.width, page.height, found], ensure_ascii=False)
    return zlib.compress(text.encode("utf-8", "surrogatepass"))


def unpacked(data: bytes) -> PageText:
    """The page that was packed."""
    number, count, width, height, found = json.loads(zlib.decompress(data).decode("utf-8", "surrogatepass"))
    return PageText(number, count, width, height, tuple(_region(*each) for each in found))


def _region(kind: Any, text: str, score: float, box: Any, lines: list[Any]) -> Region:
    return Region(kind, text, tuple(Line(t, _box(b), s) for t, b, s in lines), _box(box), score)


def _box(points: list[list[float]]) -> Any:
    return tuple((x, y) for x, y in points)


@dataclass(frozen=True)
class Bitmap:
    """Rows of blue, green, red and a byte of 255 for each pixel."""

    width: int
    height: int
    data: bytes


def bitmaps(picture: bytes, least: int = 400) -> list[Bitmap]:
    """A picture as pixels, then at half the size, at a quarter, and so on while a side is longer than `least`.

    By Pillow, which lets other threads run meanwhile.
    """
    with Image.open(io.BytesIO(picture)) as opened:
        level = opened.convert("RGB")
    levels = [_bitmap(level)]
    while max(level.size) > least and min(level.size) > 1:
        level = level.reduce(2)
        levels.append(_bitmap(level))
    return levels


def _bitmap(picture: Image.Image) -> Bitmap:
    return Bitmap(*picture.size, picture.convert("RGBA").tobytes("raw", "BGRA"))

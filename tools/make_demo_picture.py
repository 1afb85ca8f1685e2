"""Draws the demo's page and writes its text beside it: python tools/make_demo_picture.py [FOLDER]

The letters are those in Pillow, so that it runs anywhere; they have no umlauts, so the dots are drawn.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).parents[1] / "crane_app" / "assets" / "demo"
DPI = 150
SIZE = (1240, 800)
INK, PAPER, GREYS = 20, 255, 16

TITLE = "Where the cranes rest in autumn"
LEFT = [
    "Every October the cranes come down to",
    "the shallow lake and sleep standing in",
    "the water, where no fox can reach them.",
    "In 2024 the local volunteers counted",
    "24,860 birds in one night, more than in",
    "any year since 2009. At dawn they leave",
    "for the fields, family by family, calling.",
]
RIGHT = [
    "The best view is from the wooden tower",
    "north of Lübeck. Come before 6:45, bring",
    "a warm coat, and stay quiet: a single loud",
    "word can lift a thousand wings. Binocu-",
    "lars help, but the sound alone is worth",
    "the way. Parking costs 3.50 for a day, and",
    "the path of 850 metres is flat and dry.",
]
MARGIN_NOTE = "Photographs are welcome, flashlights are not"


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    picture = page().quantize(GREYS, dither=Image.Dither.NONE)
    picture.save(folder / "page.png", optimize=True, dpi=(DPI, DPI))
    (folder / "page.txt").write_text(text(), encoding="utf-8", newline="\n")


def page() -> Image.Image:
    picture = Image.new("L", SIZE, PAPER)
    write(picture, (90, 80), TITLE, 66)
    for x, lines in ((90, LEFT), (625, RIGHT)):
        for i, line in enumerate(lines):
            write(picture, (x, 240 + 52 * i), line, 26)
    foot = Image.new("L", (600, 40), PAPER)
    write(foot, (0, 4), MARGIN_NOTE, 22)
    picture.paste(foot.transpose(Image.Transpose.ROTATE_90), (1160, 100))
    return picture


def write(picture: Image.Image, at: tuple[int, int], line: str, size: int) -> None:
    """A line with the top-left of its font at `at`."""
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(picture)
    plain = line.replace("ü", "u")
    draw.text(at, plain, font=font, fill=INK)
    radius, width = size * 0.06, font.getlength("u")
    y = at[1] + size * 0.33
    for before in (plain[:i] for i, letter in enumerate(line) if letter == "ü"):
        for part in (0.3, 0.7):
            x = at[0] + font.getlength(before) + part * width
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=INK)


def text() -> str:
    """What is on the page, in reading order."""
    columns = [" ".join(lines).replace("Binocu- lars", "Binoculars") for lines in (LEFT, RIGHT)]
    return "\n\n".join([TITLE, *columns, MARGIN_NOTE]) + "\n"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))

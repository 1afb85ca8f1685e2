"""A reader that reads what a test tells it to."""

import threading
from dataclasses import dataclass

import numpy as np

from crane_app.ui.sheets import sheet

WIDTH, HEIGHT = 400, 600


@dataclass
class Region:
    kind: str
    text: str
    box: tuple


@dataclass
class Page:
    page: int
    count: int
    regions: tuple


def words(name: str, page: int) -> tuple[str, ...]:
    return f"{name}, page {page}", "Cranes stand in shallow water.", "Grus grus"


class FakeReader:
    """Reads one page of every name, or `counts[name]`; with `held`, each text waits for a `let()`."""

    def __init__(self):
        self.counts: dict[str, int] = {}
        self.errors: dict[tuple[str, int], Exception] = {}
        self.blank = False
        self.held = False
        self.started: list[str] = []
        self.closed: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self._gate = threading.Semaphore(0)

    def let(self, pages: int = 1) -> None:
        self._gate.release(pages)

    def pages(self, source, name):
        self.started.append(name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            count = self.counts.get(name, 1)
            for number in range(1, count + 1):
                yield sheet(number, count, np.full((HEIGHT, WIDTH, 3), 255, np.uint8))
                if self.held:
                    assert self._gate.acquire(timeout=20)
                if (name, number) in self.errors:
                    raise self.errors[name, number]
                yield Page(number, count, () if self.blank else regions(name, number))
        finally:
            self.at_once -= 1
            self.closed.append(name)

    def as_text(self, pages):
        return "\n".join(region.text for page in pages for region in page.regions)

    def as_markdown(self, pages):
        return "# " + self.as_text(pages)


def regions(name: str, page: int) -> tuple[Region, ...]:
    kinds = ("heading", "paragraph", "line")
    boxes = [((20, y), (380, y), (380, y + 60), (20, y + 60)) for y in (20, 120, 220)]
    return tuple(Region(*each) for each in zip(kinds, words(name, page), boxes, strict=True))

"""A reader that reads what a test tells it to: no file, no model, no process."""

import threading

import numpy as np

from crane_app.library.pages import Kept
from crane_app.media.layout import Region
from crane_app.media.pages import PageText, packed, sheet
from crane_app.media.reader import Line
from crane_app.pipelines.kept_reading import Text, Unread
from crane_app.ui.pictures.sheets import look_of
from crane_app.ui.pictures.view import PicturesView
from crane_app.ui.worker import Worker

WIDTH, HEIGHT = 400, 600
PATIENCE_S = 20


def words(name: str, page: int) -> tuple[str, ...]:
    return f"{name}, page {page}", "Cranes stand in shallow water.", "Grus grus"


class FakeReader:
    """As ui.sheets.PageReader. Reads one page of every name, or `counts[name]`; with `held`, each waits for a `let()`.

    errors: raised in the place of a page; damaged: a sentence in the place of a page, and the others come. kept: pages
    by name that are there already; they grow with what is read. news: by name, what comes before all else.
    """

    def __init__(self):
        self.counts: dict[str, int] = {}
        self.errors: dict[tuple[str, int], Exception] = {}
        self.damaged: dict[tuple[str, int], str] = {}
        self.news: dict[str, object] = {}
        self.kept: dict[str, dict[int, bytes]] = {}
        self.left_over: list[str] = []
        self.plans: list[list[str]] = []
        self.blank = False
        self.held = False
        self.started: list[str] = []
        self.closed: list[str] = []
        self.drawn: list[tuple[str, int]] = []
        self.forgotten = 0
        self.at_once = 0
        self.most_at_once = 0
        self._gate = threading.Semaphore(0)

    def let(self, pages: int = 1) -> None:
        self._gate.release(pages)

    def read(self, source, name, after=None) -> Worker:
        return started(self._pages(name), after)

    def draw(self, source, name, page) -> Worker:
        return started(self._drawing(name, page))

    def plan(self, paths) -> None:
        self.plans.append(list(paths))

    def unfinished(self) -> Worker:
        return started(step(lambda: self.left_over))

    def forget(self, after) -> Worker:
        def drop():
            self.forgotten += 1
            self.kept.clear()

        return started(step(drop), after)

    def _drawing(self, name, page):
        self.drawn.append((name, page))
        return look_of(sheet(page, self.counts.get(name, 1), np.full((HEIGHT, WIDTH, 3), 255, np.uint8)))
        yield

    def _pages(self, name):
        self.started.append(name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if name in self.news:
                yield self.news[name]
                return
            kept = self.kept.setdefault(name, {})
            count = self.counts.get(name, 1)
            yield Kept(count if kept else 0, dict(kept))
            for number in range(1, count + 1):
                if number not in kept:
                    yield self._page(name, number, count)
        finally:
            self.at_once -= 1
            self.closed.append(name)

    def _page(self, name, number, count):
        if self.held:
            assert self._gate.acquire(timeout=PATIENCE_S)
        if (name, number) in self.errors:
            raise self.errors[name, number]
        if (name, number) in self.damaged:
            return Unread(number, count, self.damaged[name, number])
        page = PageText(number, count, WIDTH, HEIGHT, () if self.blank else regions(name, number))
        self.kept[name][number] = packed(page)
        return Text(number, count, packed(page))


def shown(qtbot, reader) -> PicturesView:
    """The view by itself, in front."""
    view = PicturesView(reader)
    view.heard = []
    view.said.connect(view.heard.append)
    qtbot.addWidget(view)
    view.resize(1080, 720)
    view.show()
    with qtbot.waitActive(view):
        view.activateWindow()
    qtbot.waitUntil(lambda: view.queue.left_over is not None)
    return view


def started(steps, after=None) -> Worker:
    worker = Worker(steps, after)
    worker.start()
    return worker


def step(does):
    return does()
    yield


def regions(name: str, page: int) -> tuple[Region, ...]:
    """A heading, a paragraph of two lines and a line."""
    kinds = ("heading", "paragraph", "line")
    boxes = [((20, y), (380, y), (380, y + 60), (20, y + 60)) for y in (20, 120, 220)]
    return tuple(
        Region(kind, text, tuple(lines(text, box)), box, 0.9)
        for kind, text, box in zip(kinds, words(name, page), boxes, strict=True)
    )


def lines(text: str, box) -> list[Line]:
    """The text in its box: broken before its last two words, where it is a sentence."""
    parts = [text] if not text.endswith(".") else [text.rsplit(" ", 2)[0], text.split(" ", text.count(" ") - 1)[-1]]
    (left, top), (right, _), *_ = box
    height = 60 / len(parts)
    rows = [top + height * row for row in range(len(parts))]
    return [
        Line(part, ((left, y), (right, y), (right, y + height), (left, y + height)), 0.9)
        for part, y in zip(parts, rows, strict=True)
    ]

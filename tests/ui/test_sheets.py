import threading

import numpy as np
import pytest
from fake_reader import shown, started
from fakes import FakeConnection
from hands import done
from PIL import Image
from PySide6.QtGui import QColor, QImage

from crane_app.engine.reading import Here
from crane_app.errors import DeviceLost
from crane_app.library.pages import Pages
from crane_app.media.pages import sheet
from crane_app.media.reader import Line
from crane_app.pipelines.kept_reading import fingerprint
from crane_app.ui.pictures.queue import State
from crane_app.ui.pictures.sheets import KEPT_LOOKS, Looks, PageReader, Source, look_of
from crane_app.ui.worker import stop_all


def page(number: int, height: int = 40, width: int = 30) -> np.ndarray:
    return np.full((height, width, 3), number, np.uint8)


class Drawer:
    """Draws a page when it is let, or fails where it is told to."""

    def __init__(self):
        self.drawn: list[int] = []
        self.broken: set[int] = set()
        self.gate = threading.Semaphore(0)

    def draw(self, source, name, number):
        self.drawn.append(number)
        return started(self._steps(number))

    def _steps(self, number):
        assert self.gate.acquire(timeout=20)
        if number in self.broken:
            raise DeviceLost("The engine stopped.")
        return look_of(sheet(number, 99, page(number)))
        yield


class Asking:
    source, name = Source(path="/a.pdf"), "a.pdf"


@pytest.mark.parametrize(("height", "width", "levels"), [(600, 400, 2), (1, 1, 1), (2000, 1400, 4), (30, 1600, 3)])
def test_a_look_has_the_page_in_halving_sizes(height, width, levels):
    # GIVEN a page whose left half is red
    image = np.full((height, width, 3), 255, np.uint8)
    image[:, : width // 2] = (255, 0, 0)
    # WHEN it is made ready to be painted
    look = look_of(sheet(1, 3, image))
    # THEN each picture is half as large as the one before, and shows the same
    assert [picture.width() for picture in look.pictures] == [-(-width // 2**n) for n in range(levels)]
    assert (look.width, look.height) == (width, height)
    for picture in look.pictures:
        if picture.width() > 3:
            left, right = picture.pixelColor(0, 0), picture.pixelColor(picture.width() - 1, 0)
            assert left.red() > 200 > 100 > left.green()
            assert right.green() > 200


def test_of_many_pages_asked_for_only_the_last_is_drawn(qtbot):
    # GIVEN the first page is being drawn
    drawer = Drawer()
    looks, entry, came = Looks(drawer), Asking(), []
    looks.came.connect(lambda _entry, look: came.append(look.page))
    assert looks.ask(entry, 1) is None
    # WHEN somebody leafs on
    for number in (2, 3, 4):
        looks.ask(entry, number)
    drawer.gate.release(9)
    qtbot.waitUntil(lambda: came == [1, 4])
    # THEN what was only leafed over was never drawn, and what is known comes at once
    assert drawer.drawn == [1, 4]
    assert looks.ask(entry, 4).page == 4


def test_only_the_pages_seen_last_are_held_in_memory(qtbot):
    drawer = Drawer()
    looks, entry, came = Looks(drawer), Asking(), []
    looks.came.connect(lambda _entry, look: came.append(look.page))
    drawer.gate.release(99)
    for number in range(1, KEPT_LOOKS + 3):
        looks.ask(entry, number)
        qtbot.waitUntil(lambda number=number: came[-1:] == [number])
    # THEN the first is drawn again, the last is not
    assert looks.ask(entry, KEPT_LOOKS + 2) is not None
    assert looks.ask(entry, 1) is None
    qtbot.waitUntil(lambda: came[-1] == 1)


def test_a_page_that_cannot_be_drawn_is_told_and_the_next_is_drawn(qtbot):
    drawer = Drawer()
    looks, entry, told, came = Looks(drawer), Asking(), [], []
    looks.failed.connect(lambda _entry, number, words: told.append((number, words)))
    looks.came.connect(lambda _entry, look: came.append(look.page))
    drawer.broken = {1}
    looks.ask(entry, 1)
    looks.ask(entry, 2)
    drawer.gate.release(2)
    qtbot.waitUntil(lambda: came == [2])
    assert told == [(1, "The engine stopped.")]


class Widths:
    """Finds the width of each page, when it is let."""

    def __init__(self):
        self.gate = threading.Semaphore(0)

    def lines(self, image):
        assert self.gate.acquire(timeout=20)
        return [Line(f"{image.shape[1]} wide", ((0, 0), (9, 0), (9, 9), (0, 9)), 0.9)]


@pytest.fixture
def scan(tmp_path):
    """A document of four pages."""
    first, *others = [Image.new("L", (width, 30), "white") for width in (40, 50, 60, 70)]
    path = tmp_path / "scan.tiff"
    first.save(path, save_all=True, append_images=others)
    return path


@pytest.fixture
def widths():
    lines = Widths()
    yield lines
    lines.gate.release(99)
    assert stop_all(10)


def test_a_document_goes_through_the_engine_and_a_picture_as_its_content(qtbot, scan, widths, tmp_path):
    # GIVEN a view whose connection has an engine that reads
    connection = FakeConnection(Here(widths))
    widths.gate.release(99)
    view = shown(qtbot, PageReader(connection, Pages(tmp_path / "kept")))
    # WHEN a file and a picture are read
    image = QImage(80, 20, QImage.Format.Format_RGB32)
    image.fill(QColor("white"))
    view.read([scan, image])
    qtbot.waitUntil(lambda: done(view))
    # THEN all pages are there, and seen
    document, picture = view.queue.entries
    assert (document.state, document.count, sorted(document.texts)) == (State.DONE, 4, [1, 2, 3, 4])
    assert (picture.state, picture.count) == (State.DONE, 1)
    assert view.text.toPlainText() == "40 wide"
    qtbot.waitUntil(view.canvas.filled)
    view.turn(1)
    qtbot.waitUntil(lambda: view.canvas.sceneRect().width() == 50 + 16)
    assert view.text.toPlainText() == "50 wide"


def test_the_next_program_offers_to_go_on_and_reads_only_what_is_missing(qtbot, scan, widths, tmp_path):
    # GIVEN a program that ended after the second of four pages
    pages = Pages(tmp_path / "kept")
    first = shown(qtbot, PageReader(FakeConnection(Here(widths)), pages))
    first.read([scan])
    widths.gate.release(2)
    qtbot.waitUntil(lambda: len(first.queue.entries[0].texts) == 2)
    qtbot.waitUntil(lambda: pages.unfinished() == [str(scan)])
    first.leave()
    widths.gate.release()  # the page under way
    assert stop_all(10)
    # WHEN the next one starts
    view = shown(qtbot, PageReader(FakeConnection(Here(widths)), pages))
    assert "One document" in view.left_over.words()
    # THEN two pages and the one under way are there at once, and one is read
    view.left_over.accepted.emit()
    qtbot.waitUntil(lambda: sorted(view.queue.entries[0].texts) == [1, 2, 3])
    widths.gate.release()
    qtbot.waitUntil(lambda: done(view))
    assert view.queue.entries[0].state is State.DONE
    qtbot.waitUntil(lambda: pages.unfinished() == [])


def test_what_is_removed_while_it_is_read_ends_before_the_next_begins(qtbot, scan, widths, tmp_path):
    # GIVEN a document whose first page is being read, and another one
    other = tmp_path / "other.png"
    Image.new("L", (80, 30), "white").save(other)
    pages, busy = Pages(tmp_path / "kept"), []
    here = Here(widths)

    class Watched:
        most = 0

        def open(self, job):
            if job.kind == "draw":
                yield from here.open(job)
                return
            busy.append(job)
            self.most = max(self.most, len(busy))
            try:
                yield from here.open(job)
            finally:
                busy.remove(job)

    engine = Watched()
    view = shown(qtbot, PageReader(FakeConnection(engine), pages))
    view.read([scan, other])
    qtbot.waitUntil(lambda: len(busy) == 1)
    # WHEN it is removed, and all that was read is forgotten
    view.queue.remove(view.queue.entries[0])
    said = []
    view.said.connect(said.append)
    widths.gate.release(1)  # the page under way
    widths.gate.release(1)
    qtbot.waitUntil(lambda: done(view))
    view.forget()
    qtbot.waitUntil(lambda: "Nothing that was read is kept any more." in said)
    # THEN one was read at a time, and nothing comes later
    assert engine.most == 1
    assert busy == []
    assert not pages.kept(fingerprint(scan, scan.name)).texts


BAD = {
    "words.png": (b"these are words\n" * 9, "plain text"),
    "nothing.png": (b"", "is empty"),
    "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "broken.pdf": (b"%PDF-1.7\nnothing more", "damaged or has no pages"),
    "cut.jpg": (b"\xff\xd8\xff" + bytes(40), "damaged"),
}


def test_bad_files_are_told_one_by_one_and_the_queue_goes_on(qtbot, scan, widths, tmp_path):
    # GIVEN files that are not what they seem, one that is missing, an empty folder, and a good one at the end
    for name, (content, _) in BAD.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "empty").mkdir()
    widths.gate.release(99)
    view = shown(qtbot, PageReader(FakeConnection(Here(widths)), Pages(tmp_path / "kept")))
    # WHEN all are read
    view.read([*(tmp_path / name for name in BAD), tmp_path / "missing.png", tmp_path / "empty", scan])
    qtbot.waitUntil(lambda: done(view), timeout=20_000)
    # THEN each says what is wrong with it, and the good one is read
    *bad, good = view.queue.entries
    assert [entry.state for entry in bad] == [State.FAILED] * len(bad)
    reasons = [*(reason for _, reason in BAD.values()), "no file", "no picture or PDF"]
    assert [reason for reason, entry in zip(reasons, bad, strict=True) if reason not in entry.error] == []
    assert (good.state, len(good.texts)) == (State.DONE, 4)


def test_plans_are_written_in_their_order_and_those_overtaken_are_left_out(qtbot, tmp_path):
    # GIVEN a store that is slow
    class Slow:
        def __init__(self):
            self.written, self.gate = [], threading.Semaphore(0)

        def plan(self, paths):
            assert self.gate.acquire(timeout=20)
            self.written.append(paths)

    slow = Slow()
    reader = PageReader(None, slow)
    # WHEN plans come faster than they can be written
    for number in range(5):
        reader.plan([str(number)])
    slow.gate.release(9)
    # THEN the first is written, and the last
    qtbot.waitUntil(lambda: slow.written == [["0"], ["4"]])

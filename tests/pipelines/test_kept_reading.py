"""Reading that is kept, with a stand-in for the engine: what comes first, what is asked for, and what a death costs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crane_app.engine.reading import Here
from crane_app.engine.request import Job, Part
from crane_app.errors import BadInput, Cancelled, CraneError, DeviceLost
from crane_app.library.pages import Kept, Pages
from crane_app.media.pages import unpacked
from crane_app.media.reader import Line
from crane_app.pipelines.kept_reading import Contents, KeptReading, Text, Unkept, Unread, fingerprint


class Widths:
    """A reader that finds the width of its page."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def lines(self, image: np.ndarray) -> list[Line]:
        width = image.shape[1]
        self.seen.append(width)
        return [Line(f"{width} wide", ((0, 0), (9, 0), (9, 9), (0, 9)), 0.9)]


class Mortal:
    """An engine that dies when it reads a page of one of these widths, so many times."""

    def __init__(self, reader: Widths, **deaths: int) -> None:
        self._here, self._reader = Here(reader), reader
        self.deaths = {int(width.removeprefix("w")): times for width, times in deaths.items()}
        self.jobs: list[Job] = []

    def open(self, job: Job) -> Iterator[Part]:
        self.jobs.append(job)
        lines = self._reader.lines

        def mortal(image: np.ndarray) -> list[Line]:
            found = lines(image)
            if self.deaths.get(image.shape[1], 0) > 0:
                self.deaths[image.shape[1]] -= 1
                raise SystemExit  # no CraneError: the job ends here
            return found

        self._reader.lines = mortal  # type: ignore[method-assign]
        try:
            yield from self._here.open(job)
        except SystemExit:
            raise DeviceLost("The engine stopped.") from None
        finally:
            self._reader.lines = lines  # type: ignore[method-assign]


def tiff(*widths: int) -> bytes:
    first, *others = [Image.new("L", (width, 30), "white") for width in widths]
    file = io.BytesIO()
    first.save(file, "TIFF", save_all=True, append_images=others)
    return file.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "scan.tiff"
    made.write_bytes(tiff(40, 50, 60, 70))
    return made


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    return Pages(tmp_path / "kept")


@pytest.fixture
def reader() -> Widths:
    return Widths()


def told(news: Any) -> Any:
    """News in short."""
    if isinstance(news, Text):
        return unpacked(news.packed).regions[0].text
    return news


def test_every_page_comes_and_is_kept_before_it_is_told(path: Path, pages: Pages, reader: Widths) -> None:
    key = fingerprint(path)
    came = []
    for news in KeptReading(Here(reader), pages).read(path):
        came.append(told(news))
        assert len(pages.kept(key).texts) == len(came) - 1
    assert came == [Kept(0, {}), "40 wide", "50 wide", "60 wide", "70 wide"]


def test_what_is_kept_is_not_read_again(path: Path, pages: Pages, reader: Widths) -> None:
    # GIVEN the reading was left after the second page
    news = KeptReading(Here(reader), pages).read(path)
    for _ in range(3):
        next(news)
    news.close()
    reader.seen.clear()
    # WHEN the same content is opened under another name
    other = path.rename(path.with_name("other.tiff"))
    kept, *rest = KeptReading(Here(reader), pages).read(other)
    # THEN two pages are there, two are read
    assert isinstance(kept, Kept)
    assert (kept.count, sorted(kept.texts)) == (4, [1, 2])
    assert [told(each) for each in rest] == ["60 wide", "70 wide"]
    assert reader.seen == [60, 70]
    # AND then none
    (kept,) = KeptReading(Here(reader), pages).read(other)
    assert sorted(kept.texts) == [1, 2, 3, 4]
    assert reader.seen == [60, 70]


def test_another_content_is_another_document(path: Path, pages: Pages, reader: Widths) -> None:
    list(KeptReading(Here(reader), pages).read(path))
    path.write_bytes(tiff(80))
    assert [told(each) for each in KeptReading(Here(reader), pages).read(path)] == [Kept(0, {}), "80 wide"]


def test_a_picture_without_a_file_is_kept_too(pages: Pages, reader: Widths) -> None:
    list(KeptReading(Here(reader), pages).read(tiff(40), "Pasted picture"))
    (kept,) = KeptReading(Here(reader), pages).read(tiff(40), "Another paste")
    assert kept.count == 1


def test_a_file_that_changes_under_way_is_not_mixed_up(path: Path, pages: Pages, reader: Widths) -> None:
    news = KeptReading(Here(reader), pages).read(path)
    next(news)
    next(news)
    path.write_bytes(tiff(40, 50, 60, 70, 80))
    with pytest.raises(BadInput, match="changed while it was read"):
        list(news)


def test_a_folder_tells_what_is_in_it(path: Path, pages: Pages, reader: Widths) -> None:
    assert list(KeptReading(Here(reader), pages).read(path.parent)) == [Contents((path,), 0)]
    assert reader.seen == []


def test_an_engine_that_dies_costs_no_page(path: Path, pages: Pages, reader: Widths) -> None:
    engine = Mortal(reader, w50=1, w70=1)
    came = [told(news) for news in KeptReading(engine, pages).read(path)]
    assert came == [Kept(0, {}), "40 wide", "50 wide", "60 wide", "70 wide"]
    assert [job.options["skip"] for job in engine.jobs] == [[], [1], [1, 2, 3]]
    assert reader.seen == [40, 50, 50, 60, 70, 70]


def test_a_page_that_kills_the_engine_twice_is_left_out(path: Path, pages: Pages, reader: Widths) -> None:
    engine = Mortal(reader, w50=9)
    _, *came = [told(news) for news in KeptReading(engine, pages).read(path)]
    assert came[0] == "40 wide"
    assert came[2:] == ["60 wide", "70 wide"]
    assert isinstance(came[1], Unread)
    assert (came[1].page, came[1].count) == (2, 4)
    assert "stopped the engine 2 times" in came[1].sentence
    assert reader.seen.count(50) == 2


def test_a_first_page_that_kills_the_engine_costs_only_itself(path: Path, pages: Pages, reader: Widths) -> None:
    _, *came = [told(news) for news in KeptReading(Mortal(reader, w40=9), pages).read(path)]
    assert isinstance(came[0], Unread)
    assert (came[0].page, came[0].count) == (1, 4)
    assert came[1:] == ["50 wide", "60 wide", "70 wide"]


def test_an_only_page_that_kills_the_engine_is_told(reader: Widths) -> None:
    _, news = KeptReading(Mortal(reader, w40=9)).read(tiff(40), "Pasted picture")
    assert isinstance(news, Unread)
    assert (news.page, news.count) == (1, 1)


def test_a_document_that_kills_the_engine_before_any_page_is_a_sentence(path: Path) -> None:
    class Dying:
        jobs = 0

        def open(self, job: Job) -> Iterator[Part]:
            self.jobs += 1
            raise DeviceLost("The engine stopped.")

    engine = Dying()
    with pytest.raises(DeviceLost):
        list(KeptReading(engine).read(path))
    assert engine.jobs == 4


def test_an_engine_that_dies_at_every_page_is_not_tried_for_ever(tmp_path: Path, reader: Widths) -> None:
    path = tmp_path / "long.tiff"
    path.write_bytes(tiff(*range(40, 60)))
    engine = Mortal(reader, **{f"w{width}": 9 for width in range(41, 60)})
    news = KeptReading(engine).read(path)
    assert [type(next(news)) for _ in range(5)] == [Kept, Text, Unread, Unread, Unread]
    with pytest.raises(DeviceLost):
        next(news)
    assert len(reader.seen) == 1 + 4 * 2


def test_an_engine_that_ends_a_document_early_is_a_sentence(path: Path, reader: Widths) -> None:
    class Leaving:
        def open(self, job: Job) -> Iterator[Part]:
            yield from list(Here(reader).open(job))[:2]

    with pytest.raises(Cancelled, match="not read to its end"):
        list(KeptReading(Leaving()).read(path))


def test_a_damaged_page_is_told_and_the_others_are_read(path: Path, pages: Pages, reader: Widths) -> None:
    lines = reader.lines

    def damaged(image: np.ndarray) -> list[Line]:
        if image.shape[1] == 50:
            raise CraneError("The reader failed on this picture.")
        return lines(image)

    reader.lines = damaged  # type: ignore[method-assign]
    _, *came = [told(news) for news in KeptReading(Here(reader), pages).read(path)]
    assert came == ["40 wide", Unread(2, 4, "The reader failed on this picture."), "60 wide", "70 wide"]
    # AND it is tried again the next time, alone
    reader.lines = lines  # type: ignore[method-assign]
    reader.seen.clear()
    list(KeptReading(Here(reader), pages).read(path))
    assert reader.seen == [50]


def test_where_nothing_can_be_kept_it_is_said_once_and_read(path: Path, tmp_path: Path, reader: Widths) -> None:
    (tmp_path / "file").write_text("no folder")
    unkept, kept, *rest = KeptReading(Here(reader), Pages(tmp_path / "file" / "kept")).read(path)
    assert isinstance(unkept, Unkept)
    assert "cannot be kept" in unkept.sentence
    assert kept == Kept(0, {})
    assert [told(each) for each in rest] == ["40 wide", "50 wide", "60 wide", "70 wide"]


def test_a_housekeeping_that_fails_costs_nothing(path: Path, pages: Pages, reader: Widths) -> None:
    def locked() -> None:
        raise CraneError("What is read cannot be kept (database is locked).")

    pages.tidy = locked  # type: ignore[method-assign]
    _, *came = [told(news) for news in KeptReading(Here(reader), pages).read(path)]
    assert came == ["40 wide", "50 wide", "60 wide", "70 wide"]
    assert len(pages.kept(fingerprint(path)).texts) == 4


def test_closing_ends_the_job(path: Path, pages: Pages) -> None:
    class Endless:
        cancelled = 0

        def open(self, job: Job) -> Endless:
            return self

        def __iter__(self) -> Iterator[Part]:
            for number in range(1, 1000):
                yield Part({"page": number, "count": 1000, "text": b"text"})

        def cancel(self) -> None:
            self.cancelled += 1

    engine = Endless()
    news = KeptReading(engine, pages).read(path)
    next(news)
    next(news)
    news.close()
    assert engine.cancelled == 1


@pytest.mark.parametrize("source", [b"", b"no picture", Path("/no/such.png")])
def test_what_cannot_be_opened_is_the_documents_own_sentence(source: Any, pages: Pages, reader: Widths) -> None:
    with pytest.raises(BadInput, match="'my scan'"):
        list(KeptReading(Here(reader), pages).read(source, "my scan"))


def test_a_page_is_drawn_without_being_read(path: Path, reader: Widths) -> None:
    sheet = KeptReading(Here(reader)).draw(path, "", 3)
    assert (sheet.page, sheet.count, sheet.width, sheet.height) == (3, 4, 60, 30)
    assert Image.open(io.BytesIO(sheet.picture)).size == (60, 30)
    assert reader.seen == []

"""Documents in real processes: killed in the middle, on either side of the socket, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from crane_app.demo import FOLDER
from crane_app.engine.process.client import Client
from crane_app.engine.process.reach import Start, own_command
from crane_app.library.pages import Pages
from crane_app.media.pages import unpacked
from crane_app.pipelines.kept_reading import KeptReading, Text, Unread, fingerprint
from crane_app.pipelines.reading import as_text
from tests.process.conftest import Connect
from tests.process.slow_reader import pdf_of

SLOW = Path(__file__).with_name("slow_reader.py")
ROOT = Path(__file__).parents[2]
PAGES = 200


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def text_of(packed: bytes) -> str:
    return as_text([unpacked(packed)]).strip()


def test_a_long_document_survives_kill_9_and_goes_on_where_it_was(tmp_path: Path, environment: dict[str, str]) -> None:
    # GIVEN a program that reads two hundred pages
    file, kept = tmp_path / "long.pdf", tmp_path / "kept"
    file.write_bytes(pdf_of(PAGES))
    command = [sys.executable, "-P", str(SLOW), "read", str(kept), str(file)]
    reading = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert reading.stdout is not None
    # WHEN it is killed at its eightieth
    for line in reading.stdout:
        if int(line) == 80:
            break
    reading.send_signal(signal.SIGKILL)
    first = reading.stdout.read().split()
    assert reading.wait() == -signal.SIGKILL
    reading.stdout.close()
    under_way = int(first[-1]) if first else 80
    assert under_way < PAGES
    # THEN another one reads only what is missing, from the page under way
    second = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout.split()
    assert int(second[0]) in (under_way, under_way + 1)
    assert [int(page) for page in second] == list(range(int(second[0]), PAGES + 1))
    # AND every page is there
    texts = Pages(kept).kept(fingerprint(file)).texts
    assert {page: text_of(text) for page, text in texts.items()} == {
        page: f"page {page}" for page in range(1, PAGES + 1)
    }


@pytest.fixture
def slow(how: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """The engine with the slow reader; its log of pages is at tmp_path / "begun"."""
    monkeypatch.setenv("SLOW_LOG", str(tmp_path / "begun"))
    return replace(how, command=(sys.executable, "-P", str(SLOW)))


def read(client: Client, tmp_path: Path) -> list[str]:
    """What comes of a document of six pages."""
    file = tmp_path / "six.pdf"
    file.write_bytes(pdf_of(6))
    told = []
    for news in KeptReading(client, Pages(tmp_path / "kept")).read(file):
        if isinstance(news, Text):
            told.append(text_of(news.packed))
        elif isinstance(news, Unread):
            told.append(news.sentence)
    return told


def test_an_engine_that_is_killed_at_a_page_costs_no_page(
    join: Connect, slow: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_DEATHS", "4:1")
    assert read(join(slow), tmp_path) == [f"page {number}" for number in range(1, 7)]
    assert (tmp_path / "begun").read_text().split() == ["1", "2", "3", "4", "4", "5", "6"]


def test_a_page_that_kills_the_engine_twice_is_left_out_and_said(
    join: Connect, slow: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_DEATHS", "4:99")
    told = read(join(slow), tmp_path)
    assert told[:3] + told[4:] == ["page 1", "page 2", "page 3", "page 5", "page 6"]
    assert told[3].startswith("Page 4 was left out")
    assert (tmp_path / "begun").read_text().split().count("4") == 2


def test_leaving_a_document_stops_the_engine_at_the_next_page(join: Connect, slow: Start, tmp_path: Path) -> None:
    # GIVEN a document of a thousand pages, left at its third
    client, file = join(slow), tmp_path / "long.pdf"
    file.write_bytes(pdf_of(1000))
    news = KeptReading(client).read(file)
    for _ in range(4):
        next(news)
    news.close()
    # WHEN another one is read
    other = tmp_path / "other.pdf"
    other.write_bytes(pdf_of(2))
    assert len(list(KeptReading(client).read(other))) == 3
    # THEN the first was left long before its end
    assert len((tmp_path / "begun").read_text().split()) < 500


@pytest.mark.slow
def test_the_bundled_reader_reads_in_the_engines_process(join: Connect, how: Start, tmp_path: Path) -> None:
    # GIVEN the real engine
    client = join(replace(how, command=own_command()))
    # WHEN the demo's page is read there, and drawn
    texts = [n for n in KeptReading(client, Pages(tmp_path)).read(FOLDER / "page.png") if isinstance(n, Text)]
    sheet = KeptReading(client).draw(FOLDER / "page.png", "", 1)
    # THEN its text is as it should be
    assert as_text([unpacked(texts[0].packed)]) == (FOLDER / "page.txt").read_text("utf-8")
    assert (sheet.page, sheet.count) == (1, 1)
    assert sheet.picture.startswith(b"\xff\xd8")

"""Results on the disk: there after everything that can happen to a program, and no longer than they should be."""

from __future__ import annotations

import sqlite3
import stat
import sys
import threading
from pathlib import Path

import pytest

from crane_app.errors import CraneError, Unsupported
from crane_app.library.pages import DAYS, SCHEMA, Kept, Pages

DAY = 86400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000 * DAY

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pages(tmp_path: Path, clock: Clock) -> Pages:
    return Pages(tmp_path / "pages", cap=1000, clock=clock)


def test_what_is_kept_is_there_for_the_next_program(pages: Pages) -> None:
    pages.keep("a", 3, 2, b"second")
    pages.keep("a", 3, 1, b"first")
    pages.keep("b", 1, 1, b"other")
    assert Pages(pages.folder).kept("a") == Kept(3, {1: b"first", 2: b"second"})
    assert Pages(pages.folder).kept("b") == Kept(1, {1: b"other"})
    assert pages.kept("c") == Kept(0, {})


def test_a_page_read_again_takes_the_place_of_the_old_one(pages: Pages) -> None:
    pages.keep("a", 1, 1, b"old")
    pages.keep("a", 1, 1, b"new")
    assert pages.kept("a").texts == {1: b"new"}


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions")
def test_nobody_else_may_read_it(pages: Pages) -> None:
    pages.keep("a", 1, 1, b"secret")
    assert stat.S_IMODE(pages.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in pages.folder.iterdir()} == {0o600}


def test_asking_for_what_is_unfinished_makes_no_file(pages: Pages) -> None:
    assert pages.unfinished() == []
    assert not pages.folder.exists()


def test_a_plan_is_kept_in_order_whatever_the_names(pages: Pages) -> None:
    paths = ["/b.pdf", "/a b 🐦.png", "/odd \udcff.tif"]
    pages.plan(paths)
    assert Pages(pages.folder).unfinished() == paths
    pages.plan(paths[1:])
    assert pages.unfinished() == paths[1:]
    pages.plan([])
    assert pages.unfinished() == []


def test_the_least_recently_used_goes_first(pages: Pages) -> None:
    for key in "abc":
        pages.keep(key, 1, 1, bytes(400))
    pages.kept("a")  # used once more
    pages.tidy()
    assert {key: bool(pages.kept(key).texts) for key in "abc"} == {"a": True, "b": False, "c": True}


def test_what_was_not_used_for_long_goes_too(pages: Pages, clock: Clock) -> None:
    pages.keep("a", 1, 1, b"old")
    clock.now += (DAYS + 1) * DAY
    pages.keep("b", 1, 1, b"new")
    pages.tidy()
    assert pages.kept("a") == Kept(0, {})
    assert pages.kept("b").texts == {1: b"new"}


def test_what_is_forgotten_is_not_in_the_files_any_more(pages: Pages) -> None:
    pages.keep("a", 1, 1, b"a secret that nobody shall find")
    pages.plan(["/home/me/secret.pdf"])
    pages.forget()
    assert pages.kept("a") == Kept(0, {})
    assert pages.unfinished() == []
    left = b"".join(path.read_bytes() for path in pages.folder.iterdir())
    assert b"nobody shall find" not in left
    assert b"secret.pdf" not in left


def test_several_threads_may_keep_at_once(pages: Pages) -> None:
    other = Pages(pages.folder)  # as in another process: no lock is shared
    threads = [
        threading.Thread(target=lambda at=at, into=into: [into.keep("a", 80, at * 20 + n, b"text") for n in range(20)])
        for at, into in enumerate((pages, other, pages, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(pages.kept("a").texts) == list(range(80))


@pytest.mark.parametrize(
    "content", [b"this is no database, but long enough to look like a header..." * 99, b"\0" * 5000]
)
def test_a_damaged_file_is_begun_anew(pages: Pages, content: bytes) -> None:
    pages.folder.mkdir(mode=0o700)
    pages.path.write_bytes(content)
    pages.keep("a", 1, 1, b"text")
    assert pages.kept("a").texts == {1: b"text"}


def test_damage_in_the_middle_is_a_sentence_and_then_a_new_file(pages: Pages) -> None:
    for page in range(200):
        pages.keep("a", 200, page, bytes(3000))
    for end in ("-wal", "-shm"):
        pages.path.with_name(pages.path.name + end).unlink(missing_ok=True)
    with pages.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 400_000)
    with pytest.raises(CraneError, match="cannot be kept"):
        pages.kept("a")
    pages.keep("a", 1, 1, b"text")
    assert pages.kept("a").texts == {1: b"text"}


def test_what_a_newer_crane_keeps_is_left_alone(pages: Pages) -> None:
    pages.keep("a", 1, 1, b"text")
    base = sqlite3.connect(pages.path)
    base.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    base.close()
    with pytest.raises(Unsupported, match="newer Crane"):
        pages.kept("a")
    base = sqlite3.connect(pages.path)
    assert base.execute("SELECT count(*) FROM pages").fetchone() == (1,)
    base.close()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CraneError, match=r"cannot be kept in .*pages \("):
        Pages(tmp_path / "file" / "pages").keep("a", 1, 1, b"text")


def test_a_full_disk_is_a_sentence_and_loses_nothing(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    pages.keep("a", 2, 1, b"text")
    made = pages._made

    def full() -> sqlite3.Connection:
        base = made()
        base.execute("PRAGMA max_page_count = 8")  # SQLite answers as on a full disk: SQLITE_FULL
        return base

    monkeypatch.setattr(pages, "_made", full)
    with pytest.raises(CraneError, match="full"):
        pages.keep("a", 2, 2, bytes(100_000))
    monkeypatch.undo()
    assert pages.kept("a") == Kept(2, {1: b"text"})

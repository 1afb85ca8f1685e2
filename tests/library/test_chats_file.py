"""The file of conversations: other versions, damage, a full disk, other programs, a program that is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from crane_app.errors import CraneError
from crane_app.library import schema
from crane_app.library.chats import Chats, chats_path
from crane_app.library.database import Database, Schema
from crane_app.library.holders import Holders

VERSION_1 = Path(__file__).with_name("chats_version_1.sql")
WRITER = [sys.executable, "-m", "tests.library.writing_chats"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "crane" / "chats.db"


def filled(path: Path) -> int:
    """A file with one conversation of one turn: the conversation's number."""
    chats = Chats.open(path)
    number = chats.new("Birds")
    chats.add(number, "user", "Which bird?")
    chats.close()
    return number


def plant(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


def version(path: Path) -> int:
    connection = sqlite3.connect(path)
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return found


def set_version(path: Path, number: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {number}")
    connection.close()


def titles(chats: Chats) -> list[str]:
    return [row.title for row in chats.chats()]


def test_the_place_is_the_users_own():
    assert chats_path().name == "chats.db"
    assert chats_path().parent.name == "crane"


@pytest.mark.skipif(sys.platform == "win32", reason="folders there have no such permissions")
def test_nobody_else_may_look_into_the_folder_or_the_files(path: Path):
    before = os.umask(0)
    try:
        chats = Chats.open(path)
        chats.new("Birds")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}


@pytest.mark.skipif(sys.platform == "win32", reason="files there have no such permissions")
def test_a_file_that_others_could_read_is_closed_to_them(path: Path):
    filled(path)
    path.chmod(0o644)
    Chats.open(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_path_with_signs_of_addresses_is_a_path(tmp_path: Path):
    path = tmp_path / "a?mode=ro#b%20c" / "chats.db"
    filled(path)
    assert path.exists()


# Versions


def test_a_file_without_tables_is_brought_to_the_newest_version(path: Path):
    plant(path, "PRAGMA user_version = 0")
    filled(path)
    assert version(path) == len(schema.CHATS.steps)


def test_a_file_of_version_1_has_everything_that_was_in_it(path: Path):
    plant(path, VERSION_1.read_text("utf-8"))
    chats = Chats.open(path)
    chat = chats.chat(7)
    assert (chat.title, chat.system, chat.options, chat.draft) == ("Birds", "Be brief.", {"temperature": 0.5}, "And th")
    question, answer = chats.path(7)
    assert (question.text, question.attachments[0].text, question.created) == ("Which bird?", "one", 1001.5)
    assert (answer.text, answer.version, answer.versions, answer.facts) == ("A crane.", 2, 2, {"tokens": 3})
    assert [found.turn for found in chats.search("crane")] == [13]
    chats.add(7, "user", "Why?", answer.id)
    chats.delete(7)
    chats.purge(older_than_s=0)
    assert chats.search("crane") == []
    chats.set_loose_draft("typed before")
    assert chats.loose_draft() == "typed before"


def stars(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE chats ADD COLUMN stars INTEGER NOT NULL DEFAULT 0")


def test_a_step_to_the_next_version_keeps_the_rows(path: Path):
    number = filled(path)
    newer = Schema("conversations", (*schema.CHATS.steps, stars), schema.CHATS.functions)
    chats = Chats(Database(path, newer))
    assert chats.writable
    assert [turn.text for turn in chats.path(number)] == ["Which bird?"]
    assert version(path) == len(newer.steps)


def test_a_step_that_fails_leaves_the_file_as_it_was(path: Path):
    filled(path)

    def broken(connection: sqlite3.Connection) -> None:
        stars(connection)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        Database(path, Schema("conversations", (*schema.CHATS.steps, broken), schema.CHATS.functions))
    assert version(path) == len(schema.CHATS.steps)
    assert titles(Chats.open(path)) == ["Birds"]
    connection = sqlite3.connect(path)
    assert "stars" not in connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'chats'").fetchone()[0]


def test_a_newer_file_is_shown_and_not_changed(path: Path):
    number = filled(path)
    set_version(path, 99)
    before = path.read_bytes()
    chats = Chats.open(path)
    assert not chats.writable
    assert "newer Crane" in chats.notice
    assert str(path) in chats.notice
    assert [turn.text for turn in chats.path(number)] == ["Which bird?"]
    assert len(chats.search("which")) == 1
    assert chats.settle() == 0
    with pytest.raises(CraneError, match="newer Crane"):
        chats.rename(number, "Fish")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        chats._database._of_this_thread().execute("DELETE FROM chats")
    chats.close()
    assert path.read_bytes() == before


def test_a_newer_file_with_other_tables_is_a_sentence(path: Path):
    plant(path, "CREATE TABLE something (id); PRAGMA user_version = 99")
    chats = Chats.open(path)
    with pytest.raises(CraneError, match="conversations"):
        chats.chats()


# Damage


def garbage(path: Path) -> None:
    path.write_bytes(b"This is no database. " * 1000)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def only_its_beginning(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def overwritten_tables(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 3996 + path.read_bytes()[4096:])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "holiday.jpg").write_bytes(b"picture")


@pytest.mark.parametrize("damage", [garbage, truncated, only_its_beginning, overwritten_tables, a_folder])
def test_a_damaged_file_is_kept_aside_and_a_new_one_begun(path: Path, damage):
    filled(path)
    damage(path)
    was = path.read_bytes() if path.is_file() else None
    chats = Chats.open(path)
    kept = next(path.parent.glob("chats.damaged-*.db"))
    assert str(kept) in chats.notice
    assert chats.writable
    assert kept.read_bytes() == was if was else (kept / "holiday.jpg").exists()
    assert chats.chats() == []
    chats.new("Fish")
    chats.close()
    again = Chats.open(path)
    assert again.notice == ""
    assert titles(again) == ["Fish"]


def test_an_empty_file_is_a_new_one(path: Path):
    path.parent.mkdir()
    path.touch()
    chats = Chats.open(path)
    assert chats.notice == ""
    assert chats.chats() == []


def test_files_damaged_on_the_same_day_are_all_kept(path: Path):
    for _ in range(3):
        filled(path)
        garbage(path)
        Chats.open(path).close()
    assert len(list(path.parent.glob("chats.damaged-*.db"))) == 3


def test_the_log_of_a_damaged_file_goes_with_it_and_does_no_harm_to_the_new_one(path: Path):
    number = filled(path)
    chats = Chats.open(path)
    chats.rename(number, "Fish")  # in the log only
    log = path.with_name("chats.db-wal").read_bytes()
    chats.close()
    garbage(path)
    path.with_name("chats.db-wal").write_bytes(log)
    chats = Chats.open(path)
    (kept,) = path.parent.glob("chats.damaged-*.db")
    assert kept.with_name(kept.name + "-wal").read_bytes() == log
    chats.add(chats.new("Frogs"), "user", "Which frog?")
    chats.close()
    assert titles(Chats.open(path)) == ["Frogs"]


def test_damage_found_in_use_is_a_sentence_and_the_next_start_begins_anew(path: Path):
    filled(path)
    connection = sqlite3.connect(path)
    page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'turns'").fetchone()[0]
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(data)

    chats = Chats.open(path)
    with pytest.raises(CraneError, match="Start Crane again"):
        chats.path(1)
    chats.close()
    chats = Chats.open(path)
    assert "kept as" in chats.notice
    chats.add(chats.new("Fish"), "user", "Which fish?")
    chats.close()
    assert Chats.open(path).notice == ""


# What a disk refuses


def test_a_full_disk_is_a_sentence_and_nothing_is_half_written(path: Path):
    number = filled(path)
    chats = Chats.open(path)
    connection = chats._database._of_this_thread()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    before = chats.chats(), chats.path(number)
    with pytest.raises(CraneError, match="disk is full"):
        chats.add(number, "user", "x" * 100_000)
    assert (chats.chats(), chats.path(number)) == before
    connection.execute("PRAGMA max_page_count = 1000000")
    chats.add(number, "user", "x" * 100_000)
    assert len(chats.path(number)[0].text) == 100_000


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path):
    (tmp_path / "crane").write_text("a file where the folder should be")
    with pytest.raises(CraneError, match="cannot be kept at"):
        Chats.open(tmp_path / "crane" / "chats.db")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="nothing forbids it to this user")
def test_a_folder_that_is_read_only_is_a_sentence(path: Path):
    path.parent.mkdir()
    path.parent.chmod(0o500)
    with pytest.raises(CraneError, match="cannot be kept at"):
        Chats.open(path)


def test_a_file_that_may_only_be_read_is_a_sentence(path: Path):
    number = filled(path)
    chats = Chats.open(path)
    chats._database._of_this_thread().execute("PRAGMA query_only = ON")
    with pytest.raises(CraneError, match="cannot be written"):
        chats.rename(number, "Fish")
    assert titles(chats) == ["Birds"]


def test_a_file_that_another_program_keeps_locked_is_a_sentence(path: Path):
    number = filled(path)
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    chats = Chats.open(path)
    chats._database._of_this_thread().execute("PRAGMA busy_timeout = 1")
    with pytest.raises(CraneError, match="Another program"):
        chats.rename(number, "Fish")
    assert titles(chats) == ["Birds"]
    other.rollback()
    chats.rename(number, "Fish")
    other.close()


# Other processes


def start(path: Path, chat: int, times: int | str) -> subprocess.Popen[str]:
    return subprocess.Popen([*WRITER, str(path), str(chat), str(times)], stdout=subprocess.PIPE, text=True)


def test_two_processes_write_at_the_same_time(path: Path):
    number = filled(path)
    others = [start(path, number, 150) for _ in range(2)]
    chats = Chats.open(path)
    mine = chats.new("mine")
    for count in range(50):
        chats.add(mine, "user", f"turn {count}")
    for other in others:
        assert other.communicate()[0].splitlines()[-1] == "149"
        assert other.returncode == 0
    assert len(chats.tree(mine)) == 50
    answers = [turn for turn in chats.tree(number) if turn.role == "assistant"]
    assert [(turn.state, turn.text.split()[-1]) for turn in answers] == [("done", "word149")] * 2
    assert len(chats.search("word149")) == 2


def test_what_a_killed_program_had_written_is_there_and_is_called_interrupted(path: Path):
    number = filled(path)
    chats = Chats.open(path)
    mine = chats.add(number, "assistant", "still coming", state="running")
    other = start(path, number, "")
    turn = int(other.stdout.readline())
    returned = 0
    while returned < 30:
        returned = int(other.stdout.readline())

    assert chats.settle() == 0, "it lives, and so do we"
    os.kill(other.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    lines = other.stdout.read().split("\n")
    other.wait()
    last = max([returned, *(int(line) for line in lines[:-1] if line)])
    assert chats.settle() == 1
    assert chats.settle() == 0
    found = chats.turn(turn)
    assert found.state == "interrupted"
    assert int(found.text.split()[-1].removeprefix("word")) in (last, last + 1)
    assert [each.turn for each in chats.search(f"word{last}")] == [turn]
    assert chats.turn(mine.id).state == "running"


def test_an_answer_that_goes_on_belongs_to_the_program_that_goes_on(path: Path):
    number = filled(path)
    other = start(path, number, 1)
    turn = int(other.communicate()[0].split()[0])
    chats = Chats.open(path)
    chats.update(turn, state="running")
    assert chats.settle() == 0
    assert chats.turn(turn).state == "running"


def test_a_program_lives_as_long_as_its_byte_is_locked(tmp_path: Path):
    lock = tmp_path / "chats.db-lock"
    code = "import sys, pathlib; from crane_app.library.holders import holders\n"
    code += "mine = holders(pathlib.Path(sys.argv[1])); print(mine.number, flush=True)\n"
    code += "print([mine.lives(int(line)) for line in sys.stdin])"
    command = [sys.executable, "-c", code, str(lock)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    number = int(other.stdout.readline())
    mine = Holders(lock)
    assert mine.lives(number)
    assert mine.lives(mine.number)
    assert other.communicate(f"{mine.number}\n")[0] == "[True]\n"
    assert not mine.lives(number)
    third = subprocess.run(command, input=f"{number}\n{mine.number}\n", stdout=subprocess.PIPE, text=True, check=True)
    assert third.stdout.splitlines()[1] == "[False, True]", "to have asked is not to hold"


def test_a_process_that_stays_in_the_door_is_a_sentence(path: Path, monkeypatch):
    monkeypatch.setattr(Holders, "_take", lambda self, place: place != 0)
    monkeypatch.setattr("crane_app.library.database.BUSY_S", 0.0)
    with pytest.raises(CraneError, match="Another program"):
        Chats.open(path)

"""Blocks on disk by owner: who may write where, what goes first, and that what was forgotten is gone."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from crane_app.errors import CraneError
from crane_app.library import block_file
from crane_app.library.block_file import Block
from crane_app.library.store import ENDING, FRESH, GONE, STALE_S, Crowded, Store, store_root

OWNER, OTHER = "chat-7", "chat-8"
only_posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no modes of files")
ROOM = 1000  # bytes of the numbers of a block here; a file has some 200 more


def block(number: int) -> Block:
    return Block(f"{number:032x}", 0, True, (np.full(ROOM // 4, number, np.int32),))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store", spare=0)
    made.admit(OWNER)
    return made


def kept(store: Store, owner: str = OWNER) -> list[int]:
    return [n for n in range(20) if store.has(owner, block(n).name)]


def files(store: Store) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file()]


def test_a_block_is_there_for_its_owner_alone(store):
    store.admit(OTHER)
    assert store.write(OWNER, block(1), 0)
    assert np.array_equal(store.read(OWNER, block(1).name).arrays[0], block(1).arrays[0])
    assert store.read(OTHER, block(1).name) is None
    assert store.read(OWNER, block(2).name) is None
    assert Store(store.root).read(OWNER, block(1).name) is not None, "another process"


@only_posix
def test_only_this_user_can_read_any_of_it(store):
    store.write(OWNER, block(1), 0)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (store.root, *store.root.rglob("*"))}
    assert modes == {"store": 0o700, OWNER: 0o700, f"{block(1).name}{ENDING}": 0o600}


@pytest.mark.parametrize("owner", ["", "chat-", "chat-../x", "../chat-1", "chat-1/..", "CHAT-1", "chat-" + "1" * 41])
def test_an_owner_is_no_path(store, owner):
    looks = (lambda name: store.read(name, "x"), lambda name: store.has(name, "x"))
    for does in (store.admit, store.enter, store.set_aside, *looks):
        with pytest.raises(ValueError, match="is no owner"):
            does(owner)


def test_what_was_never_admitted_is_not_written(store):
    assert not store.write(OTHER, block(1), 0)
    assert files(store) == []


def test_what_was_forgotten_is_gone_and_nothing_comes_back(store):
    store.admit(OTHER)
    store.write(OWNER, block(1), 0)
    store.write(OTHER, block(2), 0)
    for _ in range(2):
        store.set_aside(OWNER)
        store.sweep()
    assert not store.write(OWNER, block(3), 0)
    assert [path.parent.name for path in files(store)] == [OTHER]
    assert [path.name for path in store.root.iterdir()] == [OTHER]


def stopped_at(moment: str, store: Store, monkeypatch: pytest.MonkeyPatch, between) -> None:
    """Have `between` happen while a block is written: before its file is begun, before it has its name, or after."""
    write, replace = block_file.write, Path.replace

    def and_write(path: Path, given: Block) -> None:
        if moment == "begun":
            between()
        write(path, given)

    def and_replace(self: Path, target: Path) -> Path:
        if moment == "named":
            between()
        done = replace(self, target)
        if moment == "written":
            between()
        return done

    monkeypatch.setattr(block_file, "write", and_write)
    monkeypatch.setattr(Path, "replace", and_replace)


@pytest.mark.parametrize("moves", [True, False], ids=["", "no folder can be moved"])
@pytest.mark.parametrize("moment", ["begun", "named", "written"])
def test_words_deleted_while_their_block_is_written_leave_nothing_even_if_the_owner_is_back(
    store, monkeypatch, moment, moves
):
    """As in Windows, where a folder with an open file in it stays where it is."""
    owner = store.enter(OWNER)
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        raise PermissionError(errno.EACCES, "in use")

    def deleted() -> None:
        store.set_aside(OWNER)
        assert store.enter(OWNER) != owner

    monkeypatch.setattr(Path, "rename", rename if moves else refused)
    stopped_at(moment, store, monkeypatch, deleted)
    store.write(owner, block(1), 0)
    monkeypatch.undo()
    assert store.read(owner, block(1).name) is None
    assert not store.write(owner, block(2), 0)
    store.sweep()
    assert files(store) == []
    assert [path.name for path in store.root.iterdir()] == [store.enter(OWNER)]


def test_who_enters_again_has_what_they_had(store):
    owner = store.enter(OTHER)
    store.write(owner, block(1), 0)
    assert Store(store.root).enter(OTHER) == owner, "another process"
    assert store.enter(f"{OTHER}1") != owner, "a name that only begins as theirs"
    store.set_aside(f"{OTHER}1")
    assert kept(store, owner) == [1]
    store.keep_only("chat", [OTHER])
    assert [path.parent.name for path in files(store)] == [owner]


def test_what_no_conversation_owns_any_more_goes_and_so_does_what_a_removal_left(store):
    store.admit(OTHER)
    store.admit("key-abc")
    for owner in (OWNER, OTHER, "key-abc"):
        store.write(owner, block(1), 0)
    (store.root / f"{GONE}0").mkdir()
    (store.root / f"{GONE}0" / "x").touch()
    store.keep_only("chat", [OTHER])
    assert sorted(path.name for path in store.root.iterdir()) == [OTHER, "key-abc"]
    store.clear()
    assert list(store.root.iterdir()) == []
    assert store.nbytes() == 0


def test_other_things_in_the_folder_are_left_alone(store):
    (store.root / "letters").mkdir()
    (store.root / "letters" / "one").write_text("dear", "utf-8")
    store.clear()
    assert (store.root / "letters" / "one").read_text("utf-8") == "dear"


def test_what_was_used_longest_ago_makes_room(store):
    store.limit = lambda: 4 * ROOM
    for number in range(3):
        assert store.write(OWNER, block(number), 1000 + number)
    store.touch(OWNER, {block(0).name: 2000, block(9).name: 1})
    assert store.write(OWNER, block(3), 3000)
    assert kept(store) == [0, 2, 3]
    assert store.nbytes() <= 4 * ROOM


def test_what_was_used_later_does_not_give_way(store):
    """So that the end of a long chain never takes the place of its beginning."""
    store.limit = lambda: 3 * ROOM
    for number in range(2):
        assert store.write(OWNER, block(number), 1000 - number)
    assert not store.write(OWNER, block(2), 998)
    assert kept(store) == [0, 1]


def test_the_limit_is_for_all_owners_together(store):
    store.limit = lambda: 4 * ROOM
    store.admit(OTHER)
    for number in range(3):
        store.write(OWNER, block(number), number)
    for number in range(3, 6):
        assert store.write(OTHER, block(number), number)
    assert (kept(store), kept(store, OTHER)) == ([], [3, 4, 5])


def test_a_block_that_could_never_fit_drives_nothing_out(store):
    store.limit = lambda: 2 * ROOM
    store.write(OWNER, block(1), 0)
    large = Block(f"{2:032x}", 0, True, (np.zeros(3 * ROOM // 4, np.int32),))
    assert not store.write(OWNER, large, 1)
    assert kept(store) == [1]


def test_a_limit_that_was_lowered_holds_for_what_is_there(store):
    for number in range(3):
        store.write(OWNER, block(number), 1000 - number)
    store.limit = lambda: 2 * ROOM
    store.trim()
    assert kept(store) == [0]
    store.limit = lambda: 0
    assert not store.write(OWNER, block(3), 2000)
    assert files(store) == []


def test_a_disk_with_little_room_is_left_alone(store, monkeypatch):
    usage = shutil.disk_usage(store.root)
    full = Store(store.root, spare=usage.free + 2**40)
    assert full.crowded()
    with pytest.raises(Crowded, match="nearly full"):
        full.write(OWNER, block(1), 0)
    assert files(store) == []


def test_a_full_disk_leaves_no_part_of_a_file(store, monkeypatch):
    put = block_file._put

    def full(file, data) -> None:
        if len(data) > 500:
            put(file, data[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        put(file, data)

    monkeypatch.setattr(block_file, "_put", full)
    with pytest.raises(OSError, match="No space"):
        store.write(OWNER, block(1), 0)
    assert files(store) == []


def test_what_a_program_that_died_was_writing_goes_after_a_while(store):
    old, young = (store.root / OWNER / f"{name}.1-1{FRESH}" for name in "ab")
    for path in (old, young):
        path.touch()
    os.utime(old, (0, young.stat().st_mtime - STALE_S - 1))
    store.write(OWNER, block(1), 0)
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("harm", ["torn", "flipped", *(pytest.param(h, marks=only_posix) for h in ("open", "link"))])
def test_what_cannot_be_trusted_is_removed(store, tmp_path, harm):
    store.write(OWNER, block(1), 0)
    (path,) = files(store)
    raw = path.read_bytes()
    if harm == "torn":
        path.write_bytes(raw[:-100])
    elif harm == "flipped":
        path.write_bytes(raw[:-100] + bytes([raw[-100] ^ 4]) + raw[-99:])
    elif harm == "open":
        path.chmod(0o644)
    else:
        (tmp_path / "elsewhere").write_bytes(raw)
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
    assert store.read(OWNER, block(1).name) is None
    assert not path.is_symlink()
    assert not path.exists()


@only_posix
def test_a_folder_of_someone_else_is_neither_read_nor_written(store, monkeypatch):
    store.write(OWNER, block(1), 0)
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    assert store.read(OWNER, block(1).name) is None
    assert not store.write(OWNER, block(2), 0)
    with pytest.raises(CraneError, match="belongs to someone else"):
        store.admit(OWNER)


@only_posix
def test_a_folder_that_is_a_link_is_not_used(store, tmp_path):
    (tmp_path / "trap").mkdir()
    (store.root / OTHER).symlink_to(tmp_path / "trap")
    with pytest.raises(CraneError, match="belongs to someone else"):
        store.admit(OTHER)
    assert not store.write(OTHER, block(1), 0)
    assert list((tmp_path / "trap").iterdir()) == []


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "store").write_text("", "utf-8")
    with pytest.raises(CraneError, match="Nothing can be kept"):
        Store(tmp_path / "store").admit(OWNER)
    assert not Store(tmp_path / "nowhere").has(OWNER, "x")
    assert Store(tmp_path / "nowhere").nbytes() == 0


def test_the_usual_place_is_among_what_can_be_made_again():
    assert store_root().parts[-2:] == ("crane", "conversations")

"""Which conversations are kept ready, and what goes when they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crane_app.library.block_file import Block
from crane_app.pipelines.readiness import Readiness

BLOCK = Block("0" * 32, 0, True, (np.arange(1000, dtype=np.int32),))


@pytest.fixture
def wanted() -> list[bool]:
    return [True]


@pytest.fixture
def readiness(tmp_path: Path, wanted) -> Readiness:
    made = Readiness(lambda: wanted[0], root=tmp_path / "store")
    made.store._spare = 0
    return made


def kept(readiness: Readiness) -> list[str]:
    return sorted(who(path.parent) for path in readiness.store.root.rglob("*.block"))


def who(folder: Path) -> str:
    """Without since when."""
    return folder.name.rpartition("-")[0]


def keep(readiness: Readiness, *chats: int) -> None:
    for chat in chats:
        assert readiness.store.write(readiness.owner(chat), BLOCK, 1)


def test_a_conversation_has_an_owner_of_its_own_while_it_is_wanted(readiness, wanted):
    owner = readiness.owner(7)
    assert readiness.owner(7) == owner
    wanted[0] = False
    assert readiness.owner(8) == ""
    assert [path.name for path in readiness.store.root.iterdir()] == [owner]
    assert who(Path(owner)) == "chat-7"


def test_a_folder_that_cannot_be_is_no_reason_for_not_answering(tmp_path, caplog):
    (tmp_path / "file").write_text("", "utf-8")
    assert Readiness(lambda: True, root=tmp_path / "file").owner(1) == ""
    assert len(caplog.records) == 1


def test_what_was_deleted_is_out_of_the_way_at_once(readiness):
    keep(readiness, 1, 2)
    owner = readiness.owner(1)
    sweeper = readiness.forget(1)
    assert not readiness.store.write(owner, BLOCK, 1)
    sweeper.join()
    assert [who(path) for path in readiness.store.root.iterdir()] == ["chat-2"]
    assert readiness.owner(1) != owner, "what comes late finds no folder"


def test_conversations_that_are_there_no_more_go_and_all_where_none_are_wanted(readiness, wanted):
    keep(readiness, 1, 2, 3)
    readiness.keep_only([1, 3, 4])
    assert kept(readiness) == ["chat-1", "chat-3"]
    readiness.store.limit = lambda: 1500 * BLOCK.nbytes // 1000
    readiness.keep_only([1, 3, 4])
    assert len(kept(readiness)) == 1, "the limit was lowered"
    wanted[0] = False
    readiness.keep_only([1, 3, 4])
    assert kept(readiness) == []


def test_it_tells_how_much_and_why_no_more(readiness):
    keep(readiness, 1)
    assert readiness.told()[0] != "0 B"
    assert readiness.told()[1] == ""
    readiness.clear()
    readiness.store._spare = 2**60
    assert "nearly full" in readiness.told()[1]
    assert kept(readiness) == []

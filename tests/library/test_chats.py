"""Conversations as trees: versions, what is shown, what is removed and comes back."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from crane_app.errors import CraneError
from crane_app.library.chats import Attachment, Chats, Turn


@pytest.fixture
def chats(tmp_path: Path):
    opened = Chats.open(tmp_path / "chats.db")
    yield opened
    opened.close()


@pytest.fixture
def chat(chats: Chats) -> int:
    return chats.new("Birds")


def texts(turns: list[Turn]) -> list[str]:
    return [turn.text for turn in turns]


def shown(chats: Chats, chat: int) -> list[str]:
    return texts(chats.path(chat))


def terms(path: Path) -> dict[str, int]:
    """Each piece of three characters in the index of words, and how often it occurs."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE VIRTUAL TABLE temp.terms USING fts5vocab(main, words, row)")
    found = dict(connection.execute("SELECT term, cnt FROM terms"))
    connection.close()
    return found


def cost(chats: Chats, does: Callable[[], object]) -> int:
    """How many thousands of SQLite's instructions something takes, however busy this machine is."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    connection = chats._database._of_this_thread()
    connection.set_progress_handler(tick, 1000)
    does()
    connection.set_progress_handler(None, 0)
    return count


def bytes_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_a_conversation_comes_back_as_it_was_kept(tmp_path: Path):
    chats = Chats.open(tmp_path / "chats.db")
    number = chats.new("Birds", "/models/q", "Be brief.", {"temperature": 0.5})
    files = (Attachment("a.txt", "one\ntwo"),)
    asked = chats.add(number, "user", "Which?", attachments=files)
    chats.add(number, "assistant", "Cranes.", asked.id, state="length", model="/models/q", facts={"tokens": 3})
    chats.set_draft(number, "And th")
    chats.close()

    again = Chats.open(tmp_path / "chats.db")
    found = again.chat(number)
    assert (found.title, found.model, found.system) == ("Birds", "/models/q", "Be brief.")
    assert (found.options, found.draft) == ({"temperature": 0.5}, "And th")
    question, answer = again.path(number)
    assert (question.role, question.text, question.attachments) == ("user", "Which?", files)
    assert (answer.parent, answer.state, answer.model, answer.facts) == (asked.id, "length", "/models/q", {"tokens": 3})


def test_the_conversation_with_the_newest_message_is_the_first(chats: Chats):
    old, new = chats.new("old"), chats.new("new")
    assert [row.title for row in chats.chats()] == ["new", "old"]
    chats.add(old, "user", "again")
    assert [row.id for row in chats.chats()] == [old, new]
    assert [row.id for row in chats.chats(limit=1)] == [old]


def test_another_name_does_not_move_a_conversation(chats: Chats):
    old, new = chats.new("old"), chats.new("new")
    chats.rename(old, "older")
    assert [row.title for row in chats.chats()] == ["new", "older"]
    assert [row.id for row in chats.chats()] == [new, old]


def test_an_answer_that_is_made_again_is_shown_instead(chats: Chats, chat: int):
    asked = chats.add(chat, "user", "Which?")
    first = chats.add(chat, "assistant", "Planes.", asked.id)
    second = chats.add(chat, "assistant", "Cranes.", asked.id)
    assert (first.version, first.versions) == (1, 1)
    assert (second.version, second.versions) == (2, 2)
    assert shown(chats, chat) == ["Which?", "Cranes."]
    assert chats.switch(second.id, -1).text == "Planes."
    assert shown(chats, chat) == ["Which?", "Planes."]
    assert texts(chats.tree(chat)) == ["Which?", "Planes.", "Cranes."]


def test_switching_ends_at_the_first_and_the_last_version(chats: Chats, chat: int):
    numbers = [chats.add(chat, "user", text).id for text in "abc"]
    assert chats.switch(numbers[1], -5).text == "a"
    assert chats.switch(numbers[1], 5).text == "c"
    assert chats.switch(numbers[1], 0).text == "b"


def test_an_edited_question_keeps_what_followed_the_old_one(chats: Chats, chat: int):
    first = chats.add(chat, "user", "Whihc?")
    chats.add(chat, "assistant", "Pardon?", first.id)
    edited = chats.add(chat, "user", "Which?")
    assert shown(chats, chat) == ["Which?"]
    chats.switch(edited.id, -1)
    assert shown(chats, chat) == ["Whihc?", "Pardon?"]


def test_a_removed_turn_takes_what_follows_along_and_brings_it_back(chats: Chats, chat: int):
    asked = chats.add(chat, "user", "Which?")
    answer = chats.add(chat, "assistant", "Cranes.", asked.id)
    chats.add(chat, "user", "Why?", answer.id)
    chats.remove_turn(answer.id)
    assert shown(chats, chat) == ["Which?"]
    chats.restore_turn(answer.id)
    assert shown(chats, chat) == ["Which?", "Cranes.", "Why?"]


def test_the_version_shown_before_takes_the_place_of_a_removed_one(chats: Chats, chat: int):
    numbers = [chats.add(chat, "user", text).id for text in "abc"]
    chats.switch(numbers[0], 0)
    chats.switch(numbers[2], 0)
    chats.remove_turn(numbers[2])
    assert shown(chats, chat) == ["a"]
    assert [(turn.version, turn.versions) for turn in chats.tree(chat)] == [(1, 2), (2, 2)]


def test_a_restored_version_is_shown_even_when_another_came_since(chats: Chats, chat: int):
    old = chats.add(chat, "user", "old")
    chats.remove_turn(old.id)
    chats.add(chat, "user", "new")
    chats.restore_turn(old.id)
    assert shown(chats, chat) == ["old"]


def test_a_turn_removed_before_its_question_stays_removed_when_that_comes_back(chats: Chats, chat: int):
    asked = chats.add(chat, "user", "Which?")
    answer = chats.add(chat, "assistant", "Planes.", asked.id)
    chats.remove_turn(answer.id)
    chats.remove_turn(asked.id)
    chats.restore_turn(asked.id)
    assert shown(chats, chat) == ["Which?"]


def test_a_turn_restored_under_a_removed_question_comes_back_with_it(chats: Chats, chat: int):
    asked = chats.add(chat, "user", "Which?")
    answer = chats.add(chat, "assistant", "Planes.", asked.id)
    chats.remove_turn(answer.id)
    chats.remove_turn(asked.id)
    chats.restore_turn(answer.id)
    assert shown(chats, chat) == []
    assert chats.search("planes") == []
    chats.restore_turn(asked.id)
    assert shown(chats, chat) == ["Which?", "Planes."]


def test_a_deleted_conversation_comes_back_whole(chats: Chats, chat: int):
    chats.add(chat, "user", "Which?")
    chats.delete(chat)
    assert chats.chats() == []
    assert chats.search("which") == []
    with pytest.raises(CraneError, match="deleted"):
        chats.chat(chat)
    chats.restore(chat)
    assert [row.id for row in chats.chats()] == [chat]
    assert shown(chats, chat) == ["Which?"]


def test_what_was_purged_is_gone_from_every_file(chats: Chats, chat: int, tmp_path: Path):
    kept = chats.add(chat, "user", "something that stays")
    chats.add(chat, "user", "zebrafinch " * 500)
    unwanted = chats.new("quokka")
    chats.add(unwanted, "user", "wombatish " * 500)
    chats.remove_turn(chats.path(chat)[0].id)
    chats.delete(unwanted)
    assert b"wombatish" in bytes_on_disk(tmp_path)
    chats.purge(older_than_s=3600)
    assert b"wombatish" in bytes_on_disk(tmp_path)
    chats.purge(older_than_s=0)
    left = bytes_on_disk(tmp_path)
    for word in (b"zebrafinch", b"quokka", b"wombatish", b"zeb"):
        assert word not in left
    assert shown(chats, chat) == [kept.text]
    assert len(chats.search("stays")) == 1
    with pytest.raises(CraneError, match="deleted"):
        chats.restore(unwanted)


def test_a_long_conversation_is_purged_at_once(chats: Chats, chat: int):
    """Deeper than the 1,000 levels that SQLite's foreign keys cascade."""
    above = None
    for number in range(1500):
        above = chats.add(chat, "user", f"turn {number}", above).id
    chats.delete(chat)
    chats.purge(older_than_s=0)
    assert chats.search("turn") == []


def test_a_conversation_twice_as_long_takes_twice_the_work(chats: Chats):
    costs = []
    for length in (1000, 2000):
        chat, above = chats.new(), None
        with chats._database.writing() as connection:
            for _ in range(length):
                row = (chat, above, "user", "x", "[]", "done", "", "{}", 0.0, 1, 0)
                insert = """INSERT INTO turns (chat, parent, role, text, attachments, state, model, facts, created,
                    picked, writer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
                above = connection.execute(insert, row).lastrowid
        costs.append(cost(chats, lambda chat=chat: chats.path(chat)))
    assert costs[1] < 3 * costs[0]


def test_delete_all_leaves_nothing_and_the_next_conversation_is_found(chats: Chats, chat: int, tmp_path: Path):
    chats.add(chat, "user", "zebrafinch " * 100_000)
    chats.delete_all()
    assert chats.chats() == []
    assert (tmp_path / "chats.db").stat().st_size < 200_000
    assert b"zebrafinch" not in bytes_on_disk(tmp_path)
    turn = chats.add(chats.new(), "user", "zebrafinch again")
    assert [found.turn for found in chats.search("zebrafinch")] == [turn.id]
    chats.remove_turn(turn.id)
    chats.purge(older_than_s=0)
    assert terms(tmp_path / "chats.db") == {}


def test_the_number_of_a_deleted_conversation_is_not_given_again(chats: Chats, chat: int):
    chats.delete_all()
    assert chats.new() > chat


def test_half_a_character_becomes_a_replacement_and_a_nul_stays(chats: Chats):
    number = chats.new("\ud83d", options={"stop": "\udc26\0"})
    turn = chats.add(number, "user", "a\ud800b\0c", attachments=[Attachment("\udcff", "\ud800\0")])
    assert turn.text == "a\ufffdb\0c"
    assert turn.attachments == (Attachment("\ufffd", "\ufffd\0"),)
    assert chats.chat(number).title == "\ufffd"
    assert chats.chat(number).options == {"stop": "\ufffd\0"}
    chats.update(turn.id, text="\udfff")
    assert shown(chats, number) == ["\ufffd"]


def test_ten_megabytes_come_back(chats: Chats, chat: int):
    text = "0123456789" * 1_000_000
    assert chats.turn(chats.add(chat, "user", text).id).text == text


@pytest.mark.parametrize("act", ["chat", "rename", "set_draft", "add", "turn", "update", "switch", "restore_turn"])
def test_what_is_not_there_is_a_sentence(chats: Chats, act: str):
    more = {"rename": ("x",), "set_draft": ("x",), "add": ("user", "x"), "update": ("x",), "switch": (1,)}
    with pytest.raises(CraneError, match="was deleted"):
        getattr(chats, act)(12345, *more.get(act, ()))


def test_nothing_is_added_to_what_was_deleted(chats: Chats, chat: int):
    asked = chats.add(chat, "user", "Which?")
    chats.remove_turn(asked.id)
    with pytest.raises(CraneError):
        chats.add(chat, "assistant", "Cranes.", asked.id)
    chats.delete(chat)
    with pytest.raises(CraneError):
        chats.add(chat, "user", "Hello?")


def test_an_answer_that_still_arrives_for_a_removed_question_does_no_harm(chats: Chats, chat: int):
    asked = chats.add(chat, "user", "Which?")
    answer = chats.add(chat, "assistant", "", asked.id, state="running")
    chats.remove_turn(asked.id)
    chats.update(answer.id, text="Cranes.", state="done")
    assert shown(chats, chat) == []
    chats.restore_turn(asked.id)
    assert shown(chats, chat) == ["Which?", "Cranes."]


def test_a_parent_from_another_conversation_is_a_mistake(chats: Chats, chat: int):
    asked = chats.add(chat, "user", "Which?")
    with pytest.raises(ValueError, match="another conversation"):
        chats.add(chats.new(), "assistant", "Cranes.", asked.id)


def test_an_unknown_state_is_a_mistake(chats: Chats, chat: int):
    with pytest.raises(ValueError, match="paused"):
        chats.add(chat, "user", "Which?", state="paused")


@pytest.mark.parametrize("where", ["file", "memory"])
def test_threads_write_at_the_same_time(tmp_path: Path, where: str):
    chats = Chats.open(tmp_path / "chats.db") if where == "file" else Chats.in_memory()
    numbers = [chats.new(f"chat {number}") for number in range(4)]

    def work(number: int) -> None:
        for count in range(50):
            turn = chats.add(number, "user", f"turn {count}")
            chats.update(turn.id, text=f"changed {count}")
            chats.path(number)
            chats.search("changed")

    threads = [threading.Thread(target=work, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in numbers:
        assert texts(chats.tree(number)) == [f"changed {count}" for count in range(50)]
    chats.close()


class Trees(RuleBasedStateMachine):
    """Whatever is added, switched, removed and restored: what is shown is what a plain model of it shows."""

    turns = Bundle("turns")
    removed = Bundle("removed")

    def __init__(self) -> None:
        super().__init__()
        self.chats = Chats.in_memory()
        self.chat = self.chats.new()
        self.parent: dict[int, int | None] = {}
        self.order: list[int] = []  # picked last at the end
        self.gone: dict[int, int] = {}  # a turn, and the one that took it along

    def siblings(self, number: int) -> list[int]:
        return [n for n in self.parent if self.parent[n] == self.parent[number] and n not in self.gone]

    def below(self, number: int) -> list[int]:
        found = [number]
        for each in found:
            found += [n for n, above in self.parent.items() if above == each]
        return found

    def pick(self, number: int) -> None:
        self.order = [n for n in self.order if n != number] + [number]

    @rule(target=turns)
    def ask_first(self) -> int:
        return self.added(None)

    @rule(target=turns, above=turns)
    def add(self, above: int):
        if above in self.gone:
            with pytest.raises(CraneError):
                self.chats.add(self.chat, "user", "x", above)
            return multiple()
        return self.added(above)

    def added(self, above: int | None) -> int:
        number = self.chats.add(self.chat, "user", "x", above).id
        self.parent[number] = above
        self.pick(number)
        return number

    @rule(number=turns, step=st.integers(-2, 2))
    def switch(self, number: int, step: int) -> None:
        if number in self.gone:
            with pytest.raises(CraneError):
                self.chats.switch(number, step)
            return
        versions = self.siblings(number)
        chosen = versions[min(max(versions.index(number) + step, 0), len(versions) - 1)]
        assert self.chats.switch(number, step).id == chosen
        self.pick(chosen)

    @rule(target=removed, number=turns)
    def remove(self, number: int):
        self.chats.remove_turn(number)
        if number in self.gone:
            return multiple()
        self.gone.update({n: number for n in self.below(number) if n not in self.gone})
        return number

    @rule(number=consumes(removed))
    def restore(self, number: int) -> None:
        self.chats.restore_turn(number)
        above = self.gone.get(self.parent[number])
        took = [n for n, by in self.gone.items() if by == number]
        for n in took:
            if above is None:
                del self.gone[n]
            else:
                self.gone[n] = above
        self.pick(number)

    @rule()
    def purge(self) -> None:
        """Nothing is an hour old."""
        self.chats.purge(3600)

    @invariant()
    def the_path_is_the_models(self) -> None:
        expected: list[int] = []
        above: int | None = None
        while versions := [n for n in self.order if self.parent[n] == above and n not in self.gone]:
            above = versions[-1]
            expected.append(above)
        path = self.chats.path(self.chat)
        assert [turn.id for turn in path] == expected
        for turn in path:
            versions = self.siblings(turn.id)
            assert (turn.version, turn.versions) == (versions.index(turn.id) + 1, len(versions))


TestTrees = Trees.TestCase
TestTrees.settings = settings(max_examples=60, stateful_step_count=30)


def test_the_index_of_words_holds_no_turn_twice(chats: Chats, chat: int, tmp_path: Path):
    turn = chats.add(chat, "assistant", "", state="running")
    for count in range(20):
        chats.update(turn.id, text="zebrafinch " * count)
    chats.update(turn.id, state="done")
    chats.update(turn.id, text="wombat", state="running")
    chats.update(turn.id, state="stopped")
    chats.update(turn.id, text="wombat and quokka")
    assert chats.search("zebrafinch") == []
    counts = terms(tmp_path / "chats.db")
    assert counts["wom"] == 1
    assert "zeb" not in counts


def test_what_is_typed_before_a_conversation_begins_is_kept_apart(chats: Chats):
    assert chats.loose_draft() == ""
    chats.set_loose_draft("half a \ud83d thought")
    chats.set_loose_draft("half a thought 🐦")
    assert chats.loose_draft() == "half a thought 🐦"
    assert chats.chats() == []
    chats.delete_all()
    assert chats.loose_draft() == ""

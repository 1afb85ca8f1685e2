"""Conversations, kept in SQLite: a tree of turns each, of which one path is shown.

Editing a question or regenerating an answer adds a sibling; the sibling shown last is the active one. Everything can
be called from any thread; what the disk refuses is a CraneError, and then nothing of it was written.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from crane_app.errors import CraneError
from crane_app.library import schema
from crane_app.library.database import Database

STATES = ("done", "running", "stopped", "length", "interrupted", "error")
MERGED = 200  # pages of the index that are merged at once
SURROGATES = re.compile("[\ud800-\udfff]")  # half a character; there is no UTF-8 for it


@dataclass(frozen=True)
class ChatRow:
    """A conversation in the list. created, changed: seconds since the epoch."""

    id: int
    title: str
    model: str
    created: float
    changed: float


@dataclass(frozen=True)
class Chat:
    """A conversation without its turns. options: what was asked for beside the model's own; draft: not sent yet."""

    id: int
    title: str
    model: str
    system: str
    options: dict[str, Any]
    draft: str
    created: float
    changed: float


@dataclass(frozen=True)
class Attachment:
    """A text file given with a question."""

    name: str
    text: str


@dataclass(frozen=True)
class Turn:
    """One message. state: one of STATES; created: seconds since the epoch; version of versions: among its siblings."""

    id: int
    chat: int
    parent: int | None
    role: str
    text: str
    attachments: tuple[Attachment, ...]
    state: str
    model: str
    facts: dict[str, Any]
    created: float
    version: int
    versions: int


@dataclass(frozen=True)
class Found:
    """Where words were found: in a turn's text, or in the title (turn None)."""

    chat: ChatRow
    turn: int | None
    excerpt: str


def chats_path() -> Path:
    """Where this user's conversations are."""
    from platformdirs import user_data_path

    return user_data_path("crane", appauthor=False) / "chats.db"


ROW = "c.id, c.title, c.model, c.created, c.changed"
CHAT_FIELDS, TURN_FIELDS = ([field.name for field in fields(kind)] for kind in (Chat, Turn))
CHAT = f"SELECT {', '.join(CHAT_FIELDS)} FROM chats WHERE id = ? AND gone_at IS NULL"
SIBLINGS = """SELECT count(*) FROM turns s INDEXED BY turns_by_parent
    WHERE s.parent IS t.parent AND s.chat = t.chat AND s.gone IS NULL"""
TURN = f"""SELECT t.id, t.chat, t.parent, t.role, t.text, t.attachments, t.state, t.model, t.facts, t.created,
    ({SIBLINGS} AND s.id <= t.id), ({SIBLINGS}) FROM turns t"""
PICKED = "SELECT id FROM turns WHERE parent IS {parent} AND chat = :chat AND gone IS NULL ORDER BY picked DESC LIMIT 1"
PATH = f"""WITH RECURSIVE path (id, depth) AS (
    SELECT ({PICKED.format(parent="NULL")}), 0
    UNION ALL SELECT ({PICKED.format(parent="path.id")}), depth + 1 FROM path WHERE path.id IS NOT NULL)
    {TURN.replace("FROM turns t", "FROM path JOIN turns t ON t.id = path.id")} ORDER BY path.depth"""
PICK = """UPDATE turns SET picked = (SELECT coalesce(max(s.picked), 0) + 1 FROM turns s
    WHERE s.parent IS turns.parent AND s.chat = turns.chat) WHERE id = ?"""
BELOW = """WITH RECURSIVE below (id) AS (
    SELECT :turn UNION ALL SELECT t.id FROM turns t JOIN below ON t.parent = below.id)"""


class Chats:
    """All of one file. notice: a sentence about it, or ""; writable: not if it is a newer one; kept: it is a file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.notice, self.writable, self.kept = database.notice, database.writable, database.path is not None

    @classmethod
    def open(cls, path: Path) -> Chats:
        """The file, made if it is not there. CraneError if its folder cannot be written."""
        return cls(Database(path, schema.CHATS))

    @classmethod
    def in_memory(cls) -> Chats:
        """Conversations that end with the program."""
        return cls(Database(None, schema.CHATS))

    def hurry(self) -> None:
        """This thread, a window's, must not be kept waiting: what another program holds up fails soon."""
        self._database.hurry()

    def close(self) -> None:
        """No thread may be using it."""
        self._database.close()

    # Conversations

    def chats(self, limit: int = 5000) -> list[ChatRow]:
        """Those with the newest message first."""
        query = f"SELECT {ROW} FROM chats c WHERE gone_at IS NULL ORDER BY changed DESC, id DESC LIMIT ?"
        with self._database.reading() as connection:
            return [ChatRow(*row) for row in connection.execute(query, (limit,))]

    def search(self, words: str, limit: int = 100) -> list[Found]:
        """Titles, then turns, the newest first, in which all words occur; turns of hidden versions too."""
        wanted = schema.typed_words(words)
        if not wanted:
            return []
        with self._database.reading() as connection:
            found = list(_in_titles(connection, wanted, limit))
            return found + list(_in_turns(connection, wanted, limit - len(found)))

    def new(self, title: str = "", model: str = "", system: str = "", options: dict[str, Any] | None = None) -> int:
        """Begin a conversation: its number."""
        now = time.time()
        values = (_clean(title), _clean(model), _clean(system), _json(options or {}), now, now)
        insert = "INSERT INTO chats (title, model, system, options, created, changed) VALUES (?, ?, ?, ?, ?, ?)"
        with self._database.writing() as connection:
            return int(connection.execute(insert, values).lastrowid or 0)

    def chat(self, id: int) -> Chat:
        with self._database.reading() as connection:
            row = connection.execute(CHAT, (id,)).fetchone()
        if row is None:
            raise CraneError("This conversation was deleted.")
        values = dict(zip(CHAT_FIELDS, row, strict=True))
        return Chat(**{**values, "options": json.loads(values["options"])})

    def rename(self, id: int, title: str) -> None:
        self._set(id, "title", _clean(title))

    def set_model(self, id: int, model: str) -> None:
        self._set(id, "model", _clean(model))

    def set_system(self, id: int, system: str) -> None:
        self._set(id, "system", _clean(system))

    def set_options(self, id: int, options: dict[str, Any]) -> None:
        self._set(id, "options", _json(options))

    def set_draft(self, id: int, text: str) -> None:
        self._set(id, "draft", _clean(text))

    def loose_draft(self) -> str:
        """What was typed where no conversation has begun yet."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT text FROM loose_draft").fetchone()
        return str(row[0]) if row else ""

    def set_loose_draft(self, text: str) -> None:
        with self._database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO loose_draft VALUES (1, ?)", (_clean(text),))

    def delete(self, id: int) -> None:
        """Out of sight, until it is restored or purged."""
        with self._database.writing() as connection:
            connection.execute("UPDATE chats SET gone_at = ? WHERE id = ? AND gone_at IS NULL", (time.time(), id))

    def restore(self, id: int) -> None:
        with self._database.writing() as connection:
            _changed(connection.execute("UPDATE chats SET gone_at = NULL WHERE id = ?", (id,)), "conversation")

    def purge(self, older_than_s: float) -> None:
        """Really remove what was deleted more than so many seconds ago, from the file, its index and its log."""
        before = (time.time() - older_than_s,)
        with self._database.writing() as connection:
            count = connection.total_changes
            connection.execute("DELETE FROM turns WHERE gone_at <= ?", before)
            connection.execute("DELETE FROM chats WHERE gone_at <= ?", before)
            some = connection.total_changes > count
        if some:
            self._merge()
        self._empty_log()

    def _merge(self) -> None:
        """The index only notes what is deleted until it is merged: in steps, so that others can write between."""
        pages, changes = -MERGED, 2
        while changes >= 2:
            with self._database.writing() as connection:
                before = connection.total_changes
                connection.execute("INSERT INTO words (words, rank) VALUES ('merge', ?)", (pages,))
                changes, pages = connection.total_changes - before, MERGED

    def delete_all(self) -> None:
        """Really remove everything, at once."""
        with self._database.writing() as connection:
            connection.execute("DROP TRIGGER turn_deleted")
            connection.execute("DELETE FROM turns")
            connection.execute("DELETE FROM chats")
            connection.execute("DELETE FROM loose_draft")
            connection.execute("INSERT INTO words (words) VALUES ('delete-all')")
            connection.execute(schema.TURN_DELETED)
        with contextlib.suppress(CraneError), self._database.reading() as connection:
            connection.execute("VACUUM")  # what is gone is gone; the file's size may wait for another reader
        self._empty_log()

    # Turns

    def path(self, id: int) -> list[Turn]:
        """The conversation as it is shown, from its first turn on."""
        return self._turns(PATH, {"chat": id})

    def tree(self, id: int) -> list[Turn]:
        """All turns in all versions, the oldest first."""
        return self._turns(f"{TURN} WHERE t.chat = ? AND t.gone IS NULL ORDER BY t.id", (id,))

    def turn(self, id: int) -> Turn:
        with self._database.reading() as connection:
            return _turn(connection, id)

    def add(
        self,
        chat: int,
        role: str,
        text: str,
        parent: int | None = None,
        attachments: Iterable[Attachment] = (),
        state: str = "done",
        model: str = "",
        facts: dict[str, Any] | None = None,
    ) -> Turn:
        """A new turn under `parent`, shown instead of its siblings. CraneError if the chat or the parent is gone."""
        now, files = time.time(), _json([(file.name, file.text) for file in attachments])
        values = (chat, parent, role, _clean(text), files, _known(state), _clean(model), _json(facts or {}), now)
        insert = """INSERT INTO turns
            (chat, parent, role, text, attachments, state, model, facts, created, writer, picked)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)"""
        with self._database.writing() as connection:
            bumped = "UPDATE chats SET changed = ? WHERE id = ? AND gone_at IS NULL"
            _changed(connection.execute(bumped, (now, chat)), "conversation")
            if parent is not None and _turn(connection, parent).chat != chat:
                raise ValueError(f"turn {parent} is in another conversation than {chat}")
            number = int(connection.execute(insert, (*values, self._writer())).lastrowid or 0)
            connection.execute(PICK, (number,))
            return _turn(connection, number)

    def update(
        self, turn_id: int, text: str | None = None, state: str | None = None, facts: dict[str, Any] | None = None
    ) -> None:
        """Change what is given, of a removed turn too. When it returns, it is kept even if the program dies."""
        values = (
            None if text is None else _clean(text),
            None if state is None else _known(state),
            None if facts is None else _json(facts),
        )
        change = """UPDATE turns SET text = coalesce(?, text), state = coalesce(?, state), facts = coalesce(?, facts),
            writer = iif(? = 'running', ?, writer) WHERE id = ?"""
        with self._database.writing() as connection:
            _changed(connection.execute(change, (*values, state, self._writer(), turn_id)), "message")

    def switch(self, turn_id: int, step: int) -> Turn:
        """Show the sibling so many versions further on, or back; at the ends the last there is."""
        siblings = """SELECT s.id FROM turns s JOIN turns t ON s.parent IS t.parent AND s.chat = t.chat
            WHERE t.id = ? AND s.gone IS NULL ORDER BY s.id"""
        with self._database.writing() as connection:
            _turn(connection, turn_id)
            ids = [row[0] for row in connection.execute(siblings, (turn_id,))]
            chosen = ids[min(max(ids.index(turn_id) + step, 0), len(ids) - 1)]
            connection.execute(PICK, (chosen,))
            return _turn(connection, chosen)

    def remove_turn(self, turn_id: int) -> None:
        """Out of sight with everything below, until it is restored or purged; the version shown before comes back."""
        remove = f"{BELOW} UPDATE turns SET gone = :turn, gone_at = :now WHERE id IN below AND gone IS NULL"
        with self._database.writing() as connection:
            connection.execute(remove, {"turn": turn_id, "now": time.time()})

    def restore_turn(self, turn_id: int) -> None:
        """Bring back what `remove_turn` took, and show it; under a turn that is gone itself it comes back with that."""
        above = "SELECT p.gone, p.gone_at FROM turns t LEFT JOIN turns p ON p.id = t.parent WHERE t.id = ?"
        with self._database.writing() as connection:
            row = connection.execute(above, (turn_id,)).fetchone()
            if row is None:
                raise CraneError("This message was deleted.")
            connection.execute("UPDATE turns SET gone = ?, gone_at = ? WHERE gone = ?", (*row, turn_id))
            connection.execute(PICK, (turn_id,))

    def settle(self) -> int:
        """Turns that a program was writing when it died become "interrupted": how many."""
        holders = self._database.holders
        if holders is None or not self.writable:
            return 0
        with self._database.writing() as connection:
            writers = connection.execute("SELECT DISTINCT writer FROM turns WHERE state = 'running'").fetchall()
            dead = [(number,) for (number,) in writers if not holders.lives(number)]
            settle = "UPDATE turns SET state = 'interrupted' WHERE state = 'running' AND writer = ?"
            return sum(connection.execute(settle, number).rowcount for number in dead)

    # Small steps

    def _set(self, id: int, column: str, value: str) -> None:
        with self._database.writing() as connection:
            _changed(connection.execute(f"UPDATE chats SET {column} = ? WHERE id = ?", (value, id)), "conversation")

    def _turns(self, query: str, values: Any) -> list[Turn]:
        with self._database.reading() as connection:
            return [_as_turn(row) for row in connection.execute(query, values)]

    def _writer(self) -> int:
        return self._database.holders.number if self._database.holders else 0

    def _empty_log(self) -> None:
        """Move the log into the file, so that it keeps nothing that was removed; another reader may be in its way."""
        with self._database.reading() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _turn(connection: sqlite3.Connection, id: int) -> Turn:
    row = connection.execute(f"{TURN} WHERE t.id = ? AND t.gone IS NULL", (id,)).fetchone()
    if row is None:
        raise CraneError("This message was deleted.")
    return _as_turn(row)


def _as_turn(row: tuple[Any, ...]) -> Turn:
    values = dict(zip(TURN_FIELDS, row, strict=True))
    files = tuple(Attachment(*file) for file in json.loads(values["attachments"]))
    return Turn(**{**values, "attachments": files, "facts": json.loads(values["facts"])})


def _in_titles(connection: sqlite3.Connection, words: list[str], limit: int) -> Iterable[Found]:
    query = f"""SELECT {ROW} FROM chats c WHERE gone_at IS NULL AND holds(c.title, ?)
        ORDER BY changed DESC, id DESC LIMIT ?"""
    for row in connection.execute(query, (" ".join(words), limit)):
        yield Found(ChatRow(*row), None, schema.excerpt(row[1], words))


def _in_turns(connection: sqlite3.Connection, words: list[str], limit: int) -> Iterable[Found]:
    match = schema.matching(words)
    short = [word for word in words if len(word) < 3]
    tables, order = ("words w JOIN turns t ON t.id = w.rowid", "w.rowid") if match else ("turns t", "t.id")
    tests = [("words MATCH ?", match)] if match else []
    tests += [("holds(t.text, ?)", " ".join(short))] if short else []
    query = f"""SELECT {ROW}, t.id, t.text FROM {tables} JOIN chats c ON c.id = t.chat
        WHERE c.gone_at IS NULL AND t.gone IS NULL AND {" AND ".join(test for test, _ in tests)}
        ORDER BY {order} DESC LIMIT ?"""
    for row in connection.execute(query, (*(value for _, value in tests), limit)):
        yield Found(ChatRow(*row[:5]), row[5], schema.excerpt(row[6], words))


def _changed(done: sqlite3.Cursor, what: str) -> None:
    if not done.rowcount:
        raise CraneError(f"This {what} was deleted.")


def _known(state: str) -> str:
    if state not in STATES:
        raise ValueError(f"{state!r} is not one of: {', '.join(STATES)}")
    return state


def _clean(text: str) -> str:
    return SURROGATES.sub("\ufffd", text)


def _json(value: Any) -> str:
    return _clean(json.dumps(value, ensure_ascii=False))

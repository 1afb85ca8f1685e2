"""The tables of the conversations, as steps from one version to the next, and how their words are found.

A turn's siblings are its versions; the one `picked` last is shown, so nothing has to be un-picked. What is removed
stays with the number of the turn that took it along (`gone`) until it is purged. Running turns are not in the index of
words: they change many times a second.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata

from crane_app.library.database import Schema

TURN_DELETED = """CREATE TRIGGER turn_deleted AFTER DELETE ON turns WHEN old.state <> 'running' BEGIN
    INSERT INTO words (words, rowid, text) VALUES ('delete', old.id, searchable(old.text)); END"""
VERSION_1 = (
    """CREATE TABLE chats (
        id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL, model TEXT NOT NULL, system TEXT NOT NULL,
        options TEXT NOT NULL, draft TEXT NOT NULL DEFAULT '', created REAL NOT NULL, changed REAL NOT NULL,
        gone_at REAL)""",
    "CREATE INDEX chats_by_change ON chats (changed)",
    """CREATE TABLE turns (
        id INTEGER PRIMARY KEY AUTOINCREMENT, chat INTEGER NOT NULL REFERENCES chats ON DELETE CASCADE,
        parent INTEGER REFERENCES turns DEFERRABLE INITIALLY DEFERRED, role TEXT NOT NULL, text TEXT NOT NULL,
        attachments TEXT NOT NULL, state TEXT NOT NULL, model TEXT NOT NULL, facts TEXT NOT NULL,
        created REAL NOT NULL, picked INTEGER NOT NULL, writer INTEGER NOT NULL, gone INTEGER, gone_at REAL)""",
    "CREATE INDEX turns_by_parent ON turns (parent, chat, picked)",
    "CREATE INDEX turns_by_chat ON turns (chat)",
    "CREATE INDEX turns_running ON turns (writer) WHERE state = 'running'",
    "CREATE INDEX turns_gone ON turns (gone) WHERE gone IS NOT NULL",
    "CREATE VIRTUAL TABLE words USING fts5 (text, content = '', tokenize = 'trigram')",
    """CREATE TRIGGER turn_added AFTER INSERT ON turns WHEN new.state <> 'running' BEGIN
        INSERT INTO words (rowid, text) VALUES (new.id, searchable(new.text)); END""",
    """CREATE TRIGGER turn_changes BEFORE UPDATE OF text, state ON turns WHEN old.state <> 'running' BEGIN
        INSERT INTO words (words, rowid, text) VALUES ('delete', old.id, searchable(old.text)); END""",
    """CREATE TRIGGER turn_changed AFTER UPDATE OF text, state ON turns WHEN new.state <> 'running' BEGIN
        INSERT INTO words (rowid, text) VALUES (new.id, searchable(new.text)); END""",
    TURN_DELETED,
)


def _first(connection: sqlite3.Connection) -> None:
    for statement in VERSION_1:
        connection.execute(statement)


def _second(connection: sqlite3.Connection) -> None:
    """A place for what is typed before there is a conversation."""
    connection.execute("CREATE TABLE loose_draft (one INTEGER PRIMARY KEY CHECK (one = 1), text TEXT NOT NULL)")


def searchable(text: str) -> str:
    """The text as it is searched: case and widths folded, accents composed, no NUL (SQLite's tokenizer stops there)."""
    return unicodedata.normalize("NFKC", text).casefold().replace("\0", " ")


def holds(text: str, words: str) -> bool:
    """Whether all of the searchable `words`, which blanks separate, occur in the text."""
    text = searchable(text)
    return all(word in text for word in words.split())


def typed_words(typed: str) -> list[str]:
    """What to look for, searchable; of a very long text only its beginning."""
    return list(dict.fromkeys(searchable(typed[:1000]).split()))


def matching(words: list[str]) -> str:
    """The words for FTS5, where quotes take away every meaning; "" if all are too short for trigrams."""
    return " ".join('"{}"'.format(word.replace('"', '""')) for word in words if len(word) >= 3)


def excerpt(text: str, words: list[str], room: int = 120) -> str:
    """About `room` characters on one line around the first of the words."""
    found = re.search("|".join(map(re.escape, words)), text, re.IGNORECASE)
    begin = max(0, found.start() - room // 3) if found else 0
    piece = text[begin : begin + room]
    before, after = "…" if begin else "", "…" if begin + room < len(text) else ""
    return before + " ".join(piece.split()) + after


CHATS = Schema("conversations", (_first, _second), (("searchable", 1, searchable), ("holds", 2, holds)))

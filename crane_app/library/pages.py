"""What was read of each document, kept page by page: a crash costs the page under way, and opening again costs nothing.

A document is known by its content, not its name. SQLite in the user's own folder, readable by no one else; what has not
been used for long goes first. Knows nothing of what a page holds.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crane_app.errors import CraneError, Unsupported

log = logging.getLogger(__name__)

SCHEMA = 1
CAP = 256 << 20  # bytes of all pages
DAYS = 30.0  # unused
PATIENCE_S = 5.0  # for another program that writes
CREATE = """
CREATE TABLE IF NOT EXISTS documents (key TEXT PRIMARY KEY, count INTEGER NOT NULL, used REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS pages (
    key TEXT NOT NULL REFERENCES documents ON DELETE CASCADE, page INTEGER NOT NULL, text BLOB NOT NULL,
    PRIMARY KEY (key, page)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unfinished (place INTEGER PRIMARY KEY, path BLOB NOT NULL) STRICT;
"""


@dataclass(frozen=True)
class Kept:
    """The pages that are there, by number from 1, of `count`."""

    count: int
    texts: dict[int, bytes]


class Pages:
    """Kept in `folder`, by default the user's; may be called from any thread. Raises CraneError where a disk fails."""

    def __init__(self, folder: Path | None = None, cap: int = CAP, clock: Callable[[], float] = time.time):
        self.folder, self.cap, self._clock = folder or _folder(), cap, clock
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        return self.folder / "pages.db"

    def kept(self, key: str) -> Kept:
        """What is there of a document; it counts as used now."""
        with self._open() as base:
            found = base.execute("SELECT count FROM documents WHERE key = ?", (key,)).fetchone()
            base.execute("UPDATE documents SET used = ? WHERE key = ?", (self._clock(), key))
            texts = dict(base.execute("SELECT page, text FROM pages WHERE key = ? ORDER BY page", (key,)))
        return Kept(found[0] if found else 0, texts)

    def keep(self, key: str, count: int, page: int, text: bytes) -> None:
        """Page `page` of `count` of a document; on the disk when this returns."""
        with self._open() as base:
            base.execute(
                "INSERT INTO documents VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET count = excluded.count, used = excluded.used",
                (key, count, self._clock()),
            )
            base.execute("INSERT OR REPLACE INTO pages VALUES (?, ?, ?)", (key, page, text))

    def tidy(self) -> None:
        """Drop what has not been used for DAYS, then the least recently used, until `cap` is kept."""
        with self._open() as base:
            base.execute("DELETE FROM documents WHERE used < ?", (self._clock() - DAYS * 86400,))
            sizes = (
                "SELECT key, sum(length(text)) FROM documents JOIN pages USING (key) GROUP BY key ORDER BY used DESC"
            )
            room = self.cap
            for key, nbytes in base.execute(sizes).fetchall():
                room -= nbytes
                if room < 0:
                    base.execute("DELETE FROM documents WHERE key = ?", (key,))

    def forget(self) -> None:
        """Drop everything, the unfinished queue too."""
        with self._open() as base:
            base.execute("DELETE FROM documents")
            base.execute("DELETE FROM unfinished")
        with self._lock, self._guarded(), contextlib.closing(self._connected()) as base:
            base.execute("VACUUM")
            base.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def plan(self, paths: Sequence[str]) -> None:
        """The files that are still to be read, in order, instead of what was planned before."""
        with self._open() as base:
            base.execute("DELETE FROM unfinished")
            base.executemany("INSERT INTO unfinished VALUES (?, ?)", enumerate(map(os.fsencode, paths)))

    def unfinished(self) -> list[str]:
        """The files that were still to be read when `plan` was last told."""
        if not self.path.exists():
            return []
        with self._open() as base:
            return [os.fsdecode(path) for (path,) in base.execute("SELECT path FROM unfinished ORDER BY place")]

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is done at the end, or not at all."""
        with self._lock, self._guarded(), contextlib.closing(self._connected()) as base, base:
            yield base

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _damaged(error):
                self._start_anew()
            raise _unusable(self.folder, str(error)) from error
        except OSError as error:
            raise _unusable(self.folder, error.strerror or str(error)) from error

    def _connected(self) -> sqlite3.Connection:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # before SQLite makes it readable by others
        try:
            return self._made()
        except sqlite3.DatabaseError as error:
            if not _damaged(error):
                raise
            self._start_anew()
            return self._made()

    def _made(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path, timeout=PATIENCE_S)
        try:
            for setting in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "secure_delete = ON"):
                base.execute(f"PRAGMA {setting}")
            (version,) = base.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA:
                raise Unsupported(
                    f"What was read is kept in {self.folder} by a newer Crane, so this one leaves it alone. "
                    "Use the newer Crane, or move that folder."
                )
            if version == 0:
                base.executescript(f"BEGIN IMMEDIATE; {CREATE} PRAGMA user_version = {SCHEMA}; COMMIT;")
        except BaseException:
            base.close()
            raise
        return base

    def _start_anew(self) -> None:
        """Nothing here is the only copy of anything: what is damaged is dropped."""
        log.warning("%s is damaged and begun anew", self.path)
        for end in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)


def _damaged(error: sqlite3.Error) -> bool:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _unusable(folder: Path, why: str) -> CraneError:
    return CraneError(f"What is read cannot be kept in {folder} ({why}). Check the disk and the folder.")


def _folder() -> Path:
    from platformdirs import user_data_path

    return user_data_path("crane", appauthor=False) / "pages"

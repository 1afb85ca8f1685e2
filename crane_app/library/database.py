"""One SQLite file that several threads and processes share: opened, brought up to date, set aside when damaged.

Every thread has a connection of its own; without a path there is one in memory that threads take turns with. Knows
nothing of what the tables hold.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crane_app.errors import CraneError
from crane_app.library.holders import Holders, holders

BUSY_S = 5.0  # how long a transaction of another process is waited for
IMPATIENT_S = 0.2  # the same, by the thread of a window
MAGIC = b"SQLite format 3\0"  # sqlite.org/fileformat.html
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
BESIDE = ("-wal", "-shm", "")  # what belongs to a file; the file itself last, so that a crash leaves no stray log
BUSY = "Another program keeps {path} busy, so the {what} could not be used. Close it; try again."
CLOSED = "{path} cannot be opened, so the {what} could not be used. Allow reading and writing there."
BROKEN = "{path} is damaged. Start Crane again: it keeps the file aside and begins a new one."
SENTENCES = {
    sqlite3.SQLITE_FULL: "The disk is full, so the {what} could not be saved. Make room where {path} is; try again.",
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_LOCKED: BUSY,
    sqlite3.SQLITE_READONLY: "{path} cannot be written, so the {what} could not be saved. Allow writing there.",
    sqlite3.SQLITE_CANTOPEN: CLOSED,
    sqlite3.SQLITE_PERM: CLOSED,
    sqlite3.SQLITE_IOERR: "{path} could not be read or written: the disk reports an error. Check the disk; try again.",
    sqlite3.SQLITE_TOOBIG: "This text is too long to be kept with the {what}. Shorten it; try again.",
    sqlite3.SQLITE_CORRUPT: BROKEN,
    sqlite3.SQLITE_NOTADB: BROKEN,
}


@dataclass(frozen=True)
class Schema:
    """what: the tables hold, in plural; steps[n]: from version n to n + 1; functions: name, arguments, what it does."""

    what: str
    steps: tuple[Callable[[sqlite3.Connection], None], ...]
    functions: tuple[tuple[str, int, Callable[..., Any]], ...] = ()


class Connection(sqlite3.Connection):
    """One that a weak reference may point at."""


class Database:
    """The file at `path`, or one in memory. notice: what a person must be told; writable: not so for a newer one.

    CraneError where the folder cannot be written or another program keeps the file busy.
    """

    def __init__(self, path: Path | None, schema: Schema) -> None:
        self.path, self.schema = path, schema
        self.notice, self.writable = "", True
        self.holders: Holders | None = None
        self._synchronous = "NORMAL"
        self._mine = threading.local()
        self._every: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._turns = threading.RLock()
        self._shared: Connection | None = None
        if path is None:
            self._shared = self._connect(":memory:")
            self._bring_up_to_date(self._shared)
        else:
            self._open_file(path)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection. What SQLite refuses comes out as a CraneError."""
        try:
            if self._shared is not None:
                with self._turns:
                    yield self._shared
            else:
                yield self._of_this_thread()
        except sqlite3.Error as error:
            raise self._refused(error) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction on this thread's connection: all of it or, after any error, nothing."""
        if not self.writable:
            raise CraneError(self.notice)
        with self.reading() as connection, _transaction(connection):
            yield connection

    def hurry(self) -> None:
        """This thread, a window's, waits for other programs no longer than IMPATIENT_S."""
        with self.reading() as connection:
            connection.execute(f"PRAGMA busy_timeout = {round(1000 * IMPATIENT_S)}")

    def close(self) -> None:
        """Close the connections of all threads; none may be in use."""
        for connection in list(self._every):
            connection.close()
        self._mine = threading.local()

    # Opening

    def _open_file(self, path: Path) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.holders = holders(path.with_name(path.name + "-lock"))
            with self.holders.alone(BUSY_S):
                self._open_or_set_aside(path)
        except sqlite3.Error as error:
            raise self._refused(error) from error
        except TimeoutError:
            raise CraneError(self._sentence(sqlite3.SQLITE_BUSY)) from None
        except OSError as error:
            reason = error.strerror or error
            told = f"The {self.schema.what} cannot be kept at {path}: {reason}. Allow writing there; start Crane again."
            raise CraneError(told) from error

    def _open_or_set_aside(self, path: Path) -> None:
        try:
            self._open_checked(path)
        except (sqlite3.DatabaseError, IsADirectoryError) as error:
            if isinstance(error, sqlite3.DatabaseError) and _code(error) not in DAMAGED:
                raise
            self.close()
            kept = _set_aside(path)
            self._open_checked(path)
            self.notice = (
                f"The file with the {self.schema.what} was damaged. It is kept as {kept}, and a new one was begun."
            )

    def _open_checked(self, path: Path) -> None:
        if path.is_dir():
            raise IsADirectoryError
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
        with path.open("rb") as file:
            if file.read(len(MAGIC)) not in (MAGIC, b""):
                raise _damage("not a database")  # before SQLite makes one file of it and its log
        connection = self._of_this_thread()
        version = _version(connection)
        if version > len(self.schema.steps):
            self.close()
            self.writable = False
            self.notice = (
                f"{path} was written by a newer Crane. Its {self.schema.what} are shown and not changed: "
                "update Crane to go on with them."
            )
            return
        self._check(connection, path)
        self._choose_journal(connection)
        self._bring_up_to_date(connection)

    def _check(self, connection: Connection, path: Path) -> None:
        """Read the tables' definitions; all of the file only if it was found damaged in use."""
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        suspected = _suspicion(path)
        if suspected.exists():
            words = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            suspected.unlink(missing_ok=True)
            if words != "ok":
                raise _damage(words)

    def _choose_journal(self, connection: Connection) -> None:
        """A write-ahead log, or, on a network's disk that cannot share its index, the plain journal."""
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY):
                raise
            mode = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
        self._synchronous = "NORMAL" if mode == "wal" else "FULL"
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")

    def _bring_up_to_date(self, connection: Connection) -> None:
        steps = self.schema.steps
        if _version(connection) == len(steps):
            return
        with _transaction(connection):
            for step in steps[_version(connection) :]:
                step(connection)
            connection.execute(f"PRAGMA user_version = {len(steps)}")

    # Connections

    def _of_this_thread(self) -> Connection:
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            assert self.path is not None
            mode = "rw" if self.writable else "ro"
            connection = self._mine.connection = self._connect(f"{self.path.absolute().as_uri()}?mode={mode}")
        return connection

    def _connect(self, name: str) -> Connection:
        connection = sqlite3.connect(
            name, timeout=BUSY_S, isolation_level=None, check_same_thread=False, factory=Connection, uri=True
        )
        self._every.add(connection)
        for function, arguments, does in self.schema.functions:
            connection.create_function(function, arguments, does, deterministic=True)
        # Triggers call the functions, which some builds of SQLite distrust unless told.
        for pragma in ("foreign_keys = ON", "secure_delete = ON", "trusted_schema = ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        return connection

    # Errors

    def _refused(self, error: sqlite3.Error) -> CraneError:
        code = _code(error)
        if code in DAMAGED and self.path is not None and self.writable:
            with contextlib.suppress(OSError):
                _suspicion(self.path).touch(0o600)
        return CraneError(self._sentence(code) or f"The {self.schema.what} could not be used: {error}.")

    def _sentence(self, code: int) -> str:
        return SENTENCES.get(code, "").format(path=self.path or "the memory", what=self.schema.what)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise


def _damage(words: str) -> sqlite3.DatabaseError:
    """As SQLite tells of it."""
    error = sqlite3.DatabaseError(words)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for errors of Python's module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _suspicion(path: Path) -> Path:
    """Its presence says that the file was found damaged while it was in use."""
    return path.with_name(path.name + "-damaged")


def _set_aside(path: Path) -> Path:
    """Rename the file and its logs; where they are now."""
    stem = f"{path.stem}.damaged-{datetime.date.today():%Y-%m-%d}"
    names = (f"{stem}{number}{path.suffix}" for number in ("", *(f"-{n}" for n in range(2, 1000))))
    kept = next(there for name in names if not (there := path.with_name(name)).exists())
    for ending in BESIDE:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(kept.with_name(kept.name + ending))
    _suspicion(path).unlink(missing_ok=True)
    return kept

"""One window per user: who comes second hands over its files, asks the first to come forward, and goes.

A lock says who is first, and is let go of also by a process that is killed; a socket beside it takes the messages. Both
lie in the folder of this user's engine, which is closed to others. A message is one line of JSON, as is its answer.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

from crane_app.engine.process.place import Place, shared_place
from crane_app.errors import CraneError

LOCK = "window"
PATIENCE_S = 2.0  # for the first to answer
MOST_BYTES = 2**20  # of a message
MOST_VISITORS = 16
IDLE_MS = 5000  # for a message to come
ANSWER = b'{"shown": true}\n'


@contextlib.contextmanager
def only_one(paths: Sequence[Path], place: Place | None = None) -> Iterator["Door | None"]:
    """A Door to those who come later; None if this one came later and has handed its files to the first.

    Raises CraneError when another window is there and does not answer.
    """
    place = place or shared_place()
    place.open()
    with place.lock(LOCK, 0) as first:
        if not first:
            hand_over(address(place), paths)
            yield None
            return
        door = Door(address(place))
        try:
            yield door
        finally:
            door.close()


def address(place: Place) -> str:
    """Where the first window listens: a socket in the folder, on Windows a pipe named after it."""
    return f"crane-{place.folder.name}-{LOCK}" if sys.platform == "win32" else str(place.folder / f"{LOCK}.sock")


def hand_over(to: str, paths: Sequence[Path], seconds: float = PATIENCE_S) -> None:
    """Give the files to the window that listens there; CraneError if it does not take them in time."""
    message = json.dumps({"open": [str(path) for path in paths]}).encode() + b"\n"
    if len(message) > MOST_BYTES:
        raise CraneError("These are too many files at once. Open fewer, or a folder.")
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if _answered(to, message, left):
            return
        time.sleep(0.05)  # it may be starting
    raise CraneError("Crane is running already but does not answer. Wait a moment, or end it and start again.")


def _answered(to: str, message: bytes, seconds: float) -> bool:
    socket, until = QLocalSocket(), time.monotonic() + seconds

    def left() -> int:
        return max(1, round(1000 * (until - time.monotonic())))

    socket.connectToServer(to)
    if not socket.waitForConnected(left()):
        return False
    socket.write(message)
    while not socket.canReadLine() and socket.waitForReadyRead(left()):
        pass
    answered = socket.canReadLine() and bytes(socket.readLine().data()) == ANSWER
    socket.abort()
    return answered


class Door(QObject):
    """Listens at `name`; `asked` carries the files that a later start wants opened, perhaps none."""

    asked = Signal(list)

    def __init__(self, name: str):
        super().__init__()
        self._visitors: set[QLocalSocket] = set()
        self._server = QLocalServer(self)
        self._server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        QLocalServer.removeServer(name)  # left behind by one that was killed: the lock is ours
        if not self._server.listen(name):
            raise CraneError(f"Crane cannot listen at {name} ({self._server.errorString()}). Remove it.")
        self._server.newConnection.connect(self._welcome)

    def close(self) -> None:
        for visitor in list(self._visitors):
            visitor.abort()
        self._server.close()

    def _welcome(self) -> None:
        while (visitor := self._server.nextPendingConnection()) is not None:
            if len(self._visitors) >= MOST_VISITORS:
                visitor.abort()
                visitor.deleteLater()
                continue
            self._visitors.add(visitor)
            visitor.setReadBufferSize(MOST_BYTES + 1)
            visitor.readyRead.connect(partial(self._listen, visitor))
            visitor.disconnected.connect(partial(self._part, visitor))
            QTimer.singleShot(IDLE_MS, visitor, visitor.abort)

    def _listen(self, visitor: QLocalSocket) -> None:
        if not visitor.canReadLine():
            if visitor.bytesAvailable() > MOST_BYTES:
                visitor.abort()
            return
        paths = _paths(bytes(visitor.readLine().data()))
        if paths is None:
            visitor.abort()
            return
        visitor.write(ANSWER)
        visitor.flush()
        self.asked.emit(paths)

    def _part(self, visitor: QLocalSocket) -> None:
        self._visitors.discard(visitor)
        visitor.deleteLater()


def _paths(message: bytes) -> list[Path] | None:
    """The files that a message names; None for anything but a message of ours."""
    try:
        told = json.loads(message)
        names = told["open"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) and "\0" not in name for name in names):
        return None
    return [path for path in map(Path, names) if path.is_absolute()]

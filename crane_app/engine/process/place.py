"""Where an engine can be found: its socket, its key, and the locks that see to it that there is only one.

The folder belongs to the user alone. `engine.lock` is held by the engine as long as it lives, so what lies in a folder
whose lock is free was left behind. `start.lock` is held by a client while it starts an engine. Where the system has no
AF_UNIX sockets it is a port of the loopback interface, written to a file; the key protects both.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from crane_app.errors import CraneError

PATH = 100  # bytes; a socket's address has room for 108 on Linux and 104 on macOS, its final zero included
LOCAL = getattr(socket, "AF_UNIX", socket.AF_INET)
PRIVATE = "own-"  # how the folders of engines with a single owner begin


@dataclass(frozen=True)
class Place:
    """A folder, and whether the address in it is a port instead of a socket."""

    folder: Path
    port: bool = not hasattr(socket, "AF_UNIX")

    @property
    def address(self) -> Path:
        return self.folder / ("engine.port" if self.port else "engine.sock")

    @property
    def key(self) -> Path:
        return self.folder / "engine.key"

    def open(self) -> None:
        """Make the folder, for this user alone. Refused where it is someone else's."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sys.platform == "win32":
            return
        folder, above = self.folder.lstat(), self.folder.parent.stat()
        if not stat.S_ISDIR(folder.st_mode) or folder.st_uid != os.getuid() or above.st_uid not in (0, os.getuid()):
            raise CraneError(f"{self.folder} belongs to someone else, so the engine cannot be there. Remove it.")
        self.folder.chmod(0o700)

    def own(self) -> Place:
        """A new place within this one, for an engine that is not shared."""
        return Place(self.folder / f"{PRIVATE}{secrets.token_hex(4)}", self.port)

    @contextlib.contextmanager
    def lock(self, name: str, seconds: float) -> Iterator[bool]:
        """Hold `name`.lock; False if someone else still holds it after `seconds`."""
        with Path(self.folder, f"{name}.lock").open("ab") as file:
            until = time.monotonic() + seconds
            while not (held := _locked(file.fileno())) and time.monotonic() < until:
                time.sleep(0.02)
            yield held

    def taken(self) -> bool:
        """Whether an engine lives here. What answers at a dead engine's port may be another program by now."""
        if not self.folder.exists():
            return False
        with self.lock("engine", 0) as held:
            return not held

    def listen(self) -> tuple[socket.socket, bytes]:
        """A listening socket at the address, and the key that its clients must know. The engine's lock must be held."""
        key = secrets.token_bytes(32)
        _write(self.key, key)
        self.address.unlink(missing_ok=True)
        if self.port:
            listener = socket.create_server(("127.0.0.1", 0), backlog=64)
            _write(self.address, str(listener.getsockname()[1]).encode())
            return listener, key
        listener = socket.socket(LOCAL)
        listener.bind(str(self.address))
        self.address.chmod(0o600)
        listener.listen(64)
        return listener, key

    def call(self, seconds: float) -> tuple[socket.socket, bytes]:
        """A socket connected to whoever listens at the address, and the key. OSError or ValueError if nobody does."""
        key = self.key.read_bytes()
        if self.port:
            return socket.create_connection(("127.0.0.1", int(self.address.read_bytes())), seconds), key
        sock = socket.socket(LOCAL)
        try:
            sock.settimeout(seconds)
            sock.connect(str(self.address))
        except BaseException:
            sock.close()
            raise
        return sock, key

    def clear(self) -> None:
        """Take the address and the key away; of a private place everything. The engine's lock must be held."""
        for path in (self.address, self.key):
            with contextlib.suppress(OSError):
                path.unlink()
        if self.folder.name.startswith(PRIVATE):
            shutil.rmtree(self.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Clear what dead engines left here and in the private places within. `start.lock` must be held."""
        owned = [Place(path, self.port) for path in self.folder.glob(PRIVATE + "*")]
        for place in (self, *owned):
            with contextlib.suppress(OSError), place.lock("engine", 0) as held:
                if held:
                    place.clear()


def shared_place() -> Place:
    """Where this user's engine is: the same for all programs of the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a system without a runtime folder for users is served all the same
        folder = Path(platformdirs.user_runtime_dir("crane"))
    longest = folder / f"{PRIVATE}12345678" / "engine.sock"
    if len(os.fsencode(longest)) > PATH:
        mark = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
        where = tempfile.gettempdir()
        folder = Path(where if len(os.fsencode(where)) < PATH - 60 else "/tmp", f"crane-{mark}")
    return Place(folder)


def _write(path: Path, data: bytes) -> None:
    """A file that only this user can read, whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    fresh.replace(path)


def _locked(fd: int) -> bool:
    """Whether the file is now locked by this open file; the lock ends with it, also when the process is killed."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

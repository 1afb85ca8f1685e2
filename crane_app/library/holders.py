"""Which running processes use a file: each holds one byte of a lock file, and loses it only by ending.

The byte's place is the process's number in rows that it writes, so that others can tell whether it still lives; a
process id would be given to another program one day. Byte 0 is held while the file is being opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class Holders:
    """The lock file of one file, seen by this process. number: of this process."""

    def __init__(self, path: Path) -> None:
        # Never closed: the system drops a process's locks on a file with any of its descriptors.
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._threads = threading.Lock()
        self.number = secrets.randbelow(2**31 - 1) + 1
        while not self._take(self.number):
            self.number = secrets.randbelow(2**31 - 1) + 1

    def lives(self, number: int) -> bool:
        """Whether the process of that number still runs."""
        if number == self.number:
            return True
        with self._threads:
            if not self._take(number):
                return True
            self._leave(number)
        return False

    @contextlib.contextmanager
    def alone(self, seconds: float) -> Iterator[None]:
        """While no other process is in here; TimeoutError when one stays for longer than `seconds`."""
        with self._threads:
            until = time.monotonic() + seconds
            while not self._take(0):
                if time.monotonic() > until:
                    raise TimeoutError
                time.sleep(0.01)
            try:
                yield
            finally:
                self._leave(0)

    def _take(self, place: int) -> bool:
        """Lock a byte; False while another process has it. A disk without locks has no other processes."""
        try:
            self._lock(place, True)
        except OSError as error:
            return error.errno not in HELD
        return True

    def _leave(self, place: int) -> None:
        with contextlib.suppress(OSError):
            self._lock(place, False)

    def _lock(self, place: int, take: bool) -> None:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(self._file, place, os.SEEK_SET)
            msvcrt.locking(self._file, msvcrt.LK_NBLCK if take else msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB if take else fcntl.LOCK_UN, 1, place)


def holders(path: Path) -> Holders:
    """The lock file at `path`: one for all users of it in this process."""
    return _of_process(path.absolute(), os.getpid())


@cache
def _of_process(path: Path, process: int) -> Holders:
    return Holders(path)

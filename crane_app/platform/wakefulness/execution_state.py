"""Windows: SetThreadExecutionState of kernel32 (learn.microsoft.com, winbase.h). It counts for the thread that said it.

So a thread of its own says it, waits, and takes it back.
"""

from __future__ import annotations

import ctypes
import threading

CONTINUOUS, SYSTEM_REQUIRED = 0x8000_0000, 0x0000_0001


class HeldByThread:
    """A thread that asks the system to stay awake until `release`."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._stay, name="awake", daemon=True)
        self._thread.start()

    def release(self) -> None:
        self._over.set()
        self._thread.join()

    def _stay(self) -> None:
        say = getattr(ctypes, "windll").kernel32.SetThreadExecutionState  # noqa: B009 (mypy checks it as on Linux)
        say(ctypes.c_uint(CONTINUOUS | SYSTEM_REQUIRED))
        self._over.wait()
        say(ctypes.c_uint(CONTINUOUS))


def hold(why: str) -> HeldByThread:
    """Windows takes no reason here."""
    return HeldByThread()

"""Memory that was freed and that the C library keeps for itself, given back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Takes a millisecond; nothing on systems whose C library does it by itself.

    glibc keeps freed pieces of up to 32 MB until it is told to trim (mallopt(3), M_MMAP_THRESHOLD).
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

"""How much memory the machine has; the budget of a cache where nobody set one."""

from __future__ import annotations

import ctypes
import os
import sys


def physical() -> int:
    """Bytes of main memory."""
    if sys.platform == "win32":
        return _windows()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _windows() -> int:
    """GlobalMemoryStatusEx's ullTotalPhys (Microsoft Learn, sysinfoapi.h)."""

    class Status(ctypes.Structure):
        _fields_ = (
            ("dwLength", ctypes.c_ulong),
            ("dwMemoryLoad", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "page_total", "page_free")),
            *((name, ctypes.c_ulonglong) for name in ("virtual_total", "virtual_free", "extended")),
        )

    status = Status()
    status.dwLength = ctypes.sizeof(status)
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.total)

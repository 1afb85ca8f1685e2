"""Whether a model fits into this machine: what it needs against the memory and the disk that are there."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TYPICAL_CONTEXT = 8192  # tokens of a long conversation
RUNTIME = 400 * 10**6  # bytes that the libraries and the window take beside the model
WELL, TIGHT = 0.6, 0.85  # shares of the machine's memory


@dataclass(frozen=True)
class Verdict:
    """fit: whether a model has room; needed: bytes it takes when loaded; sentence: the same for people."""

    fit: Literal["well", "tight", "no", "unknown"]
    needed: int
    sentence: str


def verdict(weights: int, cache: int, memory: int) -> Verdict:
    """A model of `weights` and `cache` (keys and values) bytes in a computer with `memory` bytes; 0: unknown."""
    needed = weights + cache + RUNTIME
    numbers = f"It needs about {human(needed)} of memory"
    if memory <= 0:
        return Verdict("unknown", needed, f"{numbers}.")
    numbers = f"{numbers}; this computer has {human(memory)}"
    if needed <= WELL * memory:
        return Verdict("well", needed, f"Fits well. {numbers}.")
    if needed <= TIGHT * memory:
        return Verdict("tight", needed, f"Fits tightly. {numbers}: close other programs first.")
    return Verdict("no", needed, f"Too large for this computer. {numbers}.")


def memory() -> int:
    """Bytes of memory this computer has; 0 where the system does not say."""
    if sys.platform == "win32":
        return _windows_memory()
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def free_disk(folder: Path) -> int:
    """Bytes free where `folder` is, or will be."""
    return shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.exists())).free


def human(nbytes: float) -> str:
    """A size for people: 1.3 GB, 988 MB, 12 kB; a thousand bytes are a kilobyte."""
    for unit, scale in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if nbytes >= scale * 0.9995:
            amount = nbytes / scale
            return f"{amount:.1f} {unit}" if amount < 99.95 and scale >= 10**9 else f"{amount:.0f} {unit}"
    return f"{nbytes:.0f} bytes"


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of Windows' sysinfoapi.h."""

    _fields_ = [
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        *((name, ctypes.c_ulonglong) for name in ("total", "free", "page", "page_free", "virtual", "virtual_free")),
        ("extended", ctypes.c_ulonglong),
    ]


def _windows_memory() -> int:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 (mypy checks it as on Linux, where there is none)
    return int(status.total) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else 0

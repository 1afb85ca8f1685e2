"""Memory in the processor's large pages, where the system gives them (Linux).

A step reads its weights once each, so that every page of 4 KB costs a look-up of where it lies; pages of 2 MB cost next
to none (benchmarks/kernels_cpu.py reads through both). NumPy asks for them from 4 MB on, which most matrices of small
models miss.
"""

from __future__ import annotations

import mmap
import weakref
from contextlib import suppress
from threading import Lock

import numpy as np

LINE = 64  # bytes that the processor reads at once
PAGE = 2**21
CHUNK = 2**24  # asked of the system at once; what is not written takes no memory


LARGE = hasattr(mmap, "MADV_HUGEPAGE")


class Pages:
    """Gives out pieces of chunks, side by side; a chunk is given back when none of its pieces is left.

    most: bytes that will be asked for in all, where that is known.
    """

    def __init__(self, most: int = CHUNK):
        self._size = min(most, CHUNK) if LARGE else 0
        self._chunk: weakref.ref[np.ndarray] | None = None
        self._used = 0
        self._lock = Lock()

    def take(self, nbytes: int) -> np.ndarray:
        """uint8 [nbytes], all zero, that begin a line of the processor's cache; raises MemoryError."""
        size = -(-nbytes // LINE) * LINE
        with self._lock:
            chunk = None if self._chunk is None else self._chunk()
            if chunk is None or self._used + size > len(chunk):
                chunk, self._used = _chunk(max(size, self._size))
                self._chunk = weakref.ref(chunk)
            piece = chunk[self._used : self._used + nbytes]
            self._used += size
        return piece


def _chunk(nbytes: int) -> tuple[np.ndarray, int]:
    """Memory, and where in it `nbytes` begin: on a large page if they fill one, else on a line."""
    if not LARGE or nbytes < PAGE:
        memory = np.zeros(nbytes + LINE, np.uint8)
        return memory, -memory.ctypes.data % LINE
    try:
        mapped = mmap.mmap(-1, nbytes + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"{nbytes} bytes") from error
    with suppress(OSError):  # of a kernel that has none
        mapped.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(mapped, np.uint8)
    return memory, -memory.ctypes.data % PAGE

"""How fast the main memory can be read right now.

Method: each thread takes the maximum of its own share of 512 MiB of int32 with numpy, which reads every byte once and
keeps nothing; the best of three passes. The maximum, because numpy's sum waits for its additions and reads a third
less; 512 MiB, because it must not fit into a cache. Memory speed changes over time, so a figure is good for the moment
around it only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

METHOD = "numpy's maximum over 512 MiB, in as many threads as the run may use, best of 3, before and after each turn"
DEVICE_METHOD = "the backend's maximum over 1 GiB on the device, best of 3, before and after each turn"
SIZE, PASSES = 2**29, 3


def best(read: Callable[[], object], passes: int = PASSES) -> float:
    """Seconds of the fastest of several passes."""
    seconds = []
    for _ in range(passes):
        start = time.perf_counter()
        read()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


class HostStream:
    """A read stream over main memory with `threads` threads (None: one for each processor of this process)."""

    def __init__(self, threads: int | None = None, size: int = SIZE):
        self.threads = threads or processors()
        self._parts = np.array_split(np.ones(size // 4, np.int32), self.threads)  # written, so that pages are there
        self._pool = ThreadPoolExecutor(self.threads)

    def __call__(self) -> float:
        """Bytes per second."""
        size = sum(part.nbytes for part in self._parts)
        return size / best(lambda: list(self._pool.map(np.max, self._parts)))


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""Python's search for reference cycles, on the window's thread alone and only while that has nothing else to do.

Left to itself it begins at any allocation on any thread. Widgets that are found by a worker's thread are destroyed
there, under the hands of Qt, which allows that on their own thread only.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from PySide6.QtCore import QAbstractEventDispatcher, QObject

# New objects before a search among them, and searches before one that looks at older ones as well. Python's own 700
# are meant for a search that nobody has made room for.
LIMITS = 5_000, 10, 10


@contextmanager
def collected_here() -> Iterator[None]:
    """No search from now on but by the loop of events of this thread, before it waits for the next one."""
    was_on = gc.isenabled()
    dispatcher = QAbstractEventDispatcher.instance()
    gc.disable()
    connection = dispatcher.aboutToBlock.connect(collect)
    try:
        yield
    finally:
        QObject.disconnect(connection)
        if was_on:
            gc.enable()


def collect() -> None:
    """Look for garbage as far back as it is time for."""
    counts = gc.get_count()
    for generation in (2, 1, 0):
        if counts[generation] > LIMITS[generation]:
            gc.collect(generation)
            return

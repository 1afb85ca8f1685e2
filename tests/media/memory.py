"""How much memory a piece of a test may take."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def modest(most: int) -> Iterator[None]:
    """Fails if more bytes than that were held at once inside; asked for is held, whether or not it was ever touched."""
    tracemalloc.start()
    try:
        yield
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= most, f"{peak} bytes, more than {most}"

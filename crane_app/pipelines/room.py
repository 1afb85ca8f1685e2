"""Whether a model on this computer has room in its memory, loaded as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crane_app.library.fit import Verdict
from crane_app.library.models import OnDisk, needed_memory

SETTINGS = ("backend", "device", "dtype", "quantize")  # what it depends on


def verdict(entry: OnDisk, memory: int, get: Callable[[str], Any], draft: OnDisk | None = None) -> Verdict:
    """Whether it fits into `memory` bytes, with a draft model if there is one. get: a setting's value by its name."""
    from crane_app import backends  # brings numpy, which the window does not open with

    library, device, dtype, quantize = map(get, SETTINGS)
    terms = backends.foreseen(library, device or "auto", dtype, quantize)
    return needed_memory(entry, memory, terms, draft)

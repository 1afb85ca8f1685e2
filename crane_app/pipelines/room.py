"""Whether a model on this computer has room in its memory, loaded as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crane_app import backends
from crane_app.library.fit import Verdict
from crane_app.library.models import OnDisk, needed_memory


def verdict(entry: OnDisk, memory: int, get: Callable[[str], Any]) -> Verdict:
    """Whether it fits into `memory` bytes. get: a setting's value by its name."""
    terms = backends.foreseen(get("backend"), get("device") or "auto", get("dtype"), get("quantize"))
    return needed_memory(entry, memory, terms)

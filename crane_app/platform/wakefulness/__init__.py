"""A computer that does not fall asleep by itself while somebody speaks to it or listens to it.

Each system's own means is a small module, tried in order. Where there is none the work goes on all the same: a person
who is there keeps the computer awake too. Sleep that a person asks for is never held up.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger(__name__)


class Held(Protocol):
    """A request to stay awake."""

    def release(self) -> None:
        """Sleep may come again."""
        ...


# By sys.platform, modules with `hold(why) -> Held | None`; elsewhere ELSEWHERE.
ORDER = {"darwin": ("caffeinate",), "win32": ("execution_state",)}
ELSEWHERE = ("gnome", "logind")


@contextmanager
def awake(why: str, system: str = sys.platform) -> Iterator[None]:
    """No sleep for as long as the context lasts; why: half a sentence for people who ask the system."""
    held = _hold(why, system)
    try:
        yield
    finally:
        if held is not None:
            held.release()


def _hold(why: str, system: str) -> Held | None:
    for name in ORDER.get(system, ELSEWHERE):
        module = importlib.import_module(f"crane_app.platform.wakefulness.{name}")
        try:
            held: Held | None = module.hold(why)
        except OSError as error:
            log.info("%s does not keep the computer awake: %s", name, error)
            continue
        if held is not None:
            return held
    return None

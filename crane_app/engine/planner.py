"""Who stays in memory: what a load needs, who goes for it, who goes after a time without work, and who is pinned.

Knows names, bytes and a clock; nothing of tensors and rows. Whoever holds the things asks and does what it says.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from crane_app.engine.loading import How
from crane_app.engine.memory import Thing
from crane_app.engine.pairing import MARK
from crane_app.engine.request import ModelCard, Parting
from crane_app.errors import NotEnoughMemory
from crane_app.library.fit import human

log = logging.getLogger(__name__)
TOLD = 16  # partings that are remembered
Clock = Callable[[], float]


@dataclass(frozen=True)
class Gone:
    """A model that was let go, and how it was loaded, so that it can be again."""

    card: ModelCard
    how: How


class Planner:
    """Changed on the device thread alone, read from any. idle_s: how long models stay without work; None: for ever.

    pins: what goes only by hand. keeps: seconds that a client wishes for one, inf for ever.
    gone: what was let go, by name, until it is back or given back by hand.
    """

    def __init__(self, idle_s: float | None = None, clock: Clock = time.monotonic) -> None:
        self.idle_s, self.clock = idle_s, clock
        self.pins: set[str] = set()
        self.keeps: dict[str, float] = {}
        self.gone: dict[str, Gone] = {}
        self._partings: deque[tuple[str, int, str, float]] = deque(maxlen=TOLD)

    def pinned(self, name: str) -> bool:
        return name in self.pins or self.keeps.get(name) == math.inf

    def keep(self, thing: Thing) -> float | None:
        """Seconds without work after which it goes; None: it stays."""
        if self.pinned(thing.name):
            return None
        return self.keeps.get(thing.name, getattr(thing, "rest_s", self.idle_s))

    def expires(self, thing: Thing) -> float:
        """When it goes if nobody uses it, on the clock."""
        keep = self.keep(thing)
        return math.inf if keep is None else thing.used + keep

    def choose(self, missing: int, things: Iterable[Thing], busy: Callable[[Thing], bool]) -> list[Thing]:
        """Those that go so that so many bytes are free: idle ones, the longest idle first, none that need not.

        Empty where all of them together are not enough.
        """
        going: list[Thing] = []
        for thing in sorted(things, key=lambda each: each.used):
            if sum(each.weights for each in going) >= missing:
                break
            if thing.weights and not self.pinned(thing.name) and not busy(thing):
                going.append(thing)
        freed = sum(each.weights for each in going)
        if freed < missing:
            return []
        for thing in reversed(going[:]):  # a large one may have made smaller ones before it needless
            if freed - thing.weights >= missing:
                freed -= thing.weights
                going.remove(thing)
        return going

    def refusal(
        self, what: str, nbytes: int, limit: int, things: Iterable[Thing], busy: Callable[[Thing], bool]
    ) -> NotEnoughMemory:
        """Why there is no room, and what would have to go for it."""
        there = [thing for thing in things if thing.weights]
        if nbytes > limit or not there:
            return NotEnoughMemory(
                f"{what} needs {human(nbytes)}; the limit is {human(limit)}. Choose a smaller one, or raise "
                "--gpu-memory-limit."
            )
        named = ", ".join(f"{each.name} ({human(each.weights)}{self._why(each, busy)})" for each in there)
        return NotEnoughMemory(
            f"{what} needs {human(nbytes)}, and {human(sum(each.weights for each in there))} of {human(limit)} are "
            f"taken. What could go is not enough: {named}. Unload what you can spare, choose a smaller one, or raise "
            "--gpu-memory-limit."
        )

    def parted(self, thing: Thing, room: str, gone: Gone | None = None) -> None:
        """Note that it was let go: room: for what, "" after a time without work."""
        if gone is not None:
            self.gone[thing.name] = gone
        why = f"to make room for {room}" if room else "after a time without work"
        log.info("%s (%s) was let go %s", thing.name, human(thing.weights), why)
        self._partings.append((thing.name, thing.weights, room, self.clock()))

    def partings(self) -> tuple[Parting, ...]:
        now = self.clock()
        return tuple(Parting(name, nbytes, room, now - when) for name, nbytes, room, when in list(self._partings))

    def told(self, room: str, since: float) -> Iterator[str]:
        """What a person should know about a load: a sentence if others went for it since then."""
        went = [(name, human(n)) for name, n, what, when in self._partings if what == room and when >= since]
        models, drafts = (
            [f"{name} ({size})" for name, size in went if name.endswith(MARK) is so] for so in (False, True)
        )
        if models:
            yield f"To make room, {' and '.join(models)} left the memory; asked for again, they are loaded again."
        if drafts:
            yield f"To make room, {' and '.join(drafts)} left the memory: answers stay as they are, and come slower."

    def forget(self, name: str) -> None:
        """It was given back by hand: nothing that was wished for it holds any more."""
        self.pins.discard(name)
        self.keeps.pop(name, None)
        self.gone.pop(name, None)

    def _why(self, thing: Thing, busy: Callable[[Thing], bool]) -> str:
        return ", pinned" if self.pinned(thing.name) else ", at work" if busy(thing) else ""

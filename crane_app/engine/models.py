"""The loaded models: each with its scheduler, tokenizer and chat template, by name."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from crane_app.contract import Backend, Cache
from crane_app.engine.grammar import Vocabulary
from crane_app.engine.loading import Loaded
from crane_app.engine.memory import Memory
from crane_app.engine.prefixes import Reuse
from crane_app.engine.request import ModelCard
from crane_app.engine.scheduler import Scheduler, known
from crane_app.engine.sequence import Sequence
from crane_app.engine.tracking import Tracked
from crane_app.errors import ModelNotFound


@dataclass
class Rows:
    """Counts over all models."""

    running: int = 0
    waiting: int = 0
    cache_nbytes: int = 0
    steps: int = 0
    tokens: int = 0
    evictions: int = 0


@dataclass
class Shelved:
    """A loaded model. tokenizer, template: None where the folder has none. served: when it last had the device.

    vocabulary: its tokens for grammars, None without a tokenizer.
    """

    card: ModelCard
    loaded: Loaded
    scheduler: Scheduler
    tokenizer: Any
    template: Any
    served: float = field(default_factory=time.monotonic)
    vocabulary: Vocabulary | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.tokenizer is not None:
            ends = (id for id in self.card.eos if 0 <= id < self.card.vocabulary)
            self.vocabulary = Vocabulary(self.tokenizer, self.card.vocabulary, ends)

    @property
    def lane(self) -> int:
        return self.scheduler.lane

    @property
    def weights(self) -> int:
        return self.loaded.nbytes

    @property
    def cache(self) -> Cache:
        return self.scheduler.cache

    @property
    def backend(self) -> Backend:
        return self.loaded.backend

    def add(self, sequences: list[Sequence], tracked: Tracked) -> None:
        """Hand the choices of a request to the scheduler; on the device thread."""
        if tracked.ended:
            for sequence in sequences:
                sequence.finish = "cancelled"
            return
        for sequence in sequences:
            self.scheduler.add(sequence)

    def end_all(self, error: BaseException | None = None) -> None:
        """End every choice, cancelled or with an error, and free their rows."""
        for sequence in [*self.scheduler.running, *self.scheduler.waiting]:
            if error is None:
                sequence.end("cancelled")
            else:
                sequence.end("error", known(error))
        self.scheduler.close()


class Shelf:
    """Models by name, within one memory. Changed on the device thread alone, read from any."""

    def __init__(self, memory: Memory, reuse: Reuse = "all") -> None:
        self.memory, self.reuse = memory, reuse
        self.loading: set[str] = set()  # names that are spoken for
        self._models: dict[str, Shelved] = {}
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Shelved]:
        with self._lock:
            return iter(list(self._models.values()))

    def get(self, name: str) -> Shelved:
        """The model of that name; with '' the only one there is."""
        with self._lock:
            if not name and len(self._models) == 1:
                return next(iter(self._models.values()))
            if name in self._models:
                return self._models[name]
            there = ", ".join(self._models) or "none"
        raise ModelNotFound(f"No model called '{name}' is loaded. Loaded: {there}.")

    def find(self, name: str) -> Shelved | None:
        with self._lock:
            return self._models.get(name)

    def put(self, shelved: Shelved) -> None:
        with self._lock:
            self._models[shelved.card.name] = shelved
        self.memory.divide(self)

    def remove(self, name: str) -> tuple[int, int, int]:
        """End a model's choices as cancelled, forget it and give its memory back; its steps, tokens and evictions."""
        shelved = self.get(name)
        shelved.end_all()
        scheduler = shelved.scheduler
        done = scheduler.steps, scheduler.tokens, scheduler.evictions
        backend = shelved.loaded.backend
        with self._lock:
            del self._models[shelved.card.name]
        self.memory.divide(self)
        del shelved, scheduler  # the last hold on the weights, before the library gives back what is free
        let_go(backend)
        return done

    def check(self, backend: Backend, nbytes: int) -> None:
        """NotEnoughMemory if weights of so many bytes have no room beside the models here."""
        self.memory.check(backend, nbytes, self)

    def divide(self) -> None:
        """Let several models use the memory that the others leave; called before one of them takes any."""
        if len(self._models) > 1:
            self.memory.divide(self)

    def trim(self) -> None:
        """Drop the prefixes kept for reuse, and give back what the tensor libraries hold in reserve."""
        for shelved in self:
            shelved.scheduler.forget()
            shelved.loaded.backend.trim()

    def cards(self) -> list[ModelCard]:
        return [shelved.card for shelved in self]

    def rows(self) -> Rows:
        total = Rows()
        for shelved in self:
            scheduler = shelved.scheduler
            total.running += len(scheduler.running)
            total.waiting += len(scheduler.waiting)
            total.cache_nbytes += scheduler.cache_nbytes
            total.steps += scheduler.steps
            total.tokens += scheduler.tokens
            total.evictions += scheduler.evictions
        return total


def let_go(backend: Backend) -> None:
    """Give the system all memory that nobody holds any more.

    glibc keeps freed pieces of up to 32 MB for itself until it is told to trim (mallopt(3), M_MMAP_THRESHOLD).
    """
    gc.collect()
    backend.trim()
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

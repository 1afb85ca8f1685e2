"""The loaded models: each with its scheduler, tokenizer and chat template, by name."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from crane_app.engine.loading import Loaded
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


@dataclass
class Shelved:
    """A loaded model. tokenizer, template: None where the folder has none."""

    card: ModelCard
    loaded: Loaded
    scheduler: Scheduler
    tokenizer: Any
    template: Any

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
                sequence.end("error", known(error) if isinstance(error, Exception) else error)
        self.scheduler.close()


class Shelf:
    """Models by name. Changed on the device thread alone, read from any."""

    def __init__(self) -> None:
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

    def remove(self, name: str) -> None:
        """Forget a model and give its memory back."""
        with self._lock:
            backend = self._models.pop(name).loaded.backend
        gc.collect()
        backend.trim()

    def clear(self) -> None:
        for card in self.cards():
            self.remove(card.name)

    def trim(self) -> None:
        """Give back what the tensor libraries hold in reserve."""
        for shelved in self:
            shelved.loaded.backend.trim()

    def cards(self) -> list[ModelCard]:
        return [shelved.card for shelved in self]

    def rows(self) -> Rows:
        total = Rows()
        for shelved in self:
            scheduler = shelved.scheduler
            total.running += len(scheduler.running)
            total.waiting += len(scheduler.waiting)
            total.cache_nbytes += scheduler.cache.nbytes()
            total.steps += scheduler.steps
            total.tokens += scheduler.tokens
        return total

"""The loaded models: each with its scheduler, tokenizer and chat template, by name; and who goes when room is short."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from crane_app.contract import Backend, Cache
from crane_app.engine.beside import here
from crane_app.engine.drafting import Lookups
from crane_app.engine.grammar import Vocabulary
from crane_app.engine.identity import identity
from crane_app.engine.loading import How, Loaded
from crane_app.engine.memory import POOLS, Memory, Pool, Thing, let_go, pool_of
from crane_app.engine.pairing import Small, lend, smalls
from crane_app.engine.planner import Gone, Planner
from crane_app.engine.prefixes import Reuse
from crane_app.engine.reading import READER, READER_NBYTES, Resting
from crane_app.engine.request import Holding, ModelCard
from crane_app.engine.scheduler import Scheduler
from crane_app.engine.sequence import Sequence
from crane_app.engine.steps import known
from crane_app.engine.storing import Stored, Writer
from crane_app.engine.tracking import Tracked
from crane_app.errors import ModelNotFound, NotEnoughMemory
from crane_app.media.freed import give_back

log = logging.getLogger(__name__)


@dataclass
class Rows:
    """Counts over all models."""

    running: int = 0
    waiting: int = 0
    cache_nbytes: int = 0
    steps: int = 0
    tokens: int = 0
    evictions: int = 0
    drafted: int = 0
    accepted: int = 0

    def add(self, scheduler: Scheduler) -> None:
        """What a model has done so far."""
        self.steps += scheduler.steps
        self.tokens += scheduler.tokens
        self.evictions += scheduler.evictions
        self.drafted += scheduler.ahead.tried
        self.accepted += scheduler.ahead.right


@dataclass
class Shelved:
    """A loaded model. tokenizer, template: None where the folder has none. served: when it last had the device.

    how: as it was asked to be loaded. used: when it was last of use, on the planner's clock. small: its draft model.
    vocabulary: its tokens for grammars, None without a tokenizer.
    """

    card: ModelCard
    loaded: Loaded
    scheduler: Scheduler
    tokenizer: Any
    template: Any
    how: How = field(default_factory=How)
    small: Loaded | None = None
    used: float = 0.0
    served: float = field(default_factory=time.monotonic)
    vocabulary: Vocabulary | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.tokenizer is not None:
            ends = (id for id in self.card.eos if 0 <= id < self.card.vocabulary)
            self.vocabulary = Vocabulary(self.tokenizer, self.card.vocabulary, ends)

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def lane(self) -> int:
        return self.scheduler.lane

    @property
    def pool(self) -> Pool:
        return pool_of(self.backend.device)

    @property
    def weights(self) -> int:
        return self.loaded.nbytes

    @property
    def cache(self) -> Cache:
        return self.scheduler.cache

    @property
    def backend(self) -> Backend:
        return self.loaded.backend

    @property
    def ahead(self) -> Lookups:
        return self.scheduler.ahead

    def part_with_draft(self) -> None:
        """Go on without the draft model."""
        self.scheduler.ahead.shed()
        self.scheduler.ahead, self.small = Lookups(), None

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
    """Models by name, and the reader beside them, within one memory. Changed on the device thread, read from any.

    at_work: whether requests or jobs for what has that name are under way. coming: bytes that are kept for what is
    being loaded. due: when something goes for want of work, on the planner's clock. writer: keeps on disk what is
    computed for an owner; None: nothing is.
    """

    def __init__(
        self, memory: Memory, reuse: Reuse = "all", planner: Planner | None = None, writer: Writer | None = None
    ) -> None:
        self.memory, self.reuse, self.planner, self.writer = memory, reuse, planner or Planner(), writer
        self.loading: set[str] = set()  # names that are spoken for
        self.coming: dict[str, tuple[Pool, int]] = {}
        self.reader = Resting()
        self.at_work: Callable[[str], bool] = lambda name: False
        self.due = math.inf
        self.done = Rows()  # by models that are gone
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

    def away(self, name: str) -> str:
        """The name of the model that is meant if it was let go and not asked back since, else ''."""
        gone = self.planner.gone
        if not name and not self._models and len(gone) == 1:
            return next(iter(gone))
        return name if name in gone and self.find(name) is None else ""

    def put(self, shelved: Shelved) -> None:
        if self.writer is not None and shelved.cache.shares:
            try:
                mark = identity(shelved.loaded, shelved.card, shelved.template)
            except OSError as error:
                log.warning("nothing is kept on disk of %s: %s", shelved.card.name, error)
            else:
                shelved.scheduler.stored = Stored(self.writer, shelved.cache, mark)
        shelved.used = self.planner.clock()
        with self._lock:
            self._models[shelved.name] = shelved
        lend(lambda: self, shelved)
        self.coming.pop(shelved.name, None)
        self.planner.gone.pop(shelved.name, None)
        self._changed()

    def unload(self, name: str) -> None:
        """Give a model's memory back by hand, with all that was wished for it. ModelNotFound if there is none."""
        if not self.away(name):
            name = self.get(name).name
            self._remove(name)
        self.planner.forget(self.away(name) or name)
        self._changed()

    def _remove(self, name: str) -> None:
        """End a model's choices as cancelled, forget it and give its memory back."""
        shelved = self.get(name)
        shelved.end_all()
        self.done.add(shelved.scheduler)
        backend = shelved.loaded.backend
        with self._lock:
            del self._models[name]
        del shelved  # the last hold on the weights, before the library gives back what is free
        let_go(backend)

    # One budget

    def things(self) -> list[Thing]:
        return [*self, *smalls(self), self.reader]

    def busy(self, thing: Thing) -> bool:
        """Whether it has work running or waiting. What only makes others faster never has."""
        if isinstance(thing, Small):
            return False
        return (isinstance(thing, Shelved) and thing.scheduler.occupied) or self.at_work(thing.name)

    def _used(self, thing: Thing) -> bool:
        """Busy, or with something to be written that it has computed."""
        return self.busy(thing) or (isinstance(thing, Shelved) and thing.scheduler.stored.owes)

    def room(self, name: str, backend: Backend, nbytes: int) -> Iterator[None]:
        """Keep so many bytes on the device for weights that come. What goes for it goes at the end, and all at once.

        Waits while another load decides it. NotEnoughMemory if all that may go is not enough: then nothing has gone.
        """
        yield from self._room(name, pool_of(backend.device), nbytes, lambda: self.memory.limit(backend))

    def room_beside(self, name: str, nbytes: int) -> None:
        """The same for what computes without a backend; does not wait."""
        for _ in self._room(name, "main", nbytes, self.memory.limit_beside):
            raise NotEnoughMemory("Another model is being loaded. Try again when it is there.")
        self.coming.pop(name, None)

    def _room(self, name: str, pool: Pool, nbytes: int, limit: Callable[[], int]) -> Iterator[None]:
        while True:
            things = [thing for thing in self.things() if thing.pool == pool]
            others = sum(n for other, (where, n) in self.coming.items() if where == pool and other != name)
            missing = sum(thing.weights for thing in things) + others + nbytes - limit()
            going = self.planner.choose(missing, things, self.busy)
            if missing <= 0 or going:
                break
            stay = sum(each.weights for each in things if self.busy(each) or self.planner.pinned(each.name))
            if not others or stay + nbytes > limit():
                raise self.planner.refusal(f"'{name}'", nbytes, limit(), things, self.busy)
            yield None
        for thing in going:
            self._part(thing, name)
        self.coming[name] = pool, nbytes
        self._changed()

    def _part(self, thing: Thing, room: str) -> None:
        """Let it go, to come back when it is asked for."""
        if isinstance(thing, Shelved):
            thing.scheduler.stored.hand_over(thing.scheduler.prefixes)
            self.planner.parted(thing, room, Gone(thing.card, thing.how))
            self._remove(thing.name)
        elif isinstance(thing, Small):
            self.planner.parted(thing, room)
            self._without_draft(self.get(thing.of.name))
        else:
            self.planner.parted(thing, room)
            self.reader.rest()

    def _without_draft(self, shelved: Shelved) -> None:
        self.done.drafted += shelved.ahead.tried
        self.done.accepted += shelved.ahead.right
        shelved.part_with_draft()
        let_go(shelved.backend)

    def touch(self, name: str) -> None:
        """It was of use until now."""
        now = self.planner.clock()
        for thing in self.things():
            if thing.name == name or not name:
                thing.used = now
        self._changed(divide=False)

    def rest(self) -> None:
        """Let go what has had no work for as long as it may."""
        now = self.planner.clock()
        for thing in self.things():
            if thing.weights and self.planner.expires(thing) <= now and not self._used(thing):
                self._part(thing, "")
        self._changed()

    def pin(self, name: str, on: bool) -> None:
        """Let it go only by hand, or like any other again. ModelNotFound for what is neither here nor on its way."""
        if on and name not in self.loading and name != READER and not self.away(name):
            name = self.get(name).name
        (self.planner.pins.add if on else self.planner.pins.discard)(name)
        self._changed(divide=False)

    def keep(self, name: str, seconds: float | None) -> None:
        """How long it stays without work; None: as all do."""
        if not self.away(name):
            name = self.get(name).name
        if seconds is None:
            self.planner.keeps.pop(name, None)
        else:
            self.planner.keeps[name] = seconds
        self._changed(divide=False)

    def _changed(self, divide: bool = True) -> None:
        if divide:
            self.divide(1)
        # What is at work is looked at again when its work has ended.
        idle = (self.planner.expires(each) for each in self.things() if each.weights and not self._used(each))
        self.due = min(idle, default=math.inf)

    def divide(self, least: int = 2) -> None:
        """Let models use the memory that the others leave; called before one of several takes any."""
        if len(self._models) >= least:
            beside = {pool: sum(n for where, n in self.coming.values() if where == pool) for pool in POOLS}
            beside["main"] += self.reader.weights
            for small in smalls(self):
                beside[small.pool] += small.weights
            self.memory.divide(self, beside)

    def holdings(self) -> tuple[Holding, ...]:
        """Everything loaded, from any thread."""
        held = [self._holding(shelved) for shelved in self]
        held += [self._small(shelved, small) for shelved in self for small in smalls([shelved])]
        if self.reader.weights:
            about = self._about(self.reader)
            held.append(Holding(READER, "pictures", "cpu", READER_NBYTES, **about))
        return (*held, *here())

    def _holding(self, shelved: Shelved) -> Holding:
        card, about = shelved.card, self._about(shelved)
        job = "speech" if card.hears else "text"
        return Holding(card.name, job, card.device, shelved.weights, shelved.scheduler.cache_nbytes, **about)

    def _small(self, shelved: Shelved, small: Small) -> Holding:
        about = self._about(shelved) | {"pinned": False}
        return Holding(small.name, "draft", small.device.kind, small.weights, shelved.ahead.nbytes, **about)

    def _about(self, thing: Thing) -> dict[str, Any]:
        name, planner = thing.name, self.planner
        idle = max(planner.clock() - thing.used, 0.0)
        keep = planner.keep(thing)
        return {"idle_s": idle, "keep_s": keep, "pinned": planner.pinned(name), "busy": self.busy(thing)}

    @property
    def owes(self) -> bool:
        """Whether something that was computed is to be written yet."""
        return any(shelved.scheduler.stored.owes for shelved in self)

    def trim(self) -> None:
        """Drop the prefixes kept for reuse, and give back what all libraries hold in reserve."""
        for shelved in self:
            shelved.scheduler.forget()
            shelved.loaded.backend.trim()
        give_back()

    def cards(self) -> list[ModelCard]:
        return [shelved.card for shelved in self]

    def counted(self) -> dict[str, Any]:
        """What Stats says of the models and their memory."""
        rows, cards = self.rows(), self.cards()
        return {
            **vars(rows),
            "models": len(cards),
            "weights_nbytes": sum(each.weights for each in (*self, *smalls(self))),
            "memory_limit": self.memory.asked,
            "limit_nbytes": self.memory.total(),
            "prefix_reuse": self.reuse,
            "store_problem": self.writer.problem if self.writer else "",
            "held": self.holdings(),
            "gone": self.planner.partings(),
            "away": tuple(gone.card for gone in list(self.planner.gone.values())),
        }

    def rows(self) -> Rows:
        total = replace(self.done)
        for shelved in self:
            scheduler = shelved.scheduler
            total.running += len(scheduler.running)
            total.waiting += len(scheduler.waiting)
            total.cache_nbytes += scheduler.cache_nbytes + scheduler.ahead.nbytes
            total.add(scheduler)
        return total

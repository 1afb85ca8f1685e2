"""The models that the server offers, by the names that its clients use; where allowed, loaded when asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from crane_app.engine.interface import EngineLike
from crane_app.engine.request import ModelCard, Part
from crane_app.server.answers import Answers, events
from crane_app.server.problems import Problem

FRESH_S = 1.0  # seconds for which the engine is not asked again what it has
LOOKED_S = 30.0  # seconds for which the disk is not looked through again


@dataclass(frozen=True)
class Offered:
    """A model under the name that clients use; the engine's is in its card."""

    name: str
    card: ModelCard
    since: int  # seconds since 1970


@dataclass(frozen=True)
class Stored:
    """A model on disk that may be loaded. context: tokens, 0 if not said; the rest as EngineLike.load has it."""

    folder: str
    context: int = 0
    backend: str | None = None
    device: str = "auto"
    dtype: str | None = None
    quantize: str | None = None
    exact: bool = False
    kv_cache: str = "auto"
    draft: str | None = None

    @property
    def how(self) -> tuple[str | None, str, str | None, str | None, bool, str, str | None]:
        return self.backend, self.device, self.dtype, self.quantize, self.exact, self.kv_cache, self.draft


@dataclass(frozen=True)
class Stock:
    """What may be loaded when it is asked for, how long it stays without work, and what goes by hand alone.

    look: what is on disk, by name. pins: names, as the engine has them.
    """

    look: Callable[[], Mapping[str, Stored]] | None = None
    idle_s: float | None = None
    pins: frozenset[str] = frozenset()

    def tell(self, engine: EngineLike, name: str) -> None:
        """Let the engine know how long a model of the server's own may stay."""
        if self.idle_s is not None:
            engine.keep(name, self.idle_s)
        if name in self.pins:
            engine.pin(name)


NOTHING = Stock()


def as_it_was(card: ModelCard) -> Stored:
    """A model that was loaded before."""
    how = card.backend, card.device, card.dtype, card.quantize, card.exact, card.kv_cache, card.draft
    return Stored(card.folder, card.context, *how)


@dataclass
class _Found:
    stored: dict[str, Stored] = field(default_factory=dict)
    at: float = float("-inf")


class Offer:
    """Those that the server was started with, under their names, and what else the engine has by its own.

    The engine lets them go for want of room, or of work where the server has told it so, and loads them again for
    the next request.
    """

    def __init__(self, answers: Answers, own: dict[str, ModelCard], stock: Stock) -> None:
        self._answers, self._engine, self._stock = answers, answers.engine, stock
        self._own = {name: Offered(name, card, int(time.time())) for name, card in own.items()}
        self._others: dict[str, Offered] = {}
        self._asked = float("-inf")
        self._found = _Found()
        self._loading: dict[str, asyncio.Lock] = {}

    async def all(self) -> list[Offered]:
        """The server's own come first, also while the engine that had them is being started anew."""
        now = time.monotonic()
        if now - self._asked > FRESH_S:
            cards = await asyncio.to_thread(self._known)
            self._asked = now
            names = {offered.card.name for offered in self._own.values()}
            self._others = {
                card.name: self._others.get(card.name) or Offered(card.name, card, int(time.time()))
                for card in cards
                if card.name not in names and card.name not in self._own
            }
        return [*self._own.values(), *self._others.values()]

    def _known(self) -> list[ModelCard]:
        """What is loaded, and what the engine has let go and loads again for a request."""
        return [*self._engine.models(), *self._engine.stats().away]

    async def stored(self) -> Mapping[str, Stored]:
        """What is on disk and not loaded, by name; nothing where loading is not allowed."""
        if self._stock.look is None:
            return {}
        if time.monotonic() - self._found.at > LOOKED_S:
            found = await asyncio.to_thread(self._stock.look)
            self._found = _Found(dict(found), time.monotonic())
        there = {offered.name for offered in await self.all()}
        return {name: each for name, each in self._found.stored.items() if name not in there}

    async def find(self, name: str | None, hears: bool = False) -> Offered:
        """The model of that name, loaded if it may be; without one the first that answers, or hears.

        Problem 404 lists what there is.
        """
        found = await self._loaded(name, hears)
        if found is None and name is not None and name in (stored := await self.stored()):
            await self._load(name, stored[name])
            found = await self._loaded(name, hears)
        if found is None:
            listed = ", ".join(self._listed([*(o.name for o in await self.all()), *await self.stored()])) or "none"
            what = "No model is loaded that can do this" if name is None else f"There is no model '{name:.200}' here"
            raise Problem(404, f"{what}. There are: {listed}.", "model", "model_not_found")
        return found

    async def ready(self, offered: Offered) -> None:
        """See to it that the engine has the model now."""
        card = offered.card
        self._asked = float("-inf")
        if card.name not in {each.name for each in await asyncio.to_thread(self._engine.models)}:
            await self._load(card.name, as_it_was(card))

    async def _loaded(self, name: str | None, hears: bool) -> Offered | None:
        if name is not None and name in self._own:
            return self._own[name]
        there = await self.all()
        if name is None:
            return next((offered for offered in there if offered.card.hears == hears), None)
        return next((offered for offered in there if offered.name == name), None)

    @staticmethod
    def _listed(names: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(names))[:50]

    async def _load(self, name: str, stored: Stored) -> None:
        """Load a model under the engine's name, once for all who wait for it."""
        async with self._loading.setdefault(name, asyncio.Lock()):
            if any(card.name == name for card in await asyncio.to_thread(self._engine.models)):
                return
            stream = self._engine.load(stored.folder, name, *stored.how)
            try:
                async for event in events(stream):
                    if isinstance(event, Part):
                        self._asked = float("-inf")
                        await asyncio.to_thread(self._stock.tell, self._engine, name)
                if stream.end is not None and stream.end.reason != "stop":
                    raise Problem(503, f"{name:.200} cannot be loaded: {stream.end.error}", "model", "not_loaded")
            finally:
                if stream.end is None:
                    stream.cancel()

"""The models that the server offers, by the names that its clients use."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from crane_app.engine.interface import EngineLike
from crane_app.engine.request import ModelCard
from crane_app.server.problems import Problem

FRESH_S = 1.0  # seconds for which the engine is not asked again what it has


@dataclass(frozen=True)
class Offered:
    """A model under the name that clients use; the engine's is in its card."""

    name: str
    card: ModelCard
    since: int  # seconds since 1970


class Offer:
    """Those that the server was started with, under their names, and what else the engine has by its own."""

    def __init__(self, engine: EngineLike, own: dict[str, ModelCard]) -> None:
        self._engine = engine
        self._own = {name: Offered(name, card, int(time.time())) for name, card in own.items()}
        self._others: dict[str, Offered] = {}
        self._asked = 0.0

    async def all(self) -> list[Offered]:
        """The server's own come first, also while the engine that had them is being started anew."""
        now = time.monotonic()
        if now - self._asked > FRESH_S:
            cards = await asyncio.to_thread(self._engine.models)
            self._asked = now
            names = {offered.card.name for offered in self._own.values()}
            self._others = {
                card.name: self._others.get(card.name) or Offered(card.name, card, int(time.time()))
                for card in cards
                if card.name not in names and card.name not in self._own
            }
        return [*self._own.values(), *self._others.values()]

    async def find(self, name: str | None, hears: bool = False) -> Offered:
        """The model of that name; without one the first that answers, or hears. Problem 404 lists what there is."""
        if name is not None and name in self._own:
            return self._own[name]
        there = await self.all()
        fitting = [offered for offered in there if offered.card.hears == hears]
        found = next((o for o in there if o.name == name), None) if name is not None else next(iter(fitting), None)
        if found is not None:
            return found
        listed = ", ".join(offered.name for offered in there) or "none"
        what = "No model is loaded that can do this" if name is None else f"There is no model '{name:.200}' here"
        raise Problem(404, f"{what}. There are: {listed}.", "model", "model_not_found")

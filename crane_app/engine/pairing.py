"""A model and the small one that goes ahead of it: whether they have the same tokens, and what the small one counts as.

Its weights are the first that go for others, never while they are only idle: without it answers are as they were, and
slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from crane_app.contract import Cache, Device
from crane_app.engine.drafting import Drafter, Lookups
from crane_app.engine.loading import Loaded
from crane_app.engine.memory import Pool, pool_of
from crane_app.errors import BadInput, Unsupported
from crane_app.library.fit import human

MARK = " (draft model)"  # behind the name of the model that it goes ahead of
REMEDY = "Choose a smaller model of the same family, or leave the draft model out."


class Guided(Protocol):
    """What has a draft model, as long as it is there, and its rows."""

    used: float
    small: Loaded | None

    @property
    def name(self) -> str: ...

    @property
    def cache(self) -> Cache: ...

    @property
    def ahead(self) -> Lookups: ...

    @property
    def pool(self) -> Pool: ...


@dataclass
class Small:
    """The draft model of a loaded one, as a memory.Thing that goes before all others and never for want of work."""

    of: Guided
    weights: int
    device: Device
    used: float = -math.inf
    rest_s: float | None = None

    @property
    def name(self) -> str:
        return self.of.name + MARK

    @property
    def pool(self) -> Pool:
        return pool_of(self.device)


def smalls(models: Iterable[Guided]) -> list[Small]:
    """The draft models of these, where they are in memory."""
    return [Small(each, each.small.nbytes, each.small.backend.device) for each in models if each.small is not None]


def check_words(large: Any, small: Any, names: tuple[str, str]) -> None:
    """BadInput if the tokenizers of a model and of its draft model differ in a token that both have.

    Either may have more of them behind. None stands for no tokenizer; then only the models' sizes can be compared.
    """
    if large is None and small is None:
        return
    if large is None or small is None:
        without = names[0] if large is None else names[1]
        raise BadInput(f"{without} has no tokenizer, so nobody knows whether its tokens are the other's. {REMEDY}")
    found = large.unlike(small)
    if found is not None:
        id, ours, theirs = found
        raise BadInput(
            f"{names[1]} has other tokens than {names[0]}: {id} is {theirs!r:.40}, not {ours!r:.40}. {REMEDY}"
        )


def pair(large: Loaded, small: Loaded, cache: Cache, names: tuple[str, str], worded: bool) -> Drafter:
    """What lets the small model go ahead of the large one. worded: their tokens have been compared.

    Raises Unsupported where one cannot, BadInput where they have other tokens.
    """
    for loaded, name in zip((large, small), names, strict=True):
        if loaded.listener is not None or not loaded.runner.batched:
            why = "turns speech into text" if loaded.listener is not None else "runs through an adapter"
            raise Unsupported(f"{name} {why}, so that it can neither have a draft model nor be one. {REMEDY}")
    if not worded and large.vocabulary != small.vocabulary:
        raise BadInput(f"{names[1]} has {small.vocabulary} tokens, {names[0]} has {large.vocabulary}. {REMEDY}")
    context, vocabulary = min(large.context, small.context), min(large.vocabulary, small.vocabulary)
    return Drafter(small.runner, cache, context, vocabulary, names[0] + MARK)


def notes(large: Loaded, small: Loaded, name: str) -> tuple[str, ...]:
    """What a person should know about the pair."""
    said = f"{name} goes ahead of it and takes {human(small.nbytes)}; no token of an answer depends on it."
    if 2 * small.nbytes > large.nbytes:
        said += " It is hardly smaller than the model itself, which makes nothing faster."
    return (said,)


def lend(models: Callable[[], Iterable[Guided]], one: Guided) -> None:
    """Let what goes ahead of any of the models borrow of the memory that they share, and give way to all of them."""
    name, pool = one.name, one.pool

    def borrowed(others: bool = False) -> int:
        return sum(m.ahead.nbytes for m in models() if m.pool == pool and not (others and m.name == name))

    def claim(nbytes: int) -> None:
        there = [m for m in models() if m.pool == pool]
        cache = next(m.cache for m in there if m.name == name)
        if cache.nbytes() + nbytes + borrowed() > cache.budget:
            for model in there:
                model.ahead.give_way()

    one.cache.claim = claim
    if isinstance(one.ahead, Drafter):
        one.ahead.others = lambda: borrowed(others=True)

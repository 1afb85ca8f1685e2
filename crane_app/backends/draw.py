"""How the tokens of a step are drawn, prepared on the host: masks, penalties, filters and noise as small numpy arrays.

A row's token must not depend on the other rows of its step, so positions are grouped by what their own parameters ask
for (greedy, in order of id, among the K best) and never padded to another row's K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from crane_app.contract import Sampling, Work

GREEDY = Sampling()
NOTHING = np.zeros(0, np.int32)
AHEAD = 64  # positions whose noise is made at once; it costs what one position's does


@dataclass(frozen=True)
class Group:
    """Positions `index` int32 [m] of [M] that are drawn alike; parameters are float32 [m] (top_k int32).

    way: `greedy`; `plain`, over the vocabulary in order of id; `sorted`, over the `keep` likeliest in descending order.
    """

    way: Literal["greedy", "plain", "sorted"]
    keep: int
    index: np.ndarray
    temperature: np.ndarray
    top_k: np.ndarray
    top_p: np.ndarray
    min_p: np.ndarray
    noise: np.ndarray


@dataclass(frozen=True)
class Penalties:
    """For positions `index` int32 [m]: token ids int32 [m, W] in reach of each penalty, -1 where none.

    carried: int32 [m], 1 where one more token, still on the device, belongs at the end of both histories.
    """

    index: np.ndarray
    repeated: np.ndarray
    made: np.ndarray
    repetition: np.ndarray
    presence: np.ndarray
    frequency: np.ndarray
    carried: np.ndarray


@dataclass(frozen=True)
class Masks:
    """For positions `index` int32 [m]: bits of the tokens that may be drawn, int32 [m, (V + 31) // 32]."""

    index: np.ndarray
    bits: np.ndarray


@dataclass
class Draw:
    """All that `Ops.sample` needs but the logits. `inputs` [M] is set by the runner: each position's input token."""

    groups: tuple[Group, ...]
    penalties: Penalties | None
    bias: tuple[tuple[int, np.ndarray, np.ndarray], ...]
    masks: Masks | None = None
    inputs: Any = field(default=None)

    @property
    def adjusted(self) -> bool:
        """The logits are not drawn from as they are."""
        return bool(self.masks is not None or self.penalties is not None or self.bias)

    @property
    def whole(self) -> bool:
        """One group draws all positions, in their order."""
        return len(self.groups) == 1

    @property
    def greedy(self) -> bool:
        """Every position takes its likeliest token as it is."""
        return self.whole and self.groups[0].way == "greedy" and not self.adjusted


class _Place(NamedTuple):
    """One position to draw: its sampling, the tokens before it, how many of them were made, and its own number."""

    sampling: Sampling
    seen: np.ndarray
    made: int
    position: int
    carried: bool


def uniform(seed: int, choice: int, position: int, head: int = 0) -> float:
    """Noise in [0, 1) on a 24-bit grid, exact in float32, from Philox keyed by (seed, choice) at (position, head)."""
    return _noise(seed % 2**64, choice, position // AHEAD, head)[position % AHEAD]


@lru_cache(maxsize=1024)
def _noise(seed: int, choice: int, block: int, head: int) -> tuple[float, ...]:
    """Of AHEAD positions. Philox counts in blocks of four words; a position has the first word of the one after it."""
    philox = np.random.Philox(key=[seed, choice], counter=[block * AHEAD, head, 0, 0])
    return tuple(((philox.random_raw(4 * AHEAD)[::4] >> 40) / 2**24).tolist())


def plan_draw(work: Sequence[Work], starts: Sequence[int]) -> Draw:
    """The draw of a step's works; starts are the rows' cached lengths before it."""
    masks = _masks(work)
    if masks is None and all(item.draw is None or item.draw.plain for item in work):
        return Draw((_greedy(sum(item.logits for item in work)),), None, ())
    places = [place for item, start in zip(work, starts, strict=True) for place in _places(item, start)]
    bias = [
        (i, np.array(list(p.sampling.logit_bias), np.int32), np.array(list(p.sampling.logit_bias.values()), np.float32))
        for i, p in enumerate(places)
        if p.sampling.logit_bias
    ]
    return Draw(_groups(places), _penalties(places), tuple(bias), masks)


def _masks(work: Sequence[Work]) -> Masks | None:
    if all(item.allowed is None for item in work):
        return None
    ends = np.cumsum([item.logits for item in work])
    found = [(end - 1, item.allowed) for end, item in zip(ends, work, strict=True) if item.allowed is not None]
    index, bits = zip(*found, strict=True)
    return Masks(np.array(index, np.int32), np.stack(bits).view(np.int32))


def _places(item: Work, start: int) -> list[_Place]:
    draw, carried = item.draw or GREEDY, item.tokens is None
    new = 1 if item.tokens is None else len(item.tokens)
    seen = NOTHING if item.seen is None else item.seen
    if item.logits == 1:
        return [_Place(draw, seen, item.made, start + new, carried)]
    places = []
    for back in range(item.logits - 1, -1, -1):
        known = seen[: max(len(seen) - back, 0)]
        made = max(item.made - back, 0)
        places.append(_Place(draw, known, made, start + new - back, carried))
    return places


def _groups(places: Sequence[_Place]) -> tuple[Group, ...]:
    kinds: dict[tuple[str, int], list[int]] = {}
    for i, place in enumerate(places):
        kinds.setdefault(_way(place.sampling), []).append(i)
    return tuple(_group(way, keep, index, [places[i] for i in index]) for (way, keep), index in kinds.items())


@lru_cache(maxsize=256)
def _greedy(count: int) -> Group:
    """All positions of a step, the usual case, without a look at any of them."""
    none = np.zeros(0, np.float32)
    return Group("greedy", 0, np.arange(count, dtype=np.int32), none, none.astype(np.int32), none, none, none)


def _way(s: Sampling) -> tuple[str, int]:
    if s.temperature <= 0:
        return "greedy", 0
    if s.top_k > 0:
        return "sorted", 1 << (s.top_k - 1).bit_length()
    return ("plain", 0) if s.top_p >= 1 else ("sorted", 0)


def _group(way: Any, keep: int, index: list[int], places: list[_Place]) -> Group:
    s = [p.sampling for p in places]
    noise = [0.0 if way == "greedy" else uniform(p.sampling.seed, p.sampling.choice, p.position) for p in places]
    columns = [[x.temperature for x in s], [x.top_p for x in s], [x.min_p for x in s], noise]
    temperature, top_p, min_p, noises = np.array(columns, np.float32)
    top_k = np.array([x.top_k if x.top_k > 0 else 2**31 - 1 for x in s], np.int32)
    return Group(way, keep, np.array(index, np.int32), temperature, top_k, top_p, min_p, noises)


def _penalties(places: Sequence[_Place]) -> Penalties | None:
    index = [i for i, p in enumerate(places) if p.sampling.penalised]
    if not index:
        return None
    chosen = places if len(index) == len(places) else [places[i] for i in index]
    s = [p.sampling for p in chosen]
    columns = [[_repetition(x) for x in s], [x.presence_penalty for x in s], [x.frequency_penalty for x in s]]
    repetition, presence, frequency = np.array(columns, np.float32)
    return Penalties(
        index=np.array(index, np.int32),
        repeated=_table([_reach(p) for p in chosen]),
        made=_table([_made(p) for p in chosen]),
        repetition=repetition,
        presence=presence,
        frequency=frequency,
        carried=np.array([p.carried for p in chosen], np.int32),
    )


def _reach(place: _Place) -> np.ndarray:
    """The tokens the repetition penalty looks at; a carried token takes one place of its window."""
    last = place.sampling.repeat_last_n
    if place.sampling.repetition_penalty == 1.0:
        return NOTHING
    if last < 0:
        return place.seen
    return place.seen[max(len(place.seen) - max(last - place.carried, 0), 0) :]


def _made(place: _Place) -> np.ndarray:
    """The tokens the other two look at; none where they are 0."""
    if place.sampling.presence_penalty == 0.0 == place.sampling.frequency_penalty:
        return NOTHING
    return place.seen[max(len(place.seen) - place.made, 0) :]


def _repetition(s: Sampling) -> float:
    return 1.0 if s.repeat_last_n == 0 else s.repetition_penalty


def _table(rows: list[np.ndarray]) -> np.ndarray:
    """int32 [m, W], -1 where a row is shorter; W a power of two so that few shapes occur."""
    width = 1 << max(max(map(len, rows)) - 1, 0).bit_length()
    table = np.empty((len(rows), width), np.int32)
    table.fill(-1)
    for i, row in enumerate(rows):
        if row is not NOTHING:
            table[i, : len(row)] = row
    return table

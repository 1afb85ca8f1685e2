"""A step on MLX: the host's plan, split into decode rows that share a slab and chunks that stand alone.

A row whose tokens run singly is in one group of decode rows after the other: a call never has a row twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from crane_app.backends.mlx.cache import Cache, Slab
from crane_app.backends.plan import HostStep
from crane_app.contract import Span


@dataclass
class Decode:
    """Rows of one slab with one token each.

    index: their tokens in [N], None when they are all of [N] in order. slots, positions: where they write, as arrays.
    spread: for each slot of the slab the row's place among `slots` (0 where idle), None when slots are 0, 1, 2, ...
    """

    slab: Slab
    index: mx.array | None
    slots: mx.array
    positions: mx.array
    spread: mx.array | None
    masks: dict[int, mx.array] = field(default_factory=dict)
    last: mx.array | None = None
    one: tuple[int, int] | None = None  # slot and position of a single row

    def mask(self, window: int) -> mx.array:
        """bool [slots, 1, 1, capacity]: what each slot's token may read."""
        if window not in self.masks:
            place, last = mx.arange(self.slab.capacity), self.last[:, None, None, None]
            seen = place <= last
            self.masks[window] = seen & (place > last - window) if window else seen
        return self.masks[window]


@dataclass
class Chunk:
    """Several tokens of one row."""

    slab: Slab
    slot: int
    span: Span
    masks: dict[int, mx.array] = field(default_factory=dict)

    def mask(self, window: int) -> mx.array | str:
        """What each of the chunk's tokens may read of the positions up to its end."""
        end = self.span.start + self.span.new
        if not window or window >= end:
            return "causal"
        if window not in self.masks:
            query, place = mx.arange(self.span.start, end)[:, None], mx.arange(end)
            self.masks[window] = (place <= query) & (place > query - window)
        return self.masks[window]


class Step:
    """See contract.Step; the rest is for the ops. `order` puts the parts' tokens back in place, None if they are."""

    def __init__(self, cache: Cache, host: HostStep):
        self.cache = cache
        self.spans, self.form = host.spans, host.form
        self.positions = mx.array(host.positions)
        self.memories = () if host.cuts is None else tuple(zip(host.whole, host.cuts[:-1], host.cuts[1:], strict=True))
        self.out = mx.array(host.out)
        groups: dict[tuple[int, int], list[Span]] = {}
        seen: dict[int, int] = {}
        chunks = []
        for span in host.spans:
            slab, slot = cache.homes[span.row]
            if span.new == 1:
                times = seen[span.row] = seen.get(span.row, 0) + 1
                groups.setdefault((times, slab.capacity), []).append(span)
            else:
                chunks.append(Chunk(slab, slot, span))
        decodes = [_decode(cache, spans, len(host.tokens)) for spans in groups.values()]
        self.parts: list[Decode | Chunk] = [*decodes, *chunks]
        ordered = [s for spans in groups.values() for s in spans] + [c.span for c in chunks]
        self.order = _order(ordered)


def _decode(cache: Cache, spans: list[Span], tokens: int) -> Decode:
    slab = cache.homes[spans[0].row][0]
    slots = [cache.homes[s.row][1] for s in spans]
    starts, count = [s.start for s in spans], len(slab.taken)
    last = np.zeros(count, np.int32)
    last[slots] = starts
    spread = np.zeros(count, np.int32)
    spread[slots] = np.arange(len(slots))
    return Decode(
        slab=slab,
        index=None if len(spans) == tokens else mx.array([s.first for s in spans]),
        slots=mx.array(slots),
        positions=mx.array(starts),
        spread=None if slots == list(range(count)) else mx.array(spread),
        last=mx.array(last),
        one=(slots[0], starts[0]) if len(spans) == 1 else None,
    )


def _order(spans: list[Span]) -> mx.array | None:
    """Where each token of [N] stands after the parts are laid one behind the other."""
    laid = np.concatenate([np.arange(s.first, s.first + s.new) for s in spans])
    if np.array_equal(laid, np.arange(len(laid))):
        return None
    return mx.array(np.argsort(laid).astype(np.int32))

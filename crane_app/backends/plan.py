"""A step on the host: works become spans, positions and outputs, checked before anything is changed.

Knows numpy only. MLX does not check the indices of a write, and one position past the end corrupts memory, so every
index that reaches a cache is made and checked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np

from crane_app.contract import Cache, Span, Work


@dataclass(frozen=True)
class HostStep:
    """tokens: int32 [N], 0 where `carried` (indices into [N]) says it is on the device. positions: [N] or [3, N].

    whole: each work's span in one piece; a fork's is empty, behind what it is a copy of. out: int32 [M].
    cuts: [R + 1] of the memory columns, or None.
    """

    spans: tuple[Span, ...]
    whole: tuple[Span, ...]
    tokens: np.ndarray
    carried: np.ndarray
    positions: np.ndarray
    out: np.ndarray
    cuts: list[int] | None
    form: Literal["mixed", "decode"]


def host_step(cache: Cache, work: Sequence[Work], vocabulary: int | None = None) -> HostStep:
    """The step that `work` describes on `cache`. Raises ValueError and changes nothing if any part of it is wrong."""
    if not work:
        raise ValueError("a step needs at least one work")
    if len({item.row for item in work}) != len(work):
        raise ValueError("a row may take part in a step once")
    spans, first, plain = [], 0, True
    for item in work:
        new = 1 if item.tokens is None else len(item.tokens)
        span = Span(item.row, cache.length(item.row), new, first) if item.fork is None else _fork(item, work, spans)
        _check(item, span.start, new, cache.room(item.row), vocabulary)
        spans.append(span)
        first += new
        plain = plain and new == item.logits == 1 and item.positions is None and not item.memory
    if plain:
        return _decoding(work, spans)
    return HostStep(
        spans=tuple(chain.from_iterable(_pieces(w, s) for w, s in zip(work, spans, strict=True))),
        whole=tuple(spans),
        tokens=np.concatenate([[0] if w.tokens is None else w.tokens for w in work]).astype(np.int32),
        carried=np.array([s.first for w, s in zip(work, spans, strict=True) if w.tokens is None], np.int32),
        positions=_positions(work, spans),
        out=np.concatenate([_outputs(w, s) for w, s in zip(work, spans, strict=True)]).astype(np.int32),
        cuts=np.cumsum([0, *(w.memory for w in work)]).tolist() if any(w.memory for w in work) else None,
        form="decode" if all(s.new <= 1 for s in spans) else "mixed",
    )


def _fork(item: Work, work: Sequence[Work], before: Sequence[Span]) -> Span:
    """Nothing, behind the last token of the work that it is a copy of."""
    for other, span in zip(work, before, strict=False):
        if other.row == item.fork and other.logits:
            return Span(item.row, span.start + span.new, 0, span.first + span.new)
    raise ValueError(f"row {item.row} cannot be a copy of row {item.fork}, which draws nothing before it")


def _pieces(item: Work, span: Span) -> Iterator[Span]:
    """What it runs as: one span, the same tokens as spans of one, or nothing."""
    each = 1 if item.singly else max(span.new, 1)
    return (Span(span.row, span.start + i, each, span.first + i) for i in range(0, span.new, each))


def _decoding(work: Sequence[Work], spans: list[Span]) -> HostStep:
    """One token of every row: what most steps are, in few arrays."""
    return HostStep(
        spans=tuple(spans),
        whole=tuple(spans),
        tokens=np.array([0 if w.tokens is None else w.tokens[0] for w in work], np.int32),
        carried=np.array([i for i, w in enumerate(work) if w.tokens is None], np.int32),
        positions=np.array([s.start for s in spans], np.int32),
        out=np.arange(len(work), dtype=np.int32),
        cuts=None,
        form="decode",
    )


def _check(item: Work, start: int, new: int, room: int, vocabulary: int | None) -> None:
    if (new == 0) != (item.fork is not None):
        raise ValueError(f"row {item.row} has no new token" if new == 0 else f"row {item.row} is a copy with tokens")
    if start + new > room:
        raise ValueError(f"row {item.row} has room for {room} positions, not {start + new}; reserve them first")
    if not 0 <= item.logits <= (new if item.fork is None else 1):
        raise ValueError(f"row {item.row} asks for logits of {item.logits} of its {new} tokens")
    if item.singly and item.memory:
        raise ValueError(f"row {item.row} cannot fill its memory while its tokens run singly")
    if item.positions is not None and item.positions.shape != (3, new):
        raise ValueError(f"row {item.row} needs positions [3, {new}], not {list(item.positions.shape)}")
    if item.given is not None and len(item.given) != item.logits:
        raise ValueError(f"row {item.row} gives {len(item.given)} tokens for its {item.logits} logits")
    if vocabulary is None:
        return
    bias = item.draw.logit_bias if item.draw is not None else None
    if bias and any(not 0 <= i < vocabulary for i in bias):
        raise ValueError(f"row {item.row}: its logit bias names a token outside the vocabulary of {vocabulary}")
    if item.allowed is not None:
        _check_allowed(item, vocabulary)
    for tokens in (item.tokens, item.given):
        if tokens is None or not len(tokens):
            continue
        low, high = int(np.min(tokens)), int(np.max(tokens))
        if low < 0 or high >= vocabulary:
            wrong = low if low < 0 else high
            raise ValueError(f"row {item.row}: token {wrong} is outside the vocabulary of {vocabulary}")


def _check_allowed(item: Work, vocabulary: int) -> None:
    assert item.allowed is not None
    if item.logits != 1:
        raise ValueError(f"row {item.row} says what may be drawn, and has {item.logits} logits, not 1")
    words = (vocabulary + 31) // 32
    if item.allowed.dtype != np.uint32 or item.allowed.shape != (words,):
        raise ValueError(f"row {item.row} needs bits uint32 [{words}], not {item.allowed.dtype} {item.allowed.shape}")
    spare = np.uint32(2**32 - 1) >> np.uint32(words * 32 - vocabulary)  # bits of the last word that are tokens
    if not (item.allowed[:-1].any() or item.allowed[-1] & spare):
        raise ValueError(f"row {item.row} may draw no token at all")


def _positions(work: Sequence[Work], spans: Sequence[Span]) -> np.ndarray:
    """int32 [N], or [3, N] as soon as one row brings positions of its own."""
    counted = [np.arange(s.start, s.start + s.new) for s in spans]
    if all(item.positions is None for item in work):
        return np.concatenate(counted).astype(np.int32)
    streams = [
        np.broadcast_to(c, (3, len(c))) if w.positions is None else w.positions
        for w, c in zip(work, counted, strict=True)
    ]
    return np.concatenate(streams, axis=1).astype(np.int32)


def _outputs(item: Work, span: Span) -> np.ndarray:
    end = span.first + span.new
    return np.arange(end - item.logits, end)

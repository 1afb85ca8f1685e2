"""Whether a tensor library computes here what it should: seconds of tiny shapes, made in memory.

Each op is held against plain float64 arithmetic, and each row alone against the same row among others, bit by bit:
that is what keeps an answer the same whoever else is served. tests/ops and tests/backends do the same at length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crane_app import backends
from crane_app.backends.draw import plan_draw
from crane_app.contract import BLOCK, Array, Backend, HostTensor, Leaf, Sampling, Slot, Work

Numbers = NDArray[np.float64]
ROWS = 48
ALONE = (1, 2, 3, 5, 17)  # rows in a step
CLOSE = 64 * 2.0**-23  # of the size of what is summed: float32 rounds after each of many sums
LAYOUT = (Slot("full", 2, 32), Slot("window", 2, 32, window=7))
ROOM = {"a": 2 * BLOCK, "b": BLOCK, "c": BLOCK}
STEPS = ({"a": 30, "b": 9}, {"b": 1, "a": 1}, {"c": 17, "a": 1, "b": 1}, {"b": 1, "c": 1, "a": 1})
HEADS = 4
Layers = list[tuple[Numbers, Numbers, Numbers]]
Story = list[dict[str, Layers]]
Trial = Callable[[], tuple[float, bool]]


@dataclass(frozen=True)
class Check:
    """One thing tried: on which backend, whether it held, and what was seen."""

    backend: str
    name: str
    ok: bool
    seen: str


def checks(name: str) -> Iterator[Check]:
    """What is tried on the backend `name`, in float32 on its usual device; an error is a check that failed."""
    try:
        backend = backends.choose(name, dtype="float32")
    except Exception as problem:
        yield Check(name, "start", False, _told(problem))
        return
    rng = np.random.default_rng(7)
    tried: dict[str, Trial] = {**_ops(backend, rng), "attend": lambda: _attended(backend, rng)}
    for what, trial in tried.items():
        try:
            error, alone = trial()
        except Exception as problem:
            yield Check(name, what, False, _told(problem))
            continue
        bits = "the same bits alone" if alone else "other bits alone"
        yield Check(name, what, alone and error <= 1, f"error {error:.2f} of the bound, {bits}")
    yield _sampled(name, backend, rng)


def _ops(backend: Backend, rng: np.random.Generator) -> dict[str, Trial]:
    """By op: how far it is from plain arithmetic (1: as far as it may), and whether company changes nothing."""
    x, w, bias, norm = (_normal(rng, *shape) for shape in ((ROWS, 64), (96, 64), (96,), (64,)))
    gates = _normal(rng, ROWS, 2, 96)
    weight, scale, ops = _leaf(backend, w, bias), _leaf(backend, norm), backend.ops
    rms = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6) * norm
    gate, up = gates[:, 0], gates[:, 1]
    return {
        "linear": lambda: _compared(backend, x, lambda a: ops.linear(a, weight), x @ w.T + bias, 8.0),
        "rms_norm": lambda: _compared(backend, x, lambda a: ops.rms_norm(a, scale, 1e-6), rms, 1.0),
        "swiglu": lambda: _compared(
            backend, gates, lambda a: ops.swiglu(a[:, 0], a[:, 1]), gate / (1 + np.exp(-gate)) * up, 1.0
        ),
    }


def _compared(
    backend: Backend, x: Numbers, op: Callable[[Array], Array], want: Numbers, size: float
) -> tuple[float, bool]:
    """size: of the terms that were summed."""
    whole = backend.numpy(op(backend.array(x)))
    error = float(np.max(np.abs(whole - want) / (CLOSE * (np.abs(want) + size))))
    parts = [slice(0, count) for count in ALONE] + [slice(ROWS - count, ROWS) for count in ALONE]
    alone = all(np.array_equal(backend.numpy(op(backend.array(x[part]))), whole[part]) for part in parts)
    return error, alone


def _attended(backend: Backend, rng: np.random.Generator) -> tuple[float, bool]:
    """Chunks and single tokens of three rows in company, against plain attention and against each row by itself."""
    story = _story(rng)
    company = _played(backend, story, ROOM)
    alone = True
    for row, room in ROOM.items():
        own = _played(backend, [{row: step[row]} for step in story if row in step], {row: room})
        alone = alone and all(map(np.array_equal, own[row], company[row]))
    errors = [
        float(np.max(np.abs(got - want) / (CLOSE * (np.abs(want) + 1))))
        for row in ROOM
        for got, want in zip(company[row], _plainly(story, row), strict=True)
    ]
    return max(errors), alone


def _story(rng: np.random.Generator) -> Story:
    def layers(new: int) -> Layers:
        q, k, v = ((new, HEADS, 32), (new, 2, 32), (new, 2, 32))
        return [(_normal(rng, *q), _normal(rng, *k), _normal(rng, *v)) for _ in LAYOUT]

    return [{row: layers(new) for row, new in step.items()} for step in STEPS]


def _played(backend: Backend, story: Story, room: dict[str, int]) -> dict[str, list[Numbers]]:
    """What each row got, step by step and layer by layer."""
    cache = backend.cache(LAYOUT)
    ids = {row: cache.open(places) for row, places in room.items()}
    got: dict[str, list[Numbers]] = {row: [] for row in room}
    for news in story:
        work = [Work(ids[row], np.zeros(len(layers[0][0]), np.int32)) for row, layers in news.items()]
        step = backend.step(cache, work)
        for number in range(len(LAYOUT)):
            q, k, v = (
                backend.array(np.concatenate([layers[number][part] for layers in news.values()])) for part in range(3)
            )
            out, first = backend.numpy(backend.ops.attend(q, k, v, step, number)), 0
            for row, layers in news.items():
                got[row].append(out[first : first + len(layers[number][0])])
                first += len(layers[number][0])
    return got


def _plainly(story: Story, row: str) -> Iterator[Numbers]:
    """Attention in float64, one query at a time."""
    kept = [(np.zeros((0, 2, 32)), np.zeros((0, 2, 32))) for _ in LAYOUT]
    for news in story:
        for number, (q, k, v) in enumerate(news.get(row, [])):
            before = len(kept[number][0])
            kept[number] = (np.concatenate([kept[number][0], k]), np.concatenate([kept[number][1], v]))
            yield _attention(q, *kept[number], before, LAYOUT[number].window)


def _attention(q: Numbers, keys: Numbers, values: Numbers, before: int, window: int) -> Numbers:
    out = np.empty_like(q)
    for i in range(len(q)):
        at = before + i
        seen = slice(max(at - window + 1, 0) if window else 0, at + 1)
        for head in range(HEADS):
            own = head * keys.shape[1] // HEADS
            scores = keys[seen, own] @ q[i, head] / np.sqrt(q.shape[-1])
            shares = np.exp(scores - scores.max())
            out[i, head] = shares / shares.sum() @ values[seen, own]
    return out


def _sampled(name: str, backend: Backend, rng: np.random.Generator) -> Check:
    """Greedy rows take the likeliest token; rows that draw do not feel each other."""
    ways = (Sampling(), Sampling(temperature=1.2, top_k=40, seed=5), Sampling(temperature=0.8, top_p=0.9, seed=5))
    logits = _normal(rng, 12, 500)
    works = [Work(row, np.array([1], np.int32), draw=ways[row % len(ways)]) for row in range(len(logits))]

    def drawn(rows: list[int]) -> list[int]:
        plan = plan_draw([works[row] for row in rows], [10 + row for row in rows])
        return [int(token) for token in backend.numpy(backend.ops.sample(backend.array(logits[rows]), plan))]

    try:
        together = drawn(list(range(len(works))))
        alone = [drawn([row])[0] for row in range(len(works))]
    except Exception as error:
        return Check(name, "sample", False, _told(error))
    greedy = all(together[row] == int(logits[row].argmax()) for row in range(0, len(works), len(ways)))
    seen = f"{'the likeliest' if greedy else 'not the likeliest'}, {'the same' if together == alone else 'other'} alone"
    return Check(name, "sample", greedy and together == alone, seen)


def _normal(rng: np.random.Generator, *shape: int) -> Numbers:
    """Values that float32 holds exactly."""
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


def _leaf(backend: Backend, weight: Numbers, bias: Numbers | None = None) -> Leaf:
    held = HostTensor(weight.astype(np.float32), "float32")
    return backend.leaf(held, None if bias is None else HostTensor(bias.astype(np.float32), "float32"))


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]

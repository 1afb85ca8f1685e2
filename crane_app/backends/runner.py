"""One loaded model: turns a plan into a submitted step, a finished step into drawn tokens. No tensor library here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crane_app.backends.draw import Draw, plan_draw
from crane_app.backends.plan import HostStep, host_step
from crane_app.contract import Array, Drawn, Inputs, Model, Outputs, Result, Work
from crane_app.errors import Unsupported


class Runner:
    """Batched runner over a backend's `place`, `carry`, `join`, `submit` and `rank`.

    notes: what a person should know about how it runs.
    """

    batched = True
    notes: tuple[str, ...] = ()

    def __init__(self, backend: Any, model: Model):
        self.model = model
        self.backend = backend
        self.layout = model.layout
        self.cache = backend.cache(model.layout)

    def launch(self, work: Sequence[Work], previous: Pending | None = None, keep_logits: bool = False) -> Pending:
        """See contract.Runner."""
        host = host_step(self.cache, work, self.model.vocabulary)
        states = _states(work)
        sources = _sources(work, previous)
        draw = plan_draw(work, [span.start for span in host.whole])
        backend = self.backend
        with backend.running():
            tokens = backend.carry(host, None if previous is None else previous.tokens, sources)
            outputs = self._forward(host, Inputs(tokens, states=backend.join(states) if states else None), draw)
            for span in host.spans:
                self.cache.advance(span.row, span.new)
            for item in work:
                if item.fork is not None:
                    self.cache.fork(item.fork, item.row)
            given = _given(work)
            drawn = outputs.tokens if given is None else backend.ops.put(outputs.tokens, *map(backend.array, given))
            ranked = self._rank(work, outputs.logits, drawn)
            backend.submit(self.cache, drawn, outputs.logits if keep_logits else None, ranked)
        return Pending(backend, tuple(work), drawn, outputs.logits if keep_logits else None, ranked)

    def embed(self, item: Work) -> np.ndarray:
        """See contract.Runner."""
        host = host_step(self.cache, [item], self.model.vocabulary)
        if item.tokens is None or not hasattr(self.model, "states"):
            raise Unsupported("This model gives no embeddings. Choose a model for text.")
        with self.backend.running():
            step = self.backend.place(self.cache, host)
            states = self.model.states(Inputs(self.backend.carry(host, None, [])), step)
            self.cache.advance(item.row, len(host.tokens))
            self.backend.submit(self.cache, states, None, None)
            found: np.ndarray = self.backend.numpy(states)
        return found

    def _forward(self, host: HostStep, inputs: Inputs, draw: Draw) -> Outputs:
        """The model's own, op by op."""
        ops, step = self.backend.ops, self.backend.place(self.cache, host)
        if draw.penalties is not None:
            draw.inputs = ops.take(inputs.tokens, step.out)
        return self.model.forward(inputs, step, lambda logits, head: ops.sample(logits, draw))

    def _rank(self, work: Sequence[Work], logits: Array, tokens: Array) -> tuple[Array, Array, Array] | None:
        most = max((item.top for item in work if item.logits), default=0)
        return self.backend.rank(logits, tokens, most) if most else None


@dataclass
class Pending:
    """A submitted step; its arrays are on the device until `read`."""

    backend: Any
    work: tuple[Work, ...]
    tokens: Array
    logits: Array | None
    ranked: tuple[Array, Array, Array] | None
    # What waits for the tokens, where they are on their way to the host already.
    landing: Callable[[], np.ndarray] | None = field(default=None, kw_only=True)

    def read(self) -> Result:
        """Wait, and give each work its drawn tokens."""
        tokens = self.backend.numpy(self.tokens) if self.landing is None else self.landing()
        ranked = None if self.ranked is None else tuple(self.backend.numpy(x) for x in self.ranked)
        drawn, at = [], 0
        for item in self.work:
            drawn.append(tuple(_drawn(tokens, ranked, i, item.top) for i in range(at, at + item.logits)))
            at += item.logits
        return Result(tuple(drawn), None if self.logits is None else self.backend.numpy(self.logits))

    def place(self, row: int) -> int:
        """Where in `tokens` the last drawn token of a row stands; ValueError if it drew none."""
        at = 0
        for item in self.work:
            at += item.logits
            if item.row == row and item.logits:
                return at - 1
        raise ValueError(f"row {row} drew no token in the step before")


def _states(work: Sequence[Work]) -> list[Array]:
    """What the works bring of an encoder, in turn."""
    for item in work:
        if item.memory != (0 if item.states is None else item.states.shape[0]):
            raise ValueError(f"row {item.row} asks for {item.memory} columns of memory and brings other states")
    return [item.states for item in work if item.states is not None]


def _given(work: Sequence[Work]) -> tuple[np.ndarray, np.ndarray] | None:
    """Which of the outputs are given, and as what."""
    places, tokens, at = [], [], 0
    for item in work:
        if item.given is not None:
            places += range(at, at + item.logits)
            tokens += item.given.tolist()
        at += item.logits
    return (np.array(places, np.int32), np.array(tokens, np.int32)) if places else None


def _sources(work: Sequence[Work], previous: Pending | None) -> list[int]:
    """Where the carried tokens stand in the tokens of the step before."""
    carried = [item.row for item in work if item.tokens is None]
    if carried and previous is None:
        raise ValueError(f"row {carried[0]} has no token and there is no step before")
    return [previous.place(row) for row in carried] if previous is not None else []


def _drawn(tokens: np.ndarray, ranked: Any, i: int, top: int) -> Drawn:
    if ranked is None or not top:
        return Drawn(int(tokens[i]))
    chosen, ids, logprobs = ranked
    pairs = tuple((int(a), float(b)) for a, b in zip(ids[i, :top], logprobs[i, :top], strict=True))
    return Drawn(int(tokens[i]), float(chosen[i]), pairs)

"""A model of another library behind our contract: one row a step, each row with that library's own cache object.

The host's side only, no tensor library. Where a cache cannot be cut (a recurrent state, a window that has moved on) the
row's tokens run again before its next step.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from crane_app.backends import runner
from crane_app.backends.draw import Draw, plan_draw
from crane_app.backends.plan import HostStep, host_step
from crane_app.backends.rows import Rows
from crane_app.contract import BLOCK, Array, Layout, Result, Work
from crane_app.errors import BadCheckpoint, NotEnoughMemory, Unsupported
from crane_app.media.files.safetensors import Checkpoint

CONTEXTS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")
OPEN_ENDED = 2**15  # positions of a model whose config names no end, as of recurrent ones
LARGEST = 2**30


class Foreign(Protocol):
    """A model of another library, and what its caches can do."""

    def fresh(self) -> Any:
        """An empty cache for one row."""

    def forward(self, tokens: Array, cache: Any, count: int) -> Array:
        """Logits [count, V] after the last `count` of tokens int32 [L], which `cache` holds from now on."""

    def cut(self, cache: Any, excess: int) -> bool:
        """Forget the last `excess` positions; False, with the cache unchanged, if it cannot."""

    def arrays(self, cache: Any) -> list[Array]:
        """What the cache holds on the device."""

    def nbytes(self, cache: Any) -> int:
        """Bytes of it."""


@dataclass(frozen=True)
class Facts:
    """What loading tells about an adapted model. nbytes: of its weights."""

    architecture: str
    vocabulary: int
    context: int
    nbytes: int
    notes: tuple[str, ...]


@dataclass
class Line:
    """The tokens a step drew: on the device, and on the host once somebody has read them."""

    device: Array
    host: np.ndarray | None = None


@dataclass
class Row:
    """One row. history: the token of each position, or where it was drawn. held: positions that `cache` holds."""

    foreign: Foreign
    cache: Any
    held: int = 0
    history: list[int | tuple[Line, int]] = field(default_factory=list)

    def arrays(self) -> list[Array]:
        return self.foreign.arrays(self.cache)

    def clear(self) -> None:
        """Forget what the cache holds, not the tokens: the next step builds it again."""
        self.cache, self.held = self.foreign.fresh(), 0

    def settle(self) -> None:
        """Take over the tokens that were read since the last step, so that nothing of them stays on the device."""
        for i in range(len(self.history) - 1, -1, -1):
            token = self.history[i]
            if isinstance(token, int):
                return
            line, place = token
            if line.host is not None:
                self.history[i] = int(line.host[place])


class Cache(Rows):
    """See contract.Cache. Rows grow as they are filled, up to the model's context, and take nothing before.

    growth: the most bytes that a step has added so far. Another library's cache does not say what it will take.
    """

    def __init__(self, foreign: Foreign, context: int, budget: int):
        super().__init__((), 0, budget)
        self.shares = False
        self.foreign, self.context = foreign, context
        self.growth = 0
        self.rows: dict[int, Row] = {}

    def check(self) -> None:
        """NotEnoughMemory if a step that grows as much as the largest so far would be past the budget."""
        self._afford(self.growth)

    def room(self, row: int) -> int:
        self.length(row)
        return self.context

    def most(self) -> int:
        return self.context

    def affords(self, length: int) -> bool:
        return length <= self.context

    def nbytes(self) -> int:
        return sum(self.foreign.nbytes(row.cache) for row in self.rows.values())

    def truncate(self, row: int, length: int) -> None:
        super().truncate(row, length)
        held = self.rows[row]
        del held.history[length:]
        if held.held > length:
            if length and self.foreign.cut(held.cache, held.held - length):
                held.held = length
            else:
                held.clear()

    def _allocate(self, row: int, length: int) -> None:
        self._within(length)
        self.rows[row] = Row(self.foreign, self.foreign.fresh())

    def _grow(self, row: int, length: int) -> None:
        self._within(length)

    def _free(self, row: int) -> None:
        del self.rows[row]

    def _within(self, length: int) -> None:
        if length > self.context:
            raise NotEnoughMemory(f"The model's context holds {self.context} tokens, not {length}. Shorten the text.")


@dataclass
class Pending(runner.Pending):
    """A submitted step of one row. line: its tokens, which the row's history may point to."""

    line: Line

    def read(self) -> Result:
        result = super().read()
        self.line.host = np.array([drawn.token for drawn in result.drawn[0]], np.int32)
        return result


class AdapterRunner:
    """See contract.Runner; a launch takes exactly one work."""

    batched = False
    layout: Layout = ()

    def __init__(self, backend: Any, foreign: Foreign, vocabulary: int, context: int):
        self.backend, self.foreign = backend, foreign
        self.vocabulary = vocabulary
        self.cache = Cache(foreign, context, backend.limit())

    def launch(self, work: Sequence[Work], previous: Pending | None = None, keep_logits: bool = False) -> Pending:
        host = self._checked(work, previous)
        (item,), (span,) = work, host.spans
        row = self.cache.rows[item.row]
        sources = [] if item.tokens is not None else [previous.place(item.row)]
        draw = plan_draw(work, [span.start for span in host.whole])
        row.settle()
        self.cache.check()
        held = self.cache.nbytes()
        try:
            with self.backend.running():
                tokens = self.backend.carry(host, previous.tokens if sources else None, sources)
                logits, drawn, ranked = self._run(row, tokens, item, draw)
                kept = logits if keep_logits else None
                self.backend.submit(row, drawn, kept, ranked)
        except BaseException:
            row.clear()  # some layers may have taken the step and others not
            raise
        row.history += [(previous.line, sources[0])] if sources else item.tokens.tolist()
        row.held = len(row.history)
        self.cache.growth = max(self.cache.growth, self.cache.nbytes() - held)
        self.cache.advance(item.row, span.new)
        return Pending(self.backend, tuple(work), drawn, kept, ranked, Line(drawn))

    def embed(self, item: Work) -> np.ndarray:
        """See contract.Runner."""
        raise Unsupported("This model runs through an adapter, which gives no embeddings. Choose another one.")

    def _checked(self, work: Sequence[Work], previous: Pending | None) -> HostStep:
        if len(work) > 1:
            raise ValueError(f"this model takes one work a step (batched = False), not {len(work)}")
        host = host_step(self.cache, work, self.vocabulary)
        item = work[0]
        if item.tokens is None and previous is None:
            raise ValueError(f"row {item.row} has no token and there is no step before")
        if item.positions is not None or item.memory:
            raise ValueError(f"row {item.row}: an adapted model takes neither positions nor memory")
        return host

    def _run(self, row: Row, tokens: Array, item: Work, draw: Draw) -> tuple[Array, Array, Any]:
        """Logits, drawn tokens and their ranks, after everything before them is in the row's cache."""
        for start in range(row.held, len(row.history), BLOCK):
            again = self.backend.array(self._known(row, start))
            self.foreign.forward(again, row.cache, 0)
            self.backend.submit(row, again, None, None)
        logits = self.foreign.forward(tokens, row.cache, item.logits)[:, : self.vocabulary]
        if draw.penalties is not None:
            draw.inputs = tokens[tokens.shape[0] - item.logits :]
        drawn = self.backend.ops.sample(logits, draw) if item.given is None else self.backend.array(item.given)
        return logits, drawn, self.backend.rank(logits, drawn, item.top) if item.top else None

    def _known(self, row: Row, start: int) -> np.ndarray:
        """The row's next block of tokens from `start` on; waits for those that nobody has read yet."""
        for i in range(start, min(start + BLOCK, len(row.history))):
            token = row.history[i]
            if not isinstance(token, int):
                line, place = token
                row.history[i] = int(self.backend.numpy(line.device)[place])
        return np.array(row.history[start : start + BLOCK], np.int32)


def examine(folder: Path) -> dict[str, Any]:
    """config.json of a folder that another library shall load, after what no library may be trusted to refuse.

    Raises Unsupported where the model is code of its own or a part of another, and BadCheckpoint without whole
    safetensors files, so that no pickle is ever looked at.
    """
    try:
        raw = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{folder / 'config.json'}: cannot be read ({error!s:.200})") from None
    if not isinstance(raw, dict):
        raise BadCheckpoint(f"{folder / 'config.json'}: must hold a JSON object")
    if not isinstance(raw.get("model_type"), str):
        raise BadCheckpoint('config.json: "model_type" must be the name of a family of models')
    if raw.get("model_file") is not None:
        raise Unsupported('config.json names code to run ("model_file"); Crane never runs code from a model\'s folder.')
    if (folder / "adapter_config.json").exists():
        raise Unsupported(f"{folder} holds an adapter (adapter_config.json) for another model. Merge the two first.")
    Checkpoint.open(folder).close()
    return raw


def name_of(raw: dict[str, Any]) -> str:
    """What a person calls the architecture, however long the config makes it."""
    names = raw.get("architectures")
    return f"{names[0] if isinstance(names, list) and names else raw['model_type']!s:.60}"


def unknown(raw: dict[str, Any], library: str) -> Unsupported:
    """The refusal of a family that neither Crane nor the library has."""
    code = ""
    if "auto_map" in raw:
        code = " Its folder brings code of its own (auto_map), which Crane never runs."
    return Unsupported(f"Neither Crane nor {library} knows the architecture {name_of(raw)}.{code}")


def facts(raw: dict[str, Any], width: int, nbytes: int, library: str) -> Facts:
    """What config.json says of a model whose logits are `width` wide."""
    fields = {**raw, **inner} if isinstance(inner := raw.get("text_config"), dict) else raw
    context = next((_whole(fields, name) for name in CONTEXTS if fields.get(name) is not None), OPEN_ENDED)
    vocabulary = _whole(fields, "vocab_size") if fields.get("vocab_size") is not None else width
    note = f"This model runs through {library}, one request at a time."
    return Facts(name_of(raw), min(vocabulary, width), context, nbytes, (note,))


def _whole(fields: dict[str, Any], name: str) -> int:
    value = fields[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
        raise BadCheckpoint(f'config.json: "{name}" must be a whole number from 1 to {LARGEST}, not {value!r:.60}')
    return value

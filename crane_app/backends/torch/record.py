"""A model's forward written down: called with names instead of tensors, twice, and compared.

The leading axis of every value is the N tokens of a step or the M of them that have logits; both stay open. What a
forward does may depend on nothing else of a step, or the two recordings differ and there is none.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crane_app.contract import Inputs, Model


class Unknown(Exception):
    """The forward does something that a program has no word for; says what."""


@dataclass(frozen=True)
class Op:
    """One call: values by number, leaves, and what else it was given."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    leaves: tuple[Any, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)

    def same(self, other: Op) -> bool:
        return (
            (self.name, self.inputs, self.outputs) == (other.name, other.inputs, other.outputs)
            and len(self.leaves) == len(other.leaves)
            and all(a is b for a, b in zip(self.leaves, other.leaves, strict=True))
            and self.given.keys() == other.given.keys()
            and all(_equal(value, other.given[key]) for key, value in self.given.items())
        )


def _equal(a: Any, b: Any) -> bool:
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


@dataclass
class Recording:
    """The ops of a forward in their order. widths: of each value, the shape past its first axis."""

    ops: list[Op]
    widths: list[tuple[int, ...]]
    choosing: list[bool]


class Value:
    """A tensor's name: [N, ...], or [M, ...] where it is `choosing`."""

    def __init__(self, tape: Tape, number: int, shape: tuple[int, ...]):
        self.tape, self.number, self.shape = tape, number, shape

    def __add__(self, other: Value) -> Value:
        if not isinstance(other, Value) or other.shape != self.shape:
            raise Unknown("a sum of unlike shapes")
        return self.tape.op("add", (self, other), self.shape)

    def reshape(self, *shape: int) -> Value:
        if shape[0] != -1 or any(n < 1 for n in shape[1:]) or np.prod(shape[1:]) != np.prod(self.shape[1:]):
            raise Unknown(f"reshape to {list(shape)}")
        return self.tape.op("reshape", (self,), (self.shape[0], *shape[1:]))

    def __getattr__(self, name: str) -> Any:
        raise Unknown(f"a tensor's {name}")

    def __getitem__(self, place: Any) -> Any:
        raise Unknown("a part of a tensor")


class Tape:
    """The op namespace that writes down what it is asked for; see contract.Ops for the words."""

    def __init__(self, tokens: int, chosen: int):
        self.recording = Recording([], [], [])
        self._chosen = chosen
        self.tokens, self.out, self.rotary_of = self._value((tokens,), False), object(), object()

    def _value(self, shape: tuple[int, ...], choosing: bool) -> Value:
        self.recording.widths.append(shape[1:])
        self.recording.choosing.append(choosing)
        return Value(self, len(self.recording.widths) - 1, shape)

    def op(self, name: str, values: Sequence[Value], shape: tuple[int, ...], leaves: tuple = (), **given: Any) -> Value:
        return self.several(name, values, (shape,), leaves, **given)[0]

    def several(self, name, values, shapes, leaves=(), **given) -> tuple[Value, ...]:
        choosing = name == "take" or any(self.recording.choosing[v.number] for v in values)
        found = tuple(self._value(shape, choosing) for shape in shapes)
        numbers = tuple(v.number for v in values), tuple(v.number for v in found)
        self.recording.ops.append(Op(name, *numbers, leaves, given))
        return found

    def embed(self, tokens, w):
        return self.op("embed", (tokens,), (tokens.shape[0], w.shape[1]), (w,))

    def linear(self, x, w):
        return self.op("linears", (x,), (x.shape[0], w.shape[0]), (w,))

    def linears(self, x, ws):
        return self.several("linears", (x,), tuple((x.shape[0], w.shape[0]) for w in ws), tuple(ws))

    def rms_norm(self, x, w, eps: float):
        return self.op("rms_norm", (x,), x.shape, (w,), eps=eps)

    def swiglu(self, gate, up):
        return self.op("swiglu", (gate, up), gate.shape)

    def take(self, x, index):
        if index is not self.out:
            raise Unknown("take of other than a step's outputs")
        return self.op("take", (x,), (self._chosen, *x.shape[1:]))

    def rotary(self, step, inverse: np.ndarray, axis: np.ndarray | None = None):
        if step is not self or axis is not None:
            raise Unknown("angles of other than the step's positions")
        return self.op("rotary", (self.tokens,), (self.tokens.shape[0], 2 * len(inverse)), inverse=inverse)

    def rope(self, x, rotary, pairs: bool = False):
        return self.op("rope", (x, rotary), x.shape, pairs=pairs)

    def attend(self, q, k, v, step, layer: int, *, scale: float | None = None):
        return self.op("attend", (q, k, v), q.shape, layer=layer, scale=scale)

    def draw(self, logits, head: int):
        if head:
            raise Unknown("more than one head")
        return self.op("draw", (logits,), (logits.shape[0],))

    def __getattr__(self, name: str) -> Any:
        raise Unknown(f"the op {name}")


def record(model: Model) -> Recording:
    """The forward of `model`; raises Unknown where it cannot be written down."""
    first, second = _once(model, 2, 1), _once(model, 3, 2)
    if len(first.ops) != len(second.ops) or not all(map(Op.same, first.ops, second.ops)):
        raise Unknown("a forward that depends on how many tokens there are")
    if (first.widths, first.choosing) != (second.widths, second.choosing):
        raise Unknown("a shape that depends on how many tokens there are")
    return first


def _once(model: Model, tokens: int, chosen: int) -> Recording:
    tape = Tape(tokens, chosen)
    model = copy.copy(model)
    model.ops = tape
    try:
        outputs = model.forward(Inputs(tape.tokens), tape, tape.draw)
    except Unknown:
        raise
    except Exception as error:  # whatever is wrong shows itself when the forward runs as it is
        raise Unknown(f"a forward that fails with names for tensors ({type(error).__name__})") from error
    last = tape.recording.ops[-1]
    if last.name != "draw" or last.inputs != (outputs.logits.number,):
        raise Unknown("a forward that does not end with its draw")
    return tape.recording

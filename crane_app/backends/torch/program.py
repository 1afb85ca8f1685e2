"""A recorded forward as instructions for the native library (csrc/step.c): written once, run for any step.

Neighbours are joined where it saves a pass: sum and norm, norm and what the products need of it, gate and up, and all
that happens to q and k before they attend. Activations stay in float32 from the embedding to the logits. Layouts of the
structures: csrc/crane.h.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crane_app.backends.torch import native
from crane_app.backends.torch.record import Op, Recording, Unknown

KINDS = ("embed", "rotary", "norm", "add", "take", "prepare", "product", "swiglu", "turn", "attend")
PARTS, MOST_DIM = 3, 256  # of csrc


class View(ctypes.Structure):
    _fields_ = (("buffer", ctypes.c_int32), ("offset", ctypes.c_int32))


NOWHERE = View(-1, 0)
WHOLE = ("kind", "choosing", "prepares", "filling", "width", "heads", "groups", "dim", "turned", "pairs", "layer")
WHOLE += ("window", "parts", "gated")
VIEWS = ("source", "with", "to", "prepared", "rotary", "q", "k", "v")
ARRAYS = ("weight", "q_before", "k_before", "q_after", "k_after", "inverse")


class Instruction(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in WHOLE),
        *((name, ctypes.c_float) for name in ("eps", "scale")),
        *((name, View) for name in VIEWS),
        ("part_to", View * PARTS),
        ("matrices", ctypes.c_void_p * PARTS),
        *((name, ctypes.c_void_p) for name in ARRAYS),
    )


@dataclass
class Program:
    """widths: bytes of each buffer for one token. logits: which buffer they are in; kept: what the code points to."""

    code: Any
    widths: list[int]
    logits: int
    kept: list[Any] = field(default_factory=list)


class Writer:
    """Writes the instructions of one recording, op by op."""

    def __init__(self, recording: Recording, layout: Any):
        self.ops, self.shapes, self.choosing, self.layout = recording.ops, recording.widths, recording.choosing, layout
        self.code: list[Instruction] = []
        self.widths: list[int] = []
        self.kept: list[Any] = []
        self.where: dict[int, View] = {}
        self.made_by: dict[int, Instruction] = {}
        self.ready: dict[tuple[int, int, int], View] = {}
        self.done: set[int] = set()
        self.joined: set[int] = set()
        self.makers = {out: i for i, op in enumerate(self.ops) for out in op.outputs}
        self.uses = Counter(value for op in self.ops for value in op.inputs)
        self.turns = {i: self._turn_of(op) for i, op in enumerate(self.ops) if op.name == "attend"}
        self.free: dict[int, list[tuple[int, int]]] = {}  # by size: how much code there was, and the buffer
        self.left = Counter(self.root(value) for op in self.ops for value in op.inputs)

    def write(self) -> Program:
        """All of it; raises Unknown for what csrc has no instruction for."""
        for i, op in enumerate(self.ops):
            if i in self.joined:
                continue
            if i not in self.done:
                getattr(self, f"_{op.name}")(i, op)
            self._release([op, *(self.ops[j] for j in self.turns[i]["joined"])] if i in self.turns else [op])
        code = (Instruction * len(self.code))(*self.code)
        return Program(code, self.widths, self.logits, self.kept)

    # Values and buffers

    def width(self, value: int) -> int:
        return int(np.prod(self.shapes[value]))

    def root(self, value: int) -> int:
        """The value whose memory it is."""
        while (i := self.makers.get(value)) is not None and (i in self.joined or self.ops[i].name == "reshape"):
            value = self.ops[i].inputs[0]
        return value

    def buffer(self, nbytes: int) -> int:
        """One for so many bytes a token, that of a value which is no longer needed where there is one.

        What the last instruction reads is not given out: it may be given memory to write to (`prepared`).
        """
        nbytes = -(-nbytes // native.ALIGNED) * native.ALIGNED
        if self.free.get(nbytes) and self.free[nbytes][0][0] < len(self.code):
            return self.free[nbytes].pop(0)[1]
        self.widths.append(nbytes)
        return len(self.widths) - 1

    def floats(self, *counts: int) -> list[View]:
        """Views of one new buffer, side by side, each in whole strips."""
        sizes = [-(-n // native.STRIP) * native.STRIP for n in counts]
        buffer = self.buffer(4 * sum(sizes))
        return [View(buffer, sum(sizes[:i])) for i in range(len(sizes))]

    def _release(self, ops: list[Op]) -> None:
        """Give back the buffers whose values have all been used, now that these ops are written."""
        for op in ops:
            self.left.subtract(map(self.root, op.inputs))
        held = {self.where[v].buffer for v in self.where if self.left[self.root(v)] > 0}
        held |= {view.buffer for (v, _, _), view in self.ready.items() if self.left[self.root(v)] > 0}
        held |= {b for group in self.free.values() for _, b in group}
        for value in [v for v in (*self.where,) if self.left[self.root(v)] <= 0 and self.uses[v]]:
            self._free(self.where.pop(value).buffer, held)
        for key in [key for key in self.ready if self.left[self.root(key[0])] <= 0]:
            self._free(self.ready.pop(key).buffer, held)

    def _free(self, buffer: int, held: set[int]) -> None:
        if buffer not in held:
            held.add(buffer)
            self.free.setdefault(self.widths[buffer], []).append((len(self.code), buffer))

    # Instructions

    def emit(self, kind: str, value: int, **fields: Any) -> Instruction:
        """An instruction whose result is `value`."""
        made = Instruction(kind=KINDS.index(kind), choosing=self.choosing[value], width=self.width(value))
        for name in VIEWS:
            setattr(made, name, NOWHERE)
        for name, given in fields.items():
            setattr(made, name, given)
        self.code.append(made)
        self.made_by[value] = self.code[-1]
        return made

    def array(self, leaf: Any) -> int:
        """The address of a vector in float32."""
        values = np.ascontiguousarray(leaf.weight.float().numpy()) if hasattr(leaf, "weight") else leaf
        self.kept.append(values)
        return values.ctypes.data

    def matrix(self, leaf: Any) -> native.Matrix:
        product = leaf.product or leaf.group
        found = product.matrices[leaf.place] if product and len(product.matrices) == len(product.sizes) else None
        if not isinstance(found, native.Matrix):
            raise Unknown("weights packed as these are")
        return found

    def pointer(self, leaf: Any) -> int:
        """The address of a leaf's matrix with its bias."""
        product, m = leaf.product or leaf.group, self.matrix(leaf)
        own = None if product.bias is None else product.bias.split(product.sizes)[leaf.place]
        bias = None if own is None else np.ascontiguousarray(own.float().numpy())
        c = m.c(bias)
        self.kept += [m, bias, c]
        return ctypes.addressof(c)

    def prepared(self, value: int, m: native.Matrix) -> View:
        """Where `value` lies as products with `m` need it; its own instruction makes that where it can."""
        c, form = native.library(), native.FORMATS[m.format]
        kind, filling = c.crane_prepared_for(form, m.exact), c.crane_tile_columns(form)
        root = self.root(value)
        if (root, kind, filling) in self.ready:
            return self.ready[root, kind, filling]
        to = View(self.buffer(c.crane_prepared_bytes(form, self.width(value), m.exact)), 0)
        maker = self.made_by.get(root)
        # Only the last instruction may still be given memory: an earlier one could write it while another reads it.
        if maker is None or maker is not self.code[-1] or maker.prepared.buffer >= 0 or not self._prepares(maker):
            maker = self.emit("prepare", value, source=self.where[root])
        maker.prepares, maker.filling, maker.prepared = kind, filling, to
        self.ready[root, kind, filling] = to
        return to

    def _prepares(self, maker: Instruction) -> bool:
        kind = KINDS[maker.kind]
        part = maker.heads // max(maker.groups, 1) * maker.dim
        return kind in ("norm", "take") or (kind == "product" and maker.gated) or (kind == "attend" and part % 32 == 0)

    # Words of the contract

    def _embed(self, i: int, op: Op) -> None:
        (x,) = op.outputs
        (self.where[x],) = self.floats(self.width(x))
        self.emit("embed", x, to=self.where[x], matrices=(ctypes.c_void_p * PARTS)(self.pointer(op.leaves[0])))

    def _rotary(self, i: int, op: Op) -> None:
        (x,), inverse = op.outputs, op.given["inverse"]
        (self.where[x],) = self.floats(2 * len(inverse))
        address = self.array(np.ascontiguousarray(inverse, np.float32))
        self.emit("rotary", x, to=self.where[x], turned=len(inverse), inverse=address)

    def _reshape(self, i: int, op: Op) -> None:
        if self.root(op.inputs[0]) in self.where:
            self.where[op.outputs[0]] = self.where[self.root(op.inputs[0])]

    def _add(self, i: int, op: Op) -> None:
        x, other = map(self.root, op.inputs)
        (total,) = op.outputs
        later = self.ops[i + 1]
        if self.left[x] == 1 and later.name == "rms_norm" and later.inputs == (total,) and x not in self.ready:
            self.where[total] = self.where[x]
            self._norm(later, source=self.where[x], with_=self.where[other])
            self.done.add(i + 1)
            return
        (self.where[total],) = self.floats(self.width(total))
        self.emit("add", total, source=self.where[x], to=self.where[total], **{"with": self.where[other]})

    def _rms_norm(self, i: int, op: Op) -> None:
        self._norm(op, source=self.where[self.root(op.inputs[0])])

    def _norm(self, op: Op, source: View, with_: View = NOWHERE) -> None:
        (y,) = op.outputs
        if len(self.shapes[y]) != 1:
            raise Unknown("a norm of heads that do not go on to attend")
        (self.where[y],) = self.floats(self.width(y))
        given = {"with": with_, "weight": self.array(op.leaves[0]), "eps": op.given["eps"]}
        self.emit("norm", y, source=source, to=self.where[y], **given)

    def _take(self, i: int, op: Op) -> None:
        (x,), (y,) = op.inputs, op.outputs
        (self.where[y],) = self.floats(1)  # only what is prepared of it is read
        self.emit("take", y, source=self.where[self.root(x)])

    def _linears(self, i: int, op: Op) -> None:
        matrices = [self.matrix(leaf) for leaf in op.leaves]
        if len(matrices) > PARTS:
            raise Unknown(f"{len(matrices)} products of one input")
        sources = [self.prepared(op.inputs[0], m) for m in matrices]
        if self._gated(i, op, matrices, sources):
            return
        if op.outputs == self.ops[-1].inputs:
            self.free.clear()  # logits are the caller's: their buffer is nobody else's
        views = self.floats(*(m.shape[0] for m in matrices))
        self.where.update(zip(op.outputs, views, strict=True))
        alike: dict[tuple[int, int], list[int]] = {}
        for place, (m, source) in enumerate(zip(matrices, sources, strict=True)):
            alike.setdefault((source.buffer, native.FORMATS[m.format]), []).append(place)
        for places in alike.values():
            self._product(op, places, sources[places[0]], views)

    def _product(self, op: Op, places: list[int], source: View, views: list[View]) -> Instruction:
        made = self.emit("product", op.outputs[places[0]], source=source, parts=len(places))
        for part, place in enumerate(places):
            made.matrices[part], made.part_to[part] = self.pointer(op.leaves[place]), views[place]
        return made

    def _gated(self, i: int, op: Op, matrices: list, sources: list[View]) -> bool:
        """Whether gate and up could be written as one with the swiglu that follows."""
        later = self.ops[i + 1]
        fits = later.name == "swiglu" and later.inputs == op.outputs and len(matrices) == 2
        if not fits or sources[0].buffer != sources[1].buffer or any(self.uses[v] != 1 for v in op.outputs):
            return False
        if matrices[0].format != matrices[1].format:
            return False
        gate, up, to = self.floats(*(m.shape[0] for m in matrices), matrices[0].shape[0])
        (y,) = later.outputs
        self.where[y] = to
        made = self._product(op, [0, 1], sources[0], [gate, up])
        made.gated, made.to, made.width, made.parts = 1, to, self.width(y), 2
        self.made_by[y] = made
        self.done.add(i + 1)
        return True

    def _swiglu(self, i: int, op: Op) -> None:
        (y,), (gate, up) = op.outputs, map(self.root, op.inputs)
        (self.where[y],) = self.floats(self.width(y))
        self.emit("swiglu", y, source=self.where[gate], to=self.where[y], **{"with": self.where[up]})

    def _draw(self, i: int, op: Op) -> None:
        """Only where the logits are matters: what is drawn is drawn outside."""
        self.logits = self.where[op.inputs[0]].buffer

    def _rope(self, i: int, op: Op) -> None:
        raise Unknown("heads that are turned and do not go on to attend")

    def _attend(self, i: int, op: Op) -> None:
        turned = self.turns[i]
        slot, (heads, dim), (y,) = self.layout[op.given["layer"]], self.shapes[op.inputs[0]], op.outputs
        if dim % 16 or dim > MOST_DIM or heads % slot.heads or slot.kind == "memory":
            raise Unknown(f"{heads} heads of {dim}")
        scale = op.given["scale"] or dim**-0.5
        shape = {"heads": heads, "groups": slot.heads, "dim": dim, "layer": op.given["layer"]}
        q, k, v = (self.where[self.root(value)] for value in turned["sources"])
        norms = {name: self.array(leaf) for name, leaf in turned["norms"].items()}
        rotary = turned["rotary"]
        angles = {"rotary": self.where[rotary], "turned": self.shapes[rotary][0] // 2, "pairs": turned["pairs"]}
        self.emit("turn", op.inputs[0], q=q, k=k, v=v, eps=turned["eps"], **shape, **norms, **angles)
        (self.where[y],) = self.floats(self.width(y))
        self.emit("attend", y, q=q, to=self.where[y], scale=scale, window=slot.window, **shape)

    def _turn_of(self, op: Op) -> dict[str, Any]:
        """What happens to q and k between their products and `attend`, which one instruction does."""
        found: dict[str, Any] = {"sources": [], "norms": {}, "eps": 0.0, "joined": []}
        turns = []
        for name, value in zip("qk", op.inputs[:2], strict=True):
            turned = False
            while (maker := self.ops[self.makers[value]]).name in ("rms_norm", "rope"):
                if self.uses[value] != 1:
                    raise Unknown("q or k that is used for more than attention")
                self.joined.add(self.makers[value])
                found["joined"].append(self.makers[value])
                if maker.name == "rope":
                    turns.append((maker.inputs[1], maker.given["pairs"]))
                    turned = True
                else:
                    found["norms"][f"{name}_{'before' if turned else 'after'}"] = maker.leaves[0]
                    found["eps"] = maker.given["eps"]
                value = maker.inputs[0]
            found["sources"].append(value)
        if len(turns) != 2 or turns[0] != turns[1]:
            raise Unknown("q and k that are not turned alike")
        found["rotary"], found["pairs"] = turns[0]
        return found | {"sources": [*found["sources"], op.inputs[2]]}


def write(recording: Recording, layout: Any) -> Program:
    """The program of a recording, for a model whose cache has this layout."""
    return Writer(recording, layout).write()

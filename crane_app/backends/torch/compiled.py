"""A model whose steps the native library runs whole: its forward was recorded and written as a program.

What a step of a kind that the program does not know needs (images, an encoder's states) goes through the model's own
forward, op by op, on the same packed weights.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from crane_app.backends.torch import native, program, record
from crane_app.backends.torch.program import Program
from crane_app.contract import Inputs, KVCache, Model, Outputs, Span

CACHES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
INT8 = len(native.FORMS)  # I8 of csrc/crane.h
ROOM = 64  # tokens that the buffers hold at first


class _Buffer(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("stride", ctypes.c_int64))


class _Program(ctypes.Structure):
    _fields_ = (("code", ctypes.c_void_p), *((n, ctypes.c_int32) for n in ("length", "layers", "cache_format")))


class _Step(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("count", "chosen", "threads")),
        *((name, ctypes.c_void_p) for name in ("tokens", "row", "place", "position", "out")),
        *((name, ctypes.c_void_p) for name in ("keys", "values", "capacities", "buffers")),
    )


class _Rows:
    """Where the library finds the rows of a step, and which of them each token belongs to.

    Addresses of arrays cost more to ask for than to keep: where each of the same rows has one token, as in most steps,
    they stay, and only the places change.
    """

    def __init__(self, spans: Sequence[Span], count: int, cache: Any):
        self.held = [cache.pointers(span.row) for span in spans]
        self.row = np.repeat(np.arange(len(spans), dtype=np.int32), [span.new for span in spans])
        self.place = np.concatenate([np.arange(s.start, s.start + s.new, dtype=np.int32) for s in spans])
        pointers = np.stack(self.held, axis=1)  # [keys and values, rows, layers]
        capacities = np.array([cache.rows[span.row].capacity for span in spans], np.int32)
        self.arrays = self.row, self.place, pointers[0], pointers[1], capacities
        self.addresses = tuple(x.ctypes.data for x in self.arrays)
        self.single = count == len(spans)

    def suit(self, spans: Sequence[Span], count: int, cache: Any) -> bool:
        """Be set to a step of one token of each of the same rows. False if it is another, or a row has moved.

        A row that moved has new pointers (Cache.pointers).
        """
        if not self.single or count != len(spans) or count != len(self.held):
            return False
        for i, span in enumerate(spans):
            if cache.pointers(span.row) is not self.held[i]:
                return False
            self.place[i] = span.start
        return True


class Compiled:
    """A model as its program; `model` is what runs where the program does not."""

    def __init__(self, model: Model, written: Program, cache: int):
        self.model, self.layout, self.vocabulary = model, model.layout, model.vocabulary
        self._program = written
        code = ctypes.addressof(written.code)
        self._c = _Program(code, len(written.code), len(model.layout), cache)
        self._buffers = (_Buffer * len(written.widths))()
        self._at = ctypes.addressof(self._buffers)
        self._rows: _Rows | None = None
        self._memory: list[np.ndarray] = []
        self._room = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def forward(self, inputs: Inputs, step: Any, draw: Callable[[Any, int], Any]) -> Outputs:
        """See contract.Model."""
        if inputs.replace is not None or inputs.states is not None or step.memories or step.positions.ndim != 1:
            return self.model.forward(inputs, step, draw)
        logits = self._run(inputs.tokens.int().contiguous(), step)
        return Outputs(draw(logits, 0), logits)

    def _run(self, tokens: torch.Tensor, step: Any) -> torch.Tensor:
        """Logits float32 [M, V]."""
        count, chosen, cache = len(tokens), len(step.out), step.cache
        self._reserve(count)
        width = self._program.widths[self._program.logits] // 4
        logits = torch.empty(chosen, width)
        self._buffers[self._program.logits].base = logits.data_ptr()
        if self._rows is None or not self._rows.suit(step.spans, count, cache):
            self._rows = _Rows(step.spans, count, cache)
        row, place, *where = self._rows.addresses
        given = tokens.data_ptr(), row, place, step.positions.data_ptr(), step.out.data_ptr()
        c = _Step(count, chosen, native.threads(), *given, *where, self._at)
        native.library().crane_run(ctypes.addressof(self._c), ctypes.addressof(c))
        return logits if width == self.vocabulary else logits[:, : self.vocabulary]

    def _reserve(self, count: int) -> None:
        """Buffers for at least `count` tokens; their pages are taken when they are first written."""
        if count <= self._room:
            return
        self._room = max(ROOM, 1 << (count - 1).bit_length())
        self._memory = []
        for i, nbytes in enumerate(self._program.widths):
            own = native.aligned(nbytes * self._room) if i != self._program.logits else native.aligned(0)
            self._memory.append(own)
            self._buffers[i] = _Buffer(own.ctypes.data, nbytes)


def compiled(model: Model, dtype: torch.dtype, kv_cache: KVCache = "auto") -> tuple[Model, str]:
    """The model as a program, or as it is and the reason why."""
    try:
        written = program.write(record.record(model), model.layout)
    except record.Unknown as reason:
        return model, str(reason)
    return Compiled(model, written, CACHES[dtype] if kv_cache == "auto" else INT8), ""

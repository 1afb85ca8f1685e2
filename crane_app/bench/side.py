"""Crane's own side of a bench: the runner that the engine drives, without its scheduler, tokenizer and process.

Prompts go in on the engine's grid; decoding is launched one step ahead of the reader, as the engine does it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from crane_app.bench.bandwidth import best
from crane_app.bench.reads import reads
from crane_app.bench.serve import prompt, serve
from crane_app.contract import BLOCK, Pending, Work
from crane_app.engine.generation import chunks
from crane_app.engine.loading import Loaded, load
from crane_app.errors import BadInput, Unsupported

STREAM = 2**30  # bytes of device memory that `stream` reads
ROW = 2**20  # numbers in a row of it


class Crane:
    """A loaded model. The rows of a decode stay as they are until another case is asked for."""

    def __init__(
        self,
        folder: str,
        backend: str | None,
        device: str,
        dtype: Any,
        threads: int | None,
        quantize: Any = None,
        kv_cache: Any = "auto",
    ):
        # `threads` came with the environment: a library reads it when it is imported, before any request.
        self.loaded: Loaded = load(Path(folder), backend, device, dtype, quantize, kv_cache=kv_cache)
        if self.loaded.listener is not None:
            raise Unsupported(f"{Path(folder).name} turns speech into text; the bench measures models that write text.")
        self.rows: tuple[int, ...] = ()
        self.case = (0, 0, 0)
        self.device_array: Any = None
        chosen = self.loaded.backend
        self.ready: dict[str, Any] = {
            "architecture": self.loaded.architecture,
            "weights": self.loaded.nbytes,
            "context": self.loaded.context,
            "backend": chosen.device.backend,
            "device": chosen.device.kind,
            "name": chosen.device.name,
            "dtype": chosen.dtype,
            "notes": self.loaded.notes,
            "reads": asdict(reads(self.loaded)),
        }

    def prefill(self, tokens: int) -> float:
        """See serve.Model; the row is opened inside the clock, as for a request."""
        self._fits(tokens)
        ids = prompt(tokens, 1, self.loaded.vocabulary)
        start = time.perf_counter()
        row = self.loaded.runner.cache.open(tokens)
        try:
            self._fill((row,), ids).read()
            return time.perf_counter() - start
        finally:
            self.loaded.runner.cache.close(row)

    def decode(self, context: int, batch: int, steps: int) -> float:
        """See serve.Model."""
        self._prepare(context, batch, steps)
        runner = self.loaded.runner
        for row in self.rows:
            runner.cache.truncate(row, context)
        given = np.zeros(1, np.int32)
        start = time.perf_counter()
        pending = runner.launch([Work(row, given) for row in self.rows])
        for _ in range(steps - 1):
            ahead = runner.launch([Work(row, None) for row in self.rows], pending)
            pending.read()
            pending = ahead
        pending.read()
        return time.perf_counter() - start

    def stream(self) -> float:
        """Bytes per second of the device's own maximum over an array; for memory that the host cannot read."""
        backend = self.loaded.backend
        if self.device_array is None:
            row = backend.array(np.ones((1, ROW), np.float32))  # repeated on the device: the host's peak is the model's
            width = 4 if backend.dtype == "float32" else 2
            self.device_array = backend.ops.take(row, backend.array(np.zeros(STREAM // ROW // width, np.int32)))
        return STREAM / best(lambda: backend.numpy(self.device_array.max()))

    def _prepare(self, context: int, batch: int, steps: int) -> None:
        """Rows that hold `context` positions and have room for the steps."""
        if self.case == (context, batch, steps):
            return
        runner = self.loaded.runner
        for row in self.rows:
            runner.cache.close(row)
        self.rows, self.case = (), (0, 0, 0)
        self._fits(context + steps)
        if batch > 1 and not runner.batched:
            raise Unsupported(f"{self.loaded.architecture} runs one row at a time.")
        self.rows = tuple(runner.cache.open(BLOCK * math.ceil((context + steps) / BLOCK)) for _ in range(batch))
        self._fill(self.rows, prompt(context, batch, self.loaded.vocabulary)).read()
        self.case = (context, batch, steps)

    def _fill(self, rows: Sequence[int], ids: np.ndarray) -> Pending:
        """Cache ids [rows, L]; the last step, whose logits are the prompt's."""
        length = ids.shape[1]
        pending: Pending | None = None
        for start, end in chunks(length):
            work = [
                Work(row, tokens[start:end], logits=int(end == length)) for row, tokens in zip(rows, ids, strict=True)
            ]
            pending = self.loaded.runner.launch(work, pending)
        assert pending is not None
        return pending

    def _fits(self, length: int) -> None:
        if length > self.loaded.context:
            raise BadInput(f"{length} positions do not fit into the model's context of {self.loaded.context}.")


if __name__ == "__main__":
    serve(Crane, ("numpy",))

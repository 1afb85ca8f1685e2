"""Decoding on an NVIDIA GPU: the step is captured once as a CUDA graph and replayed, so that one launch does it all.

A graph is of a fixed number of rows and of a greatest length, both rounded up; rows that nobody asked for write to a
spare position. What changes from step to step lies in buffers that the graph reads: tokens, lengths, and where each
row's keys are. Method: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from crane_app.backends.draw import Draw
from crane_app.backends.plan import HostStep
from crane_app.backends.runner import Pending, Runner
from crane_app.backends.torch.kernels.attention import SPLIT
from crane_app.backends.torch.step import DecodeStep
from crane_app.contract import BLOCK, Inputs, Model, Outputs, Work

log = logging.getLogger(__name__)

EAGER_STEPS = 3  # of a size before it is captured: by then its kernels are compiled, and it has come more than once
MOST_ROWS = 256  # of a captured step


class DecodeRunner(Runner):
    """See contract.Runner. A step of one token a row goes through `Slots`, any other as everywhere."""

    def __init__(self, backend: Any, model: Model):
        super().__init__(backend, model)
        self._graphs: dict[tuple[int, int], Callable[[], Outputs]] = {}
        self._slots: dict[int, Slots] = {}
        self._seen: Counter[tuple[int, int]] = Counter()
        self._captures = True

    def launch(self, work: Sequence[Work], previous: Pending | None = None, keep_logits: bool = False) -> Pending:
        pending = super().launch(work, previous, keep_logits)
        pending.landing = landing(pending.tokens)
        return pending

    def _forward(self, host: HostStep, inputs: Inputs, draw: Draw) -> Outputs:
        if not _plain(host, inputs):
            return super()._forward(host, inputs, draw)
        count = len(host.spans)
        size = rounded_rows(count)
        if size not in self._slots:
            self._slots[size] = Slots(self.cache, size)
        slots = self._slots[size]
        slots.fill(host, inputs.tokens)
        outputs = self._run(size, splits(max(span.start for span in host.spans) + 1), slots)
        tokens, logits = outputs.tokens[:count].clone(), outputs.logits[:count].clone()
        if not draw.greedy:
            draw.inputs = inputs.tokens
            tokens = self.backend.ops.sample(logits, draw)
        return Outputs(tokens, logits)

    def _run(self, size: int, parts: int, slots: Slots) -> Outputs:
        """Replays the graph of this size; the first few times and where capturing fails, op by op."""
        key = size, parts
        if key not in self._graphs:
            self._seen[key] += 1
            if not self._captures or self._seen[key] <= EAGER_STEPS:
                return self._decode(slots, parts)
            try:
                self._graphs[key] = captured(lambda: self._decode(slots, parts))
            except RuntimeError as error:
                self._captures = False
                log.warning("This model's step cannot be captured as a CUDA graph and runs op by op: %s", error)
                return self._decode(slots, parts)
        return self._graphs[key]()

    def _decode(self, slots: Slots, parts: int) -> Outputs:
        return self.model.forward(Inputs(slots.tokens), slots.step(parts), lambda logits, head: logits.argmax(-1).int())


class Slots:
    """The buffers of `size` rows: what a captured step reads anew each time."""

    def __init__(self, cache: Any, size: int):
        device, layers = cache.device, len(cache.layout)
        self.cache = cache
        self.tokens, self.positions, self.capacities = (
            torch.zeros(size, dtype=torch.int32, device=device) for _ in range(3)
        )
        self.out = torch.arange(size, dtype=torch.int32, device=device)
        widest = max(slot.heads * slot.dim for slot in cache.layout)
        self._spare = torch.zeros(widest, dtype=cache.dtype, device=device)
        self._nowhere = np.full((layers, size, 2), self._spare.data_ptr())
        self.addresses = torch.from_numpy(self._nowhere).to(device)
        self._rows: list[tuple[int, int]] = []

    def fill(self, host: HostStep, tokens: torch.Tensor) -> None:
        """The rows of this step. A spare row holds one position, the one it writes."""
        rows = [(span.row, self.cache.room(span.row)) for span in host.spans]
        if rows != self._rows:
            self._place(rows)
        positions = np.zeros(len(self.tokens), np.int32)
        positions[: len(rows)] = host.positions
        self.positions.copy_(_sent(positions, self.positions.device), non_blocking=True)
        self.tokens[: len(rows)].copy_(tokens)

    def _place(self, rows: list[tuple[int, int]]) -> None:
        """Where these rows are. Ids are not used again, so a row that holds as much as before has not moved."""
        addresses = self._nowhere.copy()
        for i, (row, _) in enumerate(rows):
            addresses[:, i] = self.cache.addresses(row)
        capacities = [room for _, room in rows] + [1] * (len(self.tokens) - len(rows))
        self.addresses.copy_(torch.from_numpy(addresses))
        self.capacities.copy_(torch.tensor(capacities, dtype=torch.int32))
        self._rows = rows

    def step(self, parts: int) -> DecodeStep:
        return DecodeStep(self.cache.layout, self.positions, self.capacities, self.addresses, self.out, parts)


def captured(work: Callable[[], Outputs]) -> Callable[[], Outputs]:
    """`work` as a graph: calling it replays the launches and gives the same arrays, filled anew.

    RuntimeError if it waits for the device, or needs what a graph cannot hold.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = work()

    def replay() -> Outputs:
        graph.replay()
        return outputs

    return replay


def landing(tokens: torch.Tensor) -> Callable[[], np.ndarray]:
    """Tokens on their way to the host, so that reading them does not wait for a step that was launched since."""
    if not tokens.is_cuda:
        return tokens.numpy
    held = tokens.to("cpu", non_blocking=True)
    done = torch.cuda.Event()
    done.record()

    def read() -> np.ndarray:
        done.synchronize()
        return held.numpy()

    return read


def rounded_rows(count: int) -> int:
    """1, 2, 4, 8, 16, 32, then steps of 16: few graphs, little idle work."""
    return 1 << (count - 1).bit_length() if count <= 32 else -(-count // 16) * 16


def splits(length: int) -> int:
    """Splits of a step whose longest row has `length` positions: a power of two, so that graphs are few."""
    return 1 << (max(-(-length // SPLIT), BLOCK // SPLIT) - 1).bit_length()


def _sent(x: np.ndarray, device: torch.device) -> torch.Tensor:
    """In memory that the device copies from by itself."""
    return torch.from_numpy(x).pin_memory() if device.type == "cuda" else torch.from_numpy(x)


def _plain(host: HostStep, inputs: Inputs) -> bool:
    """One token and one draw of each row, positions that count on, and no memory to read."""
    count = len(host.spans)
    return (
        host.form == "decode"
        and len({span.row for span in host.spans}) == count == len(host.out) <= MOST_ROWS
        and host.positions.ndim == 1
        and inputs.replace is None
        and inputs.states is None
    )

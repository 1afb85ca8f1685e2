"""The decode step that a GPU captures, with plain ops and a capture that is counted; tests/kernels has the kernels.

With CRANE_TEST_DEVICE=cuda both are the real ones.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from crane_app.backends.runner import Runner
from crane_app.contract import Sampling, Work
from crane_app.engine.loading import load
from tests.models.scramble import golden

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from crane_app.backends.torch import graphs, native  # noqa: E402
from crane_app.backends.torch.cache import Cache  # noqa: E402
from crane_app.backends.torch.kernels.attention import SPLIT  # noqa: E402
from crane_app.backends.torch.ops import Ops, _attention  # noqa: E402
from crane_app.backends.torch.step import DecodeStep  # noqa: E402

DEVICE = os.environ.get("CRANE_TEST_DEVICE", "cpu")
PROMPTS = (3, 9, 1)
STEPS = 5


class RowOps(Ops):
    """What a kernel does with a DecodeStep, row by row: keys are found by their address, a spare row by having none."""

    def __init__(self, cache: Cache):
        super().__init__(cache.device)
        self.cache = cache

    def attend(self, q, k, v, step, layer: int, *, scale=None):
        if not isinstance(step, DecodeStep):
            return super().attend(q, k, v, step, layer, scale=scale)
        homes = {row.keys[layer].data_ptr(): row for row in self.cache.rows.values()}
        parts = []
        for i, address in enumerate(step.addresses[layer, :, 0].tolist()):
            start, row = int(step.positions[i]), homes.get(address)
            if row is None:
                assert start == 0, "a spare row has one position"
                parts.append(torch.zeros_like(q[i : i + 1]))
                continue
            assert row.capacity == step.capacities[i] > start
            assert start < step.splits * SPLIT
            keys, values = row.keys[layer], row.values[layer]
            keys[:, start], values[:, start] = k[i], v[i]
            parts.append(_attention(q[i : i + 1], keys[:, : start + 1], values[:, : start + 1], None, scale))
        return torch.cat(parts)


@pytest.fixture
def runners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Runner, Runner]:
    """The same small model op by op, and as a GPU decodes it, without the kernels of a processor."""
    monkeypatch.setattr(native, "kernels", lambda: None)
    case = golden("qwen3").write(tmp_path / "model", "float32")
    plain, fast = (load(case, "torch", DEVICE, "float32") for _ in range(2))
    runner = graphs.DecodeRunner(fast.backend, fast.runner.model)
    if DEVICE == "cpu":
        fast.backend.ops = fast.runner.model.ops = RowOps(runner.cache)
    return Runner(plain.backend, plain.runner.model), runner


def decode(runner: Runner, draw: Sampling | None = None, prompts: tuple[int, ...] = PROMPTS) -> list[list[int]]:
    """Tokens of each step, the next one launched before the last is read, as the engine does."""
    rng = np.random.default_rng(3)
    rows = [runner.cache.open(64) for _ in prompts]
    pending = runner.launch(
        [Work(row, rng.integers(0, 90, n).astype(np.int32), draw=draw) for row, n in zip(rows, prompts, strict=True)]
    )
    found = []
    for _ in range(STEPS):
        seen = np.zeros(4, np.int32)
        ahead = runner.launch([Work(row, None, draw=draw, seen=seen) for row in rows], pending)
        found.append([part[0].token for part in pending.read().drawn])
        pending = ahead
    for row in rows:
        runner.cache.close(row)
    return found


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each capture; without a GPU, replaying is doing the work again."""
    made: list[int] = []
    real = graphs.captured if DEVICE == "cuda" else lambda work: work
    monkeypatch.setattr(graphs, "captured", lambda work: (made.append(len(made)), real(work))[1])
    return made


@pytest.mark.parametrize(
    "draw", [None, Sampling(temperature=1.0, top_p=0.9, seed=5, repetition_penalty=1.3)], ids=["greedy", "drawn"]
)
def test_tokens_are_those_of_op_by_op(runners, captures, draw):
    plain, fast = runners
    assert decode(fast, draw) == decode(plain, draw)
    assert len(captures) == 1, "three rows of one length are one graph"


def test_a_graph_serves_other_rows_and_fewer_of_them(runners, captures):
    plain, fast = runners
    for prompts in (PROMPTS, (2, 8, 4), (5, 6, 7, 8)):  # all of them are rounded to four rows
        assert decode(fast, prompts=prompts) == decode(plain, prompts=prompts)
    assert len(captures) == 1


def test_a_step_that_cannot_be_captured_runs_and_says_so(runners, monkeypatch, caplog):
    def fails(work):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "captured", fails)
    plain, fast = runners
    with caplog.at_level(logging.WARNING):
        assert decode(fast) == decode(plain)
    assert [r.message for r in caplog.records if "cannot be captured" in r.message] != []
    assert len(caplog.records) == 1, "said once, not with every step"


def test_a_row_that_grew_is_found_where_it_is_now(runners, captures):
    plain, fast = runners
    found = []
    for runner in (plain, fast):
        row = runner.cache.open(16)
        pending = runner.launch([Work(row, np.arange(1, 6, dtype=np.int32))])
        tokens = []
        for at in range(STEPS):
            if at == 3:
                runner.cache.reserve(row, 300)
            ahead = runner.launch([Work(row, None)], pending)
            tokens.append(pending.read().drawn[0][0].token)
            pending = ahead
        found.append(tokens)
    assert found[0] == found[1]


def test_rows_and_lengths_are_rounded_so_that_graphs_are_few():
    assert [graphs.rounded_rows(n) for n in (1, 2, 3, 5, 9, 17, 32, 33, 48, 49)] == [1, 2, 4, 8, 16, 32, 32, 48, 48, 64]
    assert [graphs.splits(n) for n in (1, 128, 256, 257, 512, 513, 2048, 2049)] == [2, 2, 2, 4, 4, 8, 16, 32]

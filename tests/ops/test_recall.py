"""remember and recall: a row's fixed memory, written once and read by every token after."""

from __future__ import annotations

import numpy as np
import pytest

from crane_app.contract import Slot, Work
from crane_app.errors import NotEnoughMemory
from tests.ops import oracle
from tests.ops.oracle import assert_close, normal

LAYOUT = (Slot("full", 2, 16), Slot("memory", 2, 16), Slot("memory", 4, 8))
HEADS = 4


class Story:
    """Rows with memories in layers 1 and 2, on the backend and in lists."""

    def __init__(self, backend, scale=None):
        self.backend, self.scale = backend, scale
        self.rng = np.random.default_rng(8)
        self.cache = backend.cache(LAYOUT)
        self.held = {}

    def normal(self, *shape):
        return normal(self.rng, *shape, dtype=self.backend.dtype)

    def check(self, *works):
        """One step of works (row, new tokens, memory columns): remember the new, recall in every layer."""
        work = [Work(row, np.zeros(new, np.int32), memory=columns) for row, new, columns in works]
        step = self.backend.step(self.cache, work)
        for layer, slot in enumerate(LAYOUT):
            if slot.kind == "memory":
                self._remember(step, layer, slot, works)
                self._recall(step, layer, slot, works)

    def _remember(self, step, layer, slot, works):
        total = sum(columns for *_, columns in works)
        if not total:
            return
        k, v = self.normal(total, slot.heads, slot.dim), self.normal(total, slot.heads, slot.dim)
        self.backend.ops.remember(self.backend.array(k), self.backend.array(v), step, layer)
        first = 0
        for row, _, columns in works:
            if columns:
                self.held[row, layer] = k[first : first + columns], v[first : first + columns]
            first += columns

    def _recall(self, step, layer, slot, works):
        q = self.normal(sum(new for _, new, _ in works), HEADS, slot.dim)
        got = self.backend.ops.recall(self.backend.array(q), step, layer, scale=self.scale)
        assert got.dtype == self.backend.array(q).dtype
        want, first = [], 0
        for row, new, _ in works:
            want.append(oracle.recall(q[first : first + new], *self.held[row, layer], self.scale))
            first += new
        assert_close(self.backend.numpy(got), np.concatenate(want), self.backend.dtype)


@pytest.mark.parametrize("columns", [1, 7, 300])
def test_every_token_reads_the_whole_memory(backend, columns):
    story = Story(backend)
    row = story.cache.open(16)
    story.check((row, 2, columns))
    story.check((row, 1, 0))
    story.check((row, 3, 0))


def test_rows_of_a_step_fill_and_read_their_own(backend):
    story = Story(backend)
    a, b, c = (story.cache.open(16) for _ in range(3))
    story.check((b, 2, 5), (a, 1, 9))
    story.check((a, 1, 0), (c, 3, 2), (b, 1, 0))
    story.check((c, 1, 0), (b, 1, 0), (a, 1, 0))


def test_a_memory_outlives_growth_truncation_and_its_neighbours(backend):
    story = Story(backend)
    a, b = story.cache.open(16), story.cache.open(16)
    story.check((a, 2, 5), (b, 2, 6))
    story.cache.reserve(a, 2000)
    story.cache.truncate(a, 1)
    story.cache.close(b)
    story.check((a, 1, 0))
    c = story.cache.open(16)
    story.check((c, 2, 3))
    story.check((a, 1, 0), (c, 1, 0))


def test_a_new_row_does_not_inherit_a_memory(backend):
    story = Story(backend)
    a = story.cache.open(16)
    story.check((a, 2, 5))
    story.cache.close(a)
    b = story.cache.open(16)
    story.check((b, 1, 2))


def test_the_scale_may_be_given(backend):
    story = Story(backend, scale=1.0)
    row = story.cache.open(16)
    story.check((row, 3, 6))


def test_memory_counts_and_is_given_back(backend):
    story = Story(backend)
    row = story.cache.open(16)
    before = story.cache.nbytes()
    story.check((row, 1, 9))
    size = 4 if backend.dtype == "float32" else 2
    assert story.cache.nbytes() - before == size * 9 * 2 * (2 * 16 + 4 * 8)
    story.cache.close(row)
    assert story.cache.nbytes() == 0


def test_a_memory_past_the_budget_is_refused_and_the_row_keeps_what_it_had(backend):
    story = Story(backend)
    row = story.cache.open(64)
    story.check((row, 1, 7))
    story.cache.budget = story.cache.nbytes() + 100
    held = story.cache.nbytes()
    with pytest.raises(NotEnoughMemory):
        story.check((row, 1, 300))
    assert story.cache.nbytes() == held


@pytest.mark.parametrize("mutant", ["causal", "neighbour's columns", "last column missed"])
def test_a_wrong_formula_is_outside_the_bound(dtype, mutant):
    rng = np.random.default_rng(9)
    q, k, v = (normal(rng, n, h, 16, dtype=dtype) for n, h in ((3, 4), (9, 2), (9, 2)))
    wrong = {
        "causal": oracle.attention(q, k[:5], v[:5], np.arange(3)),
        "neighbour's columns": oracle.recall(q, k[4:], v[4:]),
        "last column missed": oracle.recall(q, k[:4], v[:4]),
    }
    with pytest.raises(AssertionError, match="worst error"):
        assert_close(wrong[mutant], oracle.recall(q, k[:5], v[:5]), dtype)

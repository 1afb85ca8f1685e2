"""attend: what it writes, what each token reads, alone and in company; against one dot product at a time."""

from __future__ import annotations

import numpy as np
import pytest

from crane_app.contract import BLOCK, Slot, Work
from tests.ops.oracle import Rows, assert_close, attention, normal, softmax

FULL = (Slot("full", 2, 16),)
both_ways = pytest.mark.parametrize("kv_cache", ["auto", "int8"])


def windowed(window):
    return (Slot("window", 2, 16, window=window),)


@both_ways
@pytest.mark.parametrize(
    ("heads", "groups", "dim"),
    [(4, 2, 16), (4, 4, 12), (6, 2, 8), (6, 3, 8), (4, 1, 64), (1, 1, 128), (14, 2, 4)],
)
def test_prefill_then_decode(backend, heads, groups, dim):
    rows = Rows(backend, (Slot("full", groups, dim),), heads)
    row = rows.open()
    for new in (1, 7, 1, 1, 3):
        rows.check((row, new))


def test_the_result_has_the_dtype_of_the_queries(backend):
    rows = Rows(backend, FULL)
    row = rows.open()
    step = backend.step(rows.cache, [Work(row, np.zeros(3, np.int32))])
    q, kv = backend.array(np.ones((3, 4, 16), np.float32)), backend.array(np.ones((3, 2, 16), np.float32))
    y = backend.ops.attend(q, kv, kv, step, 0)
    assert y.dtype == q.dtype
    np.testing.assert_array_equal(backend.numpy(y), np.ones((3, 4, 16)))


@both_ways
def test_rows_of_a_step_read_only_their_own(backend):
    """Decode rows, chunks and first chunks side by side, in any order."""
    rows = Rows(backend, FULL)
    a, b, c, d = (rows.open() for _ in range(4))
    rows.check((a, 9), (b, 4))
    rows.check((c, 5), (b, 1), (a, 1))
    rows.check((a, 1), (d, 3), (c, 2), (b, 1))
    rows.check((d, 1), (c, 1), (b, 1), (a, 1))
    rows.check((b, 1), (d, 1))
    rows.check((c, 1))


@both_ways
def test_rows_of_unlike_room_share_a_step(backend):
    rows = Rows(backend, FULL)
    small, large, larger = rows.open(10), rows.open(BLOCK + 1), rows.open(3 * BLOCK)
    rows.check((large, 3), (small, 5), (larger, 2))
    rows.check((larger, 1), (small, 1), (large, 1))
    rows.check((small, 1), (larger, 4), (large, 1))


@both_ways
def test_a_chunk_reads_everything_before_it_across_blocks(backend):
    rows = Rows(backend, (Slot("full", 1, 8),), heads=2)
    row = rows.open(BLOCK + 40)
    for new in (BLOCK - 2, 1, 1, 1, 30, 1):
        rows.check((row, new))


@both_ways
@pytest.mark.parametrize("window", [1, 2, 5, 8, 100])
def test_a_window_reads_that_many_positions(backend, window):
    rows = Rows(backend, windowed(window))
    a, b = rows.open(), rows.open()
    rows.check((a, 12), (b, 3))
    rows.check((b, 1), (a, 1))
    rows.check((a, 3), (b, 9))
    rows.check((a, 1), (b, 1))
    rows.check((b, 1))


def test_a_window_of_zero_is_no_limit(backend):
    rows = Rows(backend, windowed(0))
    row = rows.open()
    rows.check((row, 12))
    rows.check((row, 1))


@both_ways
def test_layers_keep_their_own_heads_sizes_and_windows(backend):
    layout = (Slot("full", 2, 16), Slot("window", 4, 8, window=3), Slot("full", 1, 12))
    rows = Rows(backend, layout)
    a, b = rows.open(), rows.open()
    rows.check((a, 6), (b, 8))
    rows.check((b, 1), (a, 1))
    rows.check((a, 2), (b, 1))


@pytest.mark.parametrize("scale", [0.05, 1.0])
def test_the_scale_may_be_given(backend, scale):
    rows = Rows(backend, FULL, scale=scale)
    row = rows.open()
    rows.check((row, 5))
    rows.check((row, 1))


def test_large_scores_do_not_overflow(backend):
    """Scores of a thousand: their exponentials are past every dtype."""
    rows = Rows(backend, FULL, scale=100.0)
    row = rows.open()
    inputs = rows.inputs((row, 6))
    got, want = rows.run(inputs)[0], rows.expect(inputs)[0]
    assert np.isfinite(got).all()
    if backend.dtype == "float32":
        assert_close(got, want, backend.dtype, scale=100)


def test_a_sharp_query_gives_back_the_value_it_points_at(backend):
    """Each key is a direction of its own, so one query reads one value."""
    rows = Rows(backend, (Slot("full", 1, 16),), heads=1, scale=1000.0)
    row = rows.open()
    [held] = rows.inputs((row, 16))
    _, _, v = held[row]
    k = np.eye(16)[:, None]
    rows.run([{row: (k, k, v)}])
    for place in (0, 7, 15):
        got = rows.run([{row: (k[place : place + 1], -k[:1], v[:1])}])[0]
        np.testing.assert_array_equal(got[0, 0], v[place, 0].astype(np.float32))


@pytest.mark.parametrize(
    "mutant",
    ["other key head", "one key late", "one key early", "window one wide", "no scale", "not normalised"],
)
def test_a_wrong_formula_is_outside_the_bound(dtype, mutant):
    rng = np.random.default_rng(6)
    q, k, v = (normal(rng, n, h, 16, dtype=dtype) for n, h in ((9, 4), (12, 2), (12, 2)))
    at, swap = np.arange(3, 12), [0, 2, 1, 3]
    want = attention(q, k, v, at, window=5)
    wrong = {
        "other key head": lambda: attention(q[:, swap], k, v, at, 5)[:, swap],  # h % G
        "one key late": lambda: attention(q, k, v, at - 1, 4),
        "one key early": lambda: attention(q, np.roll(k, -1, 0), np.roll(v, -1, 0), at, 5),
        "window one wide": lambda: attention(q, k, v, at, 6),
        "no scale": lambda: attention(q, k, v, at, 5, scale=1.0),
        "not normalised": lambda: want * 1.1,
    }
    with pytest.raises(AssertionError, match="worst error"):
        assert_close(wrong[mutant](), want, dtype)


def test_the_oracle_is_the_textbooks_matrix_formula():
    rng = np.random.default_rng(7)
    q, k, v = (rng.standard_normal((6, h, 8)) for h in (4, 2, 2))
    k4, v4 = np.repeat(k, 2, axis=1), np.repeat(v, 2, axis=1)
    scores = np.einsum("qhd,khd->hqk", q, k4) / np.sqrt(8)
    place = np.arange(6)
    mask = (place <= place[:, None]) & (place > place[:, None] - 3)
    want = np.einsum("hqk,khd->qhd", softmax(np.where(mask, scores, -np.inf)), v4)
    np.testing.assert_allclose(attention(q, k, v, place, window=3), want, atol=1e-12)

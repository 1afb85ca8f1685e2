"""Values in and out of a backend, and the ops that only move rows: embed, take, put."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.oracle import host, leaf, normal, rounded

ROWS = [7, 0, 3, 3, 10]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def integers(backend, values):
    return backend.array(np.array(values, np.int32))


@pytest.mark.parametrize("source", [np.float32, np.float64])
def test_floats_are_rounded_to_the_backends_dtype(backend, rng, source):
    x = (rng.standard_normal((50, 7)) * 10 ** rng.uniform(-3, 3, (50, 7))).astype(source)
    got = backend.numpy(backend.array(x))
    assert got.dtype == np.float32
    if source is np.float64 and backend.dtype != "float32":
        x = x.astype(np.float32)  # a backend may go through float32; then both roundings are to nearest
    np.testing.assert_array_equal(got, rounded(x, backend.dtype))


def test_infinities_and_nan_survive(backend):
    x = np.array([np.inf, -np.inf, np.nan, -0.0], np.float32)
    np.testing.assert_array_equal(backend.numpy(backend.array(x)), x)


@pytest.mark.parametrize("source", [np.int32, np.int64])
def test_integers_become_int32(backend, source):
    x = np.array([[0, -1], [2**31 - 1, -(2**31)]], source)
    device = backend.array(x)
    assert str(device.dtype).endswith("int32")
    got = backend.numpy(device)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, x)


def test_arrays_keep_their_shape_when_empty_or_strided(backend, rng):
    assert backend.numpy(backend.array(np.zeros((0, 3), np.float32))).shape == (0, 3)
    x = normal(rng, 6, 8, dtype=backend.dtype).astype(np.float32)
    np.testing.assert_array_equal(backend.numpy(backend.array(x[::2, ::-3].T)), x[::2, ::-3].T)


@pytest.mark.parametrize("source", ["float32", "float16", "bfloat16"])
def test_a_leaf_is_rounded_from_the_checkpoints_dtype(backend, rng, source):
    w = normal(rng, 11, 6, dtype=source)
    got = backend.ops.embed(integers(backend, range(11)), backend.leaf(host(w, source), use="tied"))
    np.testing.assert_array_equal(backend.numpy(got), rounded(w, backend.dtype))


@pytest.mark.parametrize("shape", [(12,), (5, 12), (3, 5, 12)])
def test_a_leaf_says_its_logical_shape(backend, rng, shape):
    assert tuple(leaf(backend, normal(rng, *shape, dtype=backend.dtype)).shape) == shape


def test_embed_gives_rows_of_the_table(backend, rng):
    table = normal(rng, 11, 6, dtype=backend.dtype)
    y = backend.ops.embed(integers(backend, ROWS), leaf(backend, table, use="tied"))
    assert y.dtype == backend.array(np.zeros(1, np.float32)).dtype
    np.testing.assert_array_equal(backend.numpy(y), table[ROWS])


@pytest.mark.parametrize("shape", [(11, 6), (11, 2, 3), (11,)])
def test_take_gives_rows_in_the_order_asked(backend, rng, shape):
    x = normal(rng, *shape, dtype=backend.dtype)
    y = backend.numpy(backend.ops.take(backend.array(x), integers(backend, ROWS)))
    np.testing.assert_array_equal(y, x[ROWS])


def test_take_of_nothing_is_empty(backend, rng):
    x = normal(rng, 4, 6, dtype=backend.dtype)
    assert backend.numpy(backend.ops.take(backend.array(x), integers(backend, []))).shape == (0, 6)


def test_put_replaces_rows_in_a_copy(backend, rng):
    x, values = normal(rng, 11, 6, dtype=backend.dtype), normal(rng, 3, 6, dtype=backend.dtype)
    before = backend.array(x)
    after = backend.ops.put(before, integers(backend, [9, 0, 4]), backend.array(values))
    want = x.copy()
    want[[9, 0, 4]] = values
    np.testing.assert_array_equal(backend.numpy(after), want)
    np.testing.assert_array_equal(backend.numpy(before), x)


def test_put_leaves_a_tables_rows_alone(backend, rng):
    """Images replace what `embed` gave; the table must not feel it."""
    table, values = normal(rng, 5, 6, dtype=backend.dtype), normal(rng, 5, 6, dtype=backend.dtype)
    w, every = leaf(backend, table, use="tied"), integers(backend, range(5))
    backend.numpy(backend.ops.put(backend.ops.embed(every, w), every, backend.array(values)))
    np.testing.assert_array_equal(backend.numpy(backend.ops.embed(every, w)), table)

"""Products with weights: linear and linears against numpy float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops import oracle
from tests.ops.oracle import assert_close, host, leaf, normal

WIDTHS = {"q": 24, "k": 8, "v": 16}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2)


def weight(rng, outputs, inputs, dtype):
    return normal(rng, outputs, inputs, dtype=dtype, scale=inputs**-0.5)


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("shape", [(1, 16, 24), (5, 16, 24), (3, 33, 7), (40, 64, 96), (2, 1024, 3)])
def test_linear(backend, rng, shape, bias):
    rows, inputs, outputs = shape
    x, w = normal(rng, rows, inputs, dtype=backend.dtype), weight(rng, outputs, inputs, backend.dtype)
    b = normal(rng, outputs, dtype=backend.dtype) if bias else None
    y = backend.ops.linear(backend.array(x), leaf(backend, w, b))
    assert y.dtype == backend.array(x).dtype
    assert_close(backend.numpy(y), oracle.linear(x, w, b), backend.dtype)


def test_linear_of_no_rows_is_empty(backend, rng):
    """A middle chunk has no logits, and its head runs on nothing."""
    x = backend.array(np.zeros((0, 16), np.float32))
    y = backend.ops.linear(x, leaf(backend, weight(rng, 24, 16, backend.dtype)))
    assert backend.numpy(y).shape == (0, 24)


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
def test_one_leaf_is_table_and_head(backend, rng, bias):
    """Tied embeddings: the bias, where there is one, belongs to the head."""
    w, b = weight(rng, 11, 16, backend.dtype), normal(rng, 11, dtype=backend.dtype) if bias else None
    tied = leaf(backend, w, b, use="tied")
    x = backend.ops.embed(backend.array(np.array([3, 8], np.int32)), tied)
    np.testing.assert_array_equal(backend.numpy(x), w[[3, 8]])
    assert_close(backend.numpy(backend.ops.linear(x, tied)), oracle.linear(w[[3, 8]], w, b), backend.dtype)


@pytest.mark.parametrize("biases", ["", "qkv", "qv"], ids=["none", "all", "some"])
@pytest.mark.parametrize("order", ["qkv", "vq", "k"])
@pytest.mark.parametrize("rows", [1, 6])
def test_linears_is_linear_for_each(backend, rng, biases, order, rows):
    """In the order asked for, whatever the order they were loaded in."""
    dtype = backend.dtype
    x = normal(rng, rows, 32, dtype=dtype)
    parts = {n: (weight(rng, o, 32, dtype), normal(rng, o, dtype=dtype)) for n, o in WIDTHS.items()}
    parts = {n: (w, b if n in biases else None) for n, (w, b) in parts.items()}
    hosts = [(host(w, dtype), None if b is None else host(b, dtype)) for w, b in parts.values()]
    held = dict(zip(parts, backend.leaves(hosts), strict=True))
    assert [tuple(w.shape) for w in held.values()] == [(o, 32) for o in WIDTHS.values()]
    got = backend.ops.linears(backend.array(x), tuple(held[n] for n in order))
    assert isinstance(got, tuple)
    for name, y in zip(order, got, strict=True):
        assert_close(backend.numpy(y), oracle.linear(x, *parts[name]), dtype)
        assert_close(backend.numpy(backend.ops.linear(backend.array(x), held[name])), backend.numpy(y), dtype)


def test_linears_takes_leaves_that_were_loaded_apart(backend, rng):
    dtype = backend.dtype
    x = normal(rng, 3, 32, dtype=dtype)
    ws = [weight(rng, o, 32, dtype) for o in WIDTHS.values()]
    first = backend.leaves([(host(w, dtype), None) for w in ws[:2]])
    got = backend.ops.linears(backend.array(x), (first[0], leaf(backend, ws[2]), first[1]))
    for y, w in zip(got, (ws[0], ws[2], ws[1]), strict=True):
        assert_close(backend.numpy(y), oracle.linear(x, w), dtype)


def test_a_weight_from_another_dtype_is_converted_in_a_group_too(backend, rng):
    x, w = normal(rng, 3, 32, dtype=backend.dtype), weight(rng, 8, 32, "bfloat16")
    b = normal(rng, 8, dtype="float16")
    group = backend.leaves([(host(w, "bfloat16"), host(b, "float16")), (host(w, "bfloat16"), None)])
    got = backend.ops.linears(backend.array(x), group)
    want = oracle.linear(x, oracle.rounded(w, backend.dtype), oracle.rounded(b, backend.dtype))
    assert_close(backend.numpy(got[0]), want, backend.dtype)


@pytest.mark.parametrize("mutant", ["no bias", "bias twice", "bias of a neighbour", "one input left out"])
def test_a_wrong_formula_is_outside_the_bound(dtype, rng, mutant):
    x, w, b = normal(rng, 5, 16, dtype=dtype), weight(rng, 24, 16, dtype), normal(rng, 24, dtype=dtype)
    wrong = {
        "no bias": oracle.linear(x, w),
        "bias twice": oracle.linear(x, w, 2 * b),
        "bias of a neighbour": oracle.linear(x, w, np.roll(b, 1)),
        "one input left out": oracle.linear(x[:, :-1], w[:, :-1], b),
    }
    with pytest.raises(AssertionError, match="worst error"):
        assert_close(wrong[mutant], oracle.linear(x, w, b), dtype)

"""rms_norm against numpy float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops import oracle
from tests.ops.oracle import assert_close, leaf, normal

SHAPES = [(1, 16), (5, 16), (7, 100), (3, 4, 32), (2, 1024)]


def story(dtype, shape, scale=1.0):
    rng = np.random.default_rng(3)
    return normal(rng, *shape, dtype=dtype, scale=scale), oracle.rounded(1 + rng.standard_normal(shape[-1]), dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-6, 0.25])
def test_rms_norm(backend, shape, eps):
    """[N, E], and [N, H, D] where queries and keys are normed."""
    x, w = story(backend.dtype, shape)
    y = backend.ops.rms_norm(backend.array(x), leaf(backend, w), eps)
    assert y.dtype == backend.array(x).dtype
    assert_close(backend.numpy(y), oracle.rms_norm(x, w, eps), backend.dtype, scale=0.05)


@pytest.mark.parametrize("scale", [1e-3, 900.0])
def test_squares_are_summed_in_float32(backend, scale):
    """900 squared is past the greatest float16; a thousandth squared is below its least normal number."""
    x, w = story(backend.dtype, (5, 16), scale)
    y = backend.numpy(backend.ops.rms_norm(backend.array(x), leaf(backend, w), 1e-6))
    assert_close(y, oracle.rms_norm(x, w, 1e-6), backend.dtype, scale=0.05)


def test_a_row_of_zeros_stays_zero(backend):
    _, w = story(backend.dtype, (2, 16))
    y = backend.ops.rms_norm(backend.array(np.zeros((2, 16), np.float32)), leaf(backend, w), 1e-6)
    np.testing.assert_array_equal(backend.numpy(y), np.zeros((2, 16)))


@pytest.mark.parametrize("mutant", ["eps outside", "sum for mean", "weight plus one", "mean removed", "no eps"])
def test_a_wrong_formula_is_outside_the_bound(dtype, mutant):
    eps = 0.25
    x, w = story(dtype, (5, 16))
    root = np.sqrt(np.mean(x * x, axis=-1, keepdims=True))
    centred = x - x.mean(axis=-1, keepdims=True)
    wrong = {
        "eps outside": x / (root + eps) * w,
        "sum for mean": x / np.sqrt(np.sum(x * x, axis=-1, keepdims=True) + eps) * w,
        "weight plus one": oracle.rms_norm(x, w + 1, eps),
        "mean removed": oracle.rms_norm(centred, w, eps),
        "no eps": x / root * w,
    }
    with pytest.raises(AssertionError, match="worst error"):
        assert_close(wrong[mutant], oracle.rms_norm(x, w, eps), dtype, scale=0.05)

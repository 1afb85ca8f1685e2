"""gelu and tanh against numpy float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops import oracle
from tests.ops.oracle import assert_close, normal


def story(dtype, shape=(5, 24)):
    return normal(np.random.default_rng(15), *shape, dtype=dtype, scale=3)


@pytest.mark.parametrize("shape", [(1, 24), (5, 24), (3, 100)])
def test_gelu(backend, shape):
    x = story(backend.dtype, shape)
    y = backend.ops.gelu(backend.array(x))
    assert y.dtype == backend.array(x).dtype
    assert_close(backend.numpy(y), oracle.gelu(x), backend.dtype, scale=np.abs(x))  # 1 + erf cancels below 0


@pytest.mark.parametrize("shape", [(1, 24), (5, 24), (3, 100)])
def test_tanh(backend, shape):
    x = story(backend.dtype, shape)
    y = backend.ops.tanh(backend.array(x))
    assert y.dtype == backend.array(x).dtype
    assert_close(backend.numpy(y), np.tanh(x), backend.dtype, scale=0.02)


def test_large_values_pass_or_close_and_never_overflow(backend):
    x = np.array([[-200.0, -100.0, -20.0, 0.0, 20.0, 100.0, 200.0]])
    assert_close(backend.numpy(backend.ops.gelu(backend.array(x))), np.maximum(x, 0), backend.dtype, scale=0.01)
    assert_close(backend.numpy(backend.ops.tanh(backend.array(x))), np.sign(x), backend.dtype, scale=0.01)


@pytest.mark.parametrize("mutant", ["by tanh", "by sigmoid", "relu", "silu"])
def test_a_wrong_formula_is_outside_the_bound(mutant):
    """By tanh it is off by 1e-4 at most, which a rounding to 16 bits hides."""
    x = story("float32")
    wrong = {
        "by tanh": 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
        "by sigmoid": x / (1 + np.exp(-1.702 * x)),
        "relu": np.maximum(x, 0),
        "silu": x / (1 + np.exp(-x)),
    }
    with pytest.raises(AssertionError, match="worst error"):
        assert_close(wrong[mutant], oracle.gelu(x), "float32", scale=np.abs(x))

"""swiglu against numpy float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops import oracle
from tests.ops.oracle import assert_close, normal


def story(dtype, shape=(5, 24)):
    rng = np.random.default_rng(4)
    return normal(rng, *shape, dtype=dtype, scale=3), normal(rng, *shape, dtype=dtype)


@pytest.mark.parametrize("shape", [(1, 24), (5, 24), (3, 100)])
def test_swiglu(backend, shape):
    gate, up = story(backend.dtype, shape)
    y = backend.ops.swiglu(backend.array(gate), backend.array(up))
    assert y.dtype == backend.array(gate).dtype
    assert_close(backend.numpy(y), oracle.swiglu(gate, up), backend.dtype, scale=0.1)


def test_large_gates_pass_or_close_and_never_overflow(backend):
    gate = np.array([[-200.0, -100.0, -20.0, 0.0, 20.0, 100.0, 200.0]])
    up = np.full_like(gate, 2.0)
    y = backend.numpy(backend.ops.swiglu(backend.array(gate), backend.array(up)))
    assert_close(y, oracle.swiglu(gate, up), backend.dtype, scale=0.01)


@pytest.mark.parametrize("mutant", ["exchanged", "sigmoid", "gelu", "relu"])
def test_a_wrong_formula_is_outside_the_bound(dtype, mutant):
    gate, up = story(dtype)
    wrong = {
        "exchanged": oracle.swiglu(up, gate),
        "sigmoid": up / (1 + np.exp(-gate)),
        "gelu": gate * up / (1 + np.exp(-1.702 * gate)),
        "relu": np.maximum(gate, 0) * up,
    }
    with pytest.raises(AssertionError, match="worst error"):
        assert_close(wrong[mutant], oracle.swiglu(gate, up), dtype, scale=0.1)

"""layer_norm against numpy float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops import oracle
from tests.ops.oracle import assert_close, leaf, normal

SHAPES = [(1, 16), (5, 16), (7, 100), (3, 4, 32), (2, 1024)]


def story(dtype, shape, scale=1.0):
    """x off its mean, weight, bias."""
    rng = np.random.default_rng(13)
    x = oracle.rounded(scale * (rng.standard_normal(shape) + 0.5), dtype)
    return x, oracle.rounded(1 + rng.standard_normal(shape[-1]), dtype), normal(rng, shape[-1], dtype=dtype)


def check(y, x, w, bias, eps, dtype):
    """The bias may cancel what it is added to."""
    terms = np.abs(oracle.layer_norm(x, w, None, eps)) + 0.2
    assert_close(y, oracle.layer_norm(x, w, bias, eps), dtype, scale=terms)


@pytest.mark.parametrize("biased", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-5, 0.25])
def test_layer_norm(backend, shape, eps, biased):
    x, w, b = story(backend.dtype, shape)
    bias = b if biased else None
    y = backend.ops.layer_norm(backend.array(x), leaf(backend, w, bias), eps)
    assert y.dtype == backend.array(x).dtype
    check(backend.numpy(y), x, w, bias, eps, backend.dtype)


@pytest.mark.parametrize("scale", [1e-3, 900.0])
def test_squares_are_summed_in_float32(backend, scale):
    """900 squared is past the greatest float16; a thousandth squared is below its least normal number."""
    x, w, b = story(backend.dtype, (5, 16), scale)
    y = backend.numpy(backend.ops.layer_norm(backend.array(x), leaf(backend, w, b), 1e-7))
    check(y, x, w, b, 1e-7, backend.dtype)


def test_a_row_of_one_value_gives_the_bias(backend):
    _, w, b = story(backend.dtype, (2, 16))
    y = backend.ops.layer_norm(backend.array(np.full((2, 16), 3.0)), leaf(backend, w, b), 1e-5)
    np.testing.assert_array_equal(backend.numpy(y), np.broadcast_to(b, (2, 16)))


@pytest.mark.parametrize("mutant", ["eps outside", "mean kept", "weight plus one", "no bias", "sample variance"])
def test_a_wrong_formula_is_outside_the_bound(dtype, mutant):
    eps = 0.25
    x, w, b = story(dtype, (5, 4))
    centred = x - x.mean(axis=-1, keepdims=True)
    wrong = {
        "eps outside": centred / (x.std(axis=-1, keepdims=True) + eps) * w + b,
        "mean kept": oracle.rms_norm(x, w, eps) + b,
        "weight plus one": oracle.layer_norm(x, w + 1, b, eps),
        "no bias": oracle.layer_norm(x, w, None, eps),
        "sample variance": centred / np.sqrt(x.var(axis=-1, ddof=1, keepdims=True) + eps) * w + b,
    }
    with pytest.raises(AssertionError, match="worst error"):
        check(wrong[mutant], x, w, b, eps, dtype)

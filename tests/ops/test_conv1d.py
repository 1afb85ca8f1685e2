"""conv1d against numpy float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops import oracle
from tests.ops.oracle import assert_close, leaf, normal

SIZES = [(1, 8, 127, 64), (8, 16, 7, 3), (16, 8, 3, 2), (4, 4, 1, 1)]  # in, out, taps, stride


def story(dtype, inputs, outputs, taps, frames):
    """A signal [T, I], taps [O, I, K], bias [O]."""
    rng = np.random.default_rng(16)
    w = normal(rng, outputs, inputs, taps, dtype=dtype, scale=(inputs * taps) ** -0.5)
    return normal(rng, frames, inputs, dtype=dtype), w, normal(rng, outputs, dtype=dtype)


@pytest.mark.parametrize("biased", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize(("inputs", "outputs", "taps", "stride"), SIZES)
def test_conv1d(backend, inputs, outputs, taps, stride, biased):
    x, w, b = story(backend.dtype, inputs, outputs, taps, taps + 5 * stride + 1)
    bias = b if biased else None
    y = backend.ops.conv1d(backend.array(x), leaf(backend, w, bias, use="table"), stride)
    assert y.dtype == backend.array(x).dtype
    assert_close(backend.numpy(y), oracle.conv1d(x, w, bias, stride), backend.dtype)


@pytest.mark.parametrize(("frames", "left"), [(7, 1), (9, 1), (10, 2), (12, 2), (13, 3)])
def test_frames_that_do_not_fill_a_stride_are_left_out(backend, frames, left):
    x, w, b = story(backend.dtype, 8, 16, 7, frames)
    y = backend.numpy(backend.ops.conv1d(backend.array(x), leaf(backend, w, b, use="table"), 3))
    assert y.shape == (left, 16)
    assert_close(y, oracle.conv1d(x, w, b, 3), backend.dtype)


@pytest.mark.parametrize("mutant", ["taps reversed", "one frame late", "other stride", "no bias", "padded"])
def test_a_wrong_formula_is_outside_the_bound(dtype, mutant):
    x, w, b = story(dtype, 8, 16, 7, 22)
    want = oracle.conv1d(x, w, b, 3)
    wrong = {
        "taps reversed": oracle.conv1d(x, w[:, :, ::-1], b, 3),
        "one frame late": oracle.conv1d(np.roll(x, -1, 0), w, b, 3),
        "other stride": oracle.conv1d(x, w, b, 2)[: len(want)],
        "no bias": oracle.conv1d(x, w, None, 3),
        "padded": oracle.conv1d(np.pad(x, ((3, 0), (0, 0))), w, b, 3)[: len(want)],
    }
    with pytest.raises(AssertionError, match="worst error"):
        assert_close(wrong[mutant], want, dtype)


def test_the_oracle_is_numpys_convolution_of_reversed_taps():
    x, w, b = story("float32", 1, 1, 7, 30)
    want = np.convolve(x[:, 0], w[0, 0, ::-1], "valid")[::3] + b
    np.testing.assert_allclose(oracle.conv1d(x, w, b, 3)[:, 0], want, atol=1e-12)

"""group_norm of a signal against numpy float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops import oracle
from tests.ops.oracle import assert_close, leaf, normal


def story(dtype, frames, channels):
    """A signal [T, C] off its mean, weight, bias."""
    rng = np.random.default_rng(14)
    x = oracle.rounded(rng.standard_normal((frames, channels)) + np.linspace(-1, 2, channels), dtype)
    return x, oracle.rounded(1 + rng.standard_normal(channels), dtype), normal(rng, channels, dtype=dtype)


@pytest.mark.parametrize("groups", [1, 3, 12])
@pytest.mark.parametrize("frames", [2, 7, 100])
def test_group_norm(backend, frames, groups):
    x, w, b = story(backend.dtype, frames, 12)
    y = backend.ops.group_norm(backend.array(x), leaf(backend, w, b), groups, 1e-5)
    assert y.dtype == backend.array(x).dtype
    # A group of few values is divided by a small deviation.
    assert_close(backend.numpy(y), oracle.group_norm(x, w, b, groups, 1e-5), backend.dtype, scale=2)


def test_half_a_minute_of_frames_loses_nothing(backend):
    """Two million values in one sum."""
    x, w, b = story(backend.dtype, 7500, 288)
    y = backend.ops.group_norm(backend.array(x), leaf(backend, w, b), 1, 1e-5)
    assert_close(backend.numpy(y), oracle.group_norm(x, w, b, 1, 1e-5), backend.dtype)


def test_silence_gives_the_bias(backend):
    _, w, b = story(backend.dtype, 5, 12)
    y = backend.ops.group_norm(backend.array(np.zeros((5, 12))), leaf(backend, w, b), 1, 1e-5)
    np.testing.assert_array_equal(backend.numpy(y), np.broadcast_to(b, (5, 12)))


@pytest.mark.parametrize("mutant", ["each frame", "each channel", "other groups", "no bias", "mean kept"])
def test_a_wrong_formula_is_outside_the_bound(dtype, mutant):
    x, w, b = story(dtype, 7, 12)
    wrong = {
        "each frame": oracle.layer_norm(x, w, b, 1e-5),
        "each channel": oracle.group_norm(x, w, b, 12, 1e-5),
        "other groups": oracle.group_norm(x, w, b, 2, 1e-5),
        "no bias": oracle.group_norm(x, w, None, 3, 1e-5),
        "mean kept": oracle.group_norm(x, w, b, 3, 1e-5) + 0.5 * w,
    }
    with pytest.raises(AssertionError, match="worst error"):
        assert_close(wrong[mutant], oracle.group_norm(x, w, b, 3, 1e-5), dtype, scale=2)

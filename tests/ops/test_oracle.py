"""The oracle's own rounding, and that a wrong value does not pass for a right one."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.oracle import EPS, assert_close, host, rounded


def test_rounding_goes_to_the_nearest_and_ties_to_even():
    eps = EPS["bfloat16"]
    exact = [1.0, 1 + eps / 2, 1 + eps * 1.5, 1 + eps * 0.501, -1 - eps * 1.5, 3.4e38, 3.4e39, 0.0, np.inf]
    want = [1.0, 1.0, 1 + 2 * eps, 1 + eps, -1 - 2 * eps, np.inf, np.inf, 0.0, np.inf]
    np.testing.assert_array_equal(rounded(exact, "bfloat16"), want)
    assert np.isnan(rounded(np.nan, "bfloat16"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rounding_is_that_of_numpy_where_numpy_has_the_type(dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(20_000) * 10.0 ** rng.uniform(-9, 6, 20_000)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(rounded(x, dtype), x.astype(dtype).astype(np.float64))


def test_bfloat16_on_the_host_is_the_upper_half_of_float32():
    held = host(np.array([1.0, -2.0, 0.15625]), "bfloat16")
    assert held.array.dtype == np.uint16
    assert [hex(x) for x in held.array] == ["0x3f80", "0xc000", "0x3e20"]


def test_values_that_are_not_numbers_are_never_close():
    with pytest.raises(AssertionError, match="not numbers"):
        assert_close(np.array([np.nan]), np.array([1.0]), "float32")


def test_the_bound_is_a_few_ulps(dtype):
    one = np.ones(1)
    assert_close(one * (1 + 3 * EPS[dtype]), one, dtype)
    with pytest.raises(AssertionError, match="worst error"):
        assert_close(one * (1 + 80 * EPS[dtype]), one, dtype)

"""full_attention: every query reads all of its own part; against one dot product at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.ops import oracle
from tests.ops.oracle import assert_close, normal

PARTS = [[0, 1], [0, 9], [0, 4, 5, 11], [0, 3, 6, 9, 12]]


def story(dtype, count, heads=4, groups=2, dim=16):
    rng = np.random.default_rng(17)
    return tuple(normal(rng, count, h, dim, dtype=dtype) for h in (heads, groups, groups))


def check(backend, cuts, scale=None, **sizes):
    q, k, v = story(backend.dtype, cuts[-1], **sizes)
    got = backend.ops.full_attention(*(backend.array(x) for x in (q, k, v)), np.array(cuts), scale=scale)
    assert got.dtype == backend.array(q).dtype
    assert_close(backend.numpy(got), oracle.full_attention(q, k, v, np.array(cuts), scale), backend.dtype)


@pytest.mark.parametrize("cuts", PARTS, ids=str)
def test_each_part_reads_itself(backend, cuts):
    check(backend, cuts)


@pytest.mark.parametrize(("heads", "groups", "dim"), [(8, 8, 36), (4, 1, 12), (6, 3, 8), (1, 1, 128)])
def test_heads_of_any_size_share_keys(backend, heads, groups, dim):
    check(backend, [0, 7], heads=heads, groups=groups, dim=dim)


@pytest.mark.parametrize("scale", [0.05, 1.0])
def test_the_scale_may_be_given(backend, scale):
    check(backend, [0, 4, 9], scale=scale)


@pytest.mark.parametrize("dtype", ["float32"])
def test_a_part_is_the_same_bits_in_company_and_alone(backend):
    q, k, v = (backend.array(x) for x in story(backend.dtype, 300))
    cuts = np.array([0, 1, 40, 43, 300])
    together = backend.numpy(backend.ops.full_attention(q, k, v, cuts))
    for start, end in itertools.pairwise(cuts.tolist()):
        part = (x[start:end] for x in (q, k, v))
        alone = backend.numpy(backend.ops.full_attention(*part, np.array([0, end - start])))
        np.testing.assert_array_equal(together[start:end], alone)


@pytest.mark.parametrize("mutant", ["causal", "one part", "other cuts", "other key head", "no scale"])
def test_a_wrong_formula_is_outside_the_bound(dtype, mutant):
    cuts = np.array([0, 4, 9])
    q, k, v = story(dtype, 9)
    want = oracle.full_attention(q, k, v, cuts)
    swap = [0, 2, 1, 3]
    wrong = {
        "causal": lambda: oracle.attention(q, k, v, np.arange(9)),
        "one part": lambda: oracle.full_attention(q, k, v, np.array([0, 9])),
        "other cuts": lambda: oracle.full_attention(q, k, v, np.array([0, 5, 9])),
        "other key head": lambda: oracle.full_attention(q[:, swap], k, v, cuts)[:, swap],
        "no scale": lambda: oracle.full_attention(q, k, v, cuts, scale=1.0),
    }
    with pytest.raises(AssertionError, match="worst error"):
        assert_close(wrong[mutant](), want, dtype)

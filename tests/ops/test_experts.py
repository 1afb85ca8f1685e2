"""experts: routing, weights and sums against one token and one expert at a time."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops import oracle
from tests.ops.oracle import assert_close, leaf, normal

HIDDEN, INNER, EXPERTS = 16, 12, 8


def story(dtype, tokens, seed=10):
    """Scores lie a quarter apart, so that rounding never decides who is among the best."""
    rng = np.random.default_rng(seed)
    x = normal(rng, tokens, HIDDEN, dtype=dtype)
    scores = np.stack([rng.permutation(EXPERTS) for _ in range(tokens)]) / 4 - 1
    gate_up = normal(rng, EXPERTS, 2 * INNER, HIDDEN, dtype=dtype, scale=HIDDEN**-0.5)
    down = normal(rng, EXPERTS, HIDDEN, INNER, dtype=dtype, scale=INNER**-0.5)
    return x, scores, gate_up, down


def run(backend, x, scores, gate_up, down, k, normalise):
    weights = leaf(backend, gate_up), leaf(backend, down)
    return backend.ops.experts(backend.array(x), backend.array(scores), *weights, k, normalise=normalise)


@pytest.mark.parametrize("normalise", [False, True], ids=["as they are", "normalised"])
@pytest.mark.parametrize("k", [1, 2, 3, EXPERTS])
@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_experts(backend, tokens, k, normalise):
    parts = story(backend.dtype, tokens)
    y = run(backend, *parts, k, normalise)
    assert y.dtype == backend.array(parts[0]).dtype
    assert_close(backend.numpy(y), oracle.experts(*parts, k, normalise), backend.dtype, scale=0.5)


@pytest.mark.parametrize("normalise", [False, True])
def test_large_scores_do_not_overflow(backend, normalise):
    x, scores, *weights = story(backend.dtype, 4)
    scores = scores * 400 + 300
    y = backend.numpy(run(backend, x, scores, *weights, 2, normalise))
    assert_close(y, oracle.experts(x, scores, *weights, 2, normalise), backend.dtype, scale=0.5)


def test_all_tokens_may_choose_one_expert(backend):
    x, scores, *weights = story(backend.dtype, 5)
    scores = np.broadcast_to(scores[:1], scores.shape)
    y = backend.numpy(run(backend, x, scores, *weights, 1, True))
    assert_close(y, oracle.experts(x, scores, *weights, 1, True), backend.dtype, scale=0.5)


@pytest.mark.parametrize(
    "mutant",
    ["up first", "not normalised", "one expert fewer", "weights exchanged", "worst chosen", "sigmoid"],
)
def test_a_wrong_formula_is_outside_the_bound(dtype, mutant):
    x, scores, gate_up, down = story(dtype, 5)
    ranks = np.argsort(np.argsort(-scores, axis=-1), axis=-1)
    second_first = np.where(ranks == 0, scores - 0.25, np.where(ranks == 1, scores + 0.25, scores))
    sharp = np.log(1 / (1 + np.exp(-scores)))
    wrong = {
        "up first": oracle.experts(x, scores, np.roll(gate_up, INNER, axis=1), down, 2, True),
        "not normalised": oracle.experts(x, scores, gate_up, down, 2, False),
        "one expert fewer": oracle.experts(x, scores, gate_up, down, 1, True),
        "weights exchanged": oracle.experts(x, second_first, gate_up, down, 2, True),
        "worst chosen": oracle.experts(x, -scores, gate_up, down, 2, True),
        "sigmoid": oracle.experts(x, sharp, gate_up, down, 2, True),
    }
    with pytest.raises(AssertionError, match="worst error"):
        assert_close(wrong[mutant], oracle.experts(x, scores, gate_up, down, 2, True), dtype, scale=0.5)

"""rotary and rope against complex numbers in numpy float64: positions, streams, pairings, partial turns."""

from __future__ import annotations

import numpy as np
import pytest

from crane_app.contract import Slot, Work
from tests.ops import oracle
from tests.ops.oracle import EPS, assert_close, normal

LAYOUT = (Slot("full", 2, 16),)
DIM = 16
INVERSE = 10_000.0 ** -(np.arange(0, DIM, 2) / DIM)
SECTIONED = np.repeat([0, 1, 2], [2, 3, 3])  # Qwen2.5-VL: each stream turns one stretch
INTERLEAVED = np.array([0, 1, 2, 0, 1, 2, 0, 0])  # Qwen3-VL: streams take turns
STREAMS = np.array([[0, 1, 2, 2, 2, 2, 4], [0, 1, 2, 2, 3, 3, 4], [0, 1, 2, 3, 2, 3, 4]], np.int32) * 3 + 1


def step_from(backend, start, new):
    """A step of `new` tokens of a row that has `start` cached."""
    cache = backend.cache((Slot("full", 1, 1),))
    row = cache.open(start + new)
    if start:
        backend.step(cache, [Work(row, np.zeros(start, np.int32))])
    return backend.step(cache, [Work(row, np.zeros(new, np.int32))])


def step_at(backend, streams):
    """A step whose positions [3, L] are given."""
    cache = backend.cache(LAYOUT)
    row = cache.open(streams.shape[1])
    return backend.step(cache, [Work(row, np.zeros(streams.shape[1], np.int32), positions=streams)])


def heads(dtype, length, dim=DIM, count=3):
    return normal(np.random.default_rng(5), length, count, dim, dtype=dtype)


def check(backend, step, positions, x, inverse=INVERSE, axis=None, pairs=False):
    rotary = backend.ops.rotary(step, inverse, axis)
    y = backend.ops.rope(backend.array(x), rotary, pairs)
    assert y.dtype == backend.array(x).dtype
    angle = oracle.angles(positions, inverse, axis)
    # An angle of float32 is known to half an ulp only, wherever it was rounded.
    scale = 1 + 2 * EPS["float32"] / EPS[backend.dtype] * angle.max()
    assert_close(backend.numpy(y), oracle.rope(x, angle, pairs), backend.dtype, scale=scale)


@pytest.mark.parametrize("pairs", [False, True], ids=["halves", "pairs"])
@pytest.mark.parametrize(("start", "new"), [(0, 1), (0, 6), (37, 1), (37, 5), (255, 2)])
def test_rope_counts_on_from_the_cached_length(backend, start, new, pairs):
    x = heads(backend.dtype, new)
    check(backend, step_from(backend, start, new), np.arange(start, start + new), x, pairs=pairs)


def test_each_row_of_a_step_counts_for_itself(backend):
    cache = backend.cache(LAYOUT)
    a, b = cache.open(64), cache.open(64)
    backend.step(cache, [Work(a, np.zeros(9, np.int32)), Work(b, np.zeros(3, np.int32))])
    step = backend.step(cache, [Work(b, np.zeros(2, np.int32)), Work(a, np.zeros(3, np.int32))])
    check(backend, step, np.array([3, 4, 9, 10, 11]), heads(backend.dtype, 5))


@pytest.mark.parametrize("pairs", [False, True], ids=["halves", "pairs"])
@pytest.mark.parametrize("turned", [2, 8, 12])
def test_dims_past_the_angles_pass_through(backend, turned, pairs):
    x = heads(backend.dtype, 4)
    inverse = 100.0 ** -(np.arange(0, turned, 2) / turned)
    step = step_from(backend, 5, 4)
    check(backend, step, np.arange(5, 9), x, inverse, pairs=pairs)
    y = backend.numpy(backend.ops.rope(backend.array(x), backend.ops.rotary(step, inverse), pairs))
    np.testing.assert_array_equal(y[..., turned:], x[..., turned:])


@pytest.mark.parametrize("axis", [SECTIONED, INTERLEAVED], ids=["sectioned", "interleaved"])
def test_each_pair_is_turned_by_its_own_stream(backend, axis):
    x = heads(backend.dtype, STREAMS.shape[1])
    check(backend, step_at(backend, STREAMS), STREAMS, x, axis=axis)


def test_with_one_stream_the_axis_says_nothing(backend):
    """A step of text alone in a model that also reads images."""
    check(backend, step_from(backend, 11, 4), np.arange(11, 15), heads(backend.dtype, 4), axis=SECTIONED)


def test_a_text_row_beside_an_image_row_counts_in_all_streams(backend):
    cache = backend.cache(LAYOUT)
    text, image = cache.open(64), cache.open(64)
    backend.step(cache, [Work(text, np.zeros(20, np.int32))])
    length = STREAMS.shape[1]
    works = [Work(text, np.zeros(2, np.int32)), Work(image, np.zeros(length, np.int32), positions=STREAMS)]
    positions = np.concatenate([np.broadcast_to([20, 21], (3, 2)), STREAMS], axis=1)
    check(backend, backend.step(cache, works), positions, heads(backend.dtype, length + 2), axis=INTERLEAVED)


@pytest.mark.parametrize("pairs", [False, True], ids=["halves", "pairs"])
def test_far_positions_turn_in_float32(backend, pairs):
    """30,001 is no float16 and no bfloat16."""
    x = heads(backend.dtype, 2)
    check(backend, step_from(backend, 30_001, 2), np.array([30_001, 30_002]), x, pairs=pairs)


def test_far_positions_of_images_turn_in_float32(backend):
    streams = np.broadcast_to(np.array([2049, 30_001, 131_071], np.int32), (3, 3))
    x = heads(backend.dtype, 3)
    check(backend, step_at(backend, streams), streams, x, axis=np.zeros(DIM // 2, int))


def test_the_inverse_carries_any_scaling(backend):
    """llama3 and NTK arrive as other numbers; nothing is assumed of them."""
    inverse = np.array([2.0, 0.5, 0.0, 1e-7, 0.3, 0.3, 1.0, 3.0])
    check(backend, step_from(backend, 40, 3), np.arange(40, 43), heads(backend.dtype, 3), inverse)


def test_rope_reads_one_rotary_for_any_number_of_heads(backend):
    step = step_from(backend, 2, 3)
    rotary = backend.ops.rotary(step, INVERSE)
    for count in (1, 4):
        x = heads(backend.dtype, 3, count=count)
        got = backend.numpy(backend.ops.rope(backend.array(x), rotary))
        assert_close(got, oracle.rope(x, oracle.angles(np.arange(2, 5), INVERSE)), backend.dtype)


@pytest.mark.parametrize("pairs", [False, True], ids=["halves", "pairs"])
def test_positions_may_come_from_the_host(backend, pairs):
    """Frames of sound and patches of pictures are in no step."""
    at = np.array([0, 3, 4, 900, 2], np.int32)
    check(backend, at, at, heads(backend.dtype, 5), pairs=pairs)
    check(backend, STREAMS, STREAMS, heads(backend.dtype, 7), axis=INTERLEAVED, pairs=pairs)


@pytest.mark.parametrize("mutant", ["one further", "backwards", "other pairing", "all from zero", "no turn"])
def test_a_wrong_turn_is_outside_the_bound(dtype, mutant):
    x, at = heads(dtype, 5), np.arange(37, 42)
    turn = lambda positions, **how: oracle.rope(x, oracle.angles(positions, INVERSE), **how)  # noqa: E731
    wrong = {
        "one further": lambda: turn(at + 1),
        "backwards": lambda: turn(-at),
        "other pairing": lambda: turn(at, pairs=True),
        "all from zero": lambda: turn(at - at[0]),
        "no turn": lambda: x,
    }
    with pytest.raises(AssertionError, match="worst error"):
        assert_close(wrong[mutant](), turn(at), dtype)


@pytest.mark.parametrize("mutant", ["first stream alone", "axis reversed", "sections for turns"])
def test_a_wrong_stream_is_outside_the_bound(dtype, mutant):
    x = heads(dtype, STREAMS.shape[1])
    axis = {
        "first stream alone": 0 * INTERLEAVED,
        "axis reversed": 2 - INTERLEAVED,
        "sections for turns": SECTIONED,
    }
    wrong = oracle.rope(x, oracle.angles(STREAMS, INVERSE, axis[mutant]))
    with pytest.raises(AssertionError, match="worst error"):
        assert_close(wrong, oracle.rope(x, oracle.angles(STREAMS, INVERSE, INTERLEAVED)), dtype)

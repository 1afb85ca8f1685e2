"""Affine groups on the host: the same bits as mlx.core.quantize gives, the same numbers as it reads."""

from __future__ import annotations

import numpy as np
import pytest

from crane_app.host import Groups, HostTensor
from crane_app.media.files.gguf_groups import AFFINE, NEAREST, regrouped
from crane_app.media.files.groups import BITS, grouped, numbers, packed, unpacked
from crane_app.media.files.halves import narrowed, widened
from crane_app.media.files.packed import cut, expanded, joined, stacked
from tests.gguf_checkpoint import PACKED
from tests.ops import oracle
from tests.ops.test_packed import of_gguf, of_mlx

DTYPES = ("float32", "float16", "bfloat16")


def rows() -> np.ndarray:
    """Numbers of all manners: drawn, all nought, all alike, all of one sign, tiny, huge."""
    x = np.random.default_rng(1).standard_normal((9, 256)).astype(np.float32) * 0.1
    x[1], x[2], x[3], x[4] = 0, 0.5, np.abs(x[3]), -np.abs(x[4])
    x[5], x[6] = x[5] * 1e-6, x[6] * 1e4
    return x


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_grouped_as_mlx_groups_them(bits, size, dtype):
    mx = pytest.importorskip("mlx.core", exc_type=ImportError)
    x = oracle.rounded(rows(), dtype).astype(np.float32)
    with mx.stream(mx.cpu):
        q, *pair = mx.quantize(mx.array(x).astype(getattr(mx, dtype)), group_size=size, bits=bits)
        wide = [each.astype(mx.float32) for each in pair]
        want = mx.dequantize(q, *wide, group_size=size, bits=bits)
    ours = grouped(x, size, bits, dtype)
    np.testing.assert_array_equal(ours.packed, np.array(q))
    np.testing.assert_array_equal(widened(ours.scales), np.array(wide[0]))
    np.testing.assert_array_equal(widened(ours.biases), np.array(wide[1]))
    np.testing.assert_array_equal(numbers(ours), np.array(want))


@pytest.mark.parametrize("bits", BITS)
def test_what_is_packed_is_unpacked(bits):
    q = np.random.default_rng(bits).integers(0, 1 << bits, (3, 96), np.uint8)
    stream = packed(q, bits)
    assert (stream.dtype, stream.shape) == (np.uint32, (3, 3 * bits))
    np.testing.assert_array_equal(unpacked(stream, bits), q)


@pytest.mark.parametrize("kind", PACKED, ids=lambda kind: kind.name)
def test_blocks_as_groups_have_the_same_numbers_to_the_last_bit(kind):
    blocks, want = of_gguf(kind, 8, 512)
    groups, loss = regrouped(blocks, (16, 32))
    if kind.name in AFFINE:
        assert loss == 0
        np.testing.assert_array_equal(numbers(groups), want)
    else:
        error = np.sqrt(np.mean((numbers(groups) - want) ** 2) / np.mean(want**2))
        assert loss == pytest.approx(error, rel=1e-3)
        assert 0 < loss < 0.06


def test_each_packed_type_is_affine_or_has_a_nearest():
    assert {kind.name for kind in PACKED} == set(AFFINE) | {name for name in NEAREST if name not in AFFINE}


@pytest.mark.parametrize("kind", ["blocks", "groups"])
def test_rows_are_cut_joined_and_stacked_without_being_unpacked(kind):
    from gguf import GGMLQuantizationType as Type

    make = (lambda seed: of_gguf(Type.Q5_K, 6, 256, seed=seed)) if kind == "blocks" else _groups
    (a, x), (b, y) = make(0), make(1)
    np.testing.assert_array_equal(expanded(joined([a, b])).array, np.concatenate([x, y]))
    np.testing.assert_array_equal(expanded(stacked([a, b], 2)).array, np.stack([x, y]))
    np.testing.assert_array_equal(expanded(cut(a, np.array([4, 0]))).array, x[[4, 0]])
    np.testing.assert_array_equal(expanded(cut(stacked([a, b], 2), 1)).array, y)


def _groups(seed: int) -> tuple[Groups, np.ndarray]:
    return of_mlx((5, 64), 6, 256, seed=seed)


def test_matrices_of_two_schemes_are_not_joined():
    with pytest.raises(ValueError, match="cannot join"):
        joined([_groups(0)[0], of_mlx((4, 64), 6, 256)[0]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_narrowed_to_the_nearest(dtype):
    x = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    np.testing.assert_array_equal(widened(narrowed(x, dtype)), oracle.rounded(x, dtype))
    odd = narrowed(np.array([np.nan, np.inf, -np.inf, -0.0], np.float32), dtype)
    assert isinstance(odd, HostTensor)
    np.testing.assert_array_equal(widened(odd), np.array([np.nan, np.inf, -np.inf, -0.0], np.float32))

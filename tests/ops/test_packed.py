"""Packed weights: products, tables, groups and experts against the numbers that the format's own package unpacks."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from crane_app.host import Blocks, Groups, Packed
from tests.gguf_checkpoint import PACKED, blocks
from tests.ops import oracle
from tests.ops.oracle import assert_close, host, normal

# Where MLX has no equal groups, the nearest: at most this share of the numbers' size is lost.
LOST = dict.fromkeys(["Q6_K", "IQ4_NL", "IQ4_XS"], 0.01) | dict.fromkeys(["Q3_K", "IQ3_XXS", "IQ3_S"], 0.03)
LOST |= dict.fromkeys(["Q2_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S"], 0.06)
FORMS = [(bits, size) for bits in (2, 3, 4, 5, 6, 8) for size in (32, 64, 128)]
name = pytest.mark.parametrize("kind", PACKED, ids=lambda kind: kind.name)
form = pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form[0]} bits, {form[1]}")


def of_gguf(kind: Type, *shape: int, seed: int = 0) -> tuple[Blocks, np.ndarray]:
    """Blocks and their numbers, by the gguf package."""
    data = blocks(kind, shape, seed)
    return Blocks(kind.name, data, shape), gguf.dequantize(data, kind).reshape(shape)


def of_mlx(form: tuple[int, int], *shape: int, dtype: str = "float32", seed: int = 0) -> tuple[Groups, np.ndarray]:
    """Groups and their numbers, by mlx."""
    mx = pytest.importorskip("mlx.core", exc_type=ImportError)
    bits, size = form
    x = mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 0.1)
    with mx.stream(mx.cpu):
        q, *pair = mx.quantize(x.astype(getattr(mx, dtype)), group_size=size, bits=bits)
        wide = [each.astype(mx.float32) for each in pair]
        numbers = mx.dequantize(q, *wide, group_size=size, bits=bits)
        scales, biases = (host(np.array(each, np.float64), dtype) for each in wide)
    return Groups(np.array(q), scales, biases, size, bits), np.array(numbers)


def input_of(backend, rows: int, width: int) -> np.ndarray:
    return normal(np.random.default_rng(5), rows, width, dtype=backend.dtype)


def check(backend, got, x: np.ndarray, numbers: np.ndarray, lost: float = 0.0) -> None:
    """Within the bound of a plain product of the numbers in the backend's dtype, and of what packing anew lost."""
    w = numbers.astype(np.float64)
    assert got.dtype == backend.array(x).dtype
    eps, scale = oracle.EPS[backend.dtype], np.abs(x) @ np.abs(w).T
    error = np.abs(backend.numpy(got) - x @ w.T)
    assert (error <= (4 * eps + 3 * lost) * scale + 1e-6).all(), float((error / scale).max())


@name
def test_blocks_multiply_as_their_numbers_do(backend, kind):
    packed, numbers = of_gguf(kind, 24, 512)
    leaf = backend.leaf(packed)
    assert leaf.shape == (24, 512)
    lost = LOST.get(kind.name, 0.0) if backend.device.backend == "mlx" else 0.0
    assert leaf.loss <= lost
    x = input_of(backend, 3, 512)
    check(backend, backend.ops.linear(backend.array(x), leaf), x, numbers, lost)


@form
def test_groups_multiply_as_their_numbers_do(backend, form):
    packed, numbers = of_mlx(form, 24, 256, dtype="bfloat16")
    leaf = backend.leaf(packed)
    assert leaf.shape == (24, 256)
    assert leaf.loss == 0
    x = input_of(backend, 3, 256)
    check(backend, backend.ops.linear(backend.array(x), leaf), x, numbers)


@name
def test_a_row_of_a_table_of_blocks_is_its_numbers(backend, kind):
    packed, numbers = of_gguf(kind, 24, 256)
    leaf = backend.leaf(packed, use="table")
    got = backend.numpy(backend.ops.embed(backend.array(np.array([7, 0, 7], np.int32)), leaf))
    want = oracle.rounded(numbers[[7, 0, 7]], backend.dtype)
    if leaf.loss:
        assert np.abs(got - want).max() < 4 * leaf.loss * np.abs(numbers).max()
    else:
        np.testing.assert_array_equal(got, want)


@form
def test_a_row_of_a_table_of_groups_is_its_numbers(backend, form):
    packed, numbers = of_mlx(form, 24, 256)
    got = backend.ops.embed(backend.array(np.array([7, 0, 7], np.int32)), backend.leaf(packed, use="table"))
    np.testing.assert_array_equal(backend.numpy(got), oracle.rounded(numbers[[7, 0, 7]], backend.dtype))


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q6_K, Type.Q8_0], ids=lambda kind: kind.name)
def test_one_packed_leaf_is_table_and_head(backend, kind):
    packed, numbers = of_gguf(kind, 24, 256)
    leaf = backend.leaf(packed, use="tied")
    x = backend.ops.embed(backend.array(np.array([2], np.int32)), leaf)
    check(backend, backend.ops.linear(x, leaf), backend.numpy(x).astype(np.float64), numbers, leaf.loss)


def mixed(seed: int, *kinds: Type | None) -> list[tuple[Packed | None, np.ndarray]]:
    rows = (24, 8, 16)
    found: list[tuple[Packed | None, np.ndarray]] = []
    for i, (kind, outputs) in enumerate(zip(kinds, rows, strict=True)):
        if kind is None:
            found.append((None, np.random.default_rng(i).integers(-8, 8, (outputs, 256)) / 16))
        else:
            found.append(of_gguf(kind, outputs, 256, seed=seed + i))
    return found


@pytest.mark.parametrize(
    "kinds",
    [(Type.Q4_0,) * 3, (Type.Q4_K, Type.Q4_K, Type.Q6_K), (Type.Q8_0, None, Type.Q4_0)],
    ids=["one form", "two forms", "one of them plain"],
)
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
def test_linears_is_linear_for_each_whatever_the_forms(backend, kinds, bias):
    parts = mixed(3, *kinds)
    biases = [np.arange(len(w)) / 8 if bias and i != 1 else None for i, (_, w) in enumerate(parts)]
    hosts = [packed or host(w, backend.dtype) for packed, w in parts]
    told = [None if b is None else host(b, backend.dtype) for b in biases]
    leaves = backend.leaves(zip(hosts, told, strict=True))
    assert [leaf.shape for leaf in leaves] == [w.shape for _, w in parts]
    x = input_of(backend, 5, 256)
    got = backend.ops.linears(backend.array(x), leaves)
    for y, leaf, (_, w), b in zip(got, leaves, parts, biases, strict=True):
        alone = backend.ops.linear(backend.array(x), leaf)
        np.testing.assert_array_equal(backend.numpy(alone), backend.numpy(y))
        want = oracle.linear(x, w.astype(np.float64), b)
        size = np.abs(x) @ np.abs(w).T + (0 if b is None else np.abs(b))
        error = np.abs(backend.numpy(y) - want)
        assert (error <= (4 * oracle.EPS[backend.dtype] + 3 * leaf.loss) * size + 1e-6).all()


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q4_K, Type.Q8_0], ids=lambda kind: kind.name)
@pytest.mark.parametrize("tokens", [1, 5])
def test_experts_may_be_packed(backend, kind, tokens):
    """Hidden and inner sizes are whole blocks; the routing is told apart by a wide margin."""
    size, count = 256, 4
    gate_up, wide = of_gguf(kind, count, 2 * size, size, seed=1)
    down, narrow = of_gguf(kind, count, size, size, seed=2)
    x = input_of(backend, tokens, size) / 4
    x = oracle.rounded(x, backend.dtype)
    scores = np.stack([np.random.default_rng(i).permutation(count) for i in range(tokens)]) / 2.0
    leaves = backend.leaf(gate_up), backend.leaf(down)
    assert [leaf.shape for leaf in leaves] == [wide.shape, narrow.shape]
    y = backend.ops.experts(backend.array(x), backend.array(scores), *leaves, 2, normalise=True)
    want = oracle.experts(x, scores, wide.astype(np.float64), narrow.astype(np.float64), 2, True)
    assert_close(backend.numpy(y), want, backend.dtype, scale=np.abs(want).max(), ulps=64)


@pytest.mark.parametrize("dtype", ["float32"])
def test_a_packed_product_of_a_row_does_not_depend_on_the_others(backend):
    packed, _ = of_gguf(Type.Q4_K, 40, 256)
    leaf = backend.leaf(packed)
    x = input_of(backend, 7, 256)
    whole = backend.numpy(backend.ops.linear(backend.array(x), leaf))
    for row in range(7):
        alone = backend.numpy(backend.ops.linear(backend.array(x[row : row + 1]), leaf))
        np.testing.assert_array_equal(alone[0], whole[row])

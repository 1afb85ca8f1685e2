"""Every Triton kernel against its plain twin: in Triton's interpreter, or on a GPU with CRANE_TEST_DEVICE=cuda."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest

from crane_app.contract import Slot
from tests.ops.oracle import assert_close

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

DTYPES = ("float32", "float16", "bfloat16")
LENGTHS = (0, 5, 127, 128, 300)  # positions cached: none, in a split, at both sides of a split's end, in the third
GROUPS, SHARE = 2, 3


@pytest.fixture
def device() -> torch.device:
    return torch.device(os.environ.get("CRANE_TEST_DEVICE", "cpu"))


@pytest.fixture
def ops(device: torch.device) -> SimpleNamespace:
    """`plain` and `fast`."""
    from crane_app.backends.torch.cuda import KernelOps
    from crane_app.backends.torch.ops import Ops

    return SimpleNamespace(plain=Ops(device), fast=KernelOps(device))


@pytest.fixture
def draw(device: torch.device):
    source = torch.Generator().manual_seed(7)
    return lambda *shape, dtype: torch.randn(*shape, generator=source).to(device=device, dtype=getattr(torch, dtype))


def close(got, want, dtype: str, ulps: float = 8) -> None:
    """Both round once, or twice; the interpreter cuts bfloat16 where a GPU rounds it."""
    assert_close(got.float().cpu().numpy(), want.double().cpu().numpy(), dtype, ulps=ulps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [16, 80])
def test_rms_norm_of_views(ops, draw, dtype, size):
    from crane_app.backends.torch.leaf import Leaf

    merged, weight = draw(3, 5 * size, dtype=dtype), Leaf((size,), draw(size, dtype=dtype))
    heads = merged[:, size : 3 * size].reshape(3, 2, size)
    for x in (heads, merged[:, :size]):
        close(ops.fast.rms_norm(x, weight, 1e-6), ops.plain.rms_norm(x, weight, 1e-6), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pairs", [False, True], ids=["halves", "pairs"])
@pytest.mark.parametrize("turned", [5, 12])
def test_rope_turns_what_it_should(ops, draw, dtype, pairs, turned):
    x = draw(3, 4 * 24, dtype=dtype)[:, 24:].reshape(3, 3, 24)
    rotary = ops.plain.rotary(np.array([0, 5, 700], np.int32), 1e4 ** -(np.arange(turned) / turned))
    close(ops.fast.rope(x, rotary, pairs), ops.plain.rope(x, rotary, pairs), dtype)


def test_rope_where_each_pair_has_a_stream_of_positions(ops, draw):
    x, axis = draw(3, 2, 24, dtype="float32"), np.array([0, 1, 2] * 4)
    positions = np.array([[0, 5, 700], [1, 5, 2], [9, 5, 3]], np.int32)
    rotary = ops.plain.rotary(positions, 1e4 ** -(np.arange(12) / 12), axis)
    close(ops.fast.rope(x, rotary), ops.plain.rope(x, rotary), "float32")


@pytest.mark.parametrize("dtype", DTYPES)
def test_swiglu_over_more_than_one_block(ops, draw, dtype):
    gate, up = draw(2, 2 * 1100, dtype=dtype).chunk(2, -1)
    close(ops.fast.swiglu(gate, up), ops.plain.swiglu(gate, up), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("inputs", "outputs", "bias"), [(96, 70, True), (1300, 35, False)])
def test_the_product_of_one_row(ops, draw, monkeypatch, dtype, inputs, outputs, bias):
    from crane_app.backends.torch.kernels import products
    from crane_app.backends.torch.leaf import Leaf, Product

    monkeypatch.setattr(products, "PROGRAMS", 16)  # so that each has several outputs, and the last one fewer
    weight = draw(outputs, inputs, dtype=dtype) * inputs**-0.5
    w = Leaf((outputs, inputs), product=Product(weight, (), draw(outputs, dtype=dtype) if bias else None, (outputs,)))
    x = draw(1, 2 * inputs, dtype=dtype)[:, inputs:]
    close(ops.fast.linear(x, w), ops.plain.linear(x.contiguous(), w), dtype, ulps=32 if dtype == "float32" else 8)


def rows_of(draw, device, dtype: str, dim: int) -> SimpleNamespace:
    """Rows of LENGTHS, each with tensors of its own, as the cache holds them."""
    capacities = [256 if n < 256 else 512 for n in LENGTHS]
    keys = [draw(GROUPS, c, dim, dtype=dtype) for c in capacities]
    values = [draw(GROUPS, c, dim, dtype=dtype) for c in capacities]
    return SimpleNamespace(
        keys=keys,
        values=values,
        addresses=torch.tensor([[k.data_ptr(), v.data_ptr()] for k, v in zip(keys, values, strict=True)]).to(device),
        starts=torch.tensor(LENGTHS, dtype=torch.int32, device=device),
        capacities=torch.tensor(capacities, dtype=torch.int32, device=device),
    )


def step_of(rows: SimpleNamespace, window: int):
    from crane_app.backends.torch.step import DecodeStep

    slot = Slot("window" if window else "full", GROUPS, rows.keys[0].shape[-1], window)
    return DecodeStep((slot,), rows.starts, rows.capacities, rows.addresses[None], rows.starts, 4)


def plainly(q, k, v, rows: SimpleNamespace, window: int):
    from crane_app.backends.torch.ops import _attention

    parts = []
    for i, start in enumerate(LENGTHS):
        rows.keys[i][:, start], rows.values[i][:, start] = k[i], v[i]
        seen = slice(max(0, start + 1 - window) if window else 0, start + 1)
        scale = q.shape[-1] ** -0.5
        parts.append(_attention(q[i : i + 1], rows.keys[i][:, seen], rows.values[i][:, seen], None, scale))
    return torch.cat(parts)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("dim", "window"), [(16, 0), (80, 0), (16, 7), (16, 200)])
def test_decode_attention_is_that_of_each_row_alone(ops, draw, device, dtype, dim, window):
    rows = rows_of(draw, device, dtype, dim)
    q = draw(len(LENGTHS), GROUPS * SHARE, dim, dtype=dtype)
    k, v = draw(len(LENGTHS), GROUPS, dim, dtype=dtype), draw(len(LENGTHS), GROUPS, dim, dtype=dtype)
    before = [t.clone() for t in (*rows.keys, *rows.values)]
    got = ops.fast.attend(q, k, v, step_of(rows, window), 0)
    written = [t.clone() for t in (*rows.keys, *rows.values)]
    for t, old in zip((*rows.keys, *rows.values), before, strict=True):
        t.copy_(old)
    close(got, plainly(q, k, v, rows, window), dtype, ulps=16)
    assert all(map(torch.equal, written, (*rows.keys, *rows.values))), "keys and values lie elsewhere in the cache"


def test_a_row_of_decode_attention_does_not_see_its_neighbours(ops, draw, device):
    rows = rows_of(draw, device, "float32", 16)
    q, k, v = (draw(len(LENGTHS), n, 16, dtype="float32") for n in (GROUPS * SHARE, GROUPS, GROUPS))
    whole = ops.fast.attend(q, k, v, step_of(rows, 0), 0)
    for i in range(len(LENGTHS)):
        one = slice(i, i + 1)
        alone = SimpleNamespace(
            keys=rows.keys, addresses=rows.addresses[one], starts=rows.starts[one], capacities=rows.capacities[one]
        )
        assert torch.equal(ops.fast.attend(q[one], k[one], v[one], step_of(alone, 0), 0), whole[one])

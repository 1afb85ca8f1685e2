"""Products of a few rows: each weight is read once, as fast as memory gives it, without the tensor cores.

With one row a product is bound by its weight's bytes. cuBLAS fills tiles of 64 by 8 for it and leaves two thirds of the
bandwidth of a small matrix unused.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

MOST_ROWS = 4  # from five rows on the tensor cores' tiles are better filled
PROGRAMS = 512  # at least, so that every multiprocessor has several of them waiting for memory
TILE = 8192  # weights a program has in flight


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x [N, I], N at most MOST_ROWS, times weight [O, I] transposed, plus bias [O]: [N, O]. Twin: Ops.linear."""
    count, inputs = x.shape
    outputs = weight.shape[0]
    y = torch.empty(count, outputs, dtype=x.dtype, device=x.device)
    high = min(max(triton.next_power_of_2(outputs // PROGRAMS + 1) // 2, 1), 16)
    wide = min(TILE // high, triton.next_power_of_2(inputs), 1024)
    _linear[(triton.cdiv(outputs, high),)](
        x, weight, weight if bias is None else bias, y, x.stride(0), weight.stride(0), outputs,
        INPUTS=inputs, COUNT=count, BIAS=bias is not None, HIGH=high, WIDE=wide,
    )  # fmt: skip
    return y


@triton.jit
def _linear(
    x, weight, bias, y, x_row, weight_row, outputs,
    INPUTS: tl.constexpr, COUNT: tl.constexpr, BIAS: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """HIGH outputs of all rows; sums run over columns that are WIDE apart, and then across."""
    row = tl.program_id(0).to(tl.int64) * HIGH + tl.arange(0, HIGH)
    inside, column = row < outputs, tl.arange(0, WIDE)
    zero = tl.zeros([HIGH, WIDE], tl.float32)
    a, b, c, d = zero, zero, zero, zero
    for start in range(0, INPUTS, WIDE):
        here = start + column
        known = here < INPUTS
        w = tl.load(weight + row[:, None] * weight_row + here[None], mask=inside[:, None] & known[None], other=0.0).to(
            tl.float32
        )
        a += w * tl.load(x + here, mask=known, other=0.0).to(tl.float32)[None]
        if COUNT > 1:
            b += w * tl.load(x + x_row + here, mask=known, other=0.0).to(tl.float32)[None]
        if COUNT > 2:
            c += w * tl.load(x + 2 * x_row + here, mask=known, other=0.0).to(tl.float32)[None]
        if COUNT > 3:
            d += w * tl.load(x + 3 * x_row + here, mask=known, other=0.0).to(tl.float32)[None]
    extra = tl.load(bias + row, mask=inside, other=0.0).to(tl.float32) if BIAS else tl.zeros([HIGH], tl.float32)
    kind = y.dtype.element_ty
    tl.store(y + row, (tl.sum(a, 1) + extra).to(kind), mask=inside)
    if COUNT > 1:
        tl.store(y + outputs + row, (tl.sum(b, 1) + extra).to(kind), mask=inside)
    if COUNT > 2:
        tl.store(y + 2 * outputs + row, (tl.sum(c, 1) + extra).to(kind), mask=inside)
    if COUNT > 3:
        tl.store(y + 3 * outputs + row, (tl.sum(d, 1) + extra).to(kind), mask=inside)

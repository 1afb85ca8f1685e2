"""The product of a single row: its weight is read once, as fast as memory gives it, without the tensor cores.

With one row a product is bound by its weight's bytes. cuBLAS fills tiles of 64 by 8 for it, which leaves much of the
bandwidth of a small matrix unused; from two rows on it is the faster one (measured on an H200).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

PROGRAMS = 512  # at least, so that every multiprocessor has several of them waiting for memory
TILE = 8192  # weights a program has in flight


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x [1, I] times weight [O, I] transposed, plus bias [O]: [1, O]. Twin: Ops.linear."""
    outputs, inputs = weight.shape
    y = torch.empty(1, outputs, dtype=x.dtype, device=x.device)
    high = min(max(triton.next_power_of_2(outputs // PROGRAMS + 1) // 2, 1), 16)
    wide = min(TILE // high, triton.next_power_of_2(inputs), 1024)
    _linear[(triton.cdiv(outputs, high),)](
        x, weight, weight if bias is None else bias, y, weight.stride(0), outputs,
        INPUTS=inputs, BIAS=bias is not None, HIGH=high, WIDE=wide,
    )  # fmt: skip
    return y


@triton.jit
def _linear(
    x, weight, bias, y, stride, outputs,
    INPUTS: tl.constexpr, BIAS: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """HIGH outputs; sums run over columns that are WIDE apart, and then across."""
    row = tl.program_id(0).to(tl.int64) * HIGH + tl.arange(0, HIGH)
    inside, column = row < outputs, tl.arange(0, WIDE)
    total = tl.zeros([HIGH, WIDE], tl.float32)
    for start in range(0, INPUTS, WIDE):
        here = start + column
        known = here < INPUTS
        mask = inside[:, None] & known[None]
        w = tl.load(weight + row[:, None] * stride + here[None], mask=mask, other=0.0).to(tl.float32)
        total += w * tl.load(x + here, mask=known, other=0.0).to(tl.float32)[None]
    sums = tl.sum(total, 1)
    if BIAS:
        sums += tl.load(bias + row, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + row, sums.to(y.dtype.element_ty), mask=inside)

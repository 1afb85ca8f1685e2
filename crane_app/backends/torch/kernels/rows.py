"""RMSNorm, rope and SwiGLU: one program a row, one launch each. All arithmetic is in float32, rounded once at the end.

Inputs are often views of a merged product's result, so rows and heads have strides; the last axis has none.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 1024  # columns of SwiGLU a program takes


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x [N, E] or [N, H, D] over its last axis times weight; contiguous. Twin: Ops.rms_norm."""
    wide = x if x.ndim == 3 else x[:, None]
    count, heads, size = wide.shape
    y = torch.empty(wide.shape, dtype=x.dtype, device=x.device)
    if y.numel():
        _rms_norm[(count, heads)](
            wide, weight, y, wide.stride(0), wide.stride(1), size, eps, WIDTH=triton.next_power_of_2(size)
        )
    return y.view(x.shape)


@triton.jit
def _rms_norm(x, weight, y, row_stride, head_stride, size, eps, WIDTH: tl.constexpr):
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.arange(0, WIDTH)
    inside = column < size
    values = tl.load(x + row * row_stride + head * head_stride + column, mask=inside, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(values * values) / size + eps)
    w = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    out = y + (row * tl.num_programs(1) + head) * size + column
    tl.store(out, (w * (values * scale)).to(y.dtype.element_ty), mask=inside)


def rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, pairs: bool) -> torch.Tensor:
    """x [N, H, D] turned by cos, sin float32 [N, 1, J]; contiguous. Twin: Ops.rope."""
    count, heads, size = x.shape
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if y.numel():
        turned, cos, sin = cos.shape[-1], cos.contiguous(), sin.contiguous()
        width = triton.next_power_of_2(max(turned, size - 2 * turned))
        _rope[(count, heads)](x, cos, sin, y, x.stride(0), x.stride(1), size, turned, PAIRS=pairs, WIDTH=width)
    return y


@triton.jit
def _rope(x, cos, sin, y, row_stride, head_stride, size, turned, PAIRS: tl.constexpr, WIDTH: tl.constexpr):
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    x += row * row_stride + head * head_stride
    y += (row * tl.num_programs(1) + head) * size
    j = tl.arange(0, WIDTH)
    inside = j < turned
    first = 2 * j if PAIRS else j
    second = 2 * j + 1 if PAIRS else j + turned
    a = tl.load(x + first, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(x + second, mask=inside, other=0.0).to(tl.float32)
    c = tl.load(cos + row * turned + j, mask=inside, other=0.0)
    s = tl.load(sin + row * turned + j, mask=inside, other=0.0)
    tl.store(y + first, (a * c - b * s).to(y.dtype.element_ty), mask=inside)
    tl.store(y + second, (b * c + a * s).to(y.dtype.element_ty), mask=inside)
    rest = 2 * turned + j
    tl.store(y + rest, tl.load(x + rest, mask=rest < size, other=0.0), mask=rest < size)


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up of [N, F]; contiguous. Twin: Ops.swiglu, which rounds once more between its two products."""
    count, size = gate.shape
    y = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    if y.numel():
        _swiglu[(count, triton.cdiv(size, BLOCK))](gate, up, y, gate.stride(0), up.stride(0), size, WIDTH=BLOCK)
    return y


@triton.jit
def _swiglu(gate, up, y, gate_stride, up_stride, size, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = column < size
    g = tl.load(gate + row * gate_stride + column, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + row * up_stride + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + row * size + column, (g / (1.0 + tl.exp(-g)) * u).to(y.dtype.element_ty), mask=inside)

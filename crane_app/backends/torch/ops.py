"""The op namespace on PyTorch, op by op: what is right, and on CPU also fast where oneDNN is.

A row's float32 result never depends on the other rows: products run packed (one order of sums for 2 and more rows, so a
single row is doubled), attention runs once per row, experts run one by one, and no function is used whose rounding
depends on a value's place in memory.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F

from crane_app.backends.torch import plain, sampling
from crane_app.backends.torch.leaf import Leaf, Product, rows

FEW = 64  # choices up to which a GPU copies experts rather than waits to learn which they are


class Ops:
    """See contract.Ops."""

    def __init__(self, device: torch.device):
        self.device = device
        self._angles: dict[int, tuple[np.ndarray, torch.Tensor]] = {}

    def embed(self, tokens, w: Leaf):
        if w.weight is not None:
            return F.embedding(tokens, w.weight)
        if w.product.matrices:
            return w.product.matrices[0].rows(tokens)
        return rows(w.product.packed, tokens)

    def linear(self, x, w: Leaf):
        if w.product is not None:
            return self._product(x, w.product)
        if len(w.group.matrices) == len(w.group.sizes):
            return _share(x, w.group, w.place)
        return self._product(x, w.group).split(w.group.sizes, -1)[w.place]

    def linears(self, x, ws: tuple[Leaf, ...]):
        group = ws[0].group
        if group is None or any(w.group is not group or w.place != i for i, w in enumerate(ws)):
            return tuple(self.linear(x, w) for w in ws)
        return self._product(x, group).split(group.sizes, -1)[: len(ws)]

    def _product(self, x: torch.Tensor, product: Product) -> torch.Tensor:
        return _product(x, product)

    def rms_norm(self, x, w: Leaf, eps: float):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        return (w.weight * wide).to(x.dtype)

    def layer_norm(self, x, w: Leaf, eps: float):
        return F.layer_norm(x, w.weight.shape, w.weight, w.bias, eps)

    def group_norm(self, x, w: Leaf, groups: int, eps: float):
        return F.group_norm(x.T[None], groups, w.weight, w.bias, eps)[0].T

    def gelu(self, x):
        return F.gelu(x)

    def tanh(self, x):
        return torch.tanh(x)

    def conv1d(self, x, w: Leaf, stride: int):
        """As a product of windows: a GPU's own convolution would shorten float32 to TF32."""
        windows = x.unfold(0, w.shape[-1], stride).flatten(1)
        return plain.linear(windows, w.weight.flatten(1), w.bias)

    def swiglu(self, gate, up):
        if gate.dtype != torch.float32 or gate.is_cuda:
            return F.silu(gate) * up
        # F.silu rounds a value one way inside a vector and another in what is left over at its end.
        return (gate / torch.exp(-gate).add_(1)).mul_(up)

    def take(self, x, index):
        return x.index_select(0, index)

    def put(self, x, index, values):
        return x.index_copy(0, index.long(), values.to(x.dtype))

    def rotary(self, step, inverse: np.ndarray, axis: np.ndarray | None = None):
        rates = self._rates(inverse)
        positions = torch.from_numpy(step).to(self.device) if isinstance(step, np.ndarray) else step.positions
        if positions.ndim == 2:
            streams = torch.zeros(len(inverse), dtype=torch.long) if axis is None else torch.as_tensor(axis)
            angles = positions.float()[streams.long().to(self.device)].T * rates
        else:
            angles = positions.float()[:, None] * rates
        return angles.cos()[:, None], angles.sin()[:, None]

    def _rates(self, inverse: np.ndarray) -> torch.Tensor:
        if id(inverse) not in self._angles:
            self._angles[id(inverse)] = inverse, torch.as_tensor(inverse, dtype=torch.float32, device=self.device)
        return self._angles[id(inverse)][1]

    def rope(self, x, rotary, pairs: bool = False):
        cos, sin = rotary
        turned = 2 * cos.shape[-1]
        part, rest = x[..., :turned], x[..., turned:]
        a, b = (part[..., ::2], part[..., 1::2]) if pairs else part.chunk(2, -1)
        a, b = a * cos - b * sin, b * cos + a * sin
        y = torch.stack([a, b], -1).flatten(-2) if pairs else torch.cat([a, b], -1)
        return torch.cat([y.to(x.dtype), rest], -1) if rest.shape[-1] else y.to(x.dtype)

    def attend(self, q, k, v, step, layer: int, *, scale: float | None = None):
        window = step.cache.layout[layer].window
        parts = []
        for span in step.spans:
            cut, end = slice(span.first, span.first + span.new), span.start + span.new
            step.cache.write(span.row, layer, span.start, k[cut].transpose(0, 1), v[cut].transpose(0, 1))
            first = max(0, span.start + 1 - window) if window else 0
            mask = step.mask(span.start - first, span.new, window) if span.new > 1 else None
            parts.append(_attention(q[cut], *step.cache.read(span.row, layer, first, end), mask, scale))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def remember(self, k, v, step, layer: int):
        if not step.memories:
            raise ValueError("no work of this step brings columns to remember")
        for span, start, end in step.memories:
            if end > start:
                step.cache.memorise(span.row, layer, k[start:end].transpose(0, 1), v[start:end].transpose(0, 1))

    def recall(self, q, step, layer: int, *, scale: float | None = None):
        parts = []
        for span in step.spans:
            row = step.cache.rows[span.row]
            if row.keys[layer] is None:
                raise ValueError(f"row {span.row} has nothing in the memory of layer {layer}")
            part = q[span.first : span.first + span.new]
            parts.append(_attention(part, row.keys[layer], row.values[layer], None, scale))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def full_attention(self, q, k, v, cuts: np.ndarray, *, scale: float | None = None):
        parts = []
        for start, end in pairwise(cuts.tolist()):
            keys, values = k[start:end].transpose(0, 1), v[start:end].transpose(0, 1)
            parts.append(_attention(q[start:end], keys, values, None, scale))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def experts(self, x, scores, gate_up: Leaf, down: Leaf, k: int, *, normalise: bool):
        share, chosen = torch.softmax(scores.float(), -1).topk(k, -1)
        if normalise:
            share = share / share.sum(-1, keepdim=True)
        if x.is_cuda and chosen.numel() <= FEW:
            parts = self._gathered(x, chosen, gate_up, down)
            return (parts * share[..., None]).sum(1).to(x.dtype)
        parts = torch.zeros(*chosen.shape, x.shape[-1], dtype=x.dtype, device=x.device)
        for expert in chosen.unique().tolist():
            token, place = (chosen == expert).nonzero(as_tuple=True)
            gate, up = _expert(x[token], gate_up, expert).chunk(2, -1)
            parts[token, place] = _expert(self.swiglu(gate, up), down, expert)
        return (parts * share[..., None]).sum(1).to(x.dtype)

    def _gathered(self, x, chosen, gate_up: Leaf, down: Leaf):
        """Each choice with a copy of its expert: no look at the routing, so nothing waits for the device."""
        gate, up = torch.einsum("ne,nkfe->nkf", x, gate_up.weight[chosen]).chunk(2, -1)
        return torch.einsum("nkf,nkef->nke", self.swiglu(gate, up), down.weight[chosen])

    def sample(self, logits, draw):
        return sampling.sample(logits, draw)


def _expert(x: torch.Tensor, w: Leaf, expert: int) -> torch.Tensor:
    return w.experts[expert].times(x) if w.experts else plain.linear(x, w.weight[expert])


def _share(x: torch.Tensor, group: Product, place: int) -> torch.Tensor:
    """One of several products that are held side by side."""
    y = group.matrices[place].times(x)
    return y if group.bias is None else y + group.bias.split(group.sizes)[place]


def _product(x: torch.Tensor, product: Product) -> torch.Tensor:
    if product.matrices:
        parts = [matrix.times(x) for matrix in product.matrices]
        y = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        return y if product.bias is None else y + product.bias
    if not product.packed:
        return plain.linear(x, product.weight, product.bias)
    count = x.shape[0]
    x = x.expand(2, -1).contiguous() if count == 1 and x.dtype == torch.float32 else x.contiguous()
    linear = torch.ops.mkldnn._linear_pointwise
    parts = [linear(x, packed, product.bias, "none", [], "") for packed in product.packed]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, -1))[:count]


def _attention(q, keys, values, mask, scale) -> torch.Tensor:
    """q [L, H, D] of one row over keys, values [G, S, D]; mask bool [L, S] or None; [L, H, D].

    A single token's query heads that share a key head are laid along the length, which spares repeating keys.
    """
    new, heads, dim = q.shape
    groups = keys.shape[0]
    if new == 1:
        q = q.reshape(1, groups, heads // groups, dim)
        return F.scaled_dot_product_attention(q, keys[None], values[None], scale=scale).reshape(1, heads, dim)
    q = q.transpose(0, 1)[None]
    y = F.scaled_dot_product_attention(q, keys[None], values[None], attn_mask=mask, scale=scale, enable_gqa=True)
    return y[0].transpose(0, 1)

"""The op namespace on MLX: lazy, on stock ops, few calls a layer."""

from __future__ import annotations

from itertools import pairwise

import mlx.core as mx
import numpy as np

from crane_app.backends.mlx import sampling
from crane_app.backends.mlx.leaf import Leaf, Product
from crane_app.backends.mlx.step import Chunk, Decode


def _swiglu(gate, up):
    return gate * mx.sigmoid(gate) * up


class Ops:
    """See contract.Ops. gathers_wide: this device multiplies gathered matrices in float32 alone (MLX's CPU)."""

    def __init__(self, gathers_wide: bool):
        self._gathers_wide = gathers_wide
        # Not a module's global: what a thread compiled must be freed before the thread ends, for MLX frees it after
        # Python has let go of the thread, and if Python itself is ending then, the process aborts.
        self.swiglu = mx.compile(_swiglu, shapeless=True)
        self._periods: dict[int, tuple[np.ndarray, mx.array]] = {}

    def embed(self, tokens, w: Leaf):
        return w.product.matrix.rows(tokens) if w.weight is None else w.weight[tokens]

    def linear(self, x, w: Leaf):
        if w.product is not None:
            return _product(x, w.product)
        return mx.split(_product(x, w.group), w.group.ends[:-1], -1)[w.place]

    def linears(self, x, ws: tuple[Leaf, ...]):
        group = ws[0].group
        if group is None or any(w.group is not group or w.place != i for i, w in enumerate(ws)):
            return tuple(self.linear(x, w) for w in ws)
        return tuple(mx.split(_product(x, group), group.ends[:-1], -1)[: len(ws)])

    def rms_norm(self, x, w: Leaf, eps: float):
        return mx.fast.rms_norm(x, w.weight, eps)

    def layer_norm(self, x, w: Leaf, eps: float):
        return mx.fast.layer_norm(x, w.weight, w.bias, eps)

    def group_norm(self, x, w: Leaf, groups: int, eps: float):
        """Means are taken over channels, then over frames: one sum over all of them would round away its last terms."""
        wide = x.astype(mx.float32).reshape(x.shape[0], groups, -1)
        wide = wide - wide.mean(-1, keepdims=True).mean(0, keepdims=True)
        wide = wide * mx.rsqrt(wide.square().mean(-1, keepdims=True).mean(0, keepdims=True) + eps)
        y = wide.reshape(x.shape) * w.weight
        return (y if w.bias is None else y + w.bias).astype(x.dtype)

    def gelu(self, x):
        wide = x.astype(mx.float32)
        return (wide * 0.5 * (1 + mx.erf(wide * 0.5**0.5))).astype(x.dtype)

    def tanh(self, x):
        return mx.tanh(x)

    def conv1d(self, x, w: Leaf, stride: int):
        y = mx.squeeze(mx.conv1d(x[None], w.weight.swapaxes(1, 2), stride=stride), 0)
        return y if w.bias is None else y + w.bias

    def take(self, x, index):
        return x[index]

    def put(self, x, index, values):
        copy = mx.array(x)
        copy[index] = values.astype(x.dtype)
        return copy

    def rotary(self, step, inverse: np.ndarray, axis: np.ndarray | None = None):
        """One stream stays (positions, periods) for the fused kernel; three become cosines and sines."""
        positions = mx.array(step) if isinstance(step, np.ndarray) else step.positions
        if positions.ndim == 1:
            return positions, self._period(inverse), 2 * len(inverse)
        streams = np.zeros(len(inverse), np.int32) if axis is None else np.asarray(axis, np.int32)
        angles = positions.astype(mx.float32)[mx.array(streams)].T * mx.array(inverse.astype(np.float32))
        return mx.cos(angles)[:, None], mx.sin(angles)[:, None]

    def _period(self, inverse: np.ndarray) -> mx.array:
        """1 / inverse on the device, made once for each table."""
        if id(inverse) not in self._periods:
            with np.errstate(divide="ignore"):  # a pair that is never turned has an endless period
                self._periods[id(inverse)] = inverse, mx.array((1 / inverse).astype(np.float32))
        return self._periods[id(inverse)][1]

    def rope(self, x, rotary, pairs: bool = False):
        if len(rotary) == 3:
            positions, periods, dims = rotary
            x = mx.expand_dims(x, 2)
            x = mx.fast.rope(x, dims, traditional=pairs, base=None, scale=1.0, offset=positions, freqs=periods)
            return mx.squeeze(x, 2)
        cos, sin = rotary
        dims = 2 * cos.shape[-1]
        part, rest = x[..., :dims].astype(mx.float32), x[..., dims:]
        a, b = (part[..., ::2], part[..., 1::2]) if pairs else mx.split(part, 2, -1)
        a, b = a * cos - b * sin, b * cos + a * sin
        y = mx.stack([a, b], -1).flatten(-2) if pairs else mx.concatenate([a, b], -1)
        return mx.concatenate([y.astype(x.dtype), rest], -1)

    def attend(self, q, k, v, step, layer: int, *, scale: float | None = None):
        window = step.cache.layout[layer].window
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        parts = [
            (_decode if isinstance(part, Decode) else _chunk)(q, k, v, part, layer, window, scale)
            for part in step.parts
        ]
        y = parts[0] if len(parts) == 1 else mx.concatenate(parts)
        return y if step.order is None else y[step.order]

    def remember(self, k, v, step, layer: int):
        if not step.memories:
            raise ValueError("no work of this step brings columns to remember")
        for span, start, end in step.memories:
            if end > start:
                keys, values = (t[start:end].swapaxes(0, 1)[None] for t in (k, v))
                step.cache.memorise(span.row, layer, keys, values)

    def recall(self, q, step, layer: int, *, scale: float | None = None):
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        rows = []
        for span in step.spans:
            if (span.row, layer) not in step.cache.memories:
                raise ValueError(f"row {span.row} has nothing in the memory of layer {layer}")
            keys, values = step.cache.memories[span.row, layer]
            part = q[span.first : span.first + span.new].swapaxes(0, 1)[None]
            rows.append(mx.fast.scaled_dot_product_attention(part, keys, values, scale=scale)[0].swapaxes(0, 1))
        return rows[0] if len(rows) == 1 else mx.concatenate(rows)

    def full_attention(self, q, k, v, cuts: np.ndarray, *, scale: float | None = None):
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        parts = []
        for start, end in pairwise(cuts.tolist()):
            part = (x[start:end].swapaxes(0, 1)[None] for x in (q, k, v))
            parts.append(mx.fast.scaled_dot_product_attention(*part, scale=scale)[0].swapaxes(0, 1))
        return parts[0] if len(parts) == 1 else mx.concatenate(parts)

    def experts(self, x, scores, gate_up: Leaf, down: Leaf, k: int, *, normalise: bool):
        share = mx.softmax(scores.astype(mx.float32), -1)
        chosen = mx.argsort(-share, -1)[:, :k]
        share = mx.take_along_axis(share, chosen, -1)
        if normalise:
            share = share / share.sum(-1, keepdims=True)
        gate, up = mx.split(self._gathered(x[:, None, None], gate_up, chosen), 2, -1)
        parts = mx.squeeze(self._gathered(self.swiglu(gate, up), down, chosen), 2)
        return (parts * share[..., None]).sum(1).astype(x.dtype)

    def _gathered(self, x, w: Leaf, chosen):
        """x times the chosen experts' matrices, transposed."""
        if w.experts is not None:
            return w.experts.gathered(x, chosen)
        if not self._gathers_wide:
            return mx.gather_mm(x, w.weight.swapaxes(-1, -2), rhs_indices=chosen)
        wide = w.weight.astype(mx.float32).swapaxes(-1, -2)
        return mx.gather_mm(x.astype(mx.float32), wide, rhs_indices=chosen).astype(x.dtype)

    def sample(self, logits, draw):
        return sampling.sample(logits, draw)


def _product(x: mx.array, product: Product) -> mx.array:
    if product.matrix is not None:
        y = product.matrix.times(x)
        return y if product.bias is None else y + product.bias
    if product.bias is None:
        return x @ product.turned
    return mx.addmm(product.bias, x, product.turned)


def _decode(q, k, v, part: Decode, layer: int, window: int, scale: float) -> mx.array:
    """All rows of a slab in one call: [R, H, D]."""
    if part.index is not None:
        q, k, v = q[part.index], k[part.index], v[part.index]
    if part.one is not None:
        slot, at = part.one
        part.slab.write(layer, (slot, slice(None), at), k[0], v[0])
    else:
        part.slab.write(layer, (part.slots, slice(None), part.positions), k, v)
    keys, values = part.slab.read(layer, slice(None), k.dtype)
    if part.spread is not None:
        q = q[part.spread]
    q, mask = mx.expand_dims(q, 2), part.mask(window)
    y = mx.squeeze(mx.fast.scaled_dot_product_attention(q, keys, values, scale=scale, mask=mask), 2)
    return y if part.spread is None else y[part.slots]


def _chunk(q, k, v, part: Chunk, layer: int, window: int, scale: float) -> mx.array:
    """One row's chunk: [L, H, D]."""
    span, slot = part.span, part.slot
    cut, end = slice(span.first, span.first + span.new), span.start + span.new
    new = (x[cut].swapaxes(0, 1) for x in (k, v))
    part.slab.write(layer, (slot, slice(None), slice(span.start, end)), *new)
    keys, values = part.slab.read(layer, (slice(slot, slot + 1), slice(None), slice(0, end)), k.dtype)
    q = q[cut].swapaxes(0, 1)[None]
    y = mx.fast.scaled_dot_product_attention(q, keys, values, scale=scale, mask=part.mask(window))
    return y[0].swapaxes(0, 1)

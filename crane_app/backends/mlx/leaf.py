"""Parameters as MLX holds them: plain arrays, or a share of a merged product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from crane_app.contract import HostTensor

TYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


@dataclass(frozen=True)
class Product:
    """Weight [O, I] of one or several linear products, its transposed view, and where the products end in O."""

    weight: mx.array
    turned: mx.array
    bias: mx.array | None
    ends: tuple[int, ...]


@dataclass(frozen=True)
class Leaf:
    """shape: logical. weight: the plain array of tables, norms, convolutions and experts. product: what `linear` runs.

    group, place: the merged product that this leaf is a share of, and its number in it. bias: of a norm or convolution.
    """

    shape: tuple[int, ...]
    weight: mx.array | None = None
    product: Product | None = None
    group: Product | None = None
    place: int = 0
    bias: mx.array | None = None


def array(host: HostTensor, dtype: mx.Dtype) -> mx.array:
    """A copy of the host's buffer on the device; evaluated, so that the buffer may go."""
    plain = mx.array(host.array)
    if host.dtype == "bfloat16":
        plain = plain.view(mx.bfloat16)
    plain = plain.astype(dtype)
    mx.eval(plain)
    return plain


def table(weight: mx.array, bias: mx.array | None = None) -> Leaf:
    """A leaf that is gathered from, normalises, or holds taps or experts; a tied head multiplies by it as it is."""
    if weight.ndim == 2:
        return Leaf(tuple(weight.shape), weight, Product(weight, weight.T, bias, (weight.shape[0],)))
    return Leaf(tuple(weight.shape), weight, bias=bias)


def merged(weights: Sequence[mx.array], biases: Sequence[mx.array | None]) -> tuple[Leaf, ...]:
    """Leaves of products that share an input, held as one product."""
    sizes = [w.shape[0] for w in weights]
    weight = weights[0] if len(weights) == 1 else mx.concatenate(list(weights))
    bias = None
    if any(b is not None for b in biases):
        filled = [mx.zeros(n, weight.dtype) if b is None else b for n, b in zip(sizes, biases, strict=True)]
        bias = mx.concatenate(filled)
        mx.eval(bias)
    mx.eval(weight)
    product = Product(weight, weight.T, bias, tuple(int(n) for n in np.cumsum(sizes)))
    shapes = [(n, weight.shape[1]) for n in sizes]
    if len(shapes) == 1:
        return (Leaf(shapes[0], product=product),)
    return tuple(Leaf(shape, group=product, place=i) for i, shape in enumerate(shapes))

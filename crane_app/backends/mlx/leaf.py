"""Parameters as MLX holds them: plain arrays, affine groups, or a share of a merged product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from crane_app.backends.mlx.forms import SIZES, scales
from crane_app.contract import HostTensor
from crane_app.host import Blocks, Packed
from crane_app.media.files.gguf_groups import regrouped

TYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


@dataclass(frozen=True)
class Matrix:
    """A matrix [O, I], or experts [X, O, I], in affine groups (mlx.core.quantize).

    scales, biases: in the dtype that forms.scales says; where that is float32, MLX computes in it.
    """

    packed: mx.array
    scales: mx.array
    biases: mx.array
    size: int
    bits: int
    dtype: mx.Dtype

    def times(self, x: mx.array) -> mx.array:
        """x [N, I] times the matrix transposed: [N, O]."""
        how = {"transpose": True, "group_size": self.size, "bits": self.bits}
        return mx.quantized_matmul(x, self.packed, self.scales, self.biases, **how).astype(x.dtype)

    def gathered(self, x: mx.array, chosen: mx.array) -> mx.array:
        """x times the chosen experts' matrices, transposed."""
        how = {"rhs_indices": chosen, "transpose": True, "group_size": self.size, "bits": self.bits}
        return mx.gather_qmm(x, self.packed, self.scales, self.biases, **how).astype(x.dtype)

    def rows(self, index: mx.array) -> mx.array:
        """Rows `index` [N] of a table: [N, I]; expanded in float32, since scale * q alone may round."""
        scales, biases = (each[index].astype(mx.float32) for each in (self.scales, self.biases))
        rows = mx.dequantize(self.packed[index], scales, biases, group_size=self.size, bits=self.bits)
        return rows.astype(self.dtype)


@dataclass(frozen=True)
class Product:
    """Weight [O, I] of one or several linear products, its transposed view, and where the products end in O.

    matrix: the weight in affine groups, instead of the two.
    """

    weight: mx.array | None
    turned: mx.array | None
    bias: mx.array | None
    ends: tuple[int, ...]
    matrix: Matrix | None = None


@dataclass(frozen=True)
class Leaf:
    """shape: logical. weight: the plain array of tables, norms, convolutions and experts. product: what `linear` runs.

    group, place: the merged product that this leaf is a share of, and its number in it. bias: of a norm or convolution.
    experts: the experts of a mixture in affine groups, instead of `weight`.
    """

    shape: tuple[int, ...]
    weight: mx.array | None = None
    product: Product | None = None
    group: Product | None = None
    place: int = 0
    bias: mx.array | None = None
    experts: Matrix | None = None
    loss: float = 0.0


def matrix(packed: Packed, dtype: mx.Dtype) -> tuple[Matrix, float]:
    """The groups on the device and what that lost. Blocks without equal groups in MLX become the nearest ones."""
    name = next(name for name, kind in TYPES.items() if kind == dtype)
    groups, loss = regrouped(packed, SIZES, name) if isinstance(packed, Blocks) else (packed, 0.0)
    held = TYPES[scales(groups.scales.dtype, name)]
    ours = array(groups.scales, held), array(groups.biases, held)
    q = mx.array(np.ascontiguousarray(groups.packed))
    mx.eval(q)
    return Matrix(q, *ours, groups.size, groups.bits, dtype), loss


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


def quantised(matrices: Sequence[tuple[Matrix, float]], biases: Sequence[mx.array | None]) -> tuple[Leaf, ...]:
    """Leaves of packed products of one input, or of a packed table; one product if they are of one form."""
    forms = {(m.size, m.bits, m.scales.dtype) for m, _ in matrices}
    if len(forms) > 1:
        return tuple(quantised([m], [b])[0] for m, b in zip(matrices, biases, strict=True))
    first = matrices[0][0]
    parts = [first.packed], [first.scales], [first.biases]
    if len(matrices) > 1:
        parts = ([getattr(m, name) for m, _ in matrices] for name in ("packed", "scales", "biases"))
    whole = [same[0] if len(same) == 1 else mx.concatenate(same) for same in parts]
    mx.eval(whole)
    sizes = [m.packed.shape[0] for m, _ in matrices]
    together = Matrix(*whole, first.size, first.bits, first.dtype)
    product = Product(None, None, _bias(biases, sizes, first.dtype), _ends(sizes), together)
    width = first.scales.shape[-1] * first.size
    return _shares(product, sizes, width, [loss for _, loss in matrices])


def experts(stack: Matrix, loss: float, shape: tuple[int, ...]) -> Leaf:
    """The leaf of packed experts [X, O, I]."""
    return Leaf(shape, experts=stack, loss=loss)


def merged(weights: Sequence[mx.array], biases: Sequence[mx.array | None]) -> tuple[Leaf, ...]:
    """Leaves of products that share an input, held as one product."""
    sizes = [w.shape[0] for w in weights]
    weight = weights[0] if len(weights) == 1 else mx.concatenate(list(weights))
    mx.eval(weight)
    product = Product(weight, weight.T, _bias(biases, sizes, weight.dtype), _ends(sizes))
    return _shares(product, sizes, weight.shape[1], [0.0] * len(sizes))


def _bias(biases: Sequence[mx.array | None], sizes: list[int], dtype: mx.Dtype) -> mx.array | None:
    """The biases of merged products, 0 where one has none; None where none has any."""
    if all(b is None for b in biases):
        return None
    bias = mx.concatenate([mx.zeros(n, dtype) if b is None else b for n, b in zip(sizes, biases, strict=True)])
    mx.eval(bias)
    return bias


def _ends(sizes: list[int]) -> tuple[int, ...]:
    return tuple(int(n) for n in np.cumsum(sizes))


def _shares(product: Product, sizes: list[int], width: int, losses: list[float]) -> tuple[Leaf, ...]:
    if len(sizes) == 1:
        return (Leaf((sizes[0], width), product=product, loss=losses[0]),)
    every = enumerate(zip(sizes, losses, strict=True))
    return tuple(Leaf((n, width), group=product, place=i, loss=loss) for i, (n, loss) in every)

"""Parameters as PyTorch holds them: plain, packed for our kernels or oneDNN, in fewer bits, or part of a merged one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
import torch

from crane_app.backends.torch import native
from crane_app.backends.torch.forms import GPU_SIZES
from crane_app.backends.torch.twins import GroupTwin, HostTwin
from crane_app.contract import HostTensor, Use
from crane_app.host import Blocks, Packed, Scheme
from crane_app.media.files.gguf_groups import regrouped
from crane_app.media.files.packed import cut, expanded, joined

TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Matrix(Protocol):
    """A matrix [O, I], packed for our kernels or in fewer bits. nbytes: that it holds."""

    shape: tuple[int, ...]
    nbytes: int

    def times(self, x: torch.Tensor) -> torch.Tensor:
        """x [N, I] times the matrix transposed: [N, O] in the dtype of x."""

    def rows(self, index: torch.Tensor) -> torch.Tensor:
        """Rows `index` int32 [N] in the backend's dtype: [N, I]."""


@dataclass(frozen=True)
class Product:
    """Weight [O, I] of one or several linear products.

    packed: the weight in oneDNN's own order, then `weight` is None; in more than one block of BLOCK_ROWS rows where
    single rows are asked for too. matrices: the weight packed for our kernels, one for each product, or in fewer bits,
    one below the other; then both are empty.
    """

    weight: torch.Tensor | None
    packed: tuple[torch.Tensor, ...]
    bias: torch.Tensor | None
    sizes: tuple[int, ...]
    matrices: tuple[Matrix, ...] = ()


@dataclass(frozen=True)
class Leaf:
    """shape: logical. weight: the plain tensor of tables, norms, convolutions and experts. product: what `linear` runs.

    group, place: the merged product that this leaf is a share of, and its number in it. bias: of a norm or convolution.
    experts: the experts of a mixture in fewer bits, instead of `weight`.
    """

    shape: tuple[int, ...]
    weight: torch.Tensor | None = None
    product: Product | None = None
    group: Product | None = None
    place: int = 0
    bias: torch.Tensor | None = None
    experts: tuple[Matrix, ...] = ()
    loss: float = 0.0


def tensor(host: HostTensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The host's buffer itself where dtype and device allow it, else a converted copy."""
    array = np.ascontiguousarray(host.array)
    if not array.flags.writeable:
        array = array.copy()
    plain = (
        torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        if host.dtype == "bfloat16"
        else torch.from_numpy(array)
    )
    return plain.to(device=device, dtype=dtype)


def matrix(packed: Packed, dtype: torch.dtype, device: torch.device) -> Matrix:
    """What the device multiplies by: a native kernel that takes its scheme, else the plain twin. Decided here alone."""
    if device.type == "cpu":
        if native.takes(packed):
            return native.taken(packed, dtype)
        return HostTwin(packed, dtype) if isinstance(packed, Blocks) else GroupTwin(packed, dtype, device)
    groups = regrouped(packed, GPU_SIZES)[0] if isinstance(packed, Blocks) else packed
    return GroupTwin(groups, dtype, device)


def fast(scheme: Scheme, use: Use) -> bool:
    """Whether `matrix` has more for this scheme than the twin; rows of a table are few enough for it."""
    return use == "table" or native.knows(scheme)


def quantised(
    weights: Sequence[Packed], biases: Sequence[torch.Tensor | None], dtype: torch.dtype, device: torch.device
) -> tuple[Leaf, ...]:
    """Leaves of packed products of one input, or of a packed table; those of one scheme become one matrix.

    Our kernels run several matrices at once and take each as it is.
    """
    sizes = tuple(w.shape[0] for w in weights)
    if device.type == "cpu" and all(map(native.takes, weights)):
        matrices = tuple(matrix(w, dtype, device) for w in weights)
    else:
        matrices = tuple(
            matrix(joined(list(same)), dtype, device) for _, same in groupby(weights, key=lambda each: each.scheme)
        )
    return _shares(Product(None, (), _bias(biases, sizes, dtype, device), sizes, matrices), weights[0].shape[1])


def experts(stack: Packed, dtype: torch.dtype, device: torch.device) -> Leaf:
    """The leaf of packed experts [X, O, I]; on a GPU expanded: it may not wait to learn which are chosen."""
    if device.type != "cpu":
        return table(tensor(expanded(stack), dtype, device))
    return Leaf(stack.shape, experts=tuple(matrix(cut(stack, i), dtype, device) for i in range(stack.shape[0])))


def native_products(weights: list[torch.Tensor], biases: Sequence[torch.Tensor | None]) -> tuple[Leaf, ...]:
    """Leaves of products that share an input, or of a table, each packed for our kernels. Empties `weights`."""
    sizes, width = tuple(w.shape[0] for w in weights), weights[0].shape[1]
    bias = _bias(biases, sizes, weights[0].dtype, weights[0].device)
    matrices = tuple(native.packed(weights.pop(0)) for _ in sizes)
    return _shares(Product(None, (), bias, sizes, matrices), width)


BLOCK_ROWS = 8192  # a tied table is packed in blocks, so that a token's row costs the unpacking of one block


def table(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Leaf:
    """A leaf that is gathered from, normalises, or holds taps or experts; a tied head multiplies by it as it is."""
    if weight.ndim == 2:
        return Leaf(tuple(weight.shape), weight, Product(weight, (), bias, (weight.shape[0],)))
    return Leaf(tuple(weight.shape), weight, bias=bias)


def tied(weight: torch.Tensor) -> Leaf:
    """A packed table that is the head too: one copy serves both."""
    blocks = tuple(pack(block.contiguous()) for block in weight.split(BLOCK_ROWS))
    return Leaf(tuple(weight.shape), None, Product(None, blocks, None, (weight.shape[0],)))


def rows(packed: tuple[torch.Tensor, ...], index: torch.Tensor) -> torch.Tensor:
    """Rows `index` [N] of a table packed in blocks."""
    homes = index // BLOCK_ROWS
    found = torch.empty(len(index), packed[0].shape[1], dtype=packed[0].dtype)
    for home in homes.unique().tolist():
        here = homes == home
        found[here] = packed[home].to_dense()[index[here] - home * BLOCK_ROWS]
    return found


def merged(weights: list[torch.Tensor], biases: Sequence[torch.Tensor | None], packs: bool) -> tuple[Leaf, ...]:
    """Leaves of products that share an input, held as one product. Empties `weights`, before the product is packed."""
    sizes = tuple(w.shape[0] for w in weights)
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    weights.clear()
    bias, width = _bias(biases, sizes, weight.dtype, weight.device), weight.shape[1]
    return _shares(Product(None, (pack(weight),), bias, sizes) if packs else Product(weight, (), bias, sizes), width)


def _bias(biases: Sequence[torch.Tensor | None], sizes: tuple[int, ...], dtype, device) -> torch.Tensor | None:
    """The biases of merged products, 0 where one has none; None where none has any."""
    if all(b is None for b in biases):
        return None
    filled = (
        torch.zeros(n, dtype=dtype, device=device) if b is None else b for n, b in zip(sizes, biases, strict=True)
    )
    return torch.cat(list(filled))


def _shares(product: Product, width: int) -> tuple[Leaf, ...]:
    shapes = [(n, width) for n in product.sizes]
    if len(shapes) == 1:
        return (Leaf(shapes[0], product=product),)
    return tuple(Leaf(shape, group=product, place=i) for i, shape in enumerate(shapes))


def pack(weight: torch.Tensor) -> torch.Tensor:
    """oneDNN's blocked order: 1.5 to 3 times the speed of F.linear below 64 rows (benchmarks/torch_decode.py)."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, 1)


def packable(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this build and processor can pack products of this dtype; found by trying."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    try:
        probe = pack(torch.zeros(32, 32, dtype=dtype))
        torch.ops.mkldnn._linear_pointwise(torch.zeros(2, 32, dtype=dtype), probe, None, "none", [], "")
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return True

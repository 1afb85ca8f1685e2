"""Parameters as PyTorch holds them: plain, packed for oneDNN, or a share of a merged product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from crane_app.contract import HostTensor

TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Product:
    """Weight [O, I] of one or several linear products.

    packed: the weight in oneDNN's own order, then `weight` is None; in more than one block of BLOCK_ROWS rows where
    single rows are asked for too.
    """

    weight: torch.Tensor | None
    packed: tuple[torch.Tensor, ...]
    bias: torch.Tensor | None
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Leaf:
    """shape: logical. weight: the plain tensor of tables, norms, convolutions and experts. product: what `linear` runs.

    group, place: the merged product that this leaf is a share of, and its number in it. bias: of a norm or convolution.
    """

    shape: tuple[int, ...]
    weight: torch.Tensor | None = None
    product: Product | None = None
    group: Product | None = None
    place: int = 0
    bias: torch.Tensor | None = None


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
    bias = None
    if any(b is not None for b in biases):
        bias = torch.cat([torch.zeros(n).to(weight) if b is None else b for n, b in zip(sizes, biases, strict=True)])
    product = Product(None, (pack(weight),), bias, sizes) if packs else Product(weight, (), bias, sizes)
    shapes = [(n, weight.shape[1]) for n in sizes]
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

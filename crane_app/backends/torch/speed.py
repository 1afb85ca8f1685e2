"""How fast this processor multiplies in bfloat16 and in float32, by the kernels that a step would run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cache

import torch

from crane_app.backends import processor
from crane_app.backends.processor import Measured
from crane_app.backends.torch import leaf, native, plain

log = logging.getLogger(__name__)
OUTPUTS, INPUTS = 4096, 2048  # of a matrix that no core's own cache holds: 16 MiB in bfloat16
ROUNDS = 8


@cache
def measured() -> Measured:
    """As this machine was measured before, else measured now, which takes a tenth of a second, and kept."""
    found = processor.remembered("torch")
    if found is None:
        found = measure()
        processor.remember("torch", found)
    log.info("on this processor numbers are kept as %s: %s", found.dtype, found)
    return found


def measure() -> Measured:
    """The best of some products of one row by one matrix in each dtype, in turns: what a step is made of."""
    products = {dtype: _product(leaf.TYPES[dtype]) for dtype in processor.DTYPES}
    took = dict.fromkeys(products, float("inf"))
    with torch.inference_mode():
        for round in range(ROUNDS + 1):
            for dtype, product in products.items():
                start = time.perf_counter()
                product()
                if round:  # the first one touches everything
                    took[dtype] = min(took[dtype], 1000 * (time.perf_counter() - start))
    return Measured(took)


def _product(kind: torch.dtype) -> Callable[[], torch.Tensor]:
    weight, x = torch.full((OUTPUTS, INPUTS), 0.5, dtype=kind), torch.full((1, INPUTS), 0.5, dtype=kind)
    if native.library() is not None:
        matrix = native.packed(weight)
        return lambda: matrix.times(x)
    if leaf.packable(kind, weight.device):
        packed = leaf.pack(weight)
        return lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
    return lambda: plain.linear(x, weight)

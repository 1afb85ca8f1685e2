"""How many bytes weights take once they are loaded, told from the heads of their files before any is read.

What loads them asks it for each tensor, and what shows whether a model fits asks it for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from crane_app.contract import Use
from crane_app.host import KINDS, QUANTS, SIZES, DType, Scheme, groups_of


@dataclass(frozen=True)
class Stored:
    """A tensor as a file holds it. scheme: how it is packed there, None for plain numbers of `dtype`.

    packable: may be packed by us, unlike norms, taps and what chooses experts.
    """

    shape: tuple[int, ...]
    dtype: str
    scheme: Scheme | None = None
    use: Use = "product"
    packable: bool = True


@dataclass(frozen=True)
class Terms:
    """How weights are loaded. dtype: of plain numbers. fast, held: as Backend has them, of what computes with them.

    quantize: one of QUANTS, what plain matrices are packed to, or None. exact: all are loaded as plain numbers.
    """

    dtype: DType
    fast: Callable[[Scheme, Use], bool]
    quantize: str | None = None
    exact: bool = False
    held: Callable[[Scheme, tuple[int, ...]], int] = Scheme.nbytes

    def scheme(self, tensor: Stored) -> Scheme | None:
        """How a tensor is packed, or is to be."""
        if tensor.scheme is not None or not self.quantize or not tensor.packable:
            return tensor.scheme
        groups = groups_of(tensor.shape, tensor.dtype, QUANTS[self.quantize])
        if groups is None or self.fast(groups, "product"):
            return groups
        blocks = (Scheme(kind) for kind in KINDS[self.quantize] if tensor.shape[-1] % SIZES[kind][0] == 0)
        return next((scheme for scheme in blocks if self.fast(scheme, "product")), groups)

    def stays(self, tensor: Stored, scheme: Scheme) -> bool:
        """Whether it is handed over packed so; a vector never is."""
        if self.exact or len(tensor.shape) < 2:
            return False
        return self.quantize is not None or self.fast(scheme, tensor.use)

    def nbytes(self, tensor: Stored) -> int:
        """Bytes of a tensor once it is loaded."""
        scheme = self.scheme(tensor)
        if scheme is not None and self.stays(tensor, scheme):
            return self.held(scheme, tensor.shape)
        return math.prod(tensor.shape) * width(self.dtype)

    def weight(self, tensors: Iterable[tuple[Stored, int]]) -> int:
        """Bytes of all: (tensor, how many there are like it)."""
        return sum(count * self.nbytes(tensor) for tensor, count in tensors)


def width(dtype: str) -> int:
    """Bytes of a plain number."""
    return 4 if dtype == "float32" else 2

"""What becomes of packed weights between a checkpoint and the backend, and what a person should know about it.

Tensors pass through one at a time; none is kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from crane_app.contract import Backend, HostTensor, Leaf, Use
from crane_app.engine.sources import Weights
from crane_app.errors import BadCheckpoint
from crane_app.host import Host, Packed, Scheme
from crane_app.library.fit import human
from crane_app.media.files.packed import joined, stacked


class Packing:
    """One load. Packed weights stay so where the backend is as fast with them; `exact` expands all of them.

    nbytes: of the weights that were handed over.
    """

    def __init__(self, checkpoint: Weights, backend: Backend, exact: bool = False) -> None:
        self._checkpoint, self._backend, self._exact = checkpoint, backend, exact
        self._expanded: Counter[Scheme] = Counter()
        self._before = self._after = 0
        self._losses: dict[Scheme, list[float]] = {}
        self.nbytes = 0

    def stays(self, name: str, use: Use = "product") -> bool:
        """Whether a tensor is handed over in fewer bits."""
        scheme = self._checkpoint.schemes.get(name)
        return scheme is not None and not self._exact and self._backend.fast(scheme, use)

    def read(self, name: str, use: Use = "product") -> Host:
        """A tensor as it is handed over."""
        if not self.stays(name, use):
            return self.plain(name)
        packed = self._checkpoint.read_packed(name)
        self.nbytes += packed.nbytes
        return packed

    def plain(self, name: str) -> HostTensor:
        """A tensor as plain numbers."""
        self._count(name)
        return self._checkpoint.read(name)

    def experts(self, names: Sequence[Sequence[str]]) -> Packed | None:
        """Experts, each from the matrices of these names, one below the other; None if they cannot stay packed."""
        every = [name for expert in names for name in expert]
        if len({self._checkpoint.schemes.get(name) for name in every}) != 1 or not self.stays(every[0]):
            return None
        stack = stacked([joined([self._checkpoint.read_packed(name) for name in expert]) for expert in names])
        self.nbytes += stack.nbytes
        return stack

    def stack(self, names: Sequence[Sequence[str]], shape: tuple[int, ...]) -> HostTensor:
        """The same experts as plain numbers [X, O, I], read expert by expert into place."""
        first = self._checkpoint.read(names[0][0])
        stack = np.empty(shape, first.array.dtype)
        for expert, parts in zip(stack, names, strict=True):
            for out, name in zip(np.split(expert, len(parts)), parts, strict=True):
                if self._checkpoint.dtypes[name] != first.dtype:
                    file = self._checkpoint.file_of(name).name
                    raise BadCheckpoint(f"{file}: {name} differs in type from the other experts")
                self._count(name)
                self._checkpoint.read_into(name, out)
        return HostTensor(stack, first.dtype)

    def made(self, name: str, leaf: Leaf) -> None:
        """Note what the backend made of a packed tensor."""
        if leaf.loss:
            self._losses.setdefault(self._checkpoint.schemes[name], []).append(leaf.loss)

    def notes(self) -> tuple[str, ...]:
        found = []
        if self._expanded:
            dtype = self._backend.dtype
            kinds = ", ".join(f"{count} of {scheme}" for scheme, count in self._expanded.most_common())
            found.append(
                f"Its packed tensors ({kinds}) were unpacked to {dtype}: {human(self._before)} on disk take "
                f"{human(self._after)} of memory, and the speed is that of {dtype}."
            )
        for scheme, losses in self._losses.items():
            found.append(
                f"MLX has no groups like {scheme}: {len(losses)} tensors were packed anew, "
                f"which changed their numbers by {100 * max(losses):.1f} % at most."
            )
        return tuple(found)

    def _count(self, name: str) -> None:
        """A tensor that the backend holds in its own dtype."""
        held = math.prod(self._checkpoint.shapes[name]) * (4 if self._backend.dtype == "float32" else 2)
        self.nbytes += held
        if name in self._checkpoint.schemes:
            self._expanded[self._checkpoint.schemes[name]] += 1
            self._before += self._checkpoint.nbytes_of(name)
            self._after += held

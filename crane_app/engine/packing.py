"""In how many bits the weights of a checkpoint reach the backend, and what a person should know about it.

Tensors pass through one at a time; none is kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from crane_app.contract import Backend, DType, HostTensor, Leaf, Use
from crane_app.engine.sources import Weights
from crane_app.errors import BadCheckpoint
from crane_app.host import GROUP, QUANTS, Host, Packed, Scheme
from crane_app.library.fit import human
from crane_app.library.weighing import Stored, Terms, width
from crane_app.media.files.gguf_pack import packed
from crane_app.media.files.packed import expanded, joined, stacked


class Packing:
    """One load.

    quantize: one of QUANTS, what plain matrices are packed to, or None. exact: what is packed, or would be, is handed
    over as its numbers. Weights that are packed already stay so where the backend is as fast with them, or where
    packing is asked for. sizes: bytes of each tensor as the backend holds it; of experts in fewer bits together, at the
    first of them.
    """

    def __init__(self, checkpoint: Weights, backend: Backend, quantize: str | None, exact: bool) -> None:
        self._checkpoint, self._backend, self._quantize, self._exact = checkpoint, backend, quantize, exact
        self._terms = Terms(backend.dtype, backend.fast, quantize, exact, backend.held)
        self._unpacked: Counter[Scheme] = Counter()
        self._kept: Counter[Scheme] = Counter()
        self._before = self._after = 0
        self._losses: dict[Scheme, list[float]] = {}
        self.sizes: dict[str, int] = {}

    @property
    def packed(self) -> str:
        """In a word or two how most matrices are packed now: q4, Q4_K, 3 bits in groups of 64; "" if they are not."""
        if not self._kept.total():
            return ""
        if self._quantize and not self._checkpoint.schemes:
            return self._quantize
        scheme = self._kept.most_common(1)[0][0]
        names = {bits: name for name, bits in QUANTS.items()} if scheme.size == GROUP else {}
        return names.get(scheme.bits, str(scheme))

    def read(self, name: str, use: Use = "product", fine: bool = False, rank: int = 2) -> Host:
        """A tensor as it is handed over. fine: not packed here; nor is what has another rank, like norms and taps."""
        tensor = self._stored(name, use, fine, rank)
        scheme = self._terms.scheme(tensor)
        if scheme is None or not self._terms.stays(tensor, scheme):
            return self.numbers(name, scheme)
        return self._handed(name, self._packed(name, scheme), use)

    def experts(self, names: Sequence[Sequence[str]], shape: tuple[int, ...]) -> Host:
        """Experts [X, O, I], each made of the matrices of these names, one below the other."""
        tensors = [self._stored(name) for expert in names for name in expert]
        every = [self._terms.scheme(tensor) for tensor in tensors]
        scheme = every[0]
        if scheme is not None and len(set(every)) == 1 and self._terms.stays(tensors[0], scheme):
            parts = (joined([self._packed(name, scheme) for name in expert]) for expert in names)
            return self._handed(names[0][0], stacked(parts, len(names)), "product")
        stack: np.ndarray | None = None
        dtype: DType = "float32"
        for i, expert in enumerate(names):
            for name, scheme in zip(expert, every[i * len(expert) :], strict=False):
                host = self.numbers(name, scheme)
                if stack is None:
                    stack, dtype = np.empty(shape, host.array.dtype), host.dtype
                if host.dtype != dtype:
                    file = self._checkpoint.file_of(name).name
                    raise BadCheckpoint(f"{file}: {name} differs in type from the other experts")
                np.split(stack[i], len(expert))[expert.index(name)][...] = host.array
        assert stack is not None
        return HostTensor(stack, dtype)

    def numbers(self, name: str, scheme: Scheme | None = None) -> HostTensor:
        """The plain numbers of a tensor; of one that would be packed, those that it then would have."""
        held = self.sizes[name] = math.prod(self._checkpoint.shapes[name]) * width(self._backend.dtype)
        if scheme is not None and name not in self._checkpoint.schemes:
            return expanded(packed(self._checkpoint.read(name), scheme))
        if scheme is not None:
            self._unpacked[scheme] += 1
            self._before += self._checkpoint.nbytes_of(name)
            self._after += held
        return self._checkpoint.read(name)

    def made(self, name: str, leaf: Leaf) -> None:
        """Note what the backend made of a packed tensor."""
        if leaf.loss:
            self._losses.setdefault(self._checkpoint.schemes[name], []).append(leaf.loss)

    def planned(self, name: str, use: Use = "product", fine: bool = False, rank: int = 2) -> int:
        """Bytes that `read` will hand over of a tensor."""
        return self._terms.nbytes(self._stored(name, use, fine, rank))

    def notes(self) -> tuple[str, ...]:
        found, dtype = [], self._backend.dtype
        if self._unpacked and not self._exact:
            kinds = ", ".join(f"{count} of {scheme}" for scheme, count in self._unpacked.most_common())
            found.append(
                f"Its packed tensors ({kinds}) were unpacked to {dtype}: {human(self._before)} on disk take "
                f"{human(self._after)} of memory, and the speed is that of {dtype}."
            )
        slow = [str(scheme) for scheme, count in self._kept.items() if count and not self._backend.fast(scheme)]
        if slow:
            found.append(
                f"This machine has no fast product for {' and '.join(slow)}: the weights take less memory, "
                "and answers come slower than unpacked."
            )
        if self._quantize and self._checkpoint.schemes:
            there = Counter(self._checkpoint.schemes.values()).most_common(1)[0][0]
            found.append(f"Its weights are packed already ({there}), and were not packed anew.")
        for scheme, losses in self._losses.items():
            found.append(
                f"MLX has no groups like {scheme}: {len(losses)} tensors were packed anew, "
                f"which changed their numbers by {100 * max(losses):.1f} % at most."
            )
        return tuple(found)

    def _stored(self, name: str, use: Use = "product", fine: bool = False, rank: int = 2) -> Stored:
        c, shape = self._checkpoint, self._checkpoint.shapes[name]
        return Stored(shape, c.dtypes[name], c.schemes.get(name), use, not fine and len(shape) == rank)

    def _packed(self, name: str, scheme: Scheme) -> Packed:
        if name in self._checkpoint.schemes:
            return self._checkpoint.read_packed(name)
        return packed(self._checkpoint.read(name), scheme)

    def _handed(self, name: str, matrix: Packed, use: Use) -> Packed:
        self._kept[matrix.scheme] += use != "table"
        self.sizes[name] = self._backend.held(matrix.scheme, matrix.shape)
        return matrix

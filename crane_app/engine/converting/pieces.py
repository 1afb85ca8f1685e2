"""What a conversion reads at once and writes as one or a few tensors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crane_app.engine.sources import Source, Weights
from crane_app.media.files.writing import Entry
from crane_app.models.weights import Experts, Parameter, Products

Progress = Generator[tuple[int, int], None, None]


@dataclass(frozen=True)
class Piece:
    """entries: what is written; read: makes their arrays, in that order; names: the tensors of the source in it."""

    entries: tuple[Entry, ...]
    read: Callable[[], Sequence[np.ndarray]]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A model, what it is made of, and how it is to be packed: one of QUANTS, or None."""

    source: Source
    checkpoint: Weights
    parameters: list[Parameter]
    config: Any
    quantize: str | None

    def leaves(self) -> Iterator[tuple[str, tuple[int, ...], bool]]:
        """Name and shape of each tensor that is no expert's, and whether it is never packed."""
        for parameter in self.parameters:
            if not isinstance(parameter, Experts):
                fine = isinstance(parameter, Products) and parameter.fine
                for leaf in parameter.leaves if isinstance(parameter, Products) else (parameter.leaf,):
                    for name, shape in leaf.names():
                        yield name, shape, fine

    def mixtures(self) -> Iterator[Experts]:
        for parameter in self.parameters:
            if isinstance(parameter, Experts):
                yield parameter

    def experts(self, mixture: Experts) -> Iterator[tuple[str, tuple[int, int], list[str]]]:
        """The three matrices of a mixture: what each is called, its shape, and the names of all experts' tensors."""
        shapes = {"gate_proj": (mixture.inner, mixture.hidden), "up_proj": (mixture.inner, mixture.hidden)}
        for part, shape in (shapes | {"down_proj": (mixture.hidden, mixture.inner)}).items():
            yield part, shape, [f"{mixture.path}.{i}.{part}.weight" for i in range(mixture.count)]


def flow(plan: Plan, pieces: Sequence[Piece], write: Callable[[Iterator[np.ndarray]], Iterator[None]]) -> Progress:
    """Write all arrays of all pieces, one after the other; yields (bytes read, bytes in all)."""
    sizes = [sum(plan.checkpoint.nbytes_of(name) for name in piece.names) for piece in pieces]
    done = 0

    def arrays() -> Iterator[np.ndarray]:
        nonlocal done
        for piece, size in zip(pieces, sizes, strict=True):
            yield from piece.read()
            done += size

    for _ in write(arrays()):
        yield done, sum(sizes)

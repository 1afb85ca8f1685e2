"""Names and forms: which tensors a checkpoint must hold, which of them are loaded together, and the tree a model reads.

Names stay the checkpoint's: `w.model.layers[3].self_attn.q_proj` is the leaf of that path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensors:
    """One leaf: its path, logical shape, and the shape of its bias if it has one."""

    path: str
    shape: Shape
    bias: bool = False

    def names(self) -> Iterator[tuple[str, Shape]]:
        yield f"{self.path}.weight", self.shape
        if self.bias:
            yield f"{self.path}.bias", self.shape[:1]


@dataclass(frozen=True)
class Products:
    """Linear products of one input, loaded as one. fine: they choose experts, and are never packed by us."""

    leaves: tuple[Tensors, ...]
    fine: bool = False


@dataclass(frozen=True)
class Table:
    """Rows that are gathered, a vector that scales, or a convolution's taps. tied: it is the head too."""

    leaf: Tensors
    tied: bool = False


@dataclass(frozen=True)
class Experts:
    """Stacked experts: path.gate_up_proj [X, 2F, E] and path.down_proj [X, E, F].

    Published files hold `path.N.{gate,up,down}_proj.weight`; the stacked tensors themselves are read too.
    """

    path: str
    count: int
    inner: int
    hidden: int

    def names(self) -> Iterator[tuple[str, Shape]]:
        """The published form."""
        for expert in range(self.count):
            for part in ("gate_proj", "up_proj"):
                yield f"{self.path}.{expert}.{part}.weight", (self.inner, self.hidden)
            yield f"{self.path}.{expert}.down_proj.weight", (self.hidden, self.inner)

    def stacked(self) -> dict[str, Shape]:
        """The form of transformers 5."""
        return {
            f"{self.path}.gate_up_proj": (self.count, 2 * self.inner, self.hidden),
            f"{self.path}.down_proj": (self.count, self.hidden, self.inner),
        }


Parameter = Products | Table | Experts


def names(parameters: list[Parameter]) -> dict[str, Shape]:
    """Every tensor of the published checkpoint, by name."""
    found: dict[str, Shape] = {}
    for parameter in parameters:
        if isinstance(parameter, Experts):
            found.update(parameter.names())
        else:
            leaves = parameter.leaves if isinstance(parameter, Products) else (parameter.leaf,)
            found.update(pair for leaf in leaves for pair in leaf.names())
    return found


class Tree:
    """A level of names. Attributes are leaves, deeper levels, or tuples of them; `"q_norm" in w` asks for one."""

    def __init__(self, path: str = ""):
        self._path = path

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the checkpoint has nothing at {self._path + '.' + name}")

    def __contains__(self, name: str) -> bool:
        return name in self.__dict__


def tree(leaves: dict[str, Any]) -> Tree:
    """Nest {'model.layers.0.mlp.down_proj': leaf} so that tree.model.layers[0].mlp.down_proj is the leaf."""
    root = Tree()
    for path, leaf in leaves.items():
        *parents, last = path.split(".")
        level = root
        for i, part in enumerate(parents):
            if part not in level:
                setattr(level, part, Tree(".".join(parents[: i + 1])))
            level = getattr(level, part)
        setattr(level, last, leaf)
    return _numbered(root)


def _numbered(level: Any) -> Any:
    """Levels whose names are 0, 1, 2, ... as tuples."""
    if not isinstance(level, Tree):
        return level
    found = {key: _numbered(value) for key, value in vars(level).items() if key != "_path"}
    if found and all(key.isdigit() for key in found):
        return tuple(found[str(i)] for i in range(len(found)))
    vars(level).update(found)
    return level

"""How many bytes a decode step must read: the weights it multiplies by, and what its rows have cached.

Activations, index arrays and writes are left out; they are small beside these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crane_app.engine.loading import Loaded
from crane_app.errors import CraneError
from crane_app.models import registry
from crane_app.models.weights import Experts, Table, names


@dataclass(frozen=True)
class Reads:
    """dense: bytes read once a step. experts: bytes of all experts, of which each token takes `top` of `count`.

    cached: (bytes a position, window or 0) of each layer.
    """

    dense: int
    experts: int = 0
    count: int = 1
    top: int = 1
    cached: tuple[tuple[int, int], ...] = ()

    def step(self, context: float, batch: int) -> float:
        """Bytes of a step of `batch` rows with `context` positions each; experts as drawn evenly."""
        used = 1 - (1 - self.top / self.count) ** batch
        rows = sum(nbytes * (min(context, window) if window else context) for nbytes, window in self.cached)
        return self.dense + used * self.experts + batch * rows


def reads(loaded: Loaded) -> Reads:
    """Of a loaded model; for an architecture that is not ours all weights count, and no cache."""
    width = 4 if loaded.backend.dtype == "float32" else 2
    try:
        module = registry.find(loaded.config)
        config = module.read(loaded.config)
        parameters = module.parameters(config)
    except CraneError:
        return Reads(loaded.nbytes)
    gathered = [] if getattr(config, "tied", True) else [p for p in parameters if _is_rows(p)]
    experts = [p for p in parameters if isinstance(p, Experts)]
    dense = [p for p in parameters if p not in gathered and p not in experts]
    bytewise = loaded.backend.kv_cache == "int8"
    vectors = ((slot, slot.dim + 4 if bytewise else slot.dim * width) for slot in loaded.runner.layout)
    cached = tuple((2 * slot.heads * nbytes, slot.window) for slot, nbytes in vectors)
    count, top = getattr(config, "experts", 0), getattr(config, "top_k", 0)
    sizes = loaded.sizes
    return Reads(_nbytes(dense, sizes), _nbytes(experts, sizes), count or 1, top or 1, cached)


def _is_rows(parameter: Any) -> bool:
    """A table of which a step reads a row for each token."""
    return isinstance(parameter, Table) and len(parameter.leaf.shape) == 2 and "embed_tokens" in parameter.leaf.path


def _nbytes(parameters: list[Any], sizes: dict[str, int]) -> int:
    """Bytes of parameters as they are on the device; experts may be named one by one or as two stacks."""
    stacks = [path for p in parameters if isinstance(p, Experts) for path in p.stacked()]
    return sum(sizes.get(name, 0) for name in (*names(parameters), *stacks))

"""How much memory everything loaded may hold: what was asked for, in bytes of a device, and each model's part of it.

Weights come first; what they leave is the budget of the rows of all models together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from crane_app.contract import Backend, Cache, Device
from crane_app.errors import BadInput, NotEnoughMemory

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT])(?:i?B)?", re.IGNORECASE)
SHARE = re.compile(r"0?\.\d+|1(?:\.0*)?")
FORM = "an amount like 5G or 5120M, or a share of the device's own limit like 0.7"


def parse(asked: str) -> float | int:
    """Bytes as an int, or a share of what the device allows as a float in (0, 1]; BadInput if it is neither."""
    text = asked.strip()
    if SHARE.fullmatch(text) and 0 < float(text) <= 1:
        return float(text)
    found = SIZE.fullmatch(text)
    nbytes = int(float(found[1]) * UNITS[found[2].upper()]) if found else 0
    if not nbytes:
        raise BadInput(f"gpu-memory-limit is {asked[:60]!r}; it must be {FORM}.")
    return nbytes


class Held(Protocol):
    """A loaded model: its bytes of weights, and its rows."""

    @property
    def weights(self) -> int: ...

    @property
    def cache(self) -> Cache: ...

    @property
    def backend(self) -> Backend: ...


class Memory:
    """The limit of each device, and who has what of it. asked: as `parse` takes it, "" for the device's own limit."""

    def __init__(self, asked: str = ""):
        self.asked = asked
        self._amount = parse(asked) if asked else 1.0
        self._limits: dict[Device, int] = {}

    def limit(self, backend: Backend) -> int:
        """Bytes that weights and rows on this device may take together; what is free counts when it is first used."""
        if backend.device not in self._limits:
            own = backend.limit()
            self._limits[backend.device] = (
                int(own * self._amount) if isinstance(self._amount, float) else min(self._amount, own)
            )
        return self._limits[backend.device]

    def total(self) -> int:
        """Bytes over all devices used so far."""
        return sum(tuple(self._limits.values()))

    def check(self, backend: Backend, weights: int, others: Iterable[Held]) -> None:
        """NotEnoughMemory if weights of so many bytes do not fit beside those of the others on the device."""
        taken = sum(other.weights for other in others if other.backend.device == backend.device)
        limit = self.limit(backend)
        if taken + weights > limit:
            beside = f" beside {_gib(taken)} of other models" if taken else ""
            raise NotEnoughMemory(
                f"The model needs {_gib(weights)}{beside}; the limit is {_gib(limit)}. Unload a model, choose a "
                "smaller one, or raise --gpu-memory-limit."
            )

    def divide(self, models: Iterable[Held]) -> None:
        """Give each model's rows what the weights and the others' rows leave now."""
        held = list(models)
        used = {id(model): model.weights + model.cache.nbytes() for model in held}
        for model in held:
            same = (other for other in held if other.backend.device == model.backend.device and other is not model)
            taken = model.weights + sum(used[id(other)] for other in same)
            model.cache.budget = max(self.limit(model.backend) - taken, 0)


def _gib(nbytes: int) -> str:
    return f"{nbytes / 2**30:.1f} GiB" if nbytes >= 2**30 // 10 else f"{nbytes / 2**20:.0f} MiB"

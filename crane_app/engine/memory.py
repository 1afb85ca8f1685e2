"""How much memory everything loaded may hold: what was asked for, in bytes of a memory, and each model's part of it.

Weights come first; what they leave is the budget of the rows of all models together.
"""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, Protocol

from crane_app.backends.memory import physical
from crane_app.contract import Backend, Cache, Device
from crane_app.errors import BadInput

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT])(?:i?B)?", re.IGNORECASE)
SHARE = re.compile(r"0?\.\d+|1(?:\.0*)?")
Pool = Literal["main", "gpu"]
POOLS: tuple[Pool, ...] = ("main", "gpu")
NOTHING: Mapping[Pool, int] = MappingProxyType({})
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


class Thing(Protocol):
    """Something loaded that counts: its bytes of weights, the memory they are in, and when it was last of use."""

    used: float

    @property
    def name(self) -> str: ...

    @property
    def weights(self) -> int: ...

    @property
    def pool(self) -> Pool: ...


class Held(Thing, Protocol):
    """A loaded model: its rows beside its weights."""

    @property
    def cache(self) -> Cache: ...

    @property
    def backend(self) -> Backend: ...


def pool_of(device: Device) -> Pool:
    """The memory that a device computes in: Metal shares the machine's, whichever library asks."""
    return "gpu" if device.kind == "cuda" else "main"


class Memory:
    """The limit of each memory, and who has what of it. asked: as `parse` takes it, "" for the device's own limit."""

    def __init__(self, asked: str = ""):
        self.asked = asked
        self._amount = parse(asked) if asked else 1.0
        self._limits: dict[Device, int] = {}

    def limit(self, backend: Backend) -> int:
        """Bytes that weights and rows on this device may take together; what is free counts when it is first used."""
        if backend.device not in self._limits:
            self._limits[backend.device] = self._share(backend.limit())
        return self._limits[backend.device]

    def limit_beside(self) -> int:
        """Bytes that things outside of any backend may take of the machine's memory, models in it included."""
        limits = [limit for device, limit in self._limits.items() if pool_of(device) == "main"]
        return min(limits) if limits else self._share(physical())

    def total(self) -> int:
        """Bytes over all memories used so far."""
        limits = tuple(self._limits.items())
        return sum(max((n for device, n in limits if pool_of(device) == pool), default=0) for pool in POOLS)

    def divide(self, models: Iterable[Held], beside: Mapping[Pool, int] = NOTHING) -> None:
        """Give each model's rows what the weights and the others' rows leave now. beside: bytes that no model has."""
        held = list(models)
        used = {id(model): model.weights + model.cache.nbytes() for model in held}
        for model in held:
            same = (other for other in held if other.pool == model.pool and other is not model)
            taken = model.weights + sum(used[id(other)] for other in same) + beside.get(model.pool, 0)
            model.cache.budget = max(self.limit(model.backend) - taken, 0)

    def _share(self, own: int) -> int:
        return int(own * self._amount) if isinstance(self._amount, float) else min(self._amount, own)


def let_go(backend: Backend) -> None:
    """Give the system all memory that nobody holds any more.

    glibc keeps freed pieces of up to 32 MB for itself until it is told to trim (mallopt(3), M_MMAP_THRESHOLD).
    """
    gc.collect()
    backend.trim()
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

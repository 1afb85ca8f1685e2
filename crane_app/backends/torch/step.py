"""A step on PyTorch: the host's plan plus its index tensors and masks, made once and shared by all layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from crane_app.backends.plan import HostStep
from crane_app.backends.torch.cache import Cache
from crane_app.contract import Layout, Span


class Step:
    """See contract.Step; `cache` and `memories` (span, first column, end) are for the ops."""

    def __init__(self, cache: Cache, host: HostStep):
        self.cache = cache
        self.spans, self.form = host.spans, host.form
        self.positions = torch.from_numpy(host.positions).to(cache.device)
        self.memories = () if host.cuts is None else tuple(zip(host.whole, host.cuts[:-1], host.cuts[1:], strict=True))
        self.out = torch.from_numpy(host.out).to(cache.device)
        self._masks: dict[tuple[int, int, int], torch.Tensor] = {}

    def mask(self, before: int, new: int, window: int) -> torch.Tensor:
        """Causal mask [new, before + new] for queries that come after `before` keys, cut to the window."""
        key = before, new, window
        if key not in self._masks:
            device = self.cache.device
            query = torch.arange(before, before + new, device=device)[:, None]
            place = torch.arange(before + new, device=device)
            seen = place <= query
            self._masks[key] = seen & (place > query - window) if window else seen
        return self._masks[key]


@dataclass(frozen=True)
class DecodeStep:
    """One token of each of R rows, for kernels that find a row's keys by their address. See contract.Step.

    positions: int32 [R], also how many positions a row holds before; capacities: int32 [R]; addresses: int64
    [layers, R, 2], of keys and values; splits: a power of two of kernels.attention.SPLIT positions, enough for all.
    """

    layout: Layout
    positions: torch.Tensor
    capacities: torch.Tensor
    addresses: torch.Tensor
    out: torch.Tensor
    splits: int
    spans: tuple[Span, ...] = ()
    form: Literal["decode"] = "decode"

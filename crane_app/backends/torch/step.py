"""A step on PyTorch: the host's plan plus its index tensors and masks, made once and shared by all layers."""

from __future__ import annotations

import torch

from crane_app.backends.plan import HostStep
from crane_app.backends.torch.cache import Cache


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

"""The product that every faster one is held to."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """F.linear whose rows do not depend on how many they are: float32 on CPU sums in one order for multiples of 4."""
    count = x.shape[0]
    if x.dtype == torch.float32 and x.device.type == "cpu" and count % 4:
        x = F.pad(x, (0, 0, 0, -count % 4))
    return F.linear(x, weight, bias)[:count]

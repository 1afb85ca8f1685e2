"""Between float32 and the 16-bit numbers of checkpoints, on the host."""

from __future__ import annotations

import numpy as np

from crane_app.host import DType, HostTensor


def widened(host: HostTensor) -> np.ndarray:
    """The numbers as float32; every 16-bit one is exact in it."""
    if host.dtype == "bfloat16":
        return (host.array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return host.array.astype(np.float32, copy=False)


def narrowed(x: np.ndarray, dtype: DType) -> HostTensor:
    """float32 numbers in `dtype`, to the nearest, ties to even."""
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
        rounded = (bits + (np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)))) >> np.uint32(16)
        return HostTensor(np.where(np.isnan(x), np.uint32(0x7FC0), rounded).astype(np.uint16), dtype)
    with np.errstate(over="ignore"):
        return HostTensor(x.astype(dtype), dtype)

"""Where tensors live. `choose` imports mlx/ or torch/ late, by name; nothing else outside this folder does."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import sys

from crane_app.contract import Backend, DType, KVCache
from crane_app.errors import Unsupported

NAMES = ("mlx", "torch")
DEVICES = ("auto", "cpu", "cuda", "metal")


def installed() -> tuple[str, ...]:
    """The backends whose library is installed, MLX first on Apple Silicon."""
    order = NAMES if apple_silicon() else NAMES[::-1]
    return tuple(name for name in order if importlib.util.find_spec(name) is not None)


def apple_silicon() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


def choose(
    name: str | None = None, device: str = "auto", dtype: DType | None = None, kv_cache: KVCache = "auto"
) -> Backend:
    """The backend called `name`, or this machine's own, on a device in a dtype (None: the device's best)."""
    found = installed()
    if name == "remote":
        raise Unsupported("The remote backend is reserved for a later version. Use --backend mlx or torch.")
    if name is not None and name not in NAMES:
        raise Unsupported(f"There is no backend '{name}'. Use one of: {', '.join(NAMES)}.")
    if device not in DEVICES:
        raise Unsupported(f"There is no device '{device}'. Use one of: {', '.join(DEVICES)}.")
    if not found:
        raise Unsupported(f"Neither MLX nor PyTorch is installed.{_intel_mac()} Install one: pip install torch==2.13.0")
    if name is not None and name not in found:
        raise Unsupported(f"The {name} backend is not installed here; installed: {', '.join(found)}.")
    module = importlib.import_module(f"crane_app.backends.{name or found[0]}.backend")
    return module.create(device, dtype, kv_cache)


def _intel_mac() -> str:
    if sys.platform == "darwin" and platform.machine() != "arm64":
        return " Neither has a build for Intel Macs; Crane needs Apple Silicon there."
    return ""

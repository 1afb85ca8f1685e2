"""Where tensors live. `choose` imports mlx/ or torch/ late, by name; nothing else outside this folder does."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import sys
from functools import partial

from crane_app.backends.mlx import forms as mlx_forms
from crane_app.backends.torch import forms
from crane_app.contract import Backend, DType, KVCache, Use
from crane_app.errors import Unsupported
from crane_app.host import Scheme
from crane_app.library.weighing import Terms

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


def foreseen(
    name: str | None = None, device: str = "auto", dtype: DType | None = None, quantize: str | None = None
) -> Terms:
    """How the backend that `choose` gives for this will hold weights, told without its library, which is not imported.

    Without a dtype it may be wrong where only the library knows the best: on a GPU beside a Mac's, and on a processor
    without our kernels.
    """
    if (name or next(iter(installed()), "torch")) == "mlx":
        metal = apple_silicon() and device != "cpu"
        known: DType = dtype or ("bfloat16" if metal else "float32")
        held = partial(mlx_forms.held, backend=known)
        return Terms(known, lambda scheme, use: True, quantize, held=held)
    built = importlib.util.find_spec(forms.LIBRARY) is not None

    def fast(scheme: Scheme, use: Use) -> bool:
        return use == "table" or (built and forms.named(scheme))

    known = dtype or ("bfloat16" if built or device == "cuda" else "float32")

    def held(scheme: Scheme, shape: tuple[int, ...]) -> int:
        if device == "cuda":
            return forms.on_gpu(scheme, shape, known)
        return forms.strips(scheme, shape) if built and forms.named(scheme) else scheme.nbytes(shape)

    return Terms(known, fast, quantize, held=held)


def _intel_mac() -> str:
    if sys.platform == "darwin" and platform.machine() != "arm64":
        return " Neither has a build for Intel Macs; Crane needs Apple Silicon there."
    return ""

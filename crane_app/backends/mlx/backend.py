"""MLX on Metal, or on a CPU where it is for correctness alone.

One thread must create, evaluate and free everything of a backend: MLX's streams belong to threads.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

import mlx.core as mx
import numpy as np

from crane_app.backends import memory
from crane_app.backends.adapted import AdapterRunner, Facts
from crane_app.backends.mlx import forms, sampling
from crane_app.backends.mlx import leaf as leaves
from crane_app.backends.mlx.cache import Cache, Int8Cache
from crane_app.backends.mlx.ops import Ops
from crane_app.backends.mlx.step import Step
from crane_app.backends.plan import HostStep, host_step
from crane_app.backends.runner import Runner
from crane_app.contract import Device, DType, HostTensor, KVCache, Model, Use, Work
from crane_app.errors import Unsupported
from crane_app.host import Host, Scheme


def create(device: str, dtype: DType | None, kv_cache: KVCache = "auto") -> Backend:
    """The backend on `device`; `dtype` None takes the chip's fast 16-bit type on Metal, else float32."""
    metal = mx.metal.is_available()
    if device == "cuda":
        raise Unsupported("Crane runs NVIDIA GPUs through PyTorch. Use --backend torch --device cuda.")
    if device == "metal" and not metal:
        raise Unsupported("Metal is not available here; it needs a Mac with Apple Silicon. Use --device cpu.")
    where = "metal" if metal and device != "cpu" else "cpu"
    mx.set_default_device(mx.gpu if where == "metal" else mx.cpu)
    return Backend(where, dtype or best_dtype(where), kv_cache)


def best_dtype(kind: str) -> DType:
    """float16 on M1 and M2, whose GPUs compute bfloat16 in software; bfloat16 on later chips."""
    if kind == "cpu":
        return "float32"
    name = str(mx.device_info().get("device_name", ""))
    return "float16" if any(chip in name for chip in ("M1", "M2")) else "bfloat16"


class Backend:
    """See contract.Backend."""

    def __init__(self, kind: str, dtype: DType, kv_cache: KVCache = "auto"):
        name = mx.device_info().get("device_name") if kind == "metal" else None
        self.device = Device("mlx", kind, str(name or platform.processor() or platform.machine()))
        self.dtype: DType = dtype
        self.kv_cache: KVCache = kv_cache
        self.ops = Ops(gathers_wide=kind == "cpu")
        self._dtype = leaves.TYPES[dtype]

    def array(self, x: np.ndarray) -> mx.array:
        x = np.ascontiguousarray(x)
        return mx.array(x).astype(self._dtype if np.issubdtype(x.dtype, np.floating) else mx.int32)

    def numpy(self, x: mx.array) -> np.ndarray:
        floating = mx.issubdtype(x.dtype, mx.floating)
        return np.array(x.astype(mx.float32 if floating else mx.int32))

    def leaf(self, weight: Host, bias: HostTensor | None = None, use: Use = "product") -> leaves.Leaf:
        if not isinstance(weight, HostTensor) and len(weight.shape) == 3:
            return leaves.experts(*leaves.matrix(weight, self._dtype), weight.shape)
        if isinstance(weight, HostTensor) and (use != "product" or len(weight.shape) != 2):
            return leaves.table(*(None if x is None else leaves.array(x, self._dtype) for x in (weight, bias)))
        return self.leaves([(weight, bias)])[0]

    def fast(self, scheme: Scheme, use: Use = "product") -> bool:
        """MLX has a kernel for each of its groups."""
        return True

    def held(self, scheme: Scheme, shape: tuple[int, ...]) -> int:
        return forms.held(scheme, shape, self.dtype)

    def leaves(self, parts: Iterable[tuple[Host, HostTensor | None]]) -> tuple[leaves.Leaf, ...]:
        weights, biases = [], []
        for weight, bias in parts:
            plain = isinstance(weight, HostTensor)
            weights.append(leaves.array(weight, self._dtype) if plain else leaves.matrix(weight, self._dtype))
            biases.append(None if bias is None else leaves.array(bias, self._dtype))
        plain = [isinstance(weight, mx.array) for weight in weights]
        if all(plain):
            return leaves.merged(weights, biases)
        if not any(plain):
            return leaves.quantised(weights, biases)
        return tuple(
            (leaves.merged if isinstance(weight, mx.array) else leaves.quantised)([weight], [bias])[0]
            for weight, bias in zip(weights, biases, strict=True)
        )

    def cache(self, layout) -> Cache:
        kind = Cache if self.kv_cache == "auto" else Int8Cache
        return kind(layout, self._dtype, self.limit())

    def limit(self) -> int:
        if self.device.kind == "cpu":
            return memory.physical()
        return int(mx.device_info()["max_recommended_working_set_size"])

    def step(self, cache: Cache, work: Sequence[Work]) -> Step:
        host = host_step(cache, work)
        for span in host.spans:
            cache.advance(span.row, span.new)
        return self.place(cache, host)

    def runner(self, model: Model) -> Runner:
        return Runner(self, model)

    def call(self, work: Callable[..., mx.array], *arrays: mx.array) -> mx.array:
        result = work(*arrays)
        mx.eval(result)
        return result

    def adapt(self, folder: Path) -> tuple[AdapterRunner, Facts]:
        from crane_app.backends.mlx import adapter

        return adapter.adapt(folder, self)

    def used(self) -> int:
        return mx.get_active_memory()

    def trim(self) -> None:
        mx.synchronize()
        mx.clear_cache()

    def running(self):
        """MLX needs no scope."""
        return nullcontext()

    def place(self, cache: Cache, host: HostStep) -> Step:
        return Step(cache, host)

    def carry(self, host: HostStep, previous: mx.array | None, sources: list[int]) -> mx.array:
        """Tokens int32 [N], the carried ones taken from the step before without a look at them."""
        if len(sources) == len(host.tokens) == (0 if previous is None else len(previous)) and sources == sorted(
            sources
        ):
            return previous
        tokens = mx.array(host.tokens)
        if sources:
            tokens[mx.array(host.carried)] = previous[mx.array(sources)]
        return tokens

    def join(self, parts: list[mx.array]) -> mx.array:
        return mx.concatenate(parts)

    def submit(self, cache: Cache, tokens, logits, ranked) -> None:
        """Start the step; what it wrote must be computed even if nobody reads it."""
        mx.async_eval(tokens, *cache.arrays(), *([] if logits is None else [logits]), *(ranked or ()))

    def rank(self, logits, tokens, count: int):
        return sampling.rank(logits, tokens, count)

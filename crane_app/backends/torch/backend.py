"""PyTorch on a CPU or an NVIDIA GPU."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from crane_app.backends import cores, memory
from crane_app.backends.adapted import AdapterRunner, Facts
from crane_app.backends.plan import HostStep, host_step
from crane_app.backends.runner import Runner
from crane_app.backends.torch import cuda, forms, native, sampling
from crane_app.backends.torch import leaf as leaves
from crane_app.backends.torch.cache import Cache, Int8Cache
from crane_app.backends.torch.compiled import compiled
from crane_app.backends.torch.ops import Ops
from crane_app.backends.torch.step import Step
from crane_app.contract import Device, DType, HostTensor, KVCache, Model, Use, Work
from crane_app.errors import Unsupported
from crane_app.host import Host, Scheme

log = logging.getLogger(__name__)
OP_BY_OP = "This model runs op by op on PyTorch: no program has {reason}."
UNBUILT = "Crane's own kernels are not built here, so models run several times slower: see crane doctor."


def create(device: str, dtype: DType | None, kv_cache: KVCache = "auto") -> Backend:
    """The backend on `device`; `dtype` None takes bfloat16 where the device computes in it, else float32."""
    if device == "metal":
        raise Unsupported("PyTorch does not run on Metal in Crane. Use --backend mlx on Apple Silicon.")
    if device == "cuda" and not torch.cuda.is_available():
        raise Unsupported("PyTorch finds no NVIDIA GPU here. Use --device cpu, or install a CUDA build of torch.")
    where = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if where == "cuda" and kv_cache != "auto":
        raise Unsupported(
            "Keys and values cannot be kept in 8 bits on an NVIDIA GPU yet. Leave --kv-cache-dtype out, or use --cpu."
        )
    if threads := cores.chosen():
        torch.set_num_threads(threads)
    return Backend(torch.device(where), dtype or best_dtype(where), kv_cache)


def best_dtype(kind: str) -> DType:
    """bfloat16 where it is computed natively or by our kernels; float32 on other CPUs, float16 on other GPUs."""
    if kind == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if native.library() is not None:
        return "bfloat16"
    return "bfloat16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"


class Backend:
    """See contract.Backend.

    kernels: which of our own run, None where PyTorch's do.
    """

    def __init__(self, device: torch.device, dtype: DType, kv_cache: KVCache = "auto"):
        name = (
            torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
        )
        self.device = Device("torch", device.type, name)
        self.dtype: DType = dtype
        self.kv_cache: KVCache = kv_cache
        self.ops = self._kernels(device) or Ops(device)
        self.kernels = native.kernels() if device.type == "cpu" else None
        self.packs = self.kernels is not None or leaves.packable(leaves.TYPES[dtype], device)
        self._device = device
        self._dtype = leaves.TYPES[dtype]

    def _kernels(self, device: torch.device) -> Ops | None:
        if device.type != "cuda":
            return None
        if not cuda.has_kernels():
            log.warning("Triton is not installed, so this GPU runs PyTorch's own kernels, several times slower.")
            return None
        return cuda.KernelOps(device)

    def array(self, x: np.ndarray) -> torch.Tensor:
        kind = self._dtype if np.issubdtype(x.dtype, np.floating) else torch.int32
        return torch.from_numpy(np.ascontiguousarray(x)).to(device=self._device, dtype=kind)

    def numpy(self, x: torch.Tensor) -> np.ndarray:
        return x.to(torch.float32 if x.is_floating_point() else torch.int32).cpu().numpy()

    def leaf(self, weight: Host, bias: HostTensor | None = None, use: Use = "product") -> leaves.Leaf:
        if not isinstance(weight, HostTensor) and len(weight.shape) == 3:
            return leaves.experts(weight, self._dtype, self._device)
        if not isinstance(weight, HostTensor):
            return self.leaves([(weight, bias)])[0]
        if use != "product" and self.kernels and bias is None and len(weight.shape) == 2:
            return leaves.native_products([self._tensor(weight)], [None])[0]
        if use == "tied" and self.packs and bias is None:
            return leaves.tied(self._tensor(weight))
        if use != "product" or len(weight.shape) != 2:
            return leaves.table(*(None if x is None else self._tensor(x) for x in (weight, bias)))
        return self.leaves([(weight, bias)])[0]

    def fast(self, scheme: Scheme, use: Use = "product") -> bool:
        return leaves.fast(scheme, use)

    def held(self, scheme: Scheme, shape: tuple[int, ...]) -> int:
        if self._device.type != "cpu":
            return forms.on_gpu(scheme, shape, self.dtype)
        return forms.strips(scheme, shape) if native.knows(scheme) else scheme.nbytes(shape)

    def leaves(self, parts: Iterable[tuple[Host, HostTensor | None]]) -> tuple[leaves.Leaf, ...]:
        weights, biases = [], []
        for weight, bias in parts:
            weights.append(self._tensor(weight) if isinstance(weight, HostTensor) else weight)
            biases.append(None if bias is None else self._tensor(bias))
        plain = [isinstance(weight, torch.Tensor) for weight in weights]
        if all(plain):
            return self._merged(weights, biases)
        if not any(plain):
            return leaves.quantised(weights, biases, self._dtype, self._device)
        return tuple(
            self._merged([weight], [bias])[0]
            if isinstance(weight, torch.Tensor)
            else leaves.quantised([weight], [bias], self._dtype, self._device)[0]
            for weight, bias in zip(weights, biases, strict=True)
        )

    def _merged(self, weights, biases) -> tuple[leaves.Leaf, ...]:
        if self.kernels:
            return leaves.native_products(weights, biases)
        return leaves.merged(weights, biases, self.packs)

    def _tensor(self, host: HostTensor) -> torch.Tensor:
        return leaves.tensor(host, self._dtype, self._device)

    def cache(self, layout) -> Cache:
        kind = Cache if self.kv_cache == "auto" else Int8Cache
        return kind(layout, self._dtype, self._device, self.limit())

    def limit(self) -> int:
        if self._device.type != "cuda":
            return memory.physical()
        return torch.cuda.mem_get_info(self._device)[0] + torch.cuda.memory_reserved(self._device)

    def step(self, cache: Cache, work: Sequence[Work]) -> Step:
        host = host_step(cache, work)
        for span in host.spans:
            cache.advance(span.row, span.new)
        return self.place(cache, host)

    def runner(self, model: Model) -> Runner:
        if isinstance(self.ops, cuda.KernelOps) and not any(slot.kind == "memory" for slot in model.layout):
            from crane_app.backends.torch.graphs import DecodeRunner

            return DecodeRunner(self, model)
        runner = Runner(self, model)
        if self.kernels:
            runner.model, reason = compiled(model, self._dtype, self.kv_cache)
            runner.notes = (OP_BY_OP.format(reason=reason),) if reason else ()
        elif self._device.type == "cpu":
            runner.notes = (UNBUILT,)
        return runner

    def call(self, work: Callable[..., torch.Tensor], *arrays: torch.Tensor) -> torch.Tensor:
        with self.running():
            result = work(*arrays)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            return result

    def adapt(self, folder: Path) -> tuple[AdapterRunner, Facts]:
        from crane_app.backends.torch import adapter

        return adapter.adapt(folder, self)

    def used(self) -> int:
        return torch.cuda.memory_allocated(self._device) if self._device.type == "cuda" else 0

    def trim(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def running(self):
        """Everything of a step runs inside; no gradient is ever kept."""
        return torch.inference_mode()

    def place(self, cache: Cache, host: HostStep) -> Step:
        return Step(cache, host)

    def carry(self, host: HostStep, previous: torch.Tensor | None, sources: list[int]) -> torch.Tensor:
        """Tokens int32 [N], the carried ones taken from the step before without a look at them."""
        if len(sources) == len(host.tokens) == (0 if previous is None else len(previous)) and sources == sorted(
            sources
        ):
            return previous
        tokens = torch.from_numpy(host.tokens).to(self._device)
        if sources:
            tokens[torch.from_numpy(host.carried).long()] = previous[torch.tensor(sources)]
        return tokens

    def join(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(parts)

    def submit(self, cache, tokens, logits, ranked) -> None:
        """PyTorch submits as it goes."""

    def rank(self, logits, tokens, count: int):
        return sampling.rank(logits, tokens, count)

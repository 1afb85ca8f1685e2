"""The op namespace on an NVIDIA GPU: where Triton is, kernels of ours replace what PyTorch does in many launches."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from crane_app.backends.torch.leaf import Leaf, Product
from crane_app.backends.torch.ops import Ops
from crane_app.backends.torch.step import DecodeStep


def has_kernels() -> bool:
    """Whether Triton is here; PyTorch for CUDA brings it on Linux alone."""
    return find_spec("triton") is not None


class KernelOps(Ops):
    """See contract.Ops; `attend` also takes a DecodeStep."""

    def __init__(self, device: torch.device):
        super().__init__(device)
        from crane_app.backends.torch.kernels import attention, products, rows

        self._attention, self._products, self._rows = attention, products, rows

    def _product(self, x: torch.Tensor, product: Product) -> torch.Tensor:
        if product.weight is not None and x.shape[0] == 1 and x.stride(1) == 1:
            return self._products.linear(x, product.weight, product.bias)
        return super()._product(x, product)

    def rms_norm(self, x, w: Leaf, eps: float):
        return self._rows.rms_norm(x, w.weight, eps)

    def rope(self, x, rotary, pairs: bool = False):
        return self._rows.rope(x, *rotary, pairs)

    def swiglu(self, gate, up):
        return self._rows.swiglu(gate, up) if gate.ndim == 2 and gate.stride(1) == 1 else super().swiglu(gate, up)

    def attend(self, q, k, v, step, layer: int, *, scale: float | None = None):
        if not isinstance(step, DecodeStep):
            return super().attend(q, k, v, step, layer, scale=scale)
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        places = step.addresses[layer], step.positions, step.capacities
        return self._attention.attend(q, k, v, *places, step.splits, step.layout[layer].window, scale)

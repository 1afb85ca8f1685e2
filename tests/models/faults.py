"""Faults planted in a loaded model, each of which the parity check must see. A fault takes a Loaded and spoils it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from crane_app.engine.loading import Loaded


class Spoiled:
    """The op namespace with one op replaced."""

    def __init__(self, ops: Any, **replaced: Callable[..., Any]):
        self._ops, self._replaced = ops, replaced

    def __getattr__(self, name: str) -> Any:
        return self._replaced.get(name) or getattr(self._ops, name)


def no_q_norm(loaded: Loaded) -> None:
    for layer in loaded.runner.model.w.model.layers:
        del layer.self_attn.q_norm, layer.self_attn.k_norm


def norm_before_rope(loaded: Loaded) -> None:
    for layer in loaded.runner.model.w.model.layers:
        w = layer.self_attn
        w.q_norm, w.k_norm = w.query_layernorm, w.key_layernorm
        del w.query_layernorm, w.key_layernorm


def rope_off_by_one(loaded: Loaded) -> None:
    """Frequencies start one step too late."""
    model = loaded.runner.model
    ratio = model.config.inverse[1] / model.config.inverse[0]
    model.config = replace(model.config, inverse=model.config.inverse * ratio)


def query_one_ahead(loaded: Loaded) -> None:
    """Queries are turned as if they stood one position later than their keys."""
    model, ops = loaded.runner.model, loaded.runner.model.ops
    ahead = []

    def rotary(step, inverse, axis=None):
        here = ops.rotary(step, inverse, axis)
        step.positions = step.positions + 1
        ahead[:] = [ops.rotary(step, inverse, axis)]
        return here

    def rope(x, angles, pairs=False):
        queries = x.shape[1] == model.config.heads
        return ops.rope(x, ahead[0] if queries else angles, pairs)

    model.ops = Spoiled(ops, rotary=rotary, rope=rope)


def wrong_kv_group(loaded: Loaded) -> None:
    """Query head h reads key head h % G."""
    model, ops = loaded.runner.model, loaded.runner.model.ops
    heads, groups = model.config.heads, model.config.groups

    def attend(q, k, v, step, layer, **kw):
        q = q.reshape(-1, heads // groups, groups, q.shape[-1]).swapaxes(1, 2).reshape(q.shape)
        y = ops.attend(q, k, v, step, layer, **kw)
        return y.reshape(-1, groups, heads // groups, y.shape[-1]).swapaxes(1, 2).reshape(y.shape)

    model.ops = Spoiled(ops, attend=attend)


def missing_bias(loaded: Loaded) -> None:
    model, ops = loaded.runner.model, loaded.runner.model.ops

    def linears(x, ws):
        bare = replace(ws[0].group, bias=None) if ws[0].group is not None else None
        return ops.linears(x, tuple(replace(w, group=bare) for w in ws))

    model.ops = Spoiled(ops, linears=linears)


def window_off_by_one(loaded: Loaded) -> None:
    cache = loaded.runner.cache
    cache.layout = tuple(replace(slot, window=slot.window + 1) for slot in cache.layout)


def expert_order(loaded: Loaded) -> None:
    model, ops = loaded.runner.model, loaded.runner.model.ops
    last = model.config.experts - 1
    turned = loaded.backend.array(last - np.arange(last + 1))

    def experts(x, scores, *rest, **kw):
        return ops.experts(x, scores[:, turned], *rest, **kw)

    model.ops = Spoiled(ops, experts=experts)


def unscaled_rope(loaded: Loaded) -> None:
    """llama3's and Hunyuan's scaling forgotten."""
    model = loaded.runner.model
    dim = model.config.dim
    model.config = replace(model.config, inverse=10000.0 ** -(np.arange(0, dim, 2) / dim))


FAULTS: tuple[tuple[str, Callable[[Loaded], None]], ...] = (
    ("qwen2", missing_bias),
    ("qwen3", no_q_norm),
    ("qwen3", rope_off_by_one),
    ("qwen3", query_one_ahead),
    ("qwen3", wrong_kv_group),
    ("hunyuan", norm_before_rope),
    ("hunyuan", unscaled_rope),
    ("llama", unscaled_rope),
    ("mistral", window_off_by_one),
    ("qwen3_moe", expert_order),
)

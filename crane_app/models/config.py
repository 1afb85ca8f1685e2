"""config.json of a text decoder, as published (rope_theta, rope_scaling) or from transformers 5 (rope_parameters).

Every number is checked here, since shapes and loops are made from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.models.rope import inverse_frequencies


@dataclass(frozen=True)
class Family:
    """What an architecture's name says and its config does not. norms: names of the q and k norms, if it has them."""

    qkv_bias: bool = False
    norms: tuple[str, str] | None = None
    experts: bool = False
    windowed: bool = False  # every layer has the window; else only as the config's layer types say


FAMILIES = {
    "Qwen2ForCausalLM": Family(qkv_bias=True),
    "Qwen3ForCausalLM": Family(norms=("q_norm", "k_norm")),
    "Qwen3MoeForCausalLM": Family(norms=("q_norm", "k_norm"), experts=True),
    "HunYuanDenseV1ForCausalLM": Family(norms=("query_layernorm", "key_layernorm")),
    "LlamaForCausalLM": Family(),
    "MistralForCausalLM": Family(windowed=True),
}


# Defaults of transformers' MistralConfig.sliding_window and Qwen2Config.max_window_layers.
MISTRAL_WINDOW = 4096
FIRST_WINDOW = 28


@dataclass(frozen=True, eq=False)
class DecoderConfig:
    """Sizes of a decoder. inverse: float64 [dim / 2]. windows: one a layer, 0: none. expert_layers: True where MoE."""

    layers: int
    hidden: int
    inner: int
    heads: int
    groups: int
    dim: int
    vocabulary: int
    context: int
    eps: float
    tied: bool
    inverse: np.ndarray
    windows: tuple[int, ...]
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    norms: tuple[str, str] | None = None
    expert_layers: tuple[bool, ...] = ()
    experts: int = 0
    top_k: int = 0
    expert_inner: int = 0
    normalise: bool = True


class Fields:
    """Checked access to a config; the error names the field and what it holds."""

    def __init__(self, raw: dict[str, Any]):
        self.raw = raw

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int:
        value = self.raw.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise BadCheckpoint(f'config.json: "{name}" must be a whole number from {low} to {high}, not {value!r:.60}')
        return value

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        value = self.raw.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise BadCheckpoint(f'config.json: "{name}" must be a number from {low:g} to {high:g}, not {value!r:.60}')
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.raw.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise BadCheckpoint(f'config.json: "{name}" must be true or false, not {value!r:.60}')
        return value


def read(raw: dict[str, Any]) -> DecoderConfig:
    """The sizes of a decoder from its config.json."""
    family = next(FAMILIES[name] for name in raw["architectures"] if name in FAMILIES)
    f = Fields(raw)
    act = raw.get("hidden_act", "silu")
    if act != "silu":
        raise Unsupported(f'config.json: "hidden_act" is {act!r:.60}; Crane\'s decoders know silu only')
    layers, heads = f.whole("num_hidden_layers", 1, 1000), f.whole("num_attention_heads", 1, 4096)
    groups, hidden = f.whole("num_key_value_heads", 1, heads, default=heads), f.whole("hidden_size", 1, 2**17)
    if heads % groups:
        raise BadCheckpoint(
            f'config.json: {heads} "num_attention_heads" are not a multiple of {groups} "num_key_value_heads"'
        )
    given = "head_dim" if raw.get("head_dim") is not None else "attention_head_dim"
    dim = f.whole(given, 2, 1024, default=max(hidden // heads, 2))
    if dim % 2:
        raise BadCheckpoint(f'config.json: "{given}" must be even to be turned by position, not {dim}')
    return DecoderConfig(
        layers=layers,
        hidden=hidden,
        inner=f.whole("intermediate_size", 1, 2**20),
        heads=heads,
        groups=groups,
        dim=dim,
        vocabulary=f.whole("vocab_size", 1, 2**24),
        context=f.whole("max_position_embeddings", 1, 2**30, default=2048),
        eps=f.number("rms_norm_eps", 0.0, 1.0, default=1e-6),
        tied=f.flag("tie_word_embeddings", default=False),
        inverse=inverse_frequencies(rope_fields(raw), dim),
        windows=_windows(f, family, layers),
        qkv_bias=family.qkv_bias or f.flag("attention_bias", default=False),
        o_bias=not family.qkv_bias and f.flag("attention_bias", default=False),
        mlp_bias=f.flag("mlp_bias", default=False),
        norms=family.norms if f.flag("use_qk_norm", default=True) else None,
        **(_experts(f, layers) if family.experts else {}),
    )


def rope_fields(raw: dict[str, Any]) -> dict[str, Any]:
    """theta and scaling in one dict with transformers 5's names, whichever form the config has."""
    new, old = raw.get("rope_parameters"), raw.get("rope_scaling")
    fields = new if new is not None else (old or {})
    if not isinstance(fields, dict):
        raise BadCheckpoint(f"config.json: rope parameters must be an object, not {fields!r:.60}")
    merged = {"rope_theta": raw.get("rope_theta", 10000.0), **fields}
    merged["rope_type"] = fields.get("rope_type") or fields.get("type") or "default"
    return merged


def _windows(f: Fields, family: Family, layers: int) -> tuple[int, ...]:
    # An absent window is not a null one: the reference's defaults stand for what a file leaves out.
    absent = MISTRAL_WINDOW if family.windowed and "sliding_window" not in f.raw else 0
    window = f.whole("sliding_window", 1, 2**30, default=absent)
    types = f.raw.get("layer_types")
    if types is not None:
        if not isinstance(types, list) or len(types) != layers:
            raise BadCheckpoint(f'config.json: "layer_types" must be a list with one entry for each of {layers} layers')
        unknown = set(map(str, types)) - {"full_attention", "sliding_attention"}
        if unknown:
            raise Unsupported(f'config.json: "layer_types" names {min(unknown)}, which Crane\'s decoders do not have')
        if "sliding_attention" in types and not window:
            raise BadCheckpoint('config.json: "layer_types" names sliding_attention, but there is no "sliding_window"')
        return tuple(window if kind == "sliding_attention" else 0 for kind in types)
    if family.windowed:
        return (window,) * layers
    first = 0 if family.experts else f.whole("max_window_layers", 0, 1000, default=FIRST_WINDOW)
    used = f.flag("use_sliding_window", default=False)
    return tuple(window if used and i >= first else 0 for i in range(layers))


def _experts(f: Fields, layers: int) -> dict[str, Any]:
    # transformers 5 writes the number of experts under another name.
    experts = f.whole("num_local_experts" if "num_local_experts" in f.raw else "num_experts", 1, 4096)
    every = f.whole("decoder_sparse_step", 1, 1000, default=1)
    dense = f.raw.get("mlp_only_layers") or []
    if not isinstance(dense, list) or any(isinstance(i, bool) or not isinstance(i, int) for i in dense):
        raise BadCheckpoint(f'config.json: "mlp_only_layers" must be a list of whole numbers, not {dense!r:.60}')
    return {
        "experts": experts,
        "top_k": f.whole("num_experts_per_tok", 1, experts),
        "expert_inner": f.whole("moe_intermediate_size", 1, 2**20),
        "normalise": f.flag("norm_topk_prob", default=False),
        "expert_layers": tuple(i not in dense and (i + 1) % every == 0 for i in range(layers)),
    }

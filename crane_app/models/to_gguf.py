"""A published model in the words of GGUF: the way back from gguf.py, which has the sources."""

from __future__ import annotations

from typing import Any

import numpy as np

from crane_app.errors import Unsupported
from crane_app.models.config import DecoderConfig, rope_fields
from crane_app.models.gguf import FAMILIES, HUNYUAN, INNER, OUTER, SAMPLING, STACKS

TURNED = ("LlamaForCausalLM", "MistralForCausalLM")  # the rows of q and k lie in pairs


def architecture(raw: dict[str, Any]) -> str:
    """general.architecture of a config.json; Unsupported for a family that GGUF files do not have here."""
    published = {ours: name for name, (ours, _) in FAMILIES.items()} | {"MistralForCausalLM": "llama"}
    found = next((published[name] for name in raw["architectures"] if name in published), None)
    if found is None:
        raise Unsupported(f"Crane writes no GGUF file of {raw['architectures'][0]}. Name a folder as the target.")
    return found


def name_of(name: str, raw: dict[str, Any]) -> str:
    """The name in a GGUF file of a published tensor; of an expert's, that of the stack it belongs to."""
    path, _, kind = name.rpartition(".")
    inner = HUNYUAN if "HunYuanDenseV1ForCausalLM" in raw["architectures"] else INNER
    for ours, theirs in OUTER.items():
        if path == theirs:
            return f"{ours}.{kind}"
    _, _, layer, part = path.split(".", 3)
    if ".experts." in part:
        ours = next(ours for ours, theirs in STACKS.items() if theirs == part.rpartition(".")[2])
    else:
        ours = next(ours for ours, theirs in inner.items() if theirs == part)
    return f"blk.{layer}.{ours}.{kind}"


def heads_of(name: str, raw: dict[str, Any], config: DecoderConfig) -> int:
    """How many heads the rows of a tensor are turned in pairs by; 0 for none."""
    if not any(each in TURNED for each in raw["architectures"]):
        return 0
    path = name.rpartition(".")[0]
    return config.heads if path.endswith("q_proj") else config.groups if path.endswith("k_proj") else 0


def paired(x: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from halves to pairs (0, half), (1, half + 1) ...: LlamaModel.permute of the converter."""
    if not heads:
        return x
    return np.ascontiguousarray(x.reshape(heads, 2, -1, *x.shape[1:]).swapaxes(1, 2)).reshape(x.shape)


def factors(raw: dict[str, Any], config: DecoderConfig) -> np.ndarray | None:
    """rope_freqs: what each frequency is divided by, where a scaling has no keys of its own."""
    fields = rope_fields(raw)
    if fields["rope_type"] not in ("llama3", "divided"):
        return None
    plain = float(fields["rope_theta"]) ** -(np.arange(0, config.dim, 2, dtype=np.float64) / config.dim)
    return (plain / config.inverse).astype(np.float32)


def metadata(raw: dict[str, Any], config: DecoderConfig, generation: dict[str, Any], title: str) -> dict[str, Any]:
    """What the file says of the model, without its tokenizer. Raises Unsupported for what GGUF cannot say."""
    name = architecture(raw)
    fields = rope_fields(raw)
    theta = float(fields["rope_theta"])
    if fields["rope_type"] == "dynamic":
        theta *= float(fields["alpha"]) ** (config.dim / (config.dim - 2))
    keys: dict[str, Any] = {
        "block_count": config.layers,
        "context_length": config.context,
        "embedding_length": config.hidden,
        "feed_forward_length": config.inner,
        "vocab_size": config.vocabulary,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.groups,
        "attention.key_length": config.dim,
        "attention.value_length": config.dim,
        "attention.layer_norm_rms_epsilon": config.eps,
        "rope.dimension_count": config.dim,
        "rope.freq_base": theta,
    }
    if fields["rope_type"] == "linear":
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(fields["factor"])}
    keys |= _windows(raw, config) | _experts(config)
    told: dict[str, Any] = {"general.architecture": name, "general.type": "model", "general.name": title}
    advised = {f"general.sampling.{theirs}": generation.get(ours) for theirs, ours in SAMPLING.items()}
    told |= {key: value for key, value in advised.items() if type(value) in (int, float)}
    return told | {f"{name}.{key}": value for key, value in keys.items()}


def _windows(raw: dict[str, Any], config: DecoderConfig) -> dict[str, Any]:
    windows = set(config.windows)
    if windows == {0}:
        return {}
    if "MistralForCausalLM" not in raw["architectures"] or len(windows) > 1:
        raise Unsupported("A GGUF file cannot say which layers of this model have a sliding window. Name a folder.")
    return {"attention.sliding_window": config.windows[0]}


def _experts(config: DecoderConfig) -> dict[str, Any]:
    if not config.experts:
        return {}
    if not config.normalise or not all(config.expert_layers):
        raise Unsupported("A GGUF file cannot say how this model weighs or places its experts. Name a folder.")
    return {
        "expert_count": config.experts,
        "expert_used_count": config.top_k,
        "expert_feed_forward_length": config.expert_inner,
    }

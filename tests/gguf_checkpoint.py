"""Checkpoints written as GGUF by the gguf package, the way llama.cpp's converter writes them; the oracle of our reader.

    twin = write_gguf(tmp_path / "model.gguf", golden("llama"))
    write_safetensors(folder / "model.safetensors", twin)   # the very numbers that the file holds

Names come from the package's own tables, packed numbers are unpacked by its own functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from tests.models.scramble import scrambled

ARCHITECTURES = {
    "Qwen2ForCausalLM": gguf.MODEL_ARCH.QWEN2,
    "Qwen3ForCausalLM": gguf.MODEL_ARCH.QWEN3,
    "Qwen3MoeForCausalLM": gguf.MODEL_ARCH.QWEN3MOE,
    "HunYuanDenseV1ForCausalLM": gguf.MODEL_ARCH.HUNYUAN_DENSE,
    "LlamaForCausalLM": gguf.MODEL_ARCH.LLAMA,
    "MistralForCausalLM": gguf.MODEL_ARCH.LLAMA,
}
# Where the float16 scales of a block lie. Those of IQ1_M are scattered; see `blocks`.
SCALES = {
    Type.Q4_1: (0, 2),
    Type.Q5_1: (0, 2),
    Type.Q2_K: (80, 82),
    Type.Q3_K: (108,),
    Type.Q4_K: (0, 2),
    Type.Q5_K: (0, 2),
    Type.Q6_K: (208,),
}
PACKED = [
    *(Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K),
    *(Type.IQ1_S, Type.IQ1_M, Type.IQ2_XXS, Type.IQ2_XS, Type.IQ2_S, Type.IQ3_XXS, Type.IQ3_S, Type.IQ4_NL),
    Type.IQ4_XS,
]
Say = Callable[[gguf.GGUFWriter], None]


def blocks(kind: Type, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Random packed numbers of about ± 0.1, as uint8 [..., bytes of a row]; every bit of a block is drawn."""
    size, nbytes = gguf.GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(seed)
    raw = random.integers(0, 256, (int(np.prod(shape)) // size, nbytes), np.uint8)
    scale = random.uniform(0.5, 1.0, len(raw)) * 0.1 / np.nanmax(np.abs(gguf.dequantize(_scaled(kind, raw, 1.0), kind)))
    return _scaled(kind, raw, scale).reshape(*shape[:-1], shape[-1] // size * nbytes)


def _scaled(kind: Type, raw: np.ndarray, scale: Any) -> np.ndarray:
    """The blocks with `scale` as their float16."""
    half = np.broadcast_to(np.asarray(scale, "<f2"), len(raw)).copy()
    out = raw.copy()
    if kind is Type.IQ1_M:  # one nibble on top of each of the last four words
        bits = half.view("<u2")
        for word in range(4):
            nibble = (bits >> (4 * word) & 15).astype(np.uint8)
            out[:, 49 + 2 * word] = out[:, 49 + 2 * word] & 15 | nibble << 4
        return out
    for at in SCALES.get(kind, (0,)):
        out[:, at : at + 2] = half.view(np.uint8).reshape(-1, 2)
    return out


def permuted(x: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k as llama.cpp's converter turns them: LlamaModel.permute of convert_hf_to_gguf.py."""
    return x.reshape(heads, 2, -1, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def unpermuted(x: np.ndarray, heads: int) -> np.ndarray:
    return x.reshape(heads, -1, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def write_gguf(
    path: Path,
    config: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    kind: Type = Type.F32,
    say: Say | None = None,
    **splits: int,
) -> dict[str, np.ndarray]:
    """Write scrambled weights; packed matrices are drawn instead. Returns what the file holds, by published name."""
    architecture = config["architectures"][0]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[ARCHITECTURES[architecture]], **splits)
    _describe(writer, config)
    if say is not None:
        say(writer)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    turned = heads if architecture in ("LlamaForCausalLM", "MistralForCausalLM") else {}
    names = gguf.get_tensor_name_map(ARCHITECTURES[architecture], config["num_hidden_layers"])
    twin: dict[str, np.ndarray] = {}
    stacks: dict[str, list[np.ndarray]] = {}
    for seed, (name, shape) in enumerate(shapes.items()):
        matrix = len(shape) > 1 and not name.endswith("mlp.gate.weight")
        raw, unpacked = _tensor(name, shape, kind if matrix else Type.F32, seed)
        part = name.split(".")[-2]
        if part in turned:
            raw = permuted(raw, turned[part])
        twin[name] = unpacked
        if ".experts." in name:
            at, _, rest = name.partition(".experts.")
            stacks.setdefault(f"{at}.experts.{rest.partition('.')[2]}", []).append(raw)
            continue
        _add(writer, names.get_name(name, (".weight", ".bias")), raw, kind if matrix else Type.F32)
    for name, parts in stacks.items():
        _add(writer, names.get_name(name, (".weight",)), np.stack(parts), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return twin


def _tensor(name: str, shape: tuple[int, ...], kind: Type, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The tensor as the file holds it, and its numbers."""
    if kind in PACKED:
        raw = blocks(kind, shape, seed)
        return raw, gguf.dequantize(raw, kind).reshape(shape)
    x = scrambled(name, shape)
    if kind is Type.F32:
        return x, x
    raw = gguf.quantize(x, kind)
    return raw, gguf.dequantize(raw, kind)


def _add(writer: gguf.GGUFWriter, name: str, raw: np.ndarray, kind: Type) -> None:
    writer.add_tensor(name, raw, raw_dtype=kind)


def _describe(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    """What convert_hf_to_gguf.py says of a decoder."""
    rope = config.get("rope_parameters") or {**(config.get("rope_scaling") or {}), "rope_theta": config["rope_theta"]}
    heads, theta = config["num_attention_heads"], rope["rope_theta"]
    dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_key_length(dim)
    writer.add_value_length(dim)
    if "num_experts" in config or "num_local_experts" in config:
        writer.add_expert_count(config.get("num_experts") or config["num_local_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if config.get("sliding_window") and "Mistral" in config["architectures"][0]:
        writer.add_sliding_window(config["sliding_window"])
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "dynamic":
        theta *= rope["alpha"] ** (dim / (dim - 2))
    writer.add_rope_freq_base(theta)
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if kind == "llama3":
        writer.add_tensor("rope_freqs.weight", _llama3(theta, dim, rope))


def _llama3(theta: float, dim: int, rope: Mapping[str, Any]) -> np.ndarray:
    """LlamaModel.generate_extra_tensors of convert_hf_to_gguf.py: what each frequency is divided by."""
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    old = rope["original_max_position_embeddings"]
    factors = []
    for frequency in 1.0 / theta ** (np.arange(0, dim, 2) / dim):
        wave = 2 * np.pi / frequency
        smooth = (old / wave - low) / (high - low)
        blended = 1 / ((1 - smooth) / factor + smooth)
        factors.append(1.0 if wave < old / high else factor if wave > old / low else blended)
    return np.array(factors, np.float32)

"""A GGUF model in the words of a published checkpoint: its config, its generation config, its tensors by their names.

Keys and names: ggml's docs/gguf.md and gguf-py's constants.py; what converters change: llama.cpp's
convert_hf_to_gguf.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crane_app.contract import HostTensor
from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.host import Blocks, Lying, Scheme
from crane_app.media.files.gguf import Gguf

# general.architecture -> the architecture and model_type of config.json.
FAMILIES = {
    "qwen2": ("Qwen2ForCausalLM", "qwen2"),
    "qwen3": ("Qwen3ForCausalLM", "qwen3"),
    "qwen3moe": ("Qwen3MoeForCausalLM", "qwen3_moe"),
    "hunyuan-dense": ("HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense"),
    "llama": ("LlamaForCausalLM", "llama"),
}
OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
}
HUNYUAN = INNER | {"attn_q_norm": "self_attn.query_layernorm", "attn_k_norm": "self_attn.key_layernorm"}
STACKS = {"ffn_gate_exps": "gate_proj", "ffn_up_exps": "up_proj", "ffn_down_exps": "down_proj"}
FACTORS = "rope_freqs.weight"  # what each frequency is divided by: llama3's scaling, computed by the converter
NAME = re.compile(r"(?:blk\.(\d{1,4})\.)?([a-z_]+)\.(weight|bias)")
MOST_EXPERTS = 1 << 20  # of all layers
# Texts of control tokens that end an answer, whatever the file calls its end. llama.cpp, src/llama-vocab.cpp.
ENDS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|end_of_text|>", "<end_of_turn>")
SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}


class Keys:
    """Checked access to the metadata of one architecture; the error names the key."""

    def __init__(self, gguf: Gguf, architecture: str) -> None:
        self.metadata, self.file, self._prefix = gguf.metadata, gguf.folder.name, architecture

    def find(self, key: str, kind: type, default: Any = None) -> Any:
        """The value of `architecture.key`; without a default it must be there."""
        value = self.metadata.get(f"{self._prefix}.{key}", default)
        if isinstance(value, np.ndarray) and value.ndim == 1 and len(value) and (value == value[0]).all():
            value = value[0].item()  # one for each layer, all the same
        if kind is float and type(value) is int:
            value = float(value)
        if (value is not default and type(value) is not kind) or (value is None and default is None):
            raise BadCheckpoint(
                f"{self.file}: its metadata must have {self._prefix}.{key}, a {kind.__name__}; it has {value!r:.60}"
            )
        return value

    def refuse(self, what: str) -> None:
        raise Unsupported(f"{self.file}: has {what}, which Crane's {self._prefix} models do not")


def config(gguf: Gguf) -> dict[str, Any]:
    """config.json as the model's publisher would write it. Raises BadCheckpoint and Unsupported."""
    name = architecture_of(gguf)
    published, model_type = FAMILIES[name]
    keys = Keys(gguf, name)
    if "token_embd.weight" not in gguf.tensors:
        raise BadCheckpoint(f"{gguf.folder.name}: has no tensor token_embd.weight, so it is no model that writes text")
    vocabulary = gguf.tensors["token_embd.weight"].shape[0]
    heads, hidden = keys.find("attention.head_count", int), keys.find("embedding_length", int)
    dim = keys.find("attention.key_length", int, hidden // max(heads, 1))
    if keys.find("attention.value_length", int, dim) != dim:
        keys.refuse("keys and values of different sizes")
    raw = {
        "architectures": [published],
        "model_type": model_type,
        "num_hidden_layers": keys.find("block_count", int),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.find("attention.head_count_kv", int, heads),
        "hidden_size": hidden,
        "head_dim": dim,
        "intermediate_size": keys.find("feed_forward_length", int),
        "vocab_size": vocabulary,
        "max_position_embeddings": keys.find("context_length", int),
        "rms_norm_eps": keys.find("attention.layer_norm_rms_epsilon", float),
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "attention_bias": name != "qwen2" and "blk.0.attn_q.bias" in gguf.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in gguf.tensors,
        "rope_parameters": _rope(gguf, keys, dim),
    }
    window = keys.find("attention.sliding_window", int, 0)
    if window and name == "llama":
        raw |= {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": window}
    elif window:
        keys.refuse("a sliding window")
    experts = keys.find("expert_count", int, 0)
    if name == "qwen3moe":
        raw |= _experts(gguf, keys, experts, raw["num_hidden_layers"])
    elif experts:
        keys.refuse(f"a mixture of {experts} experts")
    return raw


def architecture_of(gguf: Gguf) -> str:
    """general.architecture, one of FAMILIES."""
    name, kind = gguf.metadata.get("general.architecture"), gguf.metadata.get("general.type", "model")
    if not isinstance(name, str):
        raise BadCheckpoint(f"{gguf.folder.name}: its metadata does not name an architecture (general.architecture)")
    if name == "clip" or kind == "mmproj":
        raise Unsupported(f"{gguf.folder.name}: is the part of a model that sees pictures (mmproj), not a whole model")
    if kind not in ("model", ""):
        raise Unsupported(f"{gguf.folder.name}: holds no model but its {kind!r:.40}")
    if name not in FAMILIES:
        raise Unsupported(
            f"{gguf.folder.name}: Crane reads no GGUF of the architecture {name!r:.60}, only of {', '.join(FAMILIES)}. "
            "The same model as safetensors may run."
        )
    return name


def _rope(gguf: Gguf, keys: Keys, dim: int) -> dict[str, Any]:
    """rope_parameters; Hunyuan's base is scaled already."""
    if keys.find("rope.dimension_count", int, dim) != dim:
        keys.refuse("heads that are turned in part")
    kind = keys.find("rope.scaling.type", str, "none")
    fields = {"rope_theta": keys.find("rope.freq_base", float, 10000.0)}
    if FACTORS in gguf.tensors:
        if gguf.tensors[FACTORS].shape != (dim // 2,) or gguf.dtype(FACTORS) != "float32":
            raise BadCheckpoint(f"{gguf.folder.name}: {FACTORS} must be float32 [{dim // 2}]")
        return fields | {"rope_type": "divided", "factors": gguf.read(FACTORS).array.tolist()}
    if kind == "none":
        return fields | {"rope_type": "default"}
    return fields | {"rope_type": kind, "factor": keys.find("rope.scaling.factor", float, 1.0)}


def _experts(gguf: Gguf, keys: Keys, experts: int, layers: int) -> dict[str, Any]:
    if keys.find("expert_gating_func", int, 1) != 1 or keys.find("expert_weights_scale", float, 1.0) != 1.0:
        keys.refuse("experts that are weighed in another way")
    return {
        "num_experts": experts,
        "num_experts_per_tok": keys.find("expert_used_count", int),
        "moe_intermediate_size": keys.find("expert_feed_forward_length", int),
        "norm_topk_prob": keys.find("expert_weights_norm", bool, True),  # llama.cpp, src/models/qwen3moe.cpp
        "mlp_only_layers": [i for i in range(min(layers, 1000)) if f"blk.{i}.ffn_gate_exps.weight" not in gguf.tensors],
    }


def generation(gguf: Gguf) -> dict[str, Any]:
    """generation_config.json: what ends an answer, and the sampling that the publisher advises."""
    told = gguf.metadata
    named = [told.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    ends = [id for id in named if type(id) is int]
    tokens, kinds = told.get("tokenizer.ggml.tokens"), told.get("tokenizer.ggml.token_type")
    if tokens is not None and isinstance(kinds, np.ndarray) and len(kinds) == len(tokens):
        ends += [id for id in np.flatnonzero(kinds == 3).tolist() if tokens[id] in ENDS]
    advised = {ours: told.get(f"general.sampling.{theirs}") for theirs, ours in SAMPLING.items()}
    return {"eos_token_id": list(dict.fromkeys(ends))} | {k: v for k, v in advised.items() if v is not None}


@dataclass(frozen=True)
class Place:
    """Where a published tensor lies: from row `first` of `name`. heads: their rows are in pairs that were turned."""

    name: str
    shape: tuple[int, ...]
    first: int = 0
    heads: int = 0


class Weights:
    """The tensors of a GGUF model under their published names; a checkpoint like that of safetensors files.

    schemes: of the packed ones.
    """

    def __init__(self, gguf: Gguf, raw: dict[str, Any]) -> None:
        self.folder, self._gguf = gguf.folder, gguf
        self._places = dict(_places(gguf, raw))
        self.shapes = {name: place.shape for name, place in self._places.items()}
        self.dtypes = {name: gguf.dtype(place.name) for name, place in self._places.items()}
        self.schemes = {name: Scheme(kind) for name, place in self._places.items() if (kind := gguf.kind(place.name))}
        self.nbytes = sum(tensor.size for tensor in gguf.tensors.values())

    def __enter__(self) -> Weights:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open between reads."""

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def nbytes_of(self, name: str) -> int:
        """Bytes the tensor takes in its file."""
        tensor = self._gguf.tensors[self._places[name].name]
        return tensor.size * math.prod(self.shapes[name]) // math.prod(tensor.shape)

    def file_of(self, name: str) -> Path:
        """The file that holds the tensor."""
        return self._gguf.tensors[self._places[name].name].file

    def read(self, name: str) -> HostTensor:
        """The tensor in memory of its own, packed numbers as float32."""
        place = self._places[name]
        if math.prod(place.shape) == math.prod(self._gguf.tensors[place.name].shape):
            host = self._gguf.read(place.name)
            return HostTensor(_apart(host.array, place.heads), host.dtype)
        out = np.empty(place.shape, np.uint16 if self.dtypes[name] == "bfloat16" else self.dtypes[name])
        self._gguf.read_rows(place.name, place.first, out)
        return HostTensor(out, self.dtypes[name])  # type: ignore[arg-type]

    def read_packed(self, name: str) -> Blocks:
        """A tensor of `schemes` as its blocks, its rows in the published order; a matrix is read by its user."""
        place, kind = self._places[name], self.schemes[name].kind

        def read() -> np.ndarray:
            rows = self._gguf.read_blocks(place.name, place.first, math.prod(place.shape[:-1]))
            return _apart(rows, place.heads).reshape(*place.shape[:-1], -1)

        if len(place.shape) == 2:
            return Lying(kind, place.shape, self._gguf.stretch(place.name, place.first), read, place.heads)
        return Blocks(kind, read(), place.shape)

    def read_into(self, name: str, out: np.ndarray) -> None:
        """Read into `out`: C-contiguous, of the tensor's shape and the type that `read` gives."""
        place = self._places[name]
        self._gguf.read_rows(place.name, place.first, out)
        if place.heads:
            out[:] = _apart(out, place.heads)


def _apart(x: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from pairs (0, half), (1, half + 1) ... back to halves, which is how `permute` found them."""
    if not heads:
        return x
    return np.ascontiguousarray(x.reshape(heads, -1, 2, *x.shape[1:]).swapaxes(1, 2)).reshape(x.shape)


def _places(gguf: Gguf, raw: dict[str, Any]) -> Iterator[tuple[str, Place]]:
    """Published name -> place. A tensor that no family has keeps its name."""
    inner = HUNYUAN if raw["model_type"] == "hunyuan_v1_dense" else INNER
    turned = {"attn_q": raw["num_attention_heads"], "attn_k": raw["num_key_value_heads"]}
    turned = turned if raw["model_type"] in ("llama", "mistral") else {}
    for name, tensor in gguf.tensors.items():
        match = NAME.fullmatch(name)
        layer, part, kind = match.groups() if match else (None, "", "")
        if layer is not None and part in STACKS and kind == "weight" and len(tensor.shape) == 3:
            count, rows, width = tensor.shape
            if count * len(gguf.tensors) > MOST_EXPERTS:
                raise BadCheckpoint(f"{tensor.file.name}: {name} has {count} experts, more than any model")
            for i in range(count):
                path = f"model.layers.{layer}.mlp.experts.{i}.{STACKS[part]}.weight"
                yield path, Place(name, (rows, width), i * rows)
        elif layer is not None and part in inner:
            heads = turned.get(part, 0)
            if heads and tensor.shape[0] % (2 * heads):
                raise BadCheckpoint(f"{tensor.file.name}: {name} has {tensor.shape[0]} rows, no pairs of {heads} heads")
            yield f"model.layers.{layer}.{inner[part]}.{kind}", Place(name, tensor.shape, heads=heads)
        elif layer is None and part in OUTER:
            yield f"{OUTER[part]}.{kind}", Place(name, tensor.shape)
        elif name != FACTORS:
            yield name, Place(name, tensor.shape)

"""Real-size checkpoints of random weights in the published layout, for measuring without any download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from crane_app.models import registry
from crane_app.models.weights import names

QWEN = {"vocab_size": 151936, "rope_theta": 1e6, "rms_norm_eps": 1e-6, "hidden_act": "silu", "torch_dtype": "bfloat16"}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3-0.6b": QWEN
    | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072}
    | {"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
    | {"max_position_embeddings": 40960, "tie_word_embeddings": True, "attention_bias": False},
    "qwen3-1.7b": QWEN
    | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 2048, "intermediate_size": 6144}
    | {"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
    | {"max_position_embeddings": 40960, "tie_word_embeddings": True, "attention_bias": False},
    "qwen3-8b": QWEN
    | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288}
    | {"num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    | {"max_position_embeddings": 40960, "tie_word_embeddings": False, "attention_bias": False},
    "qwen2.5-0.5b": QWEN
    | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864}
    | {"num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2}
    | {"max_position_embeddings": 32768, "tie_word_embeddings": True},
}


def make(name: str, folder: Path, seed: int = 0) -> Path:
    """A bfloat16 checkpoint in the shapes of `name`, written once into `folder`/`name`; returns that path."""
    target = folder / name
    if (target / "config.json").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    config = CONFIGS[name]
    module = registry.find(config)
    shapes = names(module.parameters(module.read(config)))
    _write(target / "model.safetensors", shapes, np.random.default_rng(seed))
    (target / "config.json").write_text(json.dumps(config, indent=2))
    return target


def _write(path: Path, shapes: dict[str, tuple[int, ...]], random: np.random.Generator) -> None:
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            scale = np.float32(0.02 if len(shape) > 1 else 0.1)
            values = random.standard_normal(shape, dtype=np.float32) * scale + np.float32(len(shape) == 1)
            file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())

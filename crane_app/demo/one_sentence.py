"""A language model of one sentence, made on the spot: after each of its words only the next one is likely.

Its file is a checkpoint like any other, so all of Crane is used to run it. Each token is a direction of its own; the
layer adds nothing, and the head looks for the word before.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

WORDS = (
    "Cranes", " fly", " in", " a", " wedge", " so", " that", " each", " one", " rests", " behind", " another", ".",
)  # fmt: skip
SENTENCE = "".join(WORDS)
END, ASK, ANSWER = "<|end|>", "<|ask|>", "<|answer|>"
TEMPLATE = "{% for m in messages %}" + ASK + "{{ m.content }}{% endfor %}" + ANSWER
HIDDEN, HEAD = 320, 8  # a direction for each of some 270 tokens


def write(folder: Path) -> Path:
    """Write the model and return its folder."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tokens = _tokens()
    _tokenizer(tokens).save(str(folder / "tokenizer.json"))
    _dump(folder / "tokenizer_config.json", {"chat_template": TEMPLATE, "eos_token": END})
    _dump(folder / "generation_config.json", {"eos_token_id": tokens.index(END), "do_sample": False})
    _dump(folder / "config.json", _config(len(tokens), tokens.index(END)))
    save_file(_weights(tokens), folder / "model.safetensors")
    return folder


def _tokens() -> list[str]:
    """The three signs, every byte, and the words, as byte-level tokenizers spell them."""
    from tokenizers.pre_tokenizers import ByteLevel

    return [END, ASK, ANSWER, *sorted(ByteLevel.alphabet()), *(word.replace(" ", "Ġ") for word in WORDS[:-1])]


def _tokenizer(tokens: list[str]) -> Any:
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    made = tokenizers.Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([END, ASK, ANSWER])
    return made


def _config(vocabulary: int, end: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": HEAD,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": HEAD,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "eos_token_id": end,
        "torch_dtype": "float32",
    }


def _weights(tokens: list[str]) -> dict[str, np.ndarray]:
    embedding = np.eye(len(tokens), HIDDEN, dtype=np.float32)
    head = np.zeros_like(embedding)
    chain = [tokens.index(token) for token in (ANSWER, *(word.replace(" ", "Ġ") for word in WORDS), END)]
    head[chain[1:]] = embedding[chain[:-1]]
    shapes = {
        "self_attn.q_proj": (HEAD, HIDDEN),
        "self_attn.k_proj": (HEAD, HIDDEN),
        "self_attn.v_proj": (HEAD, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HEAD),
        "mlp.gate_proj": (HEAD, HIDDEN),
        "mlp.up_proj": (HEAD, HIDDEN),
        "mlp.down_proj": (HIDDEN, HEAD),
    }
    norms = ("layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm")
    return {
        "model.embed_tokens.weight": embedding,
        "lm_head.weight": head,
        **{f"model.layers.0.{name}.weight": np.zeros(shape, np.float32) for name, shape in shapes.items()},
        **{f"model.{name}.weight": np.ones(HIDDEN, np.float32) for name in norms},
    }


def _dump(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")

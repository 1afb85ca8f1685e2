"""A GGUF file of random weights in a real model's shapes, for measuring Crane and llama.cpp on the very same bytes.

Needs the gguf package. The vocabulary is made up, of a real one's size and build.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks._vocabulary import TEMPLATE, vocabulary
from crane_app.engine.random_checkpoint import CONFIGS

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def make(name: str, kind: str, source: Path, folder: Path) -> Path:
    """`folder`/`name`-`kind`.gguf from the checkpoint in `source`: matrices as `kind`, vectors in float32."""
    import gguf

    target = folder / f"{name}-{kind.lower()}.gguf"
    if target.exists():
        return target
    config, form = CONFIGS[name], gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(target.with_suffix(".part"), config["model_type"])
    describe(writer, config, name)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}"])  # OpenVINO wants it
    with (source / "model.safetensors").open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    data = np.memmap(source / "model.safetensors", np.uint8, "r", offset=8 + size)
    for path, about in header.items():
        bits = data[slice(*about["data_offsets"])].view(np.uint16).reshape(about["shape"])
        values, name_in = (bits.astype(np.uint32) << 16).view(np.float32), told(path)
        if values.ndim == 1:
            writer.add_tensor(name_in, values)
        elif kind == "BF16":
            writer.add_tensor(name_in, bits.view(np.uint8), raw_dtype=form)
        else:
            writer.add_tensor(name_in, gguf.quantize(values, form), raw_dtype=form)
    finish(writer, target)
    return target


def finish(writer, target: Path) -> None:
    """Write all of it, and give it its name."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    target.with_suffix(".part").rename(target)


def told(path: str) -> str:
    stem, end = path.rsplit(".", 1)
    if stem in TOP:
        return f"{TOP[stem]}.{end}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.{end}"


def describe(writer, config: dict, name: str) -> None:
    writer.add_name(name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    words = vocabulary(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.kinds)
    writer.add_token_merges(words.merges)
    writer.add_eos_token_id(words.id("<|im_end|>"))
    writer.add_bos_token_id(words.id("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

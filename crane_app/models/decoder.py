"""The decoder of Qwen2.5, Qwen3 (dense and mixture of experts), Hunyuan Dense, Llama and Mistral.

What differs between them is data: which tensors exist, the frequencies, the windows. Knows nothing of loading, devices,
dtypes, caches or sampling. Reference: transformers/models/{qwen2,qwen3,qwen3_moe,hunyuan_v1_dense,llama,mistral}.
"""

from __future__ import annotations

from crane_app.contract import Inputs, Outputs, Slot
from crane_app.models.config import DecoderConfig, read
from crane_app.models.weights import Experts, Parameter, Products, Table, Tensors, Tree

__all__ = ["Decoder", "build", "parameters", "read"]


class Decoder:
    """Tokens [N] of any number of rows -> drawn tokens [M] and logits [M, V]."""

    def __init__(self, ops, weights: Tree, config: DecoderConfig):
        self.ops, self.w, self.config = ops, weights, config
        self.vocabulary = config.vocabulary
        self.layout = tuple(
            Slot("window" if window else "full", config.groups, config.dim, window) for window in config.windows
        )

    def forward(self, inputs: Inputs, step, draw) -> Outputs:
        o, w = self.ops, self.w
        x = o.take(self.states(inputs, step), step.out)
        logits = o.linear(x, w.lm_head if "lm_head" in w else w.model.embed_tokens)
        return Outputs(draw(logits, 0), logits)

    def states(self, inputs: Inputs, step):
        """Tokens [N] -> hidden states [N, E] after the last norm."""
        x = self.ops.embed(inputs.tokens, self.w.model.embed_tokens)
        if inputs.replace is not None:
            x = self.ops.put(x, *inputs.replace)
        return self.hidden(x, step)

    def hidden(self, x, step):
        """Embeddings [N, E] -> hidden states [N, E] after the last norm."""
        o, c, w = self.ops, self.config, self.w.model
        rotary = o.rotary(step, c.inverse)
        for i, layer in enumerate(w.layers):
            x = x + self.attention(o.rms_norm(x, layer.input_layernorm, c.eps), layer.self_attn, rotary, step, i)
            x = x + self.mlp(o.rms_norm(x, layer.post_attention_layernorm, c.eps), layer.mlp)
        return o.rms_norm(x, w.norm, c.eps)

    def attention(self, x, w, rotary, step, i):
        o, c = self.ops, self.config
        q, k, v = o.linears(x, (w.q_proj, w.k_proj, w.v_proj))
        q, k, v = q.reshape(-1, c.heads, c.dim), k.reshape(-1, c.groups, c.dim), v.reshape(-1, c.groups, c.dim)
        if "q_norm" in w:  # Qwen3 normalises before turning
            q, k = o.rms_norm(q, w.q_norm, c.eps), o.rms_norm(k, w.k_norm, c.eps)
        q, k = o.rope(q, rotary), o.rope(k, rotary)
        if "query_layernorm" in w:  # Hunyuan after
            q, k = o.rms_norm(q, w.query_layernorm, c.eps), o.rms_norm(k, w.key_layernorm, c.eps)
        y = o.attend(q, k, v, step, i)
        return o.linear(y.reshape(-1, c.heads * c.dim), w.o_proj)

    def mlp(self, x, w):
        o, c = self.ops, self.config
        if "experts" in w:
            scores, e = o.linear(x, w.gate), w.experts
            return o.experts(x, scores, e.gate_up_proj, e.down_proj, c.top_k, normalise=c.normalise)
        gate, up = o.linears(x, (w.gate_proj, w.up_proj))
        return o.linear(o.swiglu(gate, up), w.down_proj)


def build(ops, weights: Tree, config: DecoderConfig) -> Decoder:
    """The model over its weights."""
    return Decoder(ops, weights, config)


def parameters(c: DecoderConfig) -> list[Parameter]:
    """What the checkpoint holds, in the order it is loaded."""
    found: list[Parameter] = [Table(Tensors("model.embed_tokens", (c.vocabulary, c.hidden)), c.tied)]
    for i in range(c.layers):
        found += _layer(c, f"model.layers.{i}", bool(c.expert_layers) and c.expert_layers[i])
    found.append(Table(Tensors("model.norm", (c.hidden,))))
    if not c.tied:
        found.append(Products((Tensors("lm_head", (c.vocabulary, c.hidden)),)))
    return found


def _layer(c: DecoderConfig, at: str, sparse: bool) -> list[Parameter]:
    wide, narrow, attention, mlp = c.heads * c.dim, c.groups * c.dim, f"{at}.self_attn", f"{at}.mlp"
    sizes = {"q_proj": wide, "k_proj": narrow, "v_proj": narrow}
    found: list[Parameter] = [
        Table(Tensors(f"{at}.input_layernorm", (c.hidden,))),
        Products(tuple(Tensors(f"{attention}.{n}", (size, c.hidden), c.qkv_bias) for n, size in sizes.items())),
        *(Table(Tensors(f"{attention}.{norm}", (c.dim,))) for norm in c.norms or ()),
        Products((Tensors(f"{attention}.o_proj", (c.hidden, wide), c.o_bias),)),
        Table(Tensors(f"{at}.post_attention_layernorm", (c.hidden,))),
    ]
    if sparse:
        gate = Products((Tensors(f"{mlp}.gate", (c.experts, c.hidden)),), fine=True)
        return [*found, gate, Experts(f"{mlp}.experts", c.experts, c.expert_inner, c.hidden)]
    pair = tuple(Tensors(f"{mlp}.{n}", (c.inner, c.hidden), c.mlp_bias) for n in ("gate_proj", "up_proj"))
    return [*found, Products(pair), Products((Tensors(f"{mlp}.down_proj", (c.hidden, c.inner), c.mlp_bias),))]

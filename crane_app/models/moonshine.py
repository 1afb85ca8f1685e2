"""Moonshine: speech at 16 kHz to text. An encoder of raw samples, and a decoder that recalls what it gave.

Knows nothing of loading, devices, dtypes, caches or when to stop. Trained on up to 30 seconds of English at a time.
Reference: transformers/models/moonshine; arXiv 2410.15608.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from crane_app.contract import Array, Inputs, Outputs, Slot
from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.models.config import Fields, rope_fields
from crane_app.models.rope import inverse_frequencies
from crane_app.models.weights import Parameter, Products, Table, Tensors, Tree

RATE = 16000  # samples a second
TOKENS = 6  # a second, at most: English speech has fewer, and noise would go on for ever
EPS = 1e-5  # torch.nn.LayerNorm and GroupNorm, whose eps no config names
CONVOLUTIONS = ((127, 64), (7, 3), (3, 2))  # taps and stride of each


@dataclass(frozen=True, eq=False)
class MoonshineConfig:
    """Sizes. dim: of a head. inverse: float64 [turned dims / 2]. start: the token that begins a transcript."""

    encoder_layers: int
    decoder_layers: int
    hidden: int
    inner: int
    heads: int
    dim: int
    vocabulary: int
    context: int
    tied: bool
    bias: bool
    inverse: np.ndarray
    start: int


class Moonshine:
    """A sound [T, 1] -> encoder states [C, E]; these and tokens [N] -> drawn tokens [M] and logits [M, V]."""

    def __init__(self, ops, weights: Tree, config: MoonshineConfig):
        self.ops, self.w, self.config = ops, weights, config
        self.vocabulary, self.start = config.vocabulary, config.start
        kept, recalled = Slot("full", config.heads, config.dim), Slot("memory", config.heads, config.dim)
        self.layout = (kept,) * config.decoder_layers + (recalled,) * config.decoder_layers
        self.shortest = 1
        for taps, stride in reversed(CONVOLUTIONS):
            self.shortest = (self.shortest - 1) * stride + taps

    def limit(self, samples: int) -> int:
        """How many tokens speech of this length can have."""
        return min(max(1, samples * TOKENS // RATE), self.config.context)

    def encoder(self, samples: int) -> tuple[Callable[[Array], Array], ...]:
        """See contract.Listener."""
        frames = samples
        for taps, stride in CONVOLUTIONS:
            frames = (frames - taps) // stride + 1
        layers = (partial(self.layer, layer=layer, frames=frames) for layer in self.w.model.encoder.layers)
        return (self.first, self.second, self.third, *layers, self.last)

    def first(self, x):
        o, w = self.ops, self.w.model.encoder
        return o.group_norm(o.tanh(o.conv1d(x, w.conv1, CONVOLUTIONS[0][1])), w.groupnorm, 1, EPS)

    def second(self, x):
        o, w = self.ops, self.w.model.encoder
        return o.gelu(o.conv1d(x, w.conv2, CONVOLUTIONS[1][1]))

    def third(self, x):
        o, w = self.ops, self.w.model.encoder
        return o.gelu(o.conv1d(x, w.conv3, CONVOLUTIONS[2][1]))

    def layer(self, x, layer: Tree, frames: int):
        """One layer of the encoder, whose frames all read each other."""
        o, c = self.ops, self.config
        rotary = o.rotary(np.arange(frames, dtype=np.int32), c.inverse)
        q, k, v = self.turned(o.layer_norm(x, layer.input_layernorm, EPS), layer.self_attn, rotary)
        y = o.full_attention(q, k, v, np.array([0, frames]))
        x = x + o.linear(y.reshape(-1, c.hidden), layer.self_attn.o_proj)
        y = o.gelu(o.linear(o.layer_norm(x, layer.post_attention_layernorm, EPS), layer.mlp.fc1))
        return x + o.linear(y, layer.mlp.fc2)

    def last(self, x):
        return self.ops.layer_norm(x, self.w.model.encoder.layer_norm, EPS)

    def forward(self, inputs: Inputs, step, draw) -> Outputs:
        o, c, w = self.ops, self.config, self.w.model.decoder
        if inputs.states is not None:
            self.remember(inputs.states, step)
        rotary = o.rotary(step, c.inverse)
        x = o.embed(inputs.tokens, w.embed_tokens)
        for i, layer in enumerate(w.layers):
            x = x + self.attention(o.layer_norm(x, layer.input_layernorm, EPS), layer.self_attn, rotary, step, i)
            x = x + self.recall(o.layer_norm(x, layer.post_attention_layernorm, EPS), layer.encoder_attn, step, i)
            x = x + self.mlp(o.layer_norm(x, layer.final_layernorm, EPS), layer.mlp)
        x = o.layer_norm(o.take(x, step.out), w.norm, EPS)
        logits = o.linear(x, self.w.proj_out if "proj_out" in self.w else w.embed_tokens)
        return Outputs(draw(logits, 0), logits)

    def remember(self, states, step):
        """Keys and values of the encoder's states, once for all tokens of a row; they are not turned."""
        o, c = self.ops, self.config
        for i, layer in enumerate(self.w.model.decoder.layers):
            k, v = o.linears(states, (layer.encoder_attn.k_proj, layer.encoder_attn.v_proj))
            k, v = k.reshape(-1, c.heads, c.dim), v.reshape(-1, c.heads, c.dim)
            o.remember(k, v, step, c.decoder_layers + i)

    def attention(self, x, w, rotary, step, i):
        q, k, v = self.turned(x, w, rotary)
        y = self.ops.attend(q, k, v, step, i)
        return self.ops.linear(y.reshape(-1, self.config.hidden), w.o_proj)

    def recall(self, x, w, step, i):
        o, c = self.ops, self.config
        q = o.linear(x, w.q_proj).reshape(-1, c.heads, c.dim)
        y = o.recall(q, step, c.decoder_layers + i)
        return o.linear(y.reshape(-1, c.hidden), w.o_proj)

    def turned(self, x, w, rotary: Any):
        """q, k turned in neighbouring pairs, and v: each [N, H, D]."""
        o, c = self.ops, self.config
        q, k, v = (y.reshape(-1, c.heads, c.dim) for y in o.linears(x, (w.q_proj, w.k_proj, w.v_proj)))
        return o.rope(q, rotary, pairs=True), o.rope(k, rotary, pairs=True), v

    def mlp(self, x, w):
        o, c = self.ops, self.config
        y = o.linear(x, w.fc1)  # its second half is the gate
        return o.linear(o.swiglu(y[:, c.inner :], y[:, : c.inner]), w.fc2)


def build(ops, weights: Tree, config: MoonshineConfig) -> Moonshine:
    """The model over its weights."""
    return Moonshine(ops, weights, config)


def read(raw: dict[str, Any]) -> MoonshineConfig:
    """The sizes from config.json."""
    f = Fields(raw)
    for name, known in (("encoder_hidden_act", "gelu"), ("decoder_hidden_act", "silu")):
        if raw.get(name, known) != known:
            raise Unsupported(f'config.json: "{name}" is {raw[name]!r:.60}; Crane\'s Moonshine knows {known} only')
    hidden, heads = f.whole("hidden_size", 1, 2**17), f.whole("decoder_num_attention_heads", 1, 4096)
    for name in ("encoder_num_attention_heads", "encoder_num_key_value_heads", "decoder_num_key_value_heads"):
        if f.whole(name, 1, 4096, default=heads) != heads:
            raise Unsupported(
                f'config.json: "{name}" must be {heads}, as "decoder_num_attention_heads", not {raw[name]}'
            )
    if hidden % heads:
        raise BadCheckpoint(f'config.json: "hidden_size" {hidden} is not a multiple of its {heads} heads')
    dim = hidden // heads
    vocabulary = f.whole("vocab_size", 1, 2**24)
    return MoonshineConfig(
        encoder_layers=f.whole("encoder_num_hidden_layers", 1, 1000),
        decoder_layers=f.whole("decoder_num_hidden_layers", 1, 1000),
        hidden=hidden,
        inner=f.whole("intermediate_size", 1, 2**20),
        heads=heads,
        dim=dim,
        vocabulary=vocabulary,
        context=f.whole("max_position_embeddings", 1, 2**30, default=512),
        tied=f.flag("tie_word_embeddings", default=True),
        bias=f.flag("attention_bias", default=False),
        inverse=_inverse(raw, dim),
        start=f.whole("decoder_start_token_id", 0, vocabulary - 1, default=min(1, vocabulary - 1)),
    )


def _inverse(raw: dict[str, Any], dim: int) -> np.ndarray:
    """Frequencies of the dims that are turned; the rest of a head passes through."""
    rope = rope_fields(raw)
    share = Fields({"partial_rotary_factor": raw.get("partial_rotary_factor"), **rope})
    turned = int(dim * share.number("partial_rotary_factor", 0.0, 1.0, default=0.9))
    if turned < 2 or turned % 2:
        raise BadCheckpoint(
            f'config.json: "partial_rotary_factor" turns {turned} of {dim} dims; it must be an even number'
        )
    return inverse_frequencies(rope, turned)


def parameters(c: MoonshineConfig) -> list[Parameter]:
    """What the checkpoint holds, in the order it is loaded."""
    encoder, decoder = "model.encoder", "model.decoder"
    first, second, third = (taps for taps, _ in CONVOLUTIONS)
    return [
        Table(Tensors(f"{encoder}.conv1", (c.hidden, 1, first))),
        Table(Tensors(f"{encoder}.groupnorm", (c.hidden,), bias=True)),
        Table(Tensors(f"{encoder}.conv2", (2 * c.hidden, c.hidden, second), bias=True)),
        Table(Tensors(f"{encoder}.conv3", (c.hidden, 2 * c.hidden, third), bias=True)),
        *(p for i in range(c.encoder_layers) for p in _encoder_layer(c, f"{encoder}.layers.{i}")),
        _norm(c, f"{encoder}.layer_norm"),
        Table(Tensors(f"{decoder}.embed_tokens", (c.vocabulary, c.hidden)), c.tied),
        *(p for i in range(c.decoder_layers) for p in _decoder_layer(c, f"{decoder}.layers.{i}")),
        _norm(c, f"{decoder}.norm"),
        *([] if c.tied else [Products((Tensors("proj_out", (c.vocabulary, c.hidden)),))]),
    ]


def _encoder_layer(c: MoonshineConfig, at: str) -> list[Parameter]:
    return [
        _norm(c, f"{at}.input_layernorm"),
        *_attention(c, f"{at}.self_attn", ("q_proj", "k_proj", "v_proj"), ("o_proj",)),
        _norm(c, f"{at}.post_attention_layernorm"),
        *_mlp(c, f"{at}.mlp", c.inner),
    ]


def _decoder_layer(c: MoonshineConfig, at: str) -> list[Parameter]:
    return [
        _norm(c, f"{at}.input_layernorm"),
        *_attention(c, f"{at}.self_attn", ("q_proj", "k_proj", "v_proj"), ("o_proj",)),
        _norm(c, f"{at}.post_attention_layernorm"),
        *_attention(c, f"{at}.encoder_attn", ("q_proj",), ("k_proj", "v_proj"), ("o_proj",)),
        _norm(c, f"{at}.final_layernorm"),
        *_mlp(c, f"{at}.mlp", 2 * c.inner),
    ]


def _norm(c: MoonshineConfig, at: str) -> Parameter:
    return Table(Tensors(at, (c.hidden,)))


def _attention(c: MoonshineConfig, at: str, *groups: tuple[str, ...]) -> Iterator[Parameter]:
    """Each group shares an input; the output product alone has never a bias."""
    for group in groups:
        leaves = (Tensors(f"{at}.{name}", (c.hidden, c.hidden), c.bias and name != "o_proj") for name in group)
        yield Products(tuple(leaves))


def _mlp(c: MoonshineConfig, at: str, inner: int) -> Iterator[Parameter]:
    yield Products((Tensors(f"{at}.fc1", (inner, c.hidden), bias=True),))
    yield Products((Tensors(f"{at}.fc2", (c.hidden, c.inner), bias=True),))

"""Drawing tokens on MLX, as torch/sampling.py does: inverse transform over candidates in a fixed order."""

from __future__ import annotations

import mlx.core as mx

from crane_app.backends.draw import Draw, Group, Masks, Penalties


def sample(logits: mx.array, draw: Draw) -> mx.array:
    """int32 [M] from logits [M, V]."""
    if not logits.shape[0]:
        return mx.zeros(0, mx.int32)
    if draw.adjusted:
        logits = _adjusted(logits.astype(mx.float32), draw)
    if draw.whole:
        return _draw(logits, draw.groups[0])
    tokens = mx.zeros(logits.shape[0], mx.int32)
    for group in draw.groups:
        index = mx.array(group.index)
        tokens[index] = _draw(logits[index], group)
    return tokens


def rank(logits: mx.array, tokens: mx.array, count: int) -> tuple[mx.array, ...]:
    """Log-probabilities of the tokens [M], and ids and log-probabilities of the likeliest [M, count]."""
    logits = logits.astype(mx.float32)
    scores = logits - mx.logsumexp(logits, -1, keepdims=True)
    ids = _best(logits, min(count, logits.shape[-1]))
    chosen = mx.take_along_axis(scores, tokens[:, None], -1)[:, 0]
    return chosen, ids.astype(mx.int32), mx.take_along_axis(scores, ids, -1)


def _draw(logits: mx.array, group: Group) -> mx.array:
    if group.way == "greedy":
        return mx.argmax(logits, -1).astype(mx.int32)
    temperature, top_p, min_p, noise = (
        mx.array(x)[:, None] for x in (group.temperature, group.top_p, group.min_p, group.noise)
    )
    scores = logits.astype(mx.float32) / temperature
    if group.way == "plain":
        mass = mx.exp(scores - scores.max(-1, keepdims=True))
        return _pick(mx.where(mass >= min_p, mass, 0.0), noise)
    keep = min(group.keep, scores.shape[-1]) if group.keep else scores.shape[-1]
    order = _best(scores, keep)
    scores = mx.take_along_axis(scores, order, -1)
    mass = mx.exp(scores - scores[:, :1])
    mass = mx.where(mx.arange(keep) < mx.array(group.top_k)[:, None], mass, 0.0)
    before = mx.cumsum(mass, -1) - mass
    mass = mx.where(before < top_p * (before + mass)[:, -1:], mass, 0.0)
    mass[:, 0] = 1.0
    chosen = _pick(mx.where(mass >= min_p, mass, 0.0), noise)
    return mx.take_along_axis(order, chosen[:, None], -1)[:, 0].astype(mx.int32)


def _pick(mass: mx.array, noise: mx.array) -> mx.array:
    """The first candidate whose cumulative mass exceeds noise times the whole."""
    total = mx.cumsum(mass, -1)
    whole = total[:, -1:]
    return ((total <= noise * whole) & (total < whole)).sum(-1).astype(mx.int32)


def _best(scores: mx.array, count: int) -> mx.array:
    """Ids of the `count` largest of each row, descending; MLX's sort is stable, so ties stay in order of id."""
    return mx.argsort(-scores, -1)[:, :count]


def _adjusted(logits: mx.array, draw: Draw) -> mx.array:
    logits = mx.array(logits)
    if draw.masks is not None:
        index = mx.array(draw.masks.index)
        logits[index] = mx.where(_allowed(draw.masks, logits), logits[index], -float("inf"))
    for place, ids, values in draw.bias:
        logits[place, mx.array(ids)] += mx.array(values)
    if draw.penalties is not None:
        index = mx.array(draw.penalties.index)
        logits[index] = _penalised(logits[index], draw.penalties, draw.inputs)
    return logits


def _allowed(masks: Masks, logits: mx.array) -> mx.array:
    """bool [m, V] from the bits."""
    bits = (mx.array(masks.bits)[:, :, None] >> mx.arange(32)) & 1
    return bits.flatten(1)[:, : logits.shape[-1]] == 1


def _penalised(logits: mx.array, p: Penalties, inputs: mx.array | None) -> mx.array:
    def counts(table) -> mx.array:
        ids = mx.array(table)
        if inputs is not None:
            carried = mx.where(mx.array(p.carried) == 0, -1, inputs[mx.array(p.index)])
            ids = mx.concatenate([ids, carried[:, None]], -1)
        found = mx.zeros(logits.shape)
        rows = mx.arange(ids.shape[0])[:, None]
        return found.at[rows, mx.maximum(ids, 0)].add((ids >= 0).astype(mx.float32))

    repetition, presence, frequency = (mx.array(x)[:, None] for x in (p.repetition, p.presence, p.frequency))
    repeated, made = counts(p.repeated) > 0, counts(p.made)
    scaled = mx.where(logits > 0, logits / repetition, logits * repetition)
    logits = mx.where(repeated, scaled, logits)
    return logits - presence * (made > 0) - frequency * made

"""Drawing tokens on PyTorch. Inverse transform over candidates in a fixed order; ties go to the lower id."""

from __future__ import annotations

import torch

from crane_app.backends.draw import Draw, Group, Masks, Penalties
from crane_app.backends.torch import native


def sample(logits: torch.Tensor, draw: Draw) -> torch.Tensor:
    """int32 [M] from logits [M, V]."""
    if not logits.shape[0]:
        return torch.zeros(0, dtype=torch.int32, device=logits.device)
    if draw.adjusted:
        logits = _adjusted(logits.float(), draw)
    if draw.whole:
        return _draw(logits, draw.groups[0])
    tokens = torch.zeros(logits.shape[0], dtype=torch.int32, device=logits.device)
    for group in draw.groups:
        index = torch.from_numpy(group.index).to(logits.device)
        tokens[index] = _draw(logits[index], group)
    return tokens


def rank(logits: torch.Tensor, tokens: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
    """Log-probabilities of the tokens [M], and ids and log-probabilities of the likeliest [M, count]."""
    scores = torch.log_softmax(logits.float(), -1)
    ids = _best(logits.float(), min(count, logits.shape[-1]))
    return scores.gather(-1, tokens.long()[:, None])[:, 0], ids.int(), scores.gather(-1, ids)


def _draw(logits: torch.Tensor, group: Group) -> torch.Tensor:
    if group.way == "greedy":
        return _likeliest(logits)
    temperature, top_p, min_p, noise = (
        torch.from_numpy(x).to(logits.device)[:, None]
        for x in (group.temperature, group.top_p, group.min_p, group.noise)
    )
    scores = logits.float() / temperature
    if group.way == "plain":
        mass = torch.exp(scores - scores.amax(-1, keepdim=True))
        return _pick(mass.where(mass >= min_p, 0.0), noise).int()
    keep = min(group.keep, scores.shape[-1]) if group.keep else scores.shape[-1]
    order = _best(scores, keep)
    scores = scores.gather(-1, order)
    mass = torch.exp(scores - scores[:, :1])
    top_k = torch.from_numpy(group.top_k).to(logits.device)[:, None]
    mass = mass.where(torch.arange(keep, device=logits.device) < top_k, 0.0)
    before = mass.cumsum(-1) - mass
    mass = mass.where(before < top_p * (before + mass)[:, -1:], 0.0)
    mass[:, 0] = 1.0
    chosen = _pick(mass.where(mass >= min_p, 0.0), noise)
    return order.gather(-1, chosen[:, None])[:, 0].int()


def _likeliest(logits: torch.Tensor) -> torch.Tensor:
    if logits.dtype == torch.float32 and not logits.is_cuda and native.library() is not None:
        return native.best(logits)
    return logits.argmax(-1).int()


def _pick(mass: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The first candidate whose cumulative mass exceeds noise times the whole."""
    total = mass.cumsum(-1)
    whole = total[:, -1:]
    return ((total <= noise * whole) & (total < whole)).sum(-1)


def _best(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Ids of the `count` largest of each row of float32 scores, descending, ties by lower id: a total order, since
    topk promises none. The float's bits, made monotonic, stand above the reversed id in one int64."""
    bits = (scores + 0.0).view(torch.int32).long()
    bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    ids = torch.arange(scores.shape[-1], device=scores.device)
    keys = (bits << 32) | (0x7FFFFFFF - ids)
    return 0x7FFFFFFF - (keys.topk(count, -1).values & 0x7FFFFFFF)


def _adjusted(logits: torch.Tensor, draw: Draw) -> torch.Tensor:
    logits = logits.clone()
    if draw.masks is not None:
        index = torch.from_numpy(draw.masks.index).to(logits.device)
        logits[index] = logits[index].masked_fill(~_allowed(draw.masks, logits), float("-inf"))
    for place, ids, values in draw.bias:
        logits[place, torch.from_numpy(ids).long()] += torch.from_numpy(values).to(logits.device)
    if draw.penalties is not None:
        index = torch.from_numpy(draw.penalties.index).to(logits.device)
        logits[index] = _penalised(logits[index], draw.penalties, draw.inputs)
    return logits


def _allowed(masks: Masks, logits: torch.Tensor) -> torch.Tensor:
    """bool [m, V] from the bits."""
    bits = torch.from_numpy(masks.bits).to(logits.device)
    places = torch.arange(32, dtype=torch.int32, device=logits.device)
    return ((bits[:, :, None] >> places) & 1).flatten(1)[:, : logits.shape[-1]].bool()


def _penalised(logits: torch.Tensor, p: Penalties, inputs: torch.Tensor | None) -> torch.Tensor:
    def counts(table) -> torch.Tensor:
        ids = torch.from_numpy(table).to(logits.device).long()
        if inputs is not None:
            carried = inputs[torch.from_numpy(p.index).to(logits.device)].long()
            absent = torch.from_numpy(p.carried).to(logits.device) == 0
            ids = torch.cat([ids, carried.masked_fill(absent, -1)[:, None]], -1)
        found = torch.zeros(len(ids), logits.shape[-1], device=logits.device)
        return found.scatter_add_(-1, ids.clamp_min(0), (ids >= 0).float())

    repetition, presence, frequency = (
        torch.from_numpy(x).to(logits.device)[:, None] for x in (p.repetition, p.presence, p.frequency)
    )
    repeated, made = counts(p.repeated) > 0, counts(p.made)
    scaled = torch.where(logits > 0, logits / repetition, logits * repetition)
    logits = torch.where(repeated, scaled, logits)
    return logits - presence * (made > 0) - frequency * made

"""Drawing tokens on PyTorch. Inverse transform over candidates in a fixed order; ties go to the lower id."""

from __future__ import annotations

import numpy as np
import torch

from crane_app.backends.draw import Draw, Group, Masks, Penalties
from crane_app.backends.torch import native

FIRST, FEW = 64, 1024  # candidates that the native library is asked for: first, and at most


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
    count = min(count, logits.shape[-1])
    if _natively(logits) and count <= FEW:
        ids = native.likeliest(logits, np.ones(len(logits), np.float32), count)[0]
    else:
        ids = _best(logits.float(), count)
    return scores.gather(-1, tokens.long()[:, None])[:, 0], ids.int(), scores.gather(-1, ids)


def _draw(logits: torch.Tensor, group: Group) -> torch.Tensor:
    if group.way == "greedy":
        return native.best(logits) if _natively(logits) else logits.argmax(-1).int()
    if group.way == "plain" and _natively(logits):
        return native.pick(logits, group.temperature, group.min_p, group.noise)
    if group.way == "plain":
        temperature, _, min_p, noise = _columns(group, logits)
        scores = logits.float() / temperature
        mass = torch.exp(scores - scores.amax(-1, keepdim=True))
        return _pick(mass.where(mass >= min_p, 0.0), noise).int()
    keep = min(group.keep, logits.shape[-1]) if group.keep else logits.shape[-1]
    if not _natively(logits) or (group.keep and keep > FEW):
        return _among(logits, _best(logits.float() / _columns(group, logits)[0], keep), group)[0]
    if not group.keep:
        return _nucleus(logits, group, FIRST)
    return _among(logits, native.likeliest(logits, group.temperature, keep)[0], group)[0]


def _nucleus(logits: torch.Tensor, group: Group, few: int) -> torch.Tensor:
    """Drawn from the few likeliest where top_p ends among them, as it mostly does, else from FEW, else from all."""
    order, total = native.likeliest(logits, group.temperature, min(few, logits.shape[-1]))
    tokens, ended = _among(logits, order, group, total[:, None])
    for row in (~ended).nonzero()[:, 0].tolist():
        here = slice(row, row + 1)
        one, own = logits[here], Group(group.way, 0, *(x[here] for x in _arrays(group)))
        if few < FEW:
            tokens[here] = _nucleus(one, own, FEW)
        else:
            every = _best(one / _columns(own, one)[0], one.shape[-1])
            tokens[here] = _among(one, every, own, total[here, None])[0]
    return tokens


def _among(
    logits: torch.Tensor, order: torch.Tensor, group: Group, total: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens int32 [M] drawn from the candidates `order` [M, K], in descending order, and whether top_p ends in them.

    total: float32 [M, 1], the mass of all candidates where they are more than these.
    """
    temperature, top_p, min_p, noise = _columns(group, logits)
    scores = logits.gather(-1, order).float() / temperature
    mass = torch.exp(scores - scores[:, :1])
    top_k = torch.from_numpy(group.top_k).to(logits.device)[:, None]
    mass = mass.where(torch.arange(mass.shape[-1], device=logits.device) < top_k, 0.0)
    after = mass.cumsum(-1)
    before, most = after - mass, top_p * (after[:, -1:] if total is None else total)
    mass = mass.where(before < most, 0.0)
    mass[:, 0] = 1.0
    chosen = _pick(mass.where(mass >= min_p, 0.0), noise)
    return order.gather(-1, chosen[:, None])[:, 0].int(), after[:, -1] >= most[:, 0]


def _arrays(group: Group) -> tuple[np.ndarray, ...]:
    return group.index, group.temperature, group.top_k, group.top_p, group.min_p, group.noise


def _columns(group: Group, logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Temperature, top_p, min_p and noise as [M, 1]."""
    given = group.temperature, group.top_p, group.min_p, group.noise
    return tuple(torch.from_numpy(x).to(logits.device)[:, None] for x in given)


def _natively(logits: torch.Tensor) -> bool:
    return logits.dtype == torch.float32 and not logits.is_cuda and native.library() is not None


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
    """Logits [m, V], of which only those of tokens in reach are looked at; changes them in place."""
    repetition, presence, frequency = (
        torch.from_numpy(x).to(logits.device)[:, None] for x in (p.repetition, p.presence, p.frequency)
    )

    def reach(table: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids int64 [m, W], -1 past the end, and the same with one of the others there, 0 if there are none."""
        ids = torch.from_numpy(table).to(logits.device).long()
        if inputs is not None:
            carried = inputs[torch.from_numpy(p.index).to(logits.device)].long()
            absent = torch.from_numpy(p.carried).to(logits.device) == 0
            ids = torch.cat([ids, carried.masked_fill(absent, -1)[:, None]], -1)
        return ids, ids.where(ids >= 0, ids.amax(-1, keepdim=True)).clamp_min(0)

    ids, at = reach(p.repeated)
    held = logits.gather(-1, at)
    scaled = torch.where(held > 0, held / repetition, held * repetition)
    logits.scatter_(-1, at, torch.where(ids.amax(-1, keepdim=True) < 0, held, scaled))
    ids, at = reach(p.made)
    counts = torch.zeros_like(logits).scatter_add_(-1, ids.clamp_min(0), (ids >= 0).to(logits.dtype)).gather(-1, at)
    held = logits.gather(-1, at)
    return logits.scatter_(-1, at, held - presence * (counts > 0) - frequency * counts)

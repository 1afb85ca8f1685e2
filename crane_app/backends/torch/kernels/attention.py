"""Attention of one new token a row over the row's cached keys, all rows in one launch.

Rows own their tensors [G, capacity, D]; the kernels are given their addresses, so that a captured step follows a row
that moves. The keys of a row are cut into splits of SPLIT positions whose results are merged: a row's numbers depend on
its own length only. Method: arXiv 2205.14135 for a split, 2311.01282 for the merging.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

SPLIT = 128  # positions one program reads
TILE = 64  # positions of a split in flight at once
AT_ONCE = 16  # splits merged at once
LEAST = 16  # queries of the smallest product of the tensor cores
INTERPRETED = triton.knobs.runtime.interpret  # whose products of bfloat16 are those of its bits
KINDS = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


def attend(q, k, v, addresses, starts, capacities, splits: int, window: int, scale: float) -> torch.Tensor:
    """Cache k, v [R, G, D] at `starts`, then attention of q [R, H, D] over starts + 1 positions: [R, H, D], contiguous.

    addresses: int64 [R, 2], of each row's keys and values; starts, capacities: int32 [R], positions cached and held;
    splits: a power of two, enough for the longest row; window: 0 for none. Twin: Ops.attend.
    """
    count, heads, dim = q.shape
    groups = k.shape[1]
    share = heads // groups
    if q.dtype not in KINDS or q.stride(2) != 1 or k.stride(2) != 1 or v.stride(2) != 1:
        raise ValueError("decode attention needs floats whose last axis is dense")
    kind, width = KINDS[q.dtype], triton.next_power_of_2(dim)
    queries = max(LEAST, triton.next_power_of_2(share))
    partial = torch.empty(count, groups, splits, share, dim, dtype=torch.float32, device=q.device)
    weights = torch.empty(count, groups, splits, 2, share, dtype=torch.float32, device=q.device)
    y = torch.empty(count, heads, dim, dtype=q.dtype, device=q.device)
    _cache[(count, groups)](
        k, v, addresses, starts, capacities, k.stride(0), k.stride(1), v.stride(0), v.stride(1), dim,
        KIND=kind, WIDTH=width,
    )  # fmt: skip
    _split[(count, groups, splits)](
        q, addresses, starts, capacities, partial, weights, q.stride(0), q.stride(1), share, dim, window, scale,
        KIND=kind, WORK=tl.float32 if INTERPRETED else kind, QUERIES=queries, WIDTH=width, SPAN=SPLIT, PART=TILE,
    )  # fmt: skip
    _merge[(count, heads)](
        partial, weights, starts, y, share, groups, dim, window,
        SPLITS=splits, PART=min(splits, AT_ONCE), WIDTH=width, SPAN=SPLIT,
    )  # fmt: skip
    return y


@triton.jit
def _cache(
    k, v, addresses, starts, capacities, k_row, k_head, v_row, v_head, dim, KIND: tl.constexpr, WIDTH: tl.constexpr
):
    """The new position's keys and values, to where their row keeps them."""
    row, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.arange(0, WIDTH)
    inside = column < dim
    place = (group * tl.load(capacities + row).to(tl.int64) + tl.load(starts + row)) * dim + column
    keys = tl.load(addresses + 2 * row).to(tl.pointer_type(KIND))
    values = tl.load(addresses + 2 * row + 1).to(tl.pointer_type(KIND))
    tl.store(keys + place, tl.load(k + row * k_row + group * k_head + column, mask=inside), mask=inside)
    tl.store(values + place, tl.load(v + row * v_row + group * v_head + column, mask=inside), mask=inside)


@triton.jit
def _split(
    q, addresses, starts, capacities, partial, weights, q_row, q_head, share, dim, window, scale,
    KIND: tl.constexpr, WORK: tl.constexpr, QUERIES: tl.constexpr, WIDTH: tl.constexpr, SPAN: tl.constexpr,
    PART: tl.constexpr,
):  # fmt: skip
    """The share of one split: its weighted values, not yet divided, with its maximum and its sum of weights."""
    row, group, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    length = tl.load(starts + row) + 1
    first = tl.maximum(length - window, 0) if window > 0 else 0
    if (split * SPAN < length) & ((split + 1) * SPAN > first):
        column, query = tl.arange(0, WIDTH), tl.arange(0, QUERIES)
        inside, asked = column < dim, query < share
        at = q + row * q_row + (group * share + query[:, None]) * q_head + column[None]
        queries = tl.load(at, mask=asked[:, None] & inside[None], other=0.0).to(WORK)
        base = group * tl.load(capacities + row).to(tl.int64) * dim
        keys = tl.load(addresses + 2 * row).to(tl.pointer_type(KIND)) + base
        values = tl.load(addresses + 2 * row + 1).to(tl.pointer_type(KIND)) + base
        best = tl.full([QUERIES], float("-inf"), tl.float32)
        total = tl.zeros([QUERIES], tl.float32)
        mixed = tl.zeros([QUERIES, WIDTH], tl.float32)
        for start in range(0, SPAN, PART):
            place = split * SPAN + start + tl.arange(0, PART)
            seen = (place < length) & (place >= first)
            where = place[:, None] * dim + column[None]
            mask = seen[:, None] & inside[None]
            near = tl.load(keys + where, mask=mask, other=0.0).to(WORK)
            scores = tl.dot(queries, tl.trans(near), input_precision="ieee") * scale
            scores = tl.where(seen[None], scores, float("-inf"))
            higher = tl.maximum(best, tl.max(scores, 1))
            safe = tl.where(higher == float("-inf"), 0.0, higher)  # a tile outside the window has no scores
            kept = tl.exp(best - safe)
            chances = tl.exp(scores - safe[:, None])
            total = total * kept + tl.sum(chances, 1)
            held = tl.load(values + where, mask=mask, other=0.0).to(WORK)
            mixed = mixed * kept[:, None] + tl.dot(chances.to(WORK), held, input_precision="ieee")
            best = higher
        index = (row * tl.num_programs(1) + group) * tl.num_programs(2) + split
        out = partial + (index * share + query[:, None]) * dim + column[None]
        tl.store(out, mixed, mask=asked[:, None] & inside[None])
        tl.store(weights + index * 2 * share + query, best, mask=asked)
        tl.store(weights + (index * 2 + 1) * share + query, total, mask=asked)


@triton.jit
def _merge(
    partial, weights, starts, y, share, groups, dim, window,
    SPLITS: tl.constexpr, PART: tl.constexpr, WIDTH: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    """The splits that a row has, in their order, weighed by their maxima."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    group, query = head // share, head % share
    length = tl.load(starts + row) + 1
    first = tl.maximum(length - window, 0) if window > 0 else 0
    column = tl.arange(0, WIDTH)
    inside = column < dim
    best, total = tl.full([1], float("-inf"), tl.float32), tl.zeros([1], tl.float32)
    mixed = tl.zeros([WIDTH], tl.float32)
    for start in range(0, SPLITS, PART):
        split = start + tl.arange(0, PART)
        made = (split * SPAN < length) & ((split + 1) * SPAN > first)
        index = (row * groups + group) * SPLITS + split
        high = tl.load(weights + index * 2 * share + query, mask=made, other=float("-inf"))
        mass = tl.load(weights + (index * 2 + 1) * share + query, mask=made, other=0.0)
        where = (index * share + query)[:, None] * dim + column[None]
        part = tl.load(partial + where, mask=made[:, None] & inside[None], other=0.0)
        higher = tl.maximum(best, tl.max(high, 0))
        safe = tl.where(higher == float("-inf"), 0.0, higher)  # none of these splits may be the row's
        old, new = tl.exp(best - safe), tl.exp(high - safe)
        mixed = mixed * old + tl.sum(part * new[:, None], 0)
        total = total * old + tl.sum(mass * new, 0)
        best = higher
    tl.store(y + (row * tl.num_programs(1) + head) * dim + column, (mixed / total).to(y.dtype.element_ty), mask=inside)

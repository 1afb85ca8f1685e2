"""What can be done with a packed matrix as it is: expand it, cut rows out of it, join it with others of its scheme."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np

from crane_app.host import Groups, HostTensor, Packed
from crane_app.media.files.gguf_blocks import form_of
from crane_app.media.files.groups import numbers

PIECE = 1 << 20  # numbers expanded at once
P = TypeVar("P", Groups, Packed)


def expanded(packed: Packed) -> HostTensor:
    """The numbers as float32, of the packed matrix's shape."""
    out = np.empty(packed.shape, np.float32)
    rows, step = out.reshape(-1, packed.shape[-1]), max(PIECE // packed.shape[-1], 1)
    flat = packed.of([x.reshape(-1, x.shape[-1]) for x in packed.arrays])
    for at in range(0, len(rows), step):
        rows[at : at + step] = rows_of(cut(flat, slice(at, at + step)))
    return HostTensor(out, "float32")


def rows_of(packed: Packed) -> np.ndarray:
    """The numbers as float32, all at once, with several times their memory on the way."""
    if isinstance(packed, Groups):
        return numbers(packed)
    form = form_of(packed.kind)
    if form.unpack is None:
        raise ValueError(f"{packed.kind} is a type that is not unpacked")
    with np.errstate(over="ignore", invalid="ignore"):  # damaged scales give inf and nan, as in ggml
        return form.unpack(packed.data.reshape(-1, form.nbytes)).reshape(packed.shape)


def cut(packed: Packed, index: slice | np.ndarray | int) -> Packed:
    """Along the first axis: rows of a matrix by a slice or by their numbers, or one expert of many."""
    return packed.of([x[index] for x in packed.arrays])


def joined(parts: Sequence[P]) -> P:
    """Matrices of one scheme, one below the other; of experts each below its like."""
    if len(parts) == 1:
        return parts[0]
    if len({part.scheme for part in parts}) != 1:
        raise ValueError(f"cannot join {' and '.join(str(part.scheme) for part in parts)}")
    return parts[0].of([np.concatenate(same, -2) for same in zip(*(part.arrays for part in parts), strict=True)])


def stacked(parts: Iterable[Packed], count: int) -> Packed:
    """Matrices [O, I] of one scheme as `count` experts [X, O, I]; each is let go before the next is made."""
    every = iter(parts)
    first = next(every)
    stacks = [np.empty((count, *each.shape), each.dtype) for each in first.arrays]
    for i, part in enumerate(chain([first], every)):
        if part.scheme != first.scheme:
            raise ValueError(f"cannot join {first.scheme} and {part.scheme}")
        for stack, array in zip(stacks, part.arrays, strict=True):
            stack[i] = array
    return first.of(stacks)

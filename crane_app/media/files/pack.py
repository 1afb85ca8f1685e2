"""Plain matrices into affine groups: some rows at a time on several threads, so that little else is held."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from crane_app.host import Groups, HostTensor, Scheme
from crane_app.media.files.groups import grouped
from crane_app.media.files.halves import widened

PIECE = 1 << 18  # numbers packed at once by a thread: they stay in its cache
MOST_THREADS = 8


def pack(host: HostTensor, scheme: Scheme) -> Groups:
    """The nearest groups to a matrix [O, I] or experts [X, O, I]; scales and biases in the scheme's dtype."""
    width, lead = host.shape[-1], host.shape[:-1]
    rows = host.array.reshape(-1, width)
    groups = width // scheme.size
    q = np.empty((len(rows), width * scheme.bits // 32), np.uint32)
    held = np.uint16 if scheme.dtype == "bfloat16" else np.dtype(scheme.dtype)
    scales, biases = (np.empty((len(rows), groups), held) for _ in range(2))

    def piece(here: slice) -> None:
        made = grouped(widened(HostTensor(rows[here], host.dtype)), scheme.size, scheme.bits, scheme.dtype)
        q[here], scales[here], biases[here] = made.packed, made.scales.array, made.biases.array

    each_piece(len(rows), width, piece)
    pair = [HostTensor(each.reshape(*lead, groups), scheme.dtype) for each in (scales, biases)]
    return Groups(q.reshape(*lead, -1), pair[0], pair[1], scheme.size, scheme.bits)


def each_piece(rows: int, width: int, work: Callable[[slice], None]) -> None:
    """Do something with all rows of a matrix, some at a time, on several threads."""
    step = max(PIECE // width, 1)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_THREADS)) as pool:
        for _ in pool.map(work, (slice(at, at + step) for at in range(0, rows, step))):
            pass

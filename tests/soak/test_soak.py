"""Minutes of clients that come, change their minds and go, on a real model with too little memory: nothing piles up.

CRANE_SOAK_MINUTES says how many, 10 if not given.
"""

from __future__ import annotations

import os
import queue
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crane_app.contract import BLOCK, Work
from crane_app.engine.engine import Engine
from crane_app.engine.request import Asked, End, Part, Request, Stream
from tests.chat_checkpoint import SIZE, write_chat

pytestmark = pytest.mark.soak

MINUTES = float(os.environ.get("CRANE_SOAK_MINUTES", "10"))
CLIENTS = 32
ROUND = 48  # requests between two looks at the memory
ROOM = 24  # blocks for rows and kept beginnings: a quarter of what the clients would like
MOST_TOKENS = 640  # of a step: prompts, decoding rows, guesses and tokens that run again
SLACK = 24 * 2**20  # bytes that an allocator may come and go by


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def show_all_shapes(model: Any) -> None:
    """Steps of every number of tokens: oneDNN keeps kernels for each that it has seen, 1,024 at most."""
    cache = model.cache
    for count in range(1, MOST_TOKENS + 1):
        row = cache.open(count)
        model.loaded.runner.launch([Work(row, np.full(count, 5, np.int32))]).read()
        cache.close(row)


def a_request(rng: random.Random, beginnings: list[tuple[int, ...]], model: str) -> Request:
    begun = rng.choice(beginnings)[: rng.choice([0, 100, 256, 400, 700])]
    new = tuple(rng.randrange(5, SIZE - 5) for _ in range(rng.choice([1, 20, 90])))
    asked = Asked(
        temperature=rng.choice([0.0, 1.0]),
        repetition_penalty=rng.choice([1.0, 1.2]),
        seed=rng.randrange(9),
        n=rng.choice([1, 1, 1, 3]),
        max_tokens=rng.choice([1, 10, 30, 30, 560]),
        ignore_eos=True,
    )
    return Request(model, tokens=begun + new, asked=asked, salt=rng.choice(["", "a"]))


def a_round(engine: Engine, rng: random.Random, beginnings: list[tuple[int, ...]], model: str) -> dict[str, int]:
    """ROUND requests, CLIENTS at a time, a third of them cancelled somewhere on the way; how they ended."""
    left, live, ends = ROUND, [], dict.fromkeys(("stop", "length", "cancelled", "error"), 0)
    while left or live:
        while left and len(live) < CLIENTS:
            live.append(engine.submit(a_request(rng, beginnings, model)))
            left -= 1
        stream: Stream = rng.choice(live)
        if rng.random() < 0.02:
            stream.cancel()
        try:
            event = stream.get(timeout=0.05)
        except queue.Empty:
            continue
        if isinstance(event, End):
            ends[event.reason] += 1
            live.remove(stream)
            assert event.reason != "error", event.error
    return ends


@pytest.mark.timeout(MINUTES * 60 + 600)
def test_memory_stays_flat_while_clients_come_and_go(backend_name, tmp_path):
    if not sys.platform.startswith("linux"):
        pytest.skip("no /proc to read the memory of this process from")
    engine, rng = Engine(), random.Random(1)
    card = next(
        e.value
        for e in engine.load(str(write_chat(tmp_path / "tiny")), None, backend_name, "cpu", "float32")
        if isinstance(e, Part)
    )
    cache = engine._shelf.find(card.name).cache
    cache.budget = ROOM * BLOCK * cache.position_nbytes()
    engine._ask(lambda: show_all_shapes(engine._shelf.find(card.name)), timeout=1200)
    beginnings = [tuple(rng.randrange(5, SIZE - 5) for _ in range(700)) for _ in range(4)]
    sizes, ends, until = [], dict.fromkeys(("stop", "length", "cancelled", "error"), 0), time.monotonic() + MINUTES * 60
    try:
        while time.monotonic() < until or len(sizes) < 4:
            for reason, count in a_round(engine, rng, beginnings, card.name).items():
                ends[reason] += count
            engine.flush()
            assert engine.stats().cache_nbytes == 0
            assert not engine._tracked
            sizes.append(resident())
        evictions = engine._shelf.find(card.name).scheduler.evictions
    finally:
        engine.close(drain=False)
    quarter = max(len(sizes) // 4, 1)
    early, late = statistics.median(sizes[quarter : 2 * quarter]), statistics.median(sizes[-quarter:])
    print(
        f"\n{backend_name}: {len(sizes)} rounds, {ends}, {evictions} evictions, "
        f"{early / 2**20:.0f} MiB early, {late / 2**20:.0f} MiB late, {max(sizes) / 2**20:.0f} MiB at most"
    )
    assert evictions > 0
    assert ends["cancelled"] > 0 < ends["length"]
    assert late - early < SLACK

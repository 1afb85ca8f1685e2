"""Minutes of clients that come, change their minds and go, on a real model with too little memory: nothing piles up.

CRANE_SOAK_MINUTES says how many, 10 if not given.
"""

from __future__ import annotations

import math
import os
import queue
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crane_app.contract import BLOCK
from crane_app.engine.engine import Engine
from crane_app.engine.request import Asked, End, Event, Part, Request, Stream
from tests.chat_checkpoint import SIZE, write_chat

pytestmark = pytest.mark.soak

MINUTES = float(os.environ.get("CRANE_SOAK_MINUTES", "10"))
CLIENTS = 32
ROUND = 48  # requests between two looks at the memory
ROOM = 24  # blocks for rows and kept beginnings: a quarter of what the clients would like
SLACK = 24 * 2**20  # bytes that an allocator may come and go by


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


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
    left, ends, news = ROUND, dict.fromkeys(("stop", "length", "cancelled", "error"), 0), threading.Event()
    live: dict[Stream, float] = {}  # each with how many events its client has patience for
    while left or live:
        while left and len(live) < CLIENTS:
            request = a_request(rng, beginnings, model)
            stream = engine.submit(request)
            live[stream] = rng.randrange(request.asked.max_tokens) if rng.random() < 1 / 3 else math.inf
            stream.watch(news.set)
            left -= 1
        assert news.wait(60), "nobody has heard anything for a minute"
        news.clear()
        for stream in list(live):
            for event in heard(stream):
                live[stream] -= 1
                if isinstance(event, End):
                    ends[event.reason] += 1
                    del live[stream]
                    assert event.reason != "error", event.error
                elif live[stream] <= 0:
                    stream.cancel()
    return ends


def heard(stream: Stream) -> Iterator[Event]:
    """What has come by now."""
    try:
        while stream.end is None:
            yield stream.get(timeout=0)
    except queue.Empty:
        pass


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

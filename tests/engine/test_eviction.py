"""Short of memory: who gives way, how it comes back, and that nobody who listens can tell."""

from __future__ import annotations

import random

import pytest

from crane_app.contract import BLOCK, Work
from crane_app.engine.scheduler import REPLAY
from tests.engine.nulls import resolved
from tests.engine.test_scheduler import ROW, World, a_prompt, a_wish

LONG = resolved(2 * BLOCK + 90, stop_ids=())  # a row begins with two blocks and grows to three


def pressed(budget: int, count: int, rows: int = 8) -> World:
    """Rows that together grow past a budget of so many blocks."""
    world = World(rows=rows, budget=budget * ROW)
    for i in range(count):
        world.ask([i + 1, 2, 3], LONG, arrived=float(i))
    return world


def test_all_that_is_asked_is_made_with_half_the_memory_it_needs():
    """World.check holds each stream against what the request gives alone: tokens, text and reason, none twice."""
    world = pressed(budget=6, count=4)
    world.run()
    assert world.finishes() == ["length"] * 4
    assert world.scheduler.evictions > 0


def test_the_longest_output_gives_way():
    world = pressed(budget=4, count=1)
    world.step(100)
    later = world.ask([9, 9], LONG)
    first = world.asked[0][0]
    while not world.scheduler.evictions:
        world.step()
    assert first.sequence.slot is None
    assert later.sequence.slot is not None
    assert later.tokens
    world.run()


def test_nothing_is_said_while_a_row_is_away_and_it_goes_on_where_it_was():
    world = pressed(budget=5, count=2)
    while not world.scheduler.evictions:
        world.step()
    (away,) = [one for one, _ in world.asked if one.sequence.slot is None]
    said = len(away.pieces)
    while away.sequence.slot is None:
        assert len(away.pieces) <= said + 1, "one token may have been under way"
        world.step()
    world.run()


def singles(world: World) -> list[Work]:
    return [w for works in world.works for w in works if w.singly]


def test_made_tokens_run_again_one_by_one_and_the_prompt_on_its_grid():
    """World checks the grid. Of an evicted row all made tokens but the last run again, some in each step."""
    world = pressed(budget=5, count=2)
    world.run()
    assert singles(world)
    assert all(len(w.tokens) <= REPLAY and not w.logits for w in singles(world))


def test_fewer_rows_run_after_an_eviction_until_nobody_waits():
    world = pressed(budget=8, count=8)
    while not world.scheduler.evictions:
        world.step()
    assert world.scheduler.cap < 8
    late = world.ask([77], resolved(5))
    world.step(2)
    assert late.sequence.slot is None, "no newcomer while memory is short"
    world.run()
    world.ask([78], resolved(5))
    world.step(1)
    assert world.scheduler.cap == 8
    world.run()


def test_a_row_alone_is_never_evicted_and_may_have_all_there_is():
    world = pressed(budget=2, count=1)
    world.run()
    assert world.scheduler.evictions == 0
    assert len(world.asked[0][0].tokens) == 2 * BLOCK - 3


@pytest.mark.parametrize("reading", [False, True], ids=["at launch", "at read"])
@pytest.mark.parametrize("steps", range(1, 12))
def test_faults_and_cancels_while_a_row_is_away_or_coming_back(reading, steps):
    world = pressed(budget=5, count=3)
    while not world.scheduler.evictions:
        world.step()
    world.step(steps)
    slots = [s.slot for s in world.scheduler.running if s.slot is not None]
    bad = world.broken_reads if reading else world.bad
    bad.update(slots[:1])
    world.step(2)
    bad.clear()
    world.asked[steps % 3][0].sequence.end("cancelled")
    world.run()


def test_a_fault_of_a_step_that_runs_tokens_again_costs_only_the_step():
    world = pressed(budget=5, count=2)
    broken = 0
    real = world.runner.on_launch

    def tight(works):
        nonlocal broken
        real(works)
        if len(works) > 1 and any(w.singly for w in works) and broken < 5:
            broken += 1
            raise MemoryError

    world.runner.on_launch = tight
    while not world.scheduler.evictions:
        world.step()
    world.ask([50] * 10, resolved(30, stop_ids=()))
    world.run()
    assert world.finishes() == ["length"] * 3


@pytest.mark.parametrize("seed", range(5))
def test_dozens_of_requests_in_little_memory(seed):
    """All lengths, stops and samplings, shared beginnings, cancels; nobody starves and nothing is left."""
    rng = random.Random(seed)
    world = World(rows=rng.choice([2, 8, 32]), budget=rng.choice([4, 6, 12]) * ROW)
    beginnings = [a_prompt(rng, 600) for _ in range(3)]
    for i in range(60):
        prompt = [*rng.choice(beginnings)[: rng.choice([0, 3, 256, 300, 512])], *a_prompt(rng, rng.choice([1, 9, 40]))]
        world.ask(prompt, a_wish(rng), rng.choice([0, 0, 1]), arrived=float(i))
    while world.scheduler.busy:
        world.step()
        if rng.random() < 0.01:
            rng.choice(world.asked)[0].sequence.end("cancelled")
        assert world.runner.cache.nbytes() <= world.runner.cache.budget
    world.check()
    assert set(world.finishes()) <= {"stop", "length", "cancelled"}

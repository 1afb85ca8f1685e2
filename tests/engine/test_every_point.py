"""A short day in little memory, again and again: each time another allocation fails, or another choice is cancelled
after another step. Whoever is left has all of its reply, and nothing is left in the cache (World.check)."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from crane_app.contract import BLOCK
from crane_app.engine import lookup
from crane_app.errors import CraneError, NotEnoughMemory
from tests.engine.nulls import END, Always, resolved, table
from tests.engine.test_scheduler import ROW, World, a_prompt

MEMORIES = {"of one row": 3, "of two": 4, "of three": 7, "of all": 1000}  # blocks
FAULTS = [NotEnoughMemory, RuntimeError]
REQUESTS = 6


@pytest.fixture(params=MEMORIES)
def blocks(request: pytest.FixtureRequest) -> int:
    return MEMORIES[request.param]


@pytest.fixture(autouse=True)
def foreseen(monkeypatch):
    """But for each seventh place the next tokens are guessed, in every fifth with a wrong end."""

    def foresee(tokens: np.ndarray, most: int) -> np.ndarray:
        ahead, last = [], int(tokens[-1])
        for i in range(most if len(tokens) % 7 else 0):
            last = table(last, len(tokens) + i)
            ahead.append(last)
        if ahead and len(tokens) % 5 == 0:
            ahead[-1] = (ahead[-1] + 1) % END
        return np.array(ahead, np.int32)

    monkeypatch.setattr(lookup, "draft", foresee)


def day(blocks: int, meanwhile: Callable[[World, int], None] = lambda world, steps: None) -> tuple[World, int]:
    """A reply that is kept, then one that goes on from it, two choices that grow, one that stops, one held; its steps.

    meanwhile: called before each step with how many there were.
    """
    rng, world, steps = random.Random(3), World(rows=4, budget=blocks * ROW, gain=Always()), 0
    prompt = a_prompt(rng, BLOCK - 9)

    def pass_by(until: int = 5000) -> None:
        nonlocal steps
        while world.scheduler.busy and steps < until:
            meanwhile(world, steps)
            world.step()
            steps += 1

    first = world.ask(prompt, resolved(20, stop_ids=()))
    pass_by()
    world.ask([*prompt, *first.tokens, 5], resolved(BLOCK + 60, stop_ids=()), words=False)
    pass_by(steps + 3)
    for choice in range(2):
        world.ask(a_prompt(random.Random(4), BLOCK - 6), resolved(BLOCK + 20, stop_ids=()), choice, words=False)
    world.ask(a_prompt(rng, 9), resolved(25, stop=("ab",)))
    world.ask(a_prompt(rng, 9), resolved(9, stop_ids=()), held=True)
    pass_by()
    assert not world.scheduler.busy, "it never ends"
    world.check()
    assert len(world.asked) == REQUESTS
    return world, steps


def test_an_undisturbed_day(blocks):
    """Memory is short in it where it should be, and what is kept is pasted; of three, a row is saved and loaded."""
    world, _ = day(blocks)
    assert set(world.finishes()) <= {"stop", "length"}
    assert (world.asked[1][0].sequence.cached == BLOCK) == (blocks >= 4)
    assert (world.scheduler.evictions > 0) == (blocks in (4, 7))
    assert world.cache.saved == (blocks == 7)


@pytest.mark.parametrize("fault", FAULTS, ids=["of memory", "of another kind"])
def test_a_failure_at_every_allocation(blocks, fault):
    """It costs at most the one whose allocation it was."""
    count = day(blocks)[0].cache.allocations
    assert count >= 8
    for left in range(count):
        world, _ = day(blocks, lambda world, steps, left=left: steps or world.cache.fail(left, fault("none is left")))
        assert world.cache.left < 0, "it was never asked"
        ended = [one.sequence for one, _ in world.asked if one.finishes == ["error"]]
        assert len(ended) <= 1
        assert all(isinstance(sequence.error, CraneError) for sequence in ended)
        assert set(world.finishes()) <= {"stop", "length", "error"}


EVERY = [pytest.param(1, marks=pytest.mark.soak), 67]


@pytest.mark.parametrize("stride", EVERY)
def test_a_cancel_at_every_step(blocks, stride):
    """Of each request before each step; of the rest nobody notices."""
    _, steps = day(blocks)
    for who in range(REQUESTS):
        for at in range(who % stride, steps, stride):

            def meanwhile(world: World, steps: int, who: int = who, at: int = at) -> None:
                if steps == at and who < len(world.asked):
                    world.asked[who][0].sequence.end("cancelled")

            world, _ = day(blocks, meanwhile)
            others = [*world.finishes()[:who], *world.finishes()[who + 1 :]]
            assert set(others) <= {"stop", "length"}
            assert world.finishes()[who] in ("stop", "length", "cancelled")


@pytest.mark.parametrize("stride", EVERY)
@pytest.mark.parametrize("reading", [False, True], ids=["at launch", "at read"])
def test_a_step_that_fails_at_every_step(blocks, reading, stride):
    """A fault that passes costs nobody anything."""
    _, steps = day(blocks)
    for at in range(0, steps, stride):

        def meanwhile(world: World, steps: int, at: int = at) -> None:
            rows = {s.slot for s in world.scheduler.running} if steps == at else set()
            (world.broken_reads if reading else world.bad).update(rows)
            if len(rows) < 2 or steps > at:
                world.broken_reads.clear(), world.bad.clear()

        world, _ = day(blocks, meanwhile)
        assert len(world.asked) == REQUESTS

"""A small model that goes ahead of a large one: how many steps it spares, what it borrows, and that no token changes.

The large model is a table and the small one is the same table, another one, or one that fails.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from crane_app.contract import Sampling
from crane_app.engine.drafting import READS, REST, Drafter
from crane_app.engine.lookup import ROWS, Gain
from crane_app.engine.null import NullRunner
from crane_app.errors import NotEnoughMemory
from tests.engine.nulls import VOCABULARY, Always, resolved, table
from tests.engine.test_scheduler import PENALISED, ROW, World, a_prompt, a_wish

LONG = resolved(300, stop_ids=())


def wrong(token: int, position: int) -> int:
    """Never what the large model says."""
    return (table(token, position) + 1) % VOCABULARY


def mostly(token: int, position: int) -> int:
    return wrong(token, position) if position % 5 == 0 else table(token, position)


class Pair(World):
    """A world whose large model has a small one beside it. drafted: tokens in each of its launches."""

    def __init__(self, small: Callable[[int, int], int] = table, context: int = 4096, **how: Any):
        super().__init__(**{"gain": Always(), **how})
        self.drafted: list[int] = []
        self.left, self.fault = -1, Exception()
        self.small = NullRunner(small, VOCABULARY, 0, on_launch=self._drafted)
        self.drafter = self.scheduler.ahead = Drafter(self.small, self.cache, context, VOCABULARY)

    def fail(self, left: int, fault: Exception) -> None:
        """So many more launches of the small model succeed and the next one does not."""
        self.left, self.fault = left, fault

    def _drafted(self, works) -> None:
        self.drafted.append(sum(1 if work.tokens is None else len(work.tokens) for work in works))
        self.left -= 1
        if self.left == -1:
            raise self.fault

    def check(self) -> None:
        super().check()
        assert self.small.cache.nbytes() == self.drafter.nbytes == 0
        assert not self.small.cache._lengths


def steps(world: World, asked=LONG, prompts=((1, 2, 3),)) -> int:
    for prompt in prompts:
        world.ask(prompt, asked)
    world.run()
    return world.scheduler.steps


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.8, seed=3), PENALISED], ids=str)
def test_a_model_that_says_the_same_spares_most_steps(sampling):
    asked = resolved(300, stop_ids=(), sampling=sampling)
    world = Pair()
    assert steps(world, asked) < 0.1 * steps(World(), asked)
    assert world.drafter.right == world.drafter.tried > 250


def test_one_that_never_says_the_same_spares_none_and_changes_nothing():
    world = Pair(wrong)
    assert steps(world) == pytest.approx(steps(World()), abs=3)
    assert world.drafter.tried > 300
    assert world.drafter.right == 0
    assert max(work.logits for works in world.works for work in works) <= 5, "it tries fewer and fewer"


def test_rows_that_write_at_once_share_its_steps():
    one, four = Pair(mostly), Pair(mostly)
    steps(one)
    steps(four, prompts=[(1, 2, i) for i in range(ROWS)])
    assert len(four.drafted) < 2 * len(one.drafted)
    assert four.drafter.right > 0.4 * four.drafter.tried


def test_what_was_said_before_comes_first():
    world = Pair(small=wrong)
    world.runner.table = lambda token, position: position % 7
    one = world.ask([1, 2, 3], LONG)
    while world.scheduler.busy:
        world.step()
    assert one.tokens == [i % 7 for i in range(3, 303)]
    assert world.scheduler.steps < 60
    assert world.drafter.tried < 40


def test_a_long_prompt_is_read_in_pieces_between_the_steps_of_the_others():
    world = Pair()
    world.ask([3] * 3000, resolved(200, stop_ids=()))
    world.run()
    assert max(world.drafted) <= READS
    assert sum(world.drafted) < 3300
    assert world.drafter.right > 150


def test_prompts_of_several_rows_share_a_piece(caplog):
    world = Pair()
    for i in range(4):
        world.ask([3] * (100 + 90 * i), resolved(60, stop_ids=()))
    world.run()
    assert max(world.drafted) <= READS
    assert world.drafter.right > 150
    assert not caplog.records, "nothing failed"


def test_past_its_own_context_it_writes_nothing():
    world = Pair(context=100)
    world.ask([1, 2, 3], LONG)
    world.run()
    assert 80 < world.drafter.right <= 100


def test_ids_that_it_does_not_have_are_neither_read_nor_tried():
    world = Pair()
    world.drafter.vocabulary = 50
    for first in (49, 50):
        world.ask([first, 2, 3], LONG)
    world.run()
    tried = [t for works in world.works for w in works if w.singly and w.logits for t in w.tokens[1:].tolist()]
    assert all(token < 50 for token in tried)


def test_a_row_that_may_not_run_ahead_is_left_alone():
    world = Pair()
    world.ask([1, 2, 3], LONG, held=True)
    world.run()
    assert not world.drafted


# Memory


def test_a_row_never_waits_for_what_the_small_model_has_borrowed():
    """As many evictions, and the same longest answers, as if it were not there; it borrows what is free meanwhile."""
    evictions, limits = [], []
    for world in (World(budget=5 * ROW), Pair(budget=5 * ROW)):
        asked = [world.ask([1, 2, i], resolved(700, stop_ids=())) for i in range(3)]
        world.run()
        evictions.append(world.scheduler.evictions)
        limits.append([len(one.tokens) for one in asked])
    assert world.drafter.tried
    assert evictions[1] <= evictions[0] > 0
    assert limits[0] == limits[1]


def test_all_together_are_never_past_the_budget():
    world = Pair(mostly, budget=6 * ROW)
    most = []
    held = world.runner.on_launch
    world.runner.on_launch = lambda works: (most.append(world.cache.nbytes() + world.small.cache.nbytes()), held(works))
    for i in range(6):
        world.ask([1, 2, i], resolved(500, stop_ids=()))
        world.step(30)
    world.run()
    assert max(most) <= 6 * ROW
    assert world.drafter.tried


def test_it_gives_back_at_once_what_a_new_row_needs():
    world = Pair(budget=2 * ROW)
    world.ask([1, 2, 3], resolved(250, stop_ids=()))
    world.step(6)
    assert world.drafter.nbytes == ROW
    second = world.ask([1, 2, 4], resolved(250, stop_ids=()))
    world.step(2)
    assert second.sequence.slot is not None
    assert world.drafter.nbytes == 0
    world.run()
    assert world.scheduler.evictions == 0


@pytest.mark.parametrize("fault", [NotEnoughMemory("the device is full"), RuntimeError("out of memory")], ids=str)
@pytest.mark.parametrize("left", [0, 1, 5, 30])
def test_when_it_fails_it_rests_and_the_rows_go_on(left, fault, caplog):
    world = Pair(mostly)
    world.fail(left, fault)
    for i in range(3):
        world.ask([1, 2, i], LONG)
    world.run()
    (said,) = [record.message for record in caplog.records if "rests" in record.message]
    assert str(fault) in said
    assert str(REST) in said
    assert world.drafter.right > 100, "it is back after a while"


def test_one_that_fails_again_and_again_rests_longer_each_time(caplog):
    world = Pair()
    world.drafter.runner = None
    world.ask([1, 2, 3], resolved(1000, stop_ids=()))
    world.run()
    assert len([r for r in caplog.records if "rests" in r.message]) in (4, 5)


# Whatever else happens


@pytest.mark.parametrize("seed", range(8))
def test_among_faults_cancels_evictions_and_choices(seed):
    """World.check holds each against what it is alone; of both models nothing is left."""
    rng = random.Random(seed)
    small = rng.choice([table, wrong, mostly])
    world = Pair(small, rows=rng.choice([1, 3, 8]), budget=rng.choice([3, 5, 40]) * ROW)
    for i in range(40):
        held = rng.random() < 0.2
        world.ask(
            a_prompt(rng, rng.choice([1, 9, 250, 300])), a_wish(rng), rng.choice([0, 0, 1]), held=held, arrived=float(i)
        )
    while world.scheduler.busy:
        bad = rng.choice([world.bad, world.broken_reads])
        slots = [s.slot for s in world.scheduler.running if s.slot is not None]
        if slots and rng.random() < 0.02:
            bad.add(rng.choice(slots))
        if rng.random() < 0.03:
            world.fail(rng.randrange(3), RuntimeError("out of memory"))
        world.step(rng.randrange(1, 4))
        world.bad.clear()
        world.broken_reads.clear()
        if rng.random() < 0.02:
            rng.choice(world.asked)[0].sequence.end("cancelled")
        if rng.random() < 0.01:
            world.scheduler._evict()
    world.run()


def test_where_it_does_not_pay_it_rests():
    """Its steps are slow: it is measured, and then it writes once in a while."""

    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    clock = Clock()
    world = Pair(wrong, gain=Gain(clock))
    drafted, launched = world._drafted, world._launched
    world.small.on_launch = lambda works: (setattr(clock, "now", clock.now + 0.01), drafted(works))
    world.runner.on_launch = lambda works: (setattr(clock, "now", clock.now + 0.01), launched(works))
    world.ask([1, 2, 3], resolved(1000, stop_ids=()))
    world.run()
    assert 5 < world.drafter.tried < 200


def test_where_it_pays_it_goes_on_and_beside_many_rows_it_does_not():
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    clock, most = Clock(), []
    world = Pair(table, gain=Gain(clock))
    launched = world._launched
    world.runner.on_launch = lambda works: (setattr(clock, "now", clock.now + 0.01), launched(works))
    world.ask([1, 2, 3], resolved(1000, stop_ids=()))
    world.run()
    assert world.scheduler.steps < 150
    tried = world.drafter.tried
    for i in range(ROWS + 1):
        world.ask([1, 2, i], resolved(50, stop_ids=()))
    while len(world.scheduler.running) <= ROWS:
        world.step()
    while len(world.scheduler.running) > ROWS:
        most.append(world.drafter.tried)
        world.step()
    assert set(most) == {tried}

"""The scheduler on rows that follow a table: whatever comes, goes and fails, each request gets what it would get alone.

A world is a scheduler, its runner and everything that was asked of it. It checks the runner's works as they are
launched, and each choice when it has ended.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from crane_app.contract import BLOCK, Sampling, Work
from crane_app.engine.null import NullRunner
from crane_app.engine.request import LANES, Resolved
from crane_app.engine.scheduler import STEP_TOKENS, Plan, Scheduler
from crane_app.engine.sequence import AGEING
from crane_app.errors import DeviceLost, NotEnoughMemory
from tests.engine.nulls import END, VOCABULARY, Letters, Scarce, Told, alone, resolved, table, told

STOPS = ("ab", "d\n", "e ", "ca", "gd", " a")
ROW = BLOCK * 8  # bytes of a NullCache row of one block
PENALISED = Sampling(temperature=0.7, repetition_penalty=1.2, presence_penalty=0.1, repeat_last_n=9, seed=4)


class World:
    """A scheduler over a NullRunner. asked: each choice with the arguments of `alone`."""

    def __init__(self, rows: int = 8, budget: int = 2**40, batched: bool = True, **how: Any):
        self.bad: set[int] = set()  # cache rows at whose works the device fails
        self.dead = False
        self.broken_reads: set[int] = set()
        self.wrong: list[AssertionError] = []
        self.asked: list[tuple[Told, tuple]] = []
        self.works: list[Sequence[Work]] = []
        self.runner = NullRunner(table, VOCABULARY, budget, batched, on_launch=self._launched, on_read=self._read)
        self.cache = self.runner.cache = Scarce(budget)
        self.scheduler = Scheduler(self.runner, most_rows=rows, **how)

    def _launched(self, works: Sequence[Work]) -> None:
        try:
            self._look_at(works)
        except AssertionError as error:
            self.wrong.append(error)  # raised here it would be one more fault of the device
        self.works.append(works)
        self._fail(works, self.bad)

    def _look_at(self, works: Sequence[Work]) -> None:
        cache = self.runner.cache
        assert self.runner.batched or len(works) == 1
        for work in works:
            start = cache.length(work.row)
            if work.tokens is not None or start % 16 == 0:
                self._written_is_its_own(work)
            if work.tokens is not None and len(work.tokens) > 1 and not work.singly:
                end = start + len(work.tokens)
                assert start // BLOCK == (end - 1) // BLOCK, "a chunk crosses a line of the grid"
                whole = end % BLOCK == 0 or work.logits or self._back(work)
                assert whole, "a chunk ends between two lines, not with the prompt"

    def _owner(self, work: Work) -> Told:
        return next(one for one, _ in self.asked if one.sequence.slot == work.row)

    def _back(self, work: Work) -> bool:
        """Of a row that was evicted, whose prompt draws nothing the second time."""
        return self._owner(work).sequence.made > 0

    def _written_is_its_own(self, work: Work) -> None:
        """Whatever was pasted, saved, loaded and run again: the row holds its prompt and what it made."""
        written, sequence = self.runner.cache.written[work.row], self._owner(work).sequence
        known = sequence.tokens[: len(sequence.prompt) + sequence.made].tolist()
        both = min(len(written), len(known))
        assert written[:both] == known[:both]
        assert len(written) <= len(known) + 1

    def _read(self, works: Sequence[Work]) -> None:
        self._fail(works, self.broken_reads)

    def _fail(self, works: Sequence[Work], bad: set[int]) -> None:
        if self.dead or any(work.row in bad for work in works):
            raise RuntimeError("out of memory")

    def ask(self, prompt: Sequence[int], asked: Resolved, choice: int = 0, **how) -> Told:
        one = told(prompt, asked, choice, **how)
        given = {k: v for k, v in how.items() if k in ("context", "words")}
        self.asked.append((one, (prompt, asked, choice, given)))
        self.scheduler.add(one.sequence)
        return one

    def step(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.scheduler.step()

    def run(self, limit: int = 20_000) -> None:
        """To the end of everything."""
        steps = 0
        while self.scheduler.busy:
            self.scheduler.step()
            steps += 1
            assert steps < limit, "it never ends"
        self.check()

    def check(self) -> None:
        """Each choice ended once, with a beginning of what it gives alone, or all of it; nothing is left of any."""
        if self.wrong:
            raise self.wrong[0]
        self.scheduler.forget()
        assert self.runner.cache.nbytes() == self.scheduler.cache_nbytes == 0
        assert not self.runner.cache._lengths
        for one, (prompt, asked, choice, given) in self.asked:
            if one.sequence.limit > 0:  # what a small memory leaves of max_tokens
                asked = replace(asked, max_tokens=one.sequence.limit)
            tokens, text, reason = alone(prompt, asked, choice, **given)
            finish = one.finishes
            assert len(finish) == 1, finish
            assert one.pieces[-1].finish == finish[0]
            assert one.sequence.slot is None
            if finish[0] in ("stop", "length"):
                assert (one.tokens, one.text, finish[0]) == (tokens, text, reason)
            else:
                assert one.tokens == tokens[: len(one.tokens)]
                shorter = replace(asked, max_tokens=max(len(one.tokens), 1))
                assert one.text == (alone(prompt, shorter, choice, **given)[1] if one.tokens else "")

    def finishes(self) -> list[str]:
        return [one.finishes[0] for one, _ in self.asked]


def a_prompt(rng: random.Random, length: int) -> list[int]:
    return [rng.randrange(VOCABULARY) for _ in range(length)]


def a_wish(rng: random.Random) -> Resolved:
    return resolved(
        max_tokens=rng.choice([1, 2, 3, 10, 40, 300]),
        min_tokens=rng.choice([0, 0, 0, 1, 5, 50]),
        stop=tuple(rng.sample(STOPS, rng.choice([0, 0, 1, 3]))),
        stop_ids=rng.choice([(END,), (END, 5, 50), ()]),
        sampling=rng.choice([Sampling(), PENALISED]),
    )


# Everything at once


class Anything(RuleBasedStateMachine):
    """Arrivals, cancels, steps and faults in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(rows=4)
        self.now = 0.0

    @rule(
        seed=st.integers(0, 2**32),
        length=st.sampled_from([1, 2, 30, 255, 256, 257, 513, 700]),
        n=st.sampled_from([1, 1, 1, 3]),
        lane=st.sampled_from(LANES),
        held=st.booleans(),
        context=st.sampled_from([720, 4096]),
    )
    def arrive(self, seed, length, n, lane, held, context):
        rng = random.Random(seed)
        prompt, wish = a_prompt(rng, length), a_wish(rng)
        for choice in range(n):
            self.world.ask(prompt, wish, choice, lane=lane, held=held, context=context, arrived=self.now)

    @rule(seconds=st.sampled_from([0.0, 0.1, 5.0]), steps=st.integers(1, 6))
    def step(self, seconds, steps):
        self.now += seconds
        self.world.step(steps)

    @precondition(lambda self: self.world.asked)
    @rule(data=st.data())
    def cancel(self, data):
        one, _ = data.draw(st.sampled_from(self.world.asked))
        one.sequence.end("cancelled")

    @precondition(lambda self: self.world.scheduler.running)
    @rule(data=st.data(), reading=st.booleans(), steps=st.integers(1, 3))
    def fault(self, data, reading, steps):
        """One row breaks the steps it is in."""
        row = data.draw(st.sampled_from([s.slot for s in self.world.scheduler.running]))
        bad = self.world.broken_reads if reading else self.world.bad
        bad.add(row)
        self.world.step(steps)
        bad.discard(row)

    @rule(steps=st.integers(1, 3))
    def die(self, steps):
        self.world.dead = True
        self.world.step(steps)
        self.world.dead = False

    @rule()
    def evict(self):
        """As where a row cannot grow: while a step is planned."""
        scheduler = self.world.scheduler

        def plan(making: set[bytes]) -> Plan:
            scheduler._evict()
            return Scheduler._plan(scheduler, making)

        scheduler._plan = plan
        self.world.step()
        del scheduler._plan

    @rule(rows=st.sampled_from([0.5, 1, 3, 1000]))
    def squeeze(self, rows):
        """What is held stays held; nothing more is given."""
        self.world.runner.cache.budget = int(rows * ROW)

    @rule(left=st.integers(0, 6), fault=st.sampled_from([NotEnoughMemory, RuntimeError]))
    def fail_an_allocation(self, left, fault):
        self.world.cache.fail(left, fault("none is left"))

    @invariant()
    def nobody_ends_twice(self):
        assert all(len(one.finishes) <= 1 for one, _ in self.world.asked)

    @invariant()
    def the_rows_are_those_of_the_running(self):
        held = {s.slot for s in self.world.scheduler.running if s.slot is not None}
        assert held == set(self.world.runner.cache._lengths)
        assert self.world.scheduler.cache_nbytes == self.world.runner.cache.nbytes()

    def teardown(self):
        self.world.run()


TestAnything = Anything.TestCase
TestAnything.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("seed", range(6))
def test_a_thousand_requests_under_random_faults(seed):
    """One terminal event each, no token twice or missing, all memory back, whoever is untouched has all."""
    rng = random.Random(seed)
    world = World(rows=rng.choice([1, 3, 16, 64]), budget=rng.choice([2 * ROW, 9 * ROW, 2**40]), batched=seed != 4)
    arrivals = 1000
    while arrivals or world.scheduler.busy:
        for _ in range(min(arrivals, rng.choice([0, 0, 1, 5]))):
            arrivals -= 1
            prompt = a_prompt(rng, rng.choice([1, 7, 100, 256, 300, 600]))
            world.ask(prompt, a_wish(rng), rng.choice([0, 0, 2]), lane=rng.choice(LANES), held=rng.random() < 0.1)
        if world.asked and rng.random() < 0.1:
            rng.choice(world.asked)[0].sequence.end("cancelled")
        rows = [s.slot for s in world.scheduler.running if s.slot is not None]
        world.bad = {rng.choice(rows)} if rows and rng.random() < 0.01 else set()
        world.broken_reads = {rng.choice(rows)} if rows and rng.random() < 0.01 else set()
        world.dead = rng.random() < 0.0005
        world.step()
    world.dead = False
    world.check()
    assert len(world.asked) == 1000
    assert world.finishes().count("stop") + world.finishes().count("length") > 100


# What a request gives


def test_what_the_oracle_says_of_one_request():
    """Worked out by hand from the table, so that the oracle is not only compared with itself."""
    tokens, given = [], [3]
    for _ in range(5):
        tokens.append(table(given[-1], len(given)))
        given.append(tokens[-1])
    letters = Letters()
    assert alone([3], resolved(5, stop_ids=())) == (tokens, letters.decode(tokens), "length")
    assert alone([3], resolved(5, stop_ids=tokens[2:3]))[0] == tokens[:3]
    assert alone([3], resolved(5, stop_ids=tokens[2:3]))[2] == "stop"


@pytest.mark.parametrize("words", [True, False])
def test_hundreds_of_requests_give_what_each_gives_alone(words):
    rng = random.Random(5)
    world = World(rows=64)
    for _ in range(300):
        wish = a_wish(rng)
        wish = wish if words else resolved(wish.max_tokens, wish.min_tokens, stop_ids=tuple(wish.stop_ids))
        world.ask(a_prompt(rng, rng.randrange(1, 400)), wish, rng.randrange(3), words=words)
    world.run()
    assert set(world.finishes()) == {"stop", "length"}


def test_a_stop_text_may_straddle_tokens_and_is_never_shown():
    """Each text of two letters that a reply shows ends it there when it is asked for as a stop."""
    whole = alone([7], resolved(60, stop_ids=()))[1]
    assert len(whole) > 60
    for at in range(len(whole) - 1):
        stop = whole[at : at + 2]
        if "\ufffd" in stop:
            continue
        world = World()
        one = world.ask([7], resolved(60, stop=(stop,), stop_ids=()))
        world.run()
        assert one.text == whole[: whole.index(stop)]
        assert one.finishes == ["stop"]


def test_the_context_ends_a_reply():
    world = World()
    one = world.ask([1] * 90, resolved(1000, stop_ids=()), context=100)
    world.run()
    assert len(one.tokens) == 10
    assert one.finishes == ["length"]
    assert max(world.runner.cache._lengths.values(), default=0) <= 100


def test_choices_are_requests_of_their_own():
    world = World()
    choices = [world.ask([5, 6], resolved(30, n=4), choice) for choice in range(4)]
    world.run()
    assert len({tuple(one.tokens) for one in choices}) == 4


def test_a_held_row_never_runs_ahead():
    world = World()
    world.ask([1, 2], resolved(20, stop_ids=()), held=True)
    free = world.ask([1, 2], resolved(30, stop_ids=()))
    world.run()
    held_row = world.works[0][0].row
    assert all(w.tokens is not None for works in world.works for w in works if w.row == held_row)
    assert any(w.tokens is None for works in world.works for w in works if w.row != held_row)
    assert len(free.tokens) == 30


@pytest.mark.parametrize("held", [1, 3])
def test_a_held_row_has_a_token_in_every_step_beside_free_ones(held):
    world = World()
    free = world.ask([1, 2], resolved(60, stop_ids=()))
    rows = [world.ask([i, 4], resolved(40, stop_ids=()), held=True) for i in range(held)]
    while not all(one.finishes for one in rows):
        world.step()
    assert world.scheduler.steps <= 41
    assert len(free.tokens) >= 39
    world.run()
    assert world.scheduler.steps == 60, "and none is launched for nothing"


def test_where_the_last_held_row_has_gone_the_next_step_is_launched_ahead_again():
    world = World()
    world.ask([1, 2], resolved(30, stop_ids=()))
    held = world.ask([3, 4], resolved(10, stop_ids=()), held=True)
    while not held.finishes:
        world.step()
    before = len(world.works)
    world.run()
    assert all(work.tokens is None for works in world.works[before:] for work in works)


def test_the_next_step_is_launched_before_the_last_is_read():
    world = World()
    one = world.ask([1, 2], resolved(20, stop_ids=()))
    world.step(3)
    assert len(world.works) == 3
    assert len(one.tokens) == 2
    assert [w.tokens is None for works in world.works for w in works] == [False, True, True]


def test_no_surplus_step_is_launched_where_the_end_is_known():
    world = World()
    world.ask([1, 2], resolved(7, stop_ids=()))
    world.run()
    assert len(world.works) == 7


def test_an_unbatched_runner_serves_one_row_a_step_and_all_in_the_end():
    world = World(rows=64, batched=False)
    for i in range(5):
        world.ask([i, 1], resolved(8))
    world.run()
    assert world.scheduler.most_rows == 1


# Cancelling


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 10])
def test_a_cancelled_row_leaves_and_its_neighbours_see_nothing(steps):
    """Before admission, in the first and second chunk, with the first token in flight, and while it decodes."""
    world = World()
    other = world.ask([9] * 300, resolved(30))
    one = world.ask([8] * 400, resolved(30, stop_ids=()))
    world.step(steps)
    said, row, before = len(one.tokens), one.sequence.slot, len(world.works)
    one.sequence.end("cancelled")
    world.step(2)
    assert all(w.row != row for works in world.works[before:] for w in works), "nothing more is done for it"
    assert one.sequence.slot is None, "its row is back two steps later"
    world.run()
    assert one.finishes == ["cancelled"]
    assert len(one.tokens) == said
    assert other.finishes in (["stop"], ["length"])


# Faults


@pytest.mark.parametrize("reading", [False, True], ids=["at launch", "at read"])
@pytest.mark.parametrize("steps", range(6))
def test_the_row_at_fault_fails_alone(reading, steps):
    world = World()
    ones = [world.ask([i] * length, resolved(25)) for i, length in enumerate([5, 300, 9, 600])]
    world.step(steps)
    world.scheduler._admit()
    (world.broken_reads if reading else world.bad).add(ones[1].sequence.slot)
    world.run()
    assert ones[1].finishes == ["error"]
    assert isinstance(ones[1].sequence.error, DeviceLost)
    assert "out of memory" in str(ones[1].sequence.error)
    assert [o.finishes[0] in ("stop", "length") for o in ones] == [True, False, True, True]


def test_all_rows_at_fault_fail_each_for_itself():
    world = World()
    ones = [world.ask([i, 2], resolved(25, stop_ids=())) for i in range(5)]
    world.step(4)
    world.bad = {one.sequence.slot for one in ones}
    world.run()
    assert world.finishes() == ["error"] * 5


def test_a_dead_device_ends_everybody_the_waiting_too():
    world = World(rows=2)
    for i in range(6):
        world.ask([i, 2], resolved(25, stop_ids=()))
    world.step(4)
    world.dead = True
    world.run()
    assert world.finishes() == ["error"] * 6


def test_a_fault_that_passes_costs_nobody_anything():
    """The step was too large for the device; each row by itself is not."""
    world = World()
    for i in range(5):
        world.ask([i] * 300, resolved(40))
    too_many = world.runner.on_launch

    def tight(works: Sequence[Work]) -> None:
        too_many(works)
        if len(works) > 3:
            raise MemoryError

    world.runner.on_launch = tight
    world.run()
    assert set(world.finishes()) <= {"stop", "length"}


def test_an_error_holds_on_to_no_frame():
    """Its frames know the runner, and with it the model's memory."""
    world = World()
    one = world.ask([1, 2], resolved(5))
    world.dead = True
    world.run()
    error = one.sequence.error
    assert error.__traceback__ is None
    assert error.__context__ is None


def test_a_text_that_cannot_be_made_ends_its_row_alone():
    world = World()
    one, other = world.ask([1, 2], resolved(25, stop_ids=())), world.ask([1, 3], resolved(25))

    class Broken(Letters):
        def piece(self, id: int, first: bool, special: bool = False) -> bytes | None:
            raise ValueError("no such piece")

    one.sequence.words._tokenizer = Broken()
    world.run()
    assert one.finishes == ["error"]
    assert other.finishes in (["stop"], ["length"])


# Memory


def test_a_budget_of_one_row_serves_all_one_after_the_other():
    world = World(budget=ROW)
    for i in range(10):
        world.ask([i, 1, 2], resolved(20))
    world.run()
    assert set(world.finishes()) <= {"stop", "length"}
    assert max(len(works) for works in world.works) == 1


def test_what_never_fits_fails_and_holds_up_nobody():
    world = World(budget=2 * ROW)
    large = world.ask([1] * 800, resolved(20))
    small = world.ask([1] * 8, resolved(20))
    world.run()
    assert large.finishes == ["error"]
    assert isinstance(large.sequence.error, NotEnoughMemory)
    assert small.finishes in (["stop"], ["length"])


def test_a_row_that_cannot_grow_waits_for_its_neighbour():
    """Which has just ended, so nobody is evicted; tests/engine/test_eviction.py has the rest."""
    world = World(budget=4 * ROW)
    grows = world.ask([1] * 10, resolved(600, stop_ids=()))
    stays = world.ask([2] * 10, resolved(502, stop_ids=()))
    world.run()
    assert grows.finishes == stays.finishes == ["length"]
    assert (len(grows.tokens), len(stays.tokens)) == (600, 502)


def test_a_row_that_cannot_grow_even_alone_fails():
    """Memory that was there at its admission has gone since."""
    world = World(budget=3 * ROW)
    grows = world.ask([1] * 10, resolved(600, stop_ids=()))
    world.step(5)
    world.runner.cache.budget = ROW
    world.run()
    assert grows.finishes == ["error"]
    assert isinstance(grows.sequence.error, NotEnoughMemory)
    assert len(grows.tokens) > 500


def test_a_row_that_cannot_be_opened_for_another_reason_fails_alone():
    world = World()
    real: Callable[[int], int] = world.runner.cache.open

    def open_(reserve: int) -> int:
        if reserve > 500:
            raise RuntimeError("the allocator is broken")
        return real(reserve)

    world.runner.cache.open = open_
    large, small = world.ask([1] * 800, resolved(5)), world.ask([1], resolved(5))
    world.run()
    assert large.finishes == ["error"]
    assert small.finishes in (["stop"], ["length"])


# Who waits for whom


def prompt_tokens(works: Sequence[Work]) -> int:
    return sum(len(w.tokens) for w in works if w.tokens is not None and (len(w.tokens) > 1 or not w.logits))


def test_a_prompt_of_100_000_tokens_delays_a_decoding_row_by_a_share_a_step():
    world = World()
    one = world.ask([3, 4], resolved(400, stop_ids=()))
    world.step(3)
    world.ask([5] * 100_000, resolved(3), context=200_000)
    for _ in range(380):
        made = len(one.tokens)
        world.step()
        assert len(one.tokens) == made + 1, "a token every step"
        assert prompt_tokens(world.works[-1]) <= STEP_TOKENS
    world.run()


def test_no_step_takes_more_than_its_share_of_prompts():
    rng = random.Random(1)
    world = World(rows=64)
    for _ in range(200):
        world.ask(a_prompt(rng, rng.choice([2, 20, 255, 256, 300, 1000])), resolved(5))
    world.run()
    assert max(prompt_tokens(works) for works in world.works) <= STEP_TOKENS
    assert max(map(prompt_tokens, world.works)) == STEP_TOKENS


def test_lanes_go_first_and_within_a_lane_who_came_first():
    world = World(rows=1)
    for i, lane in enumerate(("server", "chat", "server", "dictation", "chat")):
        world.ask([i + 1], resolved(2), lane=lane, arrived=i / 1000)
    world.run()
    order = []
    for works in world.works:
        order += [int(w.tokens[0]) for w in works if w.tokens is not None]
    assert order == [4, 2, 5, 1, 3]


WORTH = (len(LANES) - 1) * AGEING  # seconds by which the first lane goes before the last


@pytest.mark.parametrize("rows", [1, 4])
def test_the_last_lane_is_served_however_many_come_before_it(rows):
    """All rows are taken by dictation of 10 tokens, two more wait for each, and new ones come as fast as others end.

    A request of the last lane goes before whoever came 8 s (4 lanes, AGEING each) after it. A step takes 20 ms here, so
    it has its first token after 400 steps, those of three others (11 each, one to read the last) and 4 for its own.
    """
    world, seconds, length = World(rows=rows), 0.02, 10
    wish = resolved(length, stop_ids=())
    for i in range(3 * rows):
        world.ask([1, i], wish, lane="dictation")
    last = world.ask([2], wish, lane="server")
    steps, bound = 0, int(WORTH / seconds) + 3 * (length + 1) + 4
    while not last.tokens:
        steps += 1
        assert steps <= bound
        if steps % (length + 1) == 0:
            for i in range(rows):
                world.ask([1, i], wish, lane="dictation", arrived=steps * seconds)
        world.step()
    assert steps > WORTH / seconds, "the lanes before it did go first"


def test_nobody_of_an_earlier_lane_goes_first_who_came_long_after():
    """However many there are: the overloaded engine serves in the order of the dues."""
    world = World(rows=2)
    late = [world.ask([i], resolved(3), lane="dictation", arrived=WORTH + 0.1 + i) for i in range(50)]
    last = world.ask([60], resolved(3), lane="server", arrived=0.0)
    early = [world.ask([i], resolved(3), lane="dictation", arrived=WORTH - 0.1 - i / 100) for i in range(50)]
    world.run()
    order = [one.sequence for one in (*early[::-1], last, *late)]
    assert [s.due for s in order] == sorted(s.due for s in order)
    firsts = {w.row: int(w.tokens[0]) for works in world.works[::-1] for w in works if w.tokens is not None}
    assert [firsts[row] for row in sorted(firsts)] == [*range(49, -1, -1), 60, *range(50)]


def test_a_prompt_of_the_last_lane_is_read_however_many_come_before_it():
    """The same for the chunks of a row: others fill each step's share and come before it, for 8 s or 400 steps."""
    world, seconds = World(rows=64), 0.02
    last = world.ask([2] * 300, resolved(5), lane="server")
    steps, bound = 0, int(WORTH / seconds) + 6
    while not last.tokens:
        steps += 1
        assert steps <= bound
        for i in range(STEP_TOKENS // BLOCK):
            world.ask([i] * BLOCK, resolved(2, stop_ids=()), lane="dictation", arrived=steps * seconds)
        world.step()
    assert steps > WORTH / seconds
    world.run()

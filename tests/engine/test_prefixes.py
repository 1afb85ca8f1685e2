"""Beginnings that are kept: what is found, what goes first, and what a turn of a chat still computes."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from crane_app.contract import BLOCK
from crane_app.engine.null import NullCache, NullRunner
from crane_app.engine.prefixes import PART, Prefixes, keys
from crane_app.engine.request import Asked, Request
from tests.engine.nulls import VOCABULARY, alone, engine, events, resolved, shelved, table, tokens_of
from tests.engine.test_scheduler import ROW, World, a_prompt

WISH = resolved(6, stop_ids=())


def tokens(*blocks: int) -> np.ndarray:
    """A block of each of these ids."""
    return np.repeat(np.array(blocks, np.int32), BLOCK)


# Keys


def test_a_key_is_that_of_all_tokens_up_to_its_blocks_end():
    a, b, c = keys(tokens(1, 2, 3)), keys(tokens(1, 2, 4)), keys(tokens(9, 2, 3))
    assert a[:2] == b[:2]
    assert len({a[2], b[2], *c}) == 5
    assert keys(tokens(1, 2, 3)[:-1]) == a[:2]
    assert keys(tokens(1, 2, 3), a[:2]) == a


def test_the_keys_of_a_salt_are_its_own():
    plain, one, other = keys(tokens(1, 2)), keys(tokens(1, 2), salt="a"), keys(tokens(1, 2), salt="b")
    assert len({*plain, *one, *other}) == 6
    assert keys(tokens(1, 2), one[:1], "a") == one
    assert keys(tokens(1, 2), salt="a") == one


# The store


class Store:
    """Prefixes over rows of a NullCache whose budget has room for `blocks` kept ones."""

    def __init__(self, blocks: int):
        self.cache = NullCache(PART * blocks * ROW)
        self.prefixes = Prefixes(self.cache)

    def keep(self, *blocks: int, exact: bool = True) -> None:
        row, made = self.cache.open(BLOCK * len(blocks)), tokens(*blocks)
        self.cache.written[row] = made.tolist()
        self.cache.advance(row, len(made))
        for index in range(len(blocks)):
            self.prefixes.keep(row, keys(made), index, exact)
        self.cache.close(row)

    def found(self, *blocks: int, exact: bool = False) -> int:
        return len(self.prefixes.find(keys(tokens(*blocks)), 0, exact))


def test_chains_share_what_they_have_in_common():
    store = Store(10)
    store.keep(1, 2, 3)
    store.keep(1, 2, 4)
    assert len(store.prefixes) == 4
    assert store.cache.nbytes() == 4 * ROW
    assert [store.found(*c) for c in ((1, 2, 3), (1, 2, 4, 5), (1, 9), (9,), (2, 3))] == [3, 3, 1, 0, 0]
    store.prefixes.clear()
    assert store.cache.nbytes() == 0


def test_the_end_of_what_was_used_longest_ago_goes_first():
    store = Store(4)
    store.keep(1, 2)
    store.keep(3, 4)
    assert store.found(1, 2) == 2
    store.keep(5)
    assert (store.found(3, 4), store.found(1, 2), store.found(5)) == (1, 2, 1)
    store.keep(6, 7, 8)
    assert len(store.prefixes) == 4
    assert store.found(6, 7, 8) == 3


def test_a_chain_longer_than_all_room_keeps_its_beginning():
    store = Store(3)
    store.keep(1, 2, 3, 4, 5)
    assert store.found(1, 2, 3, 4, 5) == 3


def test_nothing_is_kept_where_a_part_of_the_budget_is_less_than_a_block():
    store = Store(1)
    store.cache.budget -= 1
    store.keep(1)
    assert len(store.prefixes) == store.cache.nbytes() == 0


def test_a_block_remembers_how_it_was_made():
    store = Store(8)
    store.keep(1)
    store.keep(1, 2, exact=False)
    assert (store.found(1, 2), store.found(1, 2, exact=True)) == (2, 1)


class Keeping(RuleBasedStateMachine):
    """Any order of keeping, finding and shedding: no gap in a chain, exact bytes, and contents that are the tokens."""

    CHAINS = st.lists(st.integers(0, 2), min_size=1, max_size=5)

    def __init__(self):
        super().__init__()
        self.store = Store(6)

    @rule(blocks=CHAINS, exact=st.booleans())
    def keep(self, blocks, exact):
        self.store.keep(*blocks, exact=exact)

    @rule(blocks=CHAINS)
    def paste(self, blocks):
        kept = self.store.prefixes.find(keys(tokens(*blocks)), 0, False)
        row = self.store.cache.open(BLOCK * len(blocks))
        self.store.cache.paste(row, [one.block for one in kept])
        assert self.store.cache.written[row] == tokens(*blocks).tolist()[: BLOCK * len(kept)]
        self.store.cache.close(row)

    @rule()
    def shed(self):
        self.store.prefixes.shed()

    @invariant()
    def bytes_are_exact_and_within_their_part(self):
        assert self.store.cache.nbytes() == len(self.store.prefixes) * ROW <= 6 * ROW

    @invariant()
    def every_block_can_be_found(self):
        """What stands behind a gap could never be used again."""
        found = set()

        def walk(blocks: list[int]) -> None:
            for block in range(3):
                chain = keys(tokens(*blocks, block))
                if chain[-1] in self.store.prefixes._kept:
                    found.add(chain[-1])
                    walk([*blocks, block])

        walk([])
        assert found == set(self.store.prefixes._kept)


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# What is computed


def computed(world: World) -> int:
    """Tokens of all prompts that the device was given."""
    return sum(len(w.tokens) for works in world.works for w in works if w.tokens is not None and len(w.tokens) > 1)


def turn(world: World, prompt: list[int]) -> int:
    """How many tokens of this prompt are computed."""
    before = computed(world)
    one = world.ask(prompt, WISH)
    while world.scheduler.busy:
        world.step()
    assert one.sequence.cached + computed(world) - before == len(prompt)
    return computed(world) - before


def test_a_chat_computes_only_what_is_new_from_one_line_of_the_grid_to_the_next():
    """Turn by turn, with what was answered; then a regenerate, an edit, and another chat with the same instructions."""
    rng, world = random.Random(1), World()
    history = a_prompt(rng, 700)
    assert turn(world, history) == 700
    for _ in range(8):
        answer, new = world.asked[-1][0].tokens, a_prompt(rng, 90)
        known = (len(history) + len(answer) - 1) // BLOCK * BLOCK
        history = [*history, *answer, *new]
        assert turn(world, history) == len(history) - known
    assert turn(world, history) == len(history) - (len(history) - 1) // BLOCK * BLOCK, "again"
    edited = [*history[:800], *a_prompt(rng, 50)]
    assert turn(world, edited) == 850 - 3 * BLOCK
    assert turn(world, [*history[:600], *a_prompt(rng, 300)]) == 900 - 2 * BLOCK
    world.run()


def test_what_was_cancelled_is_of_use_as_far_as_it_came():
    world = World()
    prompt = a_prompt(random.Random(2), 1500)
    one = world.ask(prompt, WISH)
    world.step(3)
    one.sequence.end("cancelled")
    world.step(2)
    assert turn(world, prompt) < 1500 - BLOCK
    world.run()


def test_a_choice_that_comes_when_the_prompt_is_in_computes_what_is_behind_its_blocks():
    world = World()
    prompt = a_prompt(random.Random(3), 3 * BLOCK + 10)
    world.ask(prompt, WISH)
    world.step(5)
    late = world.ask(prompt, WISH, 1)
    world.run()
    assert computed(world) == 3 * BLOCK + 10 * 2
    assert late.sequence.cached == 3 * BLOCK


def test_who_waits_for_a_block_that_never_comes_makes_it_itself():
    """The one that makes it is cancelled, or its step fails."""
    for reading in (False, True):
        world = World()
        prompt = a_prompt(random.Random(4), 2 * BLOCK + 10)
        first, second = world.ask(prompt, WISH), world.ask(prompt, WISH, 1)
        world.step()
        (world.broken_reads if reading else world.bad).add(first.sequence.slot)
        world.step(4)
        world.run()
        assert second.finishes == ["length"]
        world = World()
        first, second = world.ask(prompt, WISH), world.ask(prompt, WISH, 1)
        world.step()
        first.sequence.end("cancelled")
        world.run()
        assert second.finishes == ["length"]


def test_requests_of_another_salt_find_nothing_and_wait_for_nobody():
    made = engine(shelved(NullRunner(table, VOCABULARY)))

    def asked(salt: str) -> Request:
        return Request("null", tokens=(4,) * 600, asked=Asked(max_tokens=5, seed=1), salt=salt)

    try:
        both = [made.submit(asked(salt)) for salt in ("a", "b")]
        found = [end.usage.cached_tokens for _, end in map(events, both)]
        found += [events(made.submit(asked(salt)))[1].usage.cached_tokens for salt in ("a", "b", "", "")]
        assert found == [0, 0, 2 * BLOCK, 2 * BLOCK, 0, 2 * BLOCK]
    finally:
        made.close()


@pytest.mark.parametrize(("reuse", "again", "next_turn"), [("all", 2, 3), ("prompts", 2, 2), ("none", 0, 0)])
def test_what_is_kept_is_as_it_was_chosen(reuse, again, next_turn):
    """Blocks found when the same is asked again, and when the conversation goes on with what was answered."""
    world = World(reuse=reuse)
    prompt, rng = a_prompt(random.Random(6), 700), random.Random(7)
    first = world.ask(prompt, resolved(100, stop_ids=()))
    while world.scheduler.busy:
        world.step()
    asked = [world.ask(prompt, WISH), world.ask([*prompt, *first.tokens, *a_prompt(rng, 30)], WISH)]
    while world.scheduler.busy:
        world.step()
    assert [one.sequence.cached for one in asked] == [again * BLOCK, next_turn * BLOCK]
    assert world.scheduler.cache_nbytes > 0 or reuse == "none"
    world.run()


def test_what_is_kept_gives_way_to_rows():
    """Nobody waits, fails or is evicted for the sake of a prefix."""
    world = World(budget=8 * ROW)
    world.ask(a_prompt(random.Random(5), 600), WISH)
    while world.scheduler.busy:
        world.step()
    assert len(world.scheduler.prefixes) == 2
    rows = [world.ask([i] * 10, resolved(200, stop_ids=())) for i in range(8)]
    world.step(3)
    assert len(world.scheduler.running) == 8
    assert len(world.scheduler.prefixes) == 0
    world.run()
    assert world.scheduler.evictions == 0
    assert all(one.finishes == ["length"] for one in rows)


def test_the_engine_reports_what_was_cached_and_forgets_it_when_asked():
    made = engine(shelved(NullRunner(table, VOCABULARY)))
    try:
        for expected in (0, 2 * BLOCK):
            found, end = events(made.submit(Request("null", tokens=(4,) * 600, asked=Asked(max_tokens=5, seed=1))))
            assert end.usage.cached_tokens == expected
            assert tokens_of(found) == alone([4] * 600, resolved(5))[0]
        assert made.stats().cache_nbytes == 2 * ROW
        made.flush()
        assert made.stats().cache_nbytes == 0
        _, end = events(made.submit(Request("null", tokens=(4,) * 600, asked=Asked(max_tokens=5, seed=1))))
        assert end.usage.cached_tokens == 0
    finally:
        made.close()

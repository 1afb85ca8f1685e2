"""Choices of one prompt: it is computed once, whoever of them ends, fails or is evicted, and each goes on alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from crane_app.contract import BLOCK, Work
from crane_app.engine.engine import Engine
from crane_app.engine.null import NullRunner
from crane_app.engine.request import Asked, Request
from crane_app.errors import NotEnoughMemory
from tests.chat_checkpoint import write_chat
from tests.engine.nulls import VOCABULARY, alone, engine, events, resolved, shelved, table, tokens_of
from tests.engine.test_scheduler import ROW, World, a_prompt

WISH = resolved(6, stop_ids=())
LENGTHS = [1, 2, 30, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 10]


def computed(works: Sequence[Sequence[Work]], prompt: int) -> int:
    """Tokens that the device was given of prompts of that length, when no row has grown."""
    return sum(min(len(work.tokens), prompt) for step in works for work in step if _of_a_prompt(work, prompt))


def _of_a_prompt(work: Work, prompt: int) -> bool:
    return work.tokens is not None and not work.singly and (len(work.tokens) > 1 or prompt % BLOCK == 1)


@pytest.mark.parametrize("reuse", ["all", "none"])
@pytest.mark.parametrize("length", LENGTHS)
def test_eight_choices_compute_their_prompt_once(length, reuse):
    world = World(reuse=reuse)
    prompt = a_prompt(random.Random(3), length)
    choices = [world.ask(prompt, WISH, choice) for choice in range(8)]
    world.run()
    assert computed(world.works, length) == length
    assert [c.sequence.cached for c in choices] == [0] + [length] * 7
    assert len({tuple(c.tokens) for c in choices}) == 8


def test_the_copies_draw_in_the_step_that_ends_the_prompt():
    world = World()
    prompt = a_prompt(random.Random(3), BLOCK + 5)
    choices = [world.ask(prompt, WISH, choice) for choice in range(3)]
    world.step(3)
    assert [len(c.tokens) for c in choices] == [1, 1, 1]
    assert world.scheduler.steps == 3, "two pieces of the prompt, and a token ahead"
    world.run()


def test_requests_with_one_prompt_at_one_time_share_it_unless_their_salts_differ():
    world = World()
    prompt = a_prompt(random.Random(4), 100)
    one, other = world.ask(prompt, WISH), world.ask(prompt, resolved(3, stop_ids=()))
    world.run()
    assert (one.sequence.cached, other.sequence.cached) == (0, 100)
    secret = [world.ask(prompt, WISH, salt=salt) for salt in ("a", "b")]
    world.run()
    assert [s.sequence.cached for s in secret] == [0, 0]


@pytest.mark.parametrize("n", [1, 8])
def test_a_request_for_choices_gives_each_its_own(n):
    made = engine(shelved(NullRunner(table, VOCABULARY)))
    try:
        found, end = events(made.submit(Request("null", tokens=(4,) * 600, asked=Asked(max_tokens=5, seed=1, n=n))))
        assert [tokens_of(found, i) for i in range(n)] == [alone([4] * 600, resolved(5), i)[0] for i in range(n)]
        assert (end.usage.prompt_tokens, end.usage.cached_tokens) == (600, 0)
    finally:
        made.close()


# Whoever goes


@pytest.mark.parametrize("length", [30, 2 * BLOCK + 10])
@pytest.mark.parametrize("steps", range(7))
@pytest.mark.parametrize("how", ["cancelled", "at launch", "at read"])
def test_when_the_one_that_computes_is_lost_the_others_go_on(how, steps, length):
    world = World()
    prompt = a_prompt(random.Random(5), length)
    choices = [world.ask(prompt, WISH, choice) for choice in range(4)]
    world.step(steps)
    first = choices[0].sequence
    if how == "cancelled":
        first.end("cancelled")
    elif first.slot is not None:
        (world.bad if how == "at launch" else world.broken_reads).add(first.slot)
        world.step(3)
    world.run()
    assert [c.finishes for c in choices[1:]] == [["length"]] * 3


@pytest.mark.parametrize("which", [1, 3])
def test_a_copy_that_is_cancelled_before_it_is_made_is_not_made(which):
    world = World()
    prompt = a_prompt(random.Random(6), BLOCK + 10)
    choices = [world.ask(prompt, WISH, choice) for choice in range(4)]
    world.step()
    choices[which].sequence.end("cancelled")
    world.run()
    assert sum(work.fork is not None for works in world.works for work in works) == 2


def test_the_one_that_is_furthest_computes_whoever_is_due_first():
    """A choice of a more urgent lane comes later: it is served by what there is, and not behind what is less urgent."""
    world = World(step_tokens=BLOCK)
    prompt, other = a_prompt(random.Random(7), 3 * BLOCK + 10), a_prompt(random.Random(8), 5 * BLOCK)
    slow = world.ask(prompt, WISH, lane="server")
    world.step(2)
    world.ask(other, WISH, lane="speech")
    urgent = world.ask(prompt, WISH, lane="dictation")
    world.step(4)
    assert urgent.tokens
    assert (slow.sequence.cached, urgent.sequence.cached) == (0, len(prompt))
    world.run()


@pytest.mark.parametrize("budget", [4, 7, 9])
def test_choices_in_little_memory(budget):
    """Some wait for a row, some are evicted, before their first token and after; each gives what it gives alone."""
    world = World(budget=budget * ROW)
    prompt = a_prompt(random.Random(9), BLOCK + 40)
    for choice in range(6):
        world.ask(prompt, resolved(2 * BLOCK + 90, stop_ids=()), choice)
    world.run()
    assert world.finishes() == ["length"] * 6
    assert (world.scheduler.evictions > 0) == (budget > 4)


@pytest.mark.parametrize("seed", range(6))
def test_choices_among_faults_cancels_and_evictions(seed):
    rng = random.Random(seed)
    world = World(rows=rng.choice([3, 8, 16]), budget=rng.choice([6, 12, 40]) * ROW)
    prompts = [a_prompt(rng, rng.choice([1, 40, 256, 300, 600])) for _ in range(3)]
    for i in range(25):
        prompt, most = rng.choice(prompts), rng.choice([1, 5, 40, 300])
        for choice in range(rng.choice([1, 2, 5])):
            world.ask(prompt, resolved(most, stop_ids=()), choice, arrived=float(i // 4))
    while world.scheduler.busy:
        bad = rng.choice([world.bad, world.broken_reads])
        slots = [s.slot for s in world.scheduler.running if s.slot is not None]
        if slots and rng.random() < 0.02:
            bad.add(rng.choice(slots))
        world.step(rng.randrange(1, 4))
        world.bad.clear()
        world.broken_reads.clear()
        if rng.random() < 0.03:
            rng.choice(world.asked)[0].sequence.end("cancelled")
        assert world.runner.cache.nbytes() <= world.runner.cache.budget
    world.run()
    assert any(work.fork is not None for works in world.works for work in works)


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_copy_that_finds_no_memory_is_computed_and_draws_the_same(backend_name, tmp_path, failing):
    """On the caches of both backends: the row that was to be a copy holds what it held, and goes on from there."""
    made = Engine()
    try:
        for _ in made.load(str(write_chat(tmp_path / "m")), "m", backend_name, "cpu", "float32"):
            pass
        cache = made._shelf.get("m").scheduler.cache
        double, calls = cache._double, 0

        def short(source: int, row: int, length: int) -> None:
            nonlocal calls
            calls += 1
            if calls == failing:
                raise NotEnoughMemory("No memory is left.")
            double(source, row, length)

        def answers() -> dict[int, list[int]]:
            asked = Asked(n=4, max_tokens=6, seed=5, temperature=0.9, ignore_eos=True)
            found: dict[int, list[int]] = {}
            for piece in made.submit(Request("m", tokens=(7, 9) * (BLOCK // 2 + 15), asked=asked)):
                found.setdefault(piece.choice, []).extend(piece.tokens)
            made.flush()
            return found

        wanted = answers()
        cache._double = short
        assert answers() == wanted
        assert calls >= failing
        assert cache.nbytes() == 0
    finally:
        made.close(drain=False)

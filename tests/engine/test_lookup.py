"""Guesses: what is looked up, when it pays, and that nothing that is drawn depends on it."""

from __future__ import annotations

import random

import numpy as np
import pytest

from crane_app.contract import Drawn, Sampling
from crane_app.engine import lookup
from crane_app.engine.loading import load
from crane_app.engine.lookup import AGAIN, LAST, MOST, ROWS, SELDOM, TRIES, Gain, Way, draft
from tests.engine.nulls import VOCABULARY, Always, resolved, table
from tests.engine.test_engine_invariance import Story, Wish
from tests.engine.test_scheduler import ROW, World, a_prompt, a_wish
from tests.models.scramble import golden


def sought(tokens: list[int], most: int) -> list[int]:
    """By the words of `draft`: the latest place with enough behind it, else the first of all."""
    last = tokens[-LAST:]
    places = [i + LAST for i in range(len(tokens) - LAST) if tokens[i : i + LAST] == last]
    long = [place for place in places if place + most <= len(tokens)]
    start = long[-1] if long else places[0] if places else len(tokens)
    return tokens[start : start + most]


@pytest.mark.parametrize("kinds", [1, 2, 4, 30])
def test_a_draft_is_what_once_followed_the_same_tokens(kinds):
    rng = random.Random(kinds)
    for length in [*range(12), 100, 999]:
        tokens = [rng.randrange(kinds) for _ in range(length)]
        for most in (1, 4, 16):
            want = sought(tokens, most) if length > LAST else []
            assert draft(np.array(tokens, np.int32), most).tolist() == want
    assert not len(draft(np.array([1, 2, 3] * 4, np.int32), 0))


# Whether it pays


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def measured(plain: float, guessed: float, rows: int = 1) -> Gain:
    """A gain that has seen steps of so many seconds a token."""
    clock = Clock()
    gain = Gain(clock)
    for way, seconds in ((Way.PLAIN, plain), (Way.FOUND, guessed)):
        for _ in range(10):
            launched = clock.now
            clock.now += 3 * seconds
            gain.note(rows, way, 3, launched)
    return gain


def guess(gain: Gain, seconds: float, steps: int, way: Way = Way.FOUND) -> None:
    for _ in range(steps):
        launched = gain.clock.now
        gain.clock.now += seconds
        gain.note(1, way, 1, launched)


def test_what_is_faster_is_done():
    assert measured(0.02, 0.01).worth(1)
    assert not measured(0.01, 0.02).worth(1)


def test_the_first_steps_are_measured_plain_and_then_a_guess_is_tried():
    clock = Clock()
    gain = Gain(clock)
    assert not gain.worth(1)
    clock.now = 1.0
    gain.note(1, Way.PLAIN, 1, 0.0)
    assert gain.worth(1)
    assert not gain.worth(2), "nothing is known of two rows"


def test_what_was_slower_is_tried_anew_after_twice_as_long_each_time():
    """And until it has been measured: the row's token in flight may have to be read first."""
    gain = measured(0.01, 0.02)
    for wait in (AGAIN, 2 * AGAIN, 4 * AGAIN, 8 * AGAIN, 16 * AGAIN, 16 * AGAIN):
        assert [gain.worth(1) for _ in range(wait + 3)] == [False] * (wait - 1) + [True] * 4
        guess(gain, 0.02, TRIES)
    assert SELDOM == 16 * AGAIN
    while not gain.worth(1):
        pass
    guess(gain, 0.001, TRIES)
    assert gain.worth(1)


def test_one_unlucky_guess_decides_nothing_and_tokens_count_as_many():
    """Three guesses of four are wrong and take twice as long as a plain step; the fourth gives nine tokens."""
    gain = measured(0.01, 0.0)
    del gain._costs[1, Way.FOUND]
    for tokens in (1, 1, 1, 9):
        assert gain.worth(1)
        launched = gain.clock.now
        gain.clock.now += 0.02
        gain.note(1, Way.FOUND, tokens, launched)
    assert gain.worth(1)


def test_what_is_faster_is_left_out_now_and_then_so_that_the_other_cost_stays_true():
    gain, plain = measured(0.02, 0.01), 0
    for _ in range(5 * AGAIN):
        launched, pays = gain.clock.now, gain.worth(1)
        plain += not pays
        gain.clock.now += 0.01 if pays else 0.02
        gain.note(1, Way.FOUND if pays else Way.PLAIN, 1, launched)
    assert 4 <= plain <= 5
    gain.clock.now += 1
    assert gain.worth(1)


def test_each_way_to_guess_is_measured_by_itself():
    gain = measured(0.02, 0.03)
    assert not gain.worth(1)
    assert gain.worth(1, Way.WRITTEN), "never tried"
    guess(gain, 0.01, TRIES, Way.WRITTEN)
    guess(gain, 9.0, TRIES, Way.READING)
    assert gain.worth(1, Way.WRITTEN)
    assert not gain.worth(1)


def test_a_full_step_has_no_time_to_spare():
    assert measured(0.02, 0.01, ROWS).worth(ROWS)
    assert not measured(0.02, 0.01, ROWS + 1).worth(ROWS + 1)


def test_time_in_which_the_model_rested_is_not_counted():
    gain = measured(0.01, 0.02)
    clock = gain.clock
    clock.now += 1000
    for _ in range(30):
        launched = clock.now
        clock.now += 0.001
        gain.note(1, Way.FOUND, 1, launched)
    assert gain.worth(1)


# Nothing depends on it


@pytest.fixture
def foreseen(monkeypatch) -> random.Random:
    """Drafts that go on as the table does, now and then to a wrong turn."""
    rng = random.Random(8)

    def foresee(tokens: np.ndarray, most: int) -> np.ndarray:
        ahead, last = [], int(tokens[-1])
        for i in range(rng.randrange(max(most, 0) + 1)):
            last = table(last, len(tokens) + i)
            last = (last + 1) % VOCABULARY if rng.random() < 0.2 else last
            ahead.append(last)
        return np.array(ahead, np.int32)

    monkeypatch.setattr(lookup, "draft", foresee)
    return rng


def test_right_guesses_save_steps(foreseen):
    plain, guessing = World(), World(gain=Always())
    for world in (plain, guessing):
        world.ask([1, 2, 3], resolved(300, stop_ids=()))
        world.run()
    assert guessing.scheduler.steps < 0.6 * plain.scheduler.steps
    assert guessing.scheduler.tokens == plain.scheduler.tokens == 300


@pytest.mark.parametrize("most", range(1, 8))
def test_no_token_past_the_limit_is_guessed(foreseen, most):
    world = World(gain=Always())
    one = world.ask([1, 2, 3], resolved(most, stop_ids=()))
    world.run()
    assert len(one.tokens) == most
    assert all(len(work.tokens) <= MOST + 1 for works in world.works for work in works if work.singly)


@pytest.mark.parametrize("seed", range(6))
def test_rows_that_guess_among_faults_cancels_and_evictions(foreseen, seed):
    """World.check holds each against what it is alone: stops within a guess, least lengths, rows that grow and go."""
    rng = random.Random(seed)
    world = World(rows=rng.choice([1, 3, 8]), budget=rng.choice([4, 6, 40]) * ROW, gain=Always())
    for i in range(40):
        world.ask(a_prompt(rng, rng.choice([1, 9, 250, 300])), a_wish(rng), rng.choice([0, 0, 1]), arrived=float(i))
    while world.scheduler.busy:
        bad = rng.choice([world.bad, world.broken_reads])
        slots = [s.slot for s in world.scheduler.running if s.slot is not None]
        if slots and rng.random() < 0.02:
            bad.add(rng.choice(slots))
        world.step(rng.randrange(1, 4))
        world.bad.clear()
        world.broken_reads.clear()
        if rng.random() < 0.02:
            rng.choice(world.asked)[0].sequence.end("cancelled")
    world.run()
    assert any(work.singly and work.logits for works in world.works for work in works)


# On the native program


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", ["qwen3", "near_flat"])
def test_on_the_native_program_guesses_change_no_bit(case, threads, tmp_path, monkeypatch):
    """Right and wrong ones of all lengths, greedy and drawn; tokens and log-probabilities."""
    torch = pytest.importorskip("torch")
    compiled = pytest.importorskip("crane_app.backends.torch.compiled")
    if compiled.native.library() is None:
        pytest.skip("the native library is not built")
    torch.set_num_threads(threads)
    loaded = load(golden(case).write(tmp_path / "m"), "torch", "cpu", "float32")
    assert isinstance(loaded.runner.model, compiled.Compiled)
    rng, wishes, known = random.Random(threads), [], {}
    for i, sampling in enumerate((Sampling(), Sampling(temperature=0.9, seed=5), Sampling(repetition_penalty=1.3))):
        wishes.append(Wish(tuple(a_prompt(rng, 20 + i)), sampling, 40))

    def told(asked: list[Wish], gain: Gain | None) -> tuple[dict[Wish, list[Drawn]], int]:
        story, guesses, launch = Story(loaded), 0, loaded.runner.launch

        def watched(works, *more):
            nonlocal guesses
            guesses += sum(work.singly and work.logits > 1 for work in works)
            return launch(works, *more)

        monkeypatch.setattr(story.scheduler, "gain", gain)
        with monkeypatch.context() as patched:
            patched.setattr(loaded.runner, "launch", watched)
            for wish in asked:
                story.ask(wish)
            return story.end(), guesses

    plain = {wish: told([wish], None)[0][wish] for wish in wishes}
    for wish, drawn in plain.items():
        known[wish.prompt] = [*wish.prompt, *(one.token for one in drawn)]

    def foresee(tokens: np.ndarray, most: int) -> np.ndarray:
        whole = next(k for p, k in known.items() if tuple(tokens[: len(p)]) == p)
        ahead = whole[len(tokens) :][: max(min(rng.choice([1, 3, most]), most), 0)]
        if ahead and rng.random() < 0.4:
            ahead[-1] = (ahead[-1] + 1) % loaded.vocabulary
        return np.array(ahead, np.int32)

    monkeypatch.setattr(lookup, "draft", foresee)
    guessed, guesses = told(wishes, Always())
    torch.set_num_threads(1)
    assert guessed == plain
    assert guesses > 8

"""With a draft model each request's tokens and log-probabilities are the bits that it has alone, on both backends.

The draft model is the same checkpoint, so that it is nearly always right; another one, which hardly ever is; and one
that runs out of memory. Beside requests of all lengths and ways of drawing there are choices of one prompt and some
that keep to a grammar; rows are evicted, and some are cancelled.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from crane_app.contract import BLOCK, Sampling
from crane_app.engine import drafting
from crane_app.engine.drafting import Drafter
from crane_app.engine.grammar import Vocabulary
from crane_app.engine.loading import Loaded, load
from crane_app.engine.request import Grammar
from crane_app.errors import NotEnoughMemory
from tests.engine.nulls import Always, Letters
from tests.engine.test_engine_invariance import (
    CONTEXT,
    SAMPLINGS,
    Story,
    Wish,
    backend_name,  # noqa: F401
    cold,
    some_prompt,
    wishes,
)
from tests.models.scramble import golden

OTHER = {"near_flat": "qwen3", "qwen3": "near_flat"}


@pytest.fixture(params=["near_flat", pytest.param("qwen3", marks=pytest.mark.soak)], scope="module")
def three(request, backend_name: str, tmp_path_factory) -> tuple[Loaded, Loaded, Loaded]:  # noqa: F811
    """A model, the same once more, and another one with as many tokens."""
    found = []
    for name in (request.param, request.param, OTHER[request.param]):
        case = golden(name)
        roomy = replace(case, config={**case.config, "max_position_embeddings": CONTEXT})
        folder = roomy.write(tmp_path_factory.mktemp("model") / "m")
        found.append(load(folder, backend_name, "cpu", "float32"))
    return tuple(found)


@pytest.fixture
def another(three) -> Iterator[Drafter]:
    yield guided(three[0], three[2])
    ended(three[0])


@pytest.fixture
def same(three) -> Iterator[Drafter]:
    yield guided(three[0], three[1])
    ended(three[0])


def guided(large: Loaded, small: Loaded) -> Drafter:
    return Drafter(small.runner, large.runner.cache, small.context, min(large.vocabulary, small.vocabulary))


def ended(large: Loaded) -> None:
    del large.runner.cache.claim


@pytest.fixture(scope="module")
def asked(three) -> list[Wish]:
    rng, large = random.Random(90), three[0]
    letters = Vocabulary(Letters(), large.vocabulary, ()).compile(Grammar("regex", "[a-h]*"))
    found = [replace(wish, most=wish.most + rng.choice([10, 40])) for wish in wishes(large, 8, seed=91)]
    found += [replace(wish, grammar=letters) for wish in wishes(large, 2, seed=92)]
    prompt = some_prompt(large, BLOCK + 30, seed=93)
    return found + [Wish(prompt, SAMPLINGS[i % 5], 30, choice=i) for i in range(4)]


@pytest.fixture(scope="module")
def alone(three, asked) -> dict:
    return {wish: cold(three[0], wish) for wish in asked}


def together(large: Loaded, drafter: Drafter, asked: list[Wish], every: int) -> Story:
    """All of them, one after the other; the second and the last but one are cancelled while they are made."""
    story, rng = Story(large, every), random.Random(every)
    story.scheduler.most_rows = story.scheduler.cap = 8
    story.scheduler.gain, story.scheduler.ahead = Always(), drafter
    for wish in asked:
        story.ask(wish)
        story.step(rng.randrange(3))
    story.step(4)
    for wish in (asked[1], asked[-2]):
        story.sequences[wish].end("cancelled")
    return story


def assert_as(story: Story, alone: dict, drafter: Drafter) -> None:
    """Bitwise; one that was cancelled has a beginning."""
    for wish, got in story.end().items():
        assert got == alone[wish][: len(got)]
        assert len(got) == len(alone[wish]) or story.sequences[wish].finish == "cancelled"
    assert drafter.cache.nbytes() == drafter.nbytes == 0


@pytest.mark.parametrize("every", [0, 3], ids=["all stay", "rows are evicted"])
def test_with_one_that_is_always_right_nothing_changes(three, same, asked, alone, every):
    story = together(three[0], same, asked, every)
    assert_as(story, alone, same)
    assert same.tried > 100
    assert same.right > 0.4 * same.tried, "it knows of no penalties"
    assert story.scheduler.evictions > 3 or not every


@pytest.mark.parametrize("every", [0, 3], ids=["all stay", "rows are evicted"])
def test_with_one_that_is_nearly_always_wrong_nothing_changes(three, another, asked, alone, every):
    story = together(three[0], another, asked, every)
    assert_as(story, alone, another)
    assert another.tried > 100
    assert another.right < 0.2 * another.tried


def test_with_one_that_runs_out_of_memory_nothing_changes(three, same, asked, alone, monkeypatch, caplog):
    """In the midst of a draft, at every 20th of its steps; it is back soon, so that it fails often."""
    launches, launch = 0, same.runner.launch

    def scarce(*works):
        nonlocal launches
        launches += 1
        if launches % 20 == 19:
            raise NotEnoughMemory("the device is full")
        return launch(*works)

    monkeypatch.setattr(drafting, "REST", 2)
    monkeypatch.setattr(drafting, "DOUBLED", 0)
    monkeypatch.setattr(same.runner, "launch", scarce)
    assert_as(together(three[0], same, asked, 0), alone, same)
    assert same.right > 50
    assert sum("rests for 2 steps: the device is full" in record.message for record in caplog.records) >= 3


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.9, seed=5)], ids=["greedy", "drawn"])
def test_one_that_is_always_right_spares_most_steps(three, same, sampling):
    wish = Wish(some_prompt(three[0], 40, seed=94), sampling, 120)
    counts = []
    for drafter in (None, same):
        story = Story(three[0])
        story.scheduler.gain = Always() if drafter else None
        if drafter:
            story.scheduler.ahead = drafter
        story.ask(wish)
        story.end()
        counts.append(story.scheduler.steps)
    assert counts[1] < 0.3 * counts[0]
    assert same.right > 0.9 * same.tried > 50

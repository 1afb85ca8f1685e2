"""A request's tokens and log-probabilities are the same bits whatever else the engine does: float32, both backends.

Each story is told on an engine that is stepped by hand, so that who arrives, leaves and is cancelled when is the same
every time; what each request gives in it is compared with what it gives alone.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from crane_app.contract import BLOCK, Drawn, Sampling
from crane_app.engine.generation import generate
from crane_app.engine.loading import Loaded, load
from crane_app.engine.request import Piece, Resolved
from crane_app.engine.scheduler import Scheduler
from crane_app.engine.sequence import Sequence
from tests.models.scramble import golden

MODELS, LIBRARIES = ("qwen3", "mistral", "near_flat"), ("mlx", "torch, 1 thread", "torch, 2 threads")
# Each model and each library meet in one of these, and the plain model meets all; the others are for `make soak`.
TRIED = {*(("qwen3", library) for library in LIBRARIES), ("mistral", "torch, 2 threads"), ("near_flat", "mlx")}
CONTEXT = 2048
PENALTIES = {"repetition_penalty": 1.3, "presence_penalty": 0.4, "frequency_penalty": 0.2, "repeat_last_n": 9}
SAMPLINGS = [
    Sampling(),
    Sampling(temperature=0.9, seed=5),
    Sampling(temperature=1.2, top_k=30, top_p=0.9, min_p=0.01, seed=6, **PENALTIES),
    Sampling(**PENALTIES),
    Sampling(temperature=0.7, top_p=0.8, seed=7, logit_bias={3: 4.0, 9: -100.0}, repetition_penalty=1.1),
]
LENGTHS = [1, 3, 17, 60, 255, 256, 257, 300, 600]


@pytest.fixture(
    params=[
        pytest.param(pair, marks=() if pair in TRIED else pytest.mark.soak, id="-".join(pair))
        for pair in itertools.product(MODELS, LIBRARIES)
    ],
    scope="module",
)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    model, library = request.param
    name = library.split(",")[0]
    module = pytest.importorskip({"mlx": "mlx.core", "torch": "torch"}[name], exc_type=ImportError)
    if name == "torch":
        module.set_num_threads(2 if "2" in library else 1)
    case = golden(model)
    roomy = replace(case, config={**case.config, "max_position_embeddings": CONTEXT})
    yield load(roomy.write(tmp_path_factory.mktemp("model") / "m"), name, "cpu", "float32")
    if name == "torch":
        module.set_num_threads(1)


@dataclass(frozen=True, eq=False)
class Wish:
    """What one request asks for."""

    prompt: tuple[int, ...]
    sampling: Sampling
    most: int
    choice: int = 0
    top: int = 3
    held: bool = False


class Story:
    """A scheduler on a loaded model, and what its requests were told."""

    def __init__(self, loaded: Loaded):
        self.scheduler = Scheduler(loaded.runner, most_rows=6)
        self.told: dict[Wish, list[Piece]] = {}
        self.sequences: dict[Wish, Sequence] = {}

    def ask(self, wish: Wish) -> Sequence:
        pieces = self.told[wish] = []
        self.sequences[wish] = Sequence(
            id="",
            choice=wish.choice,
            prompt=np.array(wish.prompt, np.int32),
            resolved=Resolved(wish.sampling, wish.most, 0, (), frozenset(), wish.top, 1),
            context=CONTEXT,
            emit=pieces.append,
            arrived=float(len(self.told)),
            held=wish.held,
        )
        self.scheduler.add(self.sequences[wish])
        return self.sequences[wish]

    def step(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.scheduler.step()

    def end(self) -> dict[Wish, list[Drawn]]:
        while self.scheduler.busy:
            self.scheduler.step()
        assert self.scheduler.cache.nbytes() == 0
        return {wish: [d for piece in pieces for d in piece.logprobs] for wish, pieces in self.told.items()}


def wishes(loaded: Loaded, count: int, seed: int) -> list[Wish]:
    """Of all lengths and all samplings, so that chunks, growth and every way to draw meet."""
    rng = random.Random(seed)
    lengths = [rng.choice(LENGTHS) for _ in range(count)]
    return [
        Wish(
            prompt=tuple(rng.randrange(loaded.vocabulary) for _ in range(length)),
            sampling=SAMPLINGS[i % len(SAMPLINGS)],
            most=rng.choice([4, 9, 14]),
            top=rng.choice([1, 3, 20]),
            held=rng.random() < 0.2,
        )
        for i, length in enumerate(lengths)
    ]


def assert_as_alone(loaded: Loaded, story: Callable[[Story, list[Wish]], None], asked: list[Wish]) -> None:
    """Bitwise: Drawn compares token, log-probability and the likeliest ones as they are."""
    told = Story(loaded)
    story(told, asked)
    for wish, got in told.end().items():
        sequence = told.sequences[wish]
        alone = Story(loaded)
        alone.ask(wish)
        want = alone.end()[wish]
        assert len(want) == wish.most
        assert got == want[: len(got)]
        assert sequence.finish == "cancelled" or got == want


def test_alone_is_what_one_request_without_an_engine_gives(loaded):
    for wish in wishes(loaded, 5, seed=0):
        story = Story(loaded)
        story.ask(wish)
        sampling = replace(wish.sampling, choice=wish.choice)
        assert story.end()[wish] == list(generate(loaded, list(wish.prompt), sampling, wish.most, wish.top))


def test_batched_is_as_alone(loaded):
    def together(story: Story, asked: list[Wish]) -> None:
        for wish in asked:
            story.ask(wish)

    assert_as_alone(loaded, together, wishes(loaded, 8, seed=1))


def test_arriving_in_the_middle_of_others_is_as_alone(loaded):
    def interleaved(story: Story, asked: list[Wish]) -> None:
        rng = random.Random(2)
        for wish in asked:
            story.ask(wish)
            story.step(rng.randrange(1, 5))

    assert_as_alone(loaded, interleaved, wishes(loaded, 10, seed=2))


def test_others_that_are_cancelled_leave_no_trace(loaded):
    """While they wait, in a chunk, with a token in flight; the survivors have all of theirs."""

    def cancelled_around(story: Story, asked: list[Wish]) -> None:
        rng = random.Random(3)
        for i, wish in enumerate(asked):
            story.ask(wish)
            story.step(rng.randrange(0, 4))
            if i % 2:
                rng.choice([story.sequences[w] for w in asked[: i + 1][::-2]]).end("cancelled")

    assert_as_alone(loaded, cancelled_around, wishes(loaded, 10, seed=3))


def test_a_choice_is_its_own_seed_and_number_alone(loaded):
    prompt = tuple(range(40))
    for sampling in SAMPLINGS:
        asked = [Wish(prompt, sampling, 10, choice) for choice in range(4)]

        def together(story: Story, asked: list[Wish]) -> None:
            for wish in asked:
                story.ask(wish)

        assert_as_alone(loaded, together, asked)
        story = Story(loaded)
        together(story, asked)
        made = {tuple(d.token for d in drawn) for drawn in story.end().values()}
        assert len(made) == (1 if sampling.temperature == 0 else 4)


@pytest.mark.parametrize("reading", [False, True], ids=["at launch", "at read"])
def test_rows_around_one_that_fails_are_as_alone(loaded, reading, monkeypatch):
    """Their step is set back and run again, row by row, with the token in hand instead of on the device."""
    runner, real = loaded.runner, loaded.runner.launch

    def failing_around(story: Story, asked: list[Wish]) -> None:
        bad = story.ask(replace(asked[0], prompt=(5,) * (BLOCK + 9), most=14))
        for wish in asked:
            story.ask(wish)
        story.step(6)

        def launch(work, previous=None, keep_logits=False):
            faulty = any(item.row == bad.slot for item in work)
            if faulty and not reading:
                raise RuntimeError("out of memory")
            pending = real(work, previous, keep_logits)
            if faulty:
                monkeypatch.setattr(pending, "read", lambda: 1 / 0)
            return pending

        runner.launch = launch
        story.step(4)
        assert bad.finish == "error"
        bad.finish = "cancelled"  # what it had is a beginning

    try:
        assert_as_alone(loaded, failing_around, wishes(loaded, 5, seed=4))
    finally:
        vars(runner).pop("launch", None)


def test_a_row_that_outgrows_its_room_is_as_alone(loaded):
    """In a batch and alone it is moved at the same length."""

    def together(story: Story, asked: list[Wish]) -> None:
        for wish in asked:
            story.ask(wish)

    prompt = tuple(i % 150 for i in range(BLOCK - 3))
    asked = [Wish(prompt[i:], SAMPLINGS[i % len(SAMPLINGS)], BLOCK + 12, top=1) for i in range(2)]
    assert_as_alone(loaded, together, asked)

"""A request's tokens and log-probabilities are the same bits whatever else the engine does: float32, both backends.

Each story is told on an engine that is stepped by hand, so that who arrives, leaves and is cancelled when is the same
every time; what each request gives in it is compared with what it gives alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from crane_app.contract import BLOCK, Drawn, Sampling
from crane_app.engine import lookup
from crane_app.engine.generation import generate
from crane_app.engine.grammar import State, Vocabulary
from crane_app.engine.loading import Loaded, load
from crane_app.engine.lookup import Way
from crane_app.engine.prefixes import Reuse
from crane_app.engine.request import Grammar, Piece, Resolved
from crane_app.engine.scheduler import Plan, Scheduler
from crane_app.engine.sequence import Sequence
from tests.engine.nulls import PIECES, Always, Letters
from tests.models.scramble import golden

LONG = "near_flat, int8", "qwen3", "mistral"
CASES = ["near_flat", *(pytest.param(case, marks=pytest.mark.soak) for case in LONG)]
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


@pytest.fixture(params=["mlx", "torch, 1 thread", "torch, 2 threads"], scope="module")
def backend_name(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "mlx":
        pytest.importorskip("mlx.core", exc_type=ImportError)
        yield "mlx"
    else:
        torch = pytest.importorskip("torch")
        torch.set_num_threads(2 if "2" in request.param else 1)
        yield "torch"
        torch.set_num_threads(1)


@pytest.fixture(params=CASES, scope="module")
def loaded(request: pytest.FixtureRequest, backend_name: str, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    name, _, way = request.param.partition(", ")
    case = golden(name)
    roomy = replace(case, config={**case.config, "max_position_embeddings": CONTEXT})
    folder = roomy.write(tmp_path_factory.mktemp("model") / "m")
    return load(folder, backend_name, "cpu", "float32", kv_cache=way or "auto")


@dataclass(frozen=True, eq=False)
class Wish:
    """What one request asks for."""

    prompt: tuple[int, ...]
    sampling: Sampling
    most: int
    choice: int = 0
    top: int = 3
    held: bool = False
    grammar: State | None = None


class Story:
    """A scheduler on a loaded model, and what its requests were told. every: after how many steps a row is evicted."""

    def __init__(self, loaded: Loaded, every: int = 0):
        self.every = every
        self.away: list[int] = []  # how many tokens each evicted row had made
        self.scheduler = Scheduler(loaded.runner, most_rows=6)
        self.scheduler._plan = self._plan
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
            grammar=None if wish.grammar is None else wish.grammar.copy(),
            held=wish.held,
        )
        self.scheduler.add(self.sequences[wish])
        return self.sequences[wish]

    def step(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.scheduler.step()

    def _plan(self, making: set[bytes]) -> Plan:
        """As where a row cannot grow; whoever is evicted may come back at once."""
        if self.every and self.scheduler.steps % self.every == 0 and self.scheduler._evict():
            self.scheduler.cap = self.scheduler.most_rows
            self.away.append(max(s.made for s in self.scheduler.waiting))
        return Scheduler._plan(self.scheduler, making)

    def end(self) -> dict[Wish, list[Drawn]]:
        while self.scheduler.busy:
            self.step()
        self.scheduler.forget()
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


def assert_as_alone(
    loaded: Loaded, story: Callable[[Story, list[Wish]], None], asked: list[Wish], every: int = 0
) -> Story:
    """Bitwise: Drawn compares token, log-probability and the likeliest ones as they are."""
    told = Story(loaded, every)
    story(told, asked)
    for wish, got in told.end().items():
        sequence = told.sequences[wish]
        alone = Story(loaded)
        alone.ask(wish)
        want = alone.end()[wish]
        assert len(want) == wish.most
        assert got == want[: len(got)]
        assert sequence.finish == "cancelled" or got == want
    return told


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


@pytest.mark.parametrize("every", [0, 67], ids=["and stays", "and is evicted"])
def test_a_row_that_outgrows_its_room_is_as_alone(loaded, every):
    """In a batch and alone it is moved at the same length; when made tokens run again, it is moved among them."""
    prompt = tuple(i % 150 for i in range(BLOCK - 3))
    asked = [Wish(prompt[i:], SAMPLINGS[i % len(SAMPLINGS)], BLOCK + 12, top=1) for i in range(2)]
    told = assert_as_alone(loaded, all_at_once, asked, every)
    assert not every or max(told.away) > BLOCK + 3


# Evicted


def all_at_once(story: Story, asked: list[Wish]) -> None:
    for wish in asked:
        story.ask(wish)


@pytest.mark.parametrize("every", [1, 2, 5])
def test_evicted_at_every_kth_step_is_as_alone(loaded, every):
    """The row of the longest output loses its place again and again; all it had is computed once more, or pasted."""
    told = assert_as_alone(loaded, all_at_once, wishes(loaded, 6, seed=10 + every), every)
    assert told.scheduler.evictions >= 2


def test_32_requests_with_forced_eviction_are_as_alone(loaded):
    asked = wishes(loaded, 32, seed=11)
    told = Story(loaded, every=2)
    told.scheduler.most_rows = told.scheduler.cap = 32
    all_at_once(told, asked)
    for wish, got in told.end().items():
        alone = Story(loaded)
        alone.ask(wish)
        assert got == alone.end()[wish]
    assert told.scheduler.evictions > 3


# Guessed


class Guessing(Always):
    """Counts the steps in which all rows decoded and one had guessed."""

    guesses = 0

    def note(self, rows: int, way: Way, tokens: int, launched: float) -> None:
        self.guesses += way is Way.FOUND


def foresee(monkeypatch: pytest.MonkeyPatch, loaded: Loaded, replies: dict[Wish, list[Drawn]], seed: int) -> None:
    """Drafts of all lengths that are what each request will say, two in five with a wrong end."""
    rng = random.Random(seed)
    known = {wish.prompt: [*wish.prompt, *(d.token for d in drawn)] for wish, drawn in replies.items()}

    def draft(tokens: np.ndarray, most: int) -> np.ndarray:
        whole = next(whole for prompt, whole in known.items() if tuple(tokens[: len(prompt)]) == prompt)
        ahead = whole[len(tokens) :][: max(rng.choice([0, 1, 3, most]), 0)][: max(most, 0)]
        if ahead and rng.random() < 0.4:
            ahead[-1] = (ahead[-1] + 1) % loaded.vocabulary
        return np.array(ahead, np.int32)

    monkeypatch.setattr(lookup, "draft", draft)


@pytest.mark.parametrize("every", [0, 4], ids=["and stays", "and is evicted"])
def test_guessed_is_as_drawn_one_by_one(loaded, every, monkeypatch):
    """With guesses that are right for a while and then wrong, of all lengths; log-probabilities too."""
    asked = [replace(wish, held=False, most=40) for wish in wishes(loaded, 5, seed=50)]
    foresee(monkeypatch, loaded, {wish: cold(loaded, wish) for wish in asked}, seed=51)
    gain = Guessing()

    def together(story: Story, asked: list[Wish]) -> None:
        if len(asked) > 1:
            story.scheduler.gain = gain
        all_at_once(story, asked)

    told = assert_as_alone(loaded, together, asked, every)
    assert gain.guesses >= 8
    assert told.scheduler.evictions > 3 or not every


# Prefixes


def reusing(
    loaded: Loaded, first: Wish, then: list[Wish], reuse: Reuse = "all", every: int = 0
) -> tuple[list[list[Drawn]], Story]:
    """What requests give after another one has left its beginning behind."""
    story = Story(loaded)
    story.scheduler.reuse = reuse
    story.ask(first)
    while story.scheduler.busy:
        story.step()
    story.every = every
    all_at_once(story, then)
    told = story.end()
    return [told[wish] for wish in then], story


def made_before(loaded: Loaded, prompt: int, seed: int) -> tuple[Wish, tuple[int, ...]]:
    """A request whose answer fills the block in which its prompt ends, and all its tokens."""
    first = Wish(some_prompt(loaded, prompt, seed), SAMPLINGS[1], BLOCK - prompt % BLOCK + 3, top=1)
    return first, (*first.prompt, *(d.token for d in cold(loaded, first)))


def cold(loaded: Loaded, wish: Wish) -> list[Drawn]:
    story = Story(loaded)
    story.ask(wish)
    return story.end()[wish]


def some_prompt(loaded: Loaded, length: int, seed: int) -> tuple[int, ...]:
    rng = random.Random(seed)
    return tuple(rng.randrange(loaded.vocabulary) for _ in range(length))


def test_warm_is_as_cold_over_what_a_prompt_made(loaded):
    """The same prompt, one that goes on, one that turns off at each block, and one that ends on a line of the grid."""
    shared = some_prompt(loaded, 3 * BLOCK + 40, seed=20)
    then = [
        Wish(shared, SAMPLINGS[2], 9),
        Wish((*shared, 5, 6, 7), SAMPLINGS[1], 9),
        Wish((*shared[: 2 * BLOCK + 9], 1, 2), SAMPLINGS[0], 9),
        Wish((*shared[: BLOCK + 3], 1), SAMPLINGS[4], 9),
        Wish(shared[: 2 * BLOCK], SAMPLINGS[3], 9),
        Wish(shared[: BLOCK - 1], SAMPLINGS[1], 9),
    ]
    told, story = reusing(loaded, Wish(shared, SAMPLINGS[0], 4), then)
    assert [story.sequences[wish].cached // BLOCK for wish in then] == [3, 3, 2, 1, 1, 0]
    assert told == [cold(loaded, wish) for wish in then]


@pytest.mark.parametrize("every", [0, 3])
@pytest.mark.parametrize("length", [1, 30, BLOCK, 2 * BLOCK + 30])
def test_choices_share_all_of_their_prompt_and_are_as_alone(loaded, length, every):
    """Eight copies of one row, in one slab on MLX, that draw from one row's logits in their own ways."""
    prompt = some_prompt(loaded, length, seed=21)
    asked = [Wish(prompt, SAMPLINGS[i % 3], 9, choice=i) for i in range(8)]

    def eight(story: Story, asked: list[Wish]) -> None:
        story.scheduler.most_rows = story.scheduler.cap = 8
        all_at_once(story, asked)

    told = assert_as_alone(loaded, eight, asked, every)
    assert every or sum(told.sequences[wish].cached for wish in asked) == 7 * length
    assert told.scheduler.evictions > 3 or not every


def test_choices_over_a_generated_turn_are_all_as_the_first(loaded):
    """Where blocks were made by decoding, copies have the bits that the one they are copies of has."""
    first, known = made_before(loaded, 150, seed=25)
    then = [Wish((*known, 3), SAMPLINGS[1], 9, choice=i) for i in range(4)]
    together, story = reusing(loaded, first, then)
    assert [story.sequences[wish].exact for wish in then] == [False] * 4
    assert together == [reusing(loaded, first, [wish])[0][0] for wish in then]


def test_warm_over_a_generated_turn_is_as_cold_or_as_near_as_its_margin(loaded, capsys):
    """Bitwise on MLX. On PyTorch decoding sums in another order than a chunk does: log-probabilities are within 1e-5,
    and tokens equal but where the two likeliest are closer than that, which is said."""
    first, known = made_before(loaded, 150, seed=22)
    then = [Wish((*known, 3, 4, i), Sampling(), 8, top=2) for i in range(3)]
    warm, story = reusing(loaded, first, then)
    assert [(s.cached, s.exact) for s in map(story.sequences.get, then)] == [(BLOCK, False)] * 3
    want = [cold(loaded, wish) for wish in then]
    if loaded.backend.device.backend == "mlx":
        assert warm == want
        return
    for got, drawn in ((g, d) for pair in zip(warm, want, strict=True) for g, d in until_they_part(*pair)):
        assert abs(got.logprob - drawn.logprob) < 1e-5
        if got.token != drawn.token:
            margin = drawn.top[0][1] - drawn.top[1][1]
            with capsys.disabled():
                print(f"\n{loaded.architecture}: a warm token differs; the two likeliest were {margin:.1e} apart")
            assert margin < 1e-5


def until_they_part(got: list[Drawn], want: list[Drawn]) -> Iterator[tuple[Drawn, Drawn]]:
    """Token by token to the first that differs, behind which the texts are not the same."""
    for pair in zip(got, want, strict=True):
        yield pair
        if pair[0].token != pair[1].token:
            return


def test_where_only_prompts_are_kept_warm_is_cold_after_a_generated_turn_too(loaded):
    first, known = made_before(loaded, BLOCK + 150, seed=24)
    wish = Wish((*known, 3, 4, 5), Sampling(), 8, top=2)
    (warm,), story = reusing(loaded, first, [wish], reuse="prompts")
    assert (story.sequences[wish].cached, story.sequences[wish].exact) == (BLOCK, True)
    assert warm == cold(loaded, wish)


def test_evicted_over_a_generated_turn_is_as_if_it_were_not(loaded):
    """What is not exact is saved and loaded again, to the bit."""
    first, known = made_before(loaded, 150, seed=23)
    then = [Wish((*known, 3, i), SAMPLINGS[i], 20, top=1) for i in range(3)]
    (calm, _), (pressed, story) = reusing(loaded, first, then), reusing(loaded, first, then, every=3)
    assert pressed == calm
    assert story.scheduler.evictions > 3


# All of it


@pytest.mark.soak
@pytest.mark.parametrize("every", range(1, 9))
def test_32_requests_evicted_at_every_kth_step_are_all_as_alone(loaded, every):
    """All of them, of all lengths, ways of drawing and shared beginnings, with at least half as many evictions."""
    shared = some_prompt(loaded, 2 * BLOCK + 9, seed=30 + every)
    asked = wishes(loaded, 24, seed=40 + every)
    asked += [Wish((*shared[: 100 * i], i), SAMPLINGS[i % 5], 14, choice=i) for i in range(8)]
    asked = [replace(wish, most=wish.most + 16 * every) for wish in asked]
    told = crowded(loaded, asked, every)
    assert_all_as(told, {wish: cold(loaded, wish) for wish in asked})
    assert told.scheduler.evictions >= len(asked) // 2


FEW_AND_ALL = [3, *(pytest.param(k, marks=pytest.mark.soak) for k in (1, 2, 4, 5, 6, 7, 8))]


@pytest.mark.parametrize("every", FEW_AND_ALL)
def test_guesses_grammars_choices_and_what_is_kept_among_evictions_are_as_alone(loaded, every, monkeypatch):
    """Of 32 requests ten are guessed ahead, six keep to a grammar, eight are choices, eight go on from what is kept."""
    letters = Vocabulary(Letters(), loaded.vocabulary, ()).compile(Grammar("regex", "[a-h]*"))
    prompt, shared = (some_prompt(loaded, length, 60 + every) for length in (BLOCK + 30, 2 * BLOCK + 9))
    asked = [replace(wish, held=False) for wish in wishes(loaded, 10, seed=70 + every)]
    asked += [replace(wish, grammar=letters) for wish in wishes(loaded, 6, seed=80 + every)]
    asked += [Wish(prompt, SAMPLINGS[i % 5], 20, choice=i) for i in range(8)]
    asked += [Wish((*shared[: 80 * i], i), SAMPLINGS[i % 5], 20) for i in range(8)]
    asked = [replace(wish, most=wish.most + 8 * every) for wish in asked]
    alone = {wish: cold(loaded, wish) for wish in asked}
    foresee(monkeypatch, loaded, alone, seed=every)
    gain = Guessing()
    told = crowded(loaded, asked, every, gain, before=Wish(shared, Sampling(), 4))
    assert_all_as(told, alone)
    spelled = {PIECES[d.token % len(PIECES)] for wish in asked if wish.grammar for d in alone[wish]}
    assert spelled <= set("abcdefgh")
    assert told.scheduler.evictions > 8
    assert sum(told.sequences[wish].cached > 0 for wish in asked) >= 11
    assert gain.guesses >= 8


def crowded(
    loaded: Loaded, asked: list[Wish], every: int, gain: lookup.Gain | None = None, before: Wish | None = None
) -> Story:
    """All of them at once, after one that has left its beginning."""
    told = Story(loaded)
    told.scheduler.most_rows = told.scheduler.cap = 32
    if before is not None:
        told.ask(before)
        while told.scheduler.busy:
            told.step()
        del told.told[before]
    told.every, told.scheduler.gain = every, gain
    all_at_once(told, asked)
    return told


def assert_all_as(told: Story, alone: dict[Wish, list[Drawn]]) -> None:
    """Bitwise; says how many."""
    identical = [got == alone[wish] for wish, got in told.end().items()]
    print(f"{sum(identical)} of {len(identical)} replies identical, {told.scheduler.evictions} evictions")
    assert len(identical) == len(alone)
    assert all(identical)

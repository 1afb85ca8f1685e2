"""One request: where its prompt is cut, what it makes, where it ends, and that it runs ahead without being seen to."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crane_app.contract import BLOCK, Sampling, Work
from crane_app.engine.generation import chunks, generate, score
from crane_app.engine.loading import Loaded, load
from crane_app.errors import BadInput
from tests.models.scramble import golden

CONTEXT = 1500
PROMPT = [int(t) for t in golden("qwen3").arrays["tokens"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = golden("qwen3")
    roomy = replace(case, config={**case.config, "max_position_embeddings": CONTEXT})
    return roomy.write(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture
def loaded(folder: Path, backend_name: str) -> Loaded:
    return load(folder, backend_name, "cpu", "float32")


def text(length: int, seed: int = 0) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, 199, length)]


def tokens_of(steps) -> list[int]:
    return [drawn.token for drawn in steps]


def held(loaded: Loaded) -> int:
    return loaded.runner.cache.nbytes()


# Where a prompt is cut


@given(st.integers(0, 5 * BLOCK), st.integers(0, 5 * BLOCK))
def test_cuts_lie_on_the_grid_and_leave_nothing_out(start, length):
    cuts = list(chunks(length, start))
    assert [p for a, b in cuts for p in range(a, b)] == list(range(start, length))
    assert all(b % BLOCK == 0 for _, b in cuts[:-1])
    assert all(0 < b - a <= BLOCK for a, b in cuts)


@given(st.integers(0, 5 * BLOCK), st.integers(0, 5 * BLOCK))
def test_a_prompt_that_goes_on_is_cut_where_it_would_have_been(start, length):
    """Part of it may be cached already."""
    ends = {b for _, b in chunks(length)}
    assert {b for _, b in chunks(length, start)} <= ends


@pytest.mark.parametrize("length", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 60])
def test_a_long_prompt_gives_what_one_forward_gives(loaded, length):
    tokens, runner = text(length), loaded.runner
    row = runner.cache.open(length)
    whole = runner.launch([Work(row, np.array(tokens, np.int32), logits=length)], keep_logits=True).read().logits
    runner.cache.close(row)
    cut = score(loaded, tokens)
    assert cut.shape == (length, 199)
    assert cut.dtype == np.float32
    np.testing.assert_allclose(cut, whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("length", [BLOCK - 3, BLOCK, 2 * BLOCK + 1])
def test_a_prompt_gives_the_same_however_much_is_to_follow(loaded, length):
    """Bitwise: the room that is reserved beside it changes nothing."""
    tokens = text(length)
    runs = [list(islice(generate(loaded, tokens, Sampling(), count, top=20), 300)) for count in (1, 4, 300, 900)]
    assert runs[0] == runs[1][:1]
    assert runs[1] == runs[2][:4]
    assert runs[2] == runs[3]


def test_the_prompt_is_the_text_that_is_scored(loaded):
    tokens = text(BLOCK + 9)
    last = score(loaded, tokens)[-1]
    assert next(generate(loaded, tokens, Sampling(), 1)).token == int(last.argmax())


# What is made


@pytest.mark.parametrize("case", ["qwen3", "qwen2", "mistral", "qwen3_moe", "near_flat"])
def test_greedy_tokens_are_those_of_transformers(tmp_path, backend_name, case):
    recorded = golden(case)
    model = load(recorded.write(tmp_path), backend_name, "cpu", "float32")
    made = tokens_of(generate(model, recorded.arrays["tokens"].tolist(), Sampling(), 32))
    assert made == recorded.arrays["greedy"].tolist()


ALL_PENALTIES = {"repetition_penalty": 1.4, "presence_penalty": 0.6, "frequency_penalty": 0.3}
SAMPLINGS = {
    "greedy": Sampling(),
    "sampled": Sampling(temperature=0.9, seed=11),
    "filtered": Sampling(temperature=1.2, top_k=30, top_p=0.9, min_p=0.01, seed=12),
    "biased": Sampling(temperature=0.7, logit_bias={3: 3.0, 100: -50.0}, seed=13),
    **{
        f"penalised, last {n}": Sampling(temperature=0.8, seed=14, repeat_last_n=n, **ALL_PENALTIES)
        for n in (0, 1, 7, -1)
    },
    "penalised, greedy": Sampling(repeat_last_n=7, **ALL_PENALTIES),
    "rewarded": Sampling(repetition_penalty=0.6, presence_penalty=-0.5, frequency_penalty=-0.2, repeat_last_n=5),
}
ways = pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=list(SAMPLINGS))


def one_at_a_time(loaded: Loaded, tokens: list[int], sampling: Sampling, count: int) -> list[int]:
    """What `generate` must give: every token is read before the next step is launched, with it in hand."""
    runner = loaded.runner
    row = runner.cache.open(len(tokens) + count)
    seen, fresh = list(tokens), tokens
    for made in range(count):
        for start, end in chunks(len(seen), len(seen) - len(fresh)):
            work = Work(
                row,
                np.array(seen[start:end], np.int32),
                draw=sampling,
                seen=np.array(seen, np.int32),
                made=made,
            )
            drawn = runner.launch([work]).read().drawn[0][0]
        seen.append(drawn.token)
        fresh = seen[-1:]
    runner.cache.close(row)
    return seen[len(tokens) :]


@ways
def test_running_ahead_changes_no_token(loaded, sampling):
    assert tokens_of(generate(loaded, PROMPT, sampling, 40)) == one_at_a_time(loaded, PROMPT, sampling, 40)


@pytest.mark.parametrize("sampling", [SAMPLINGS["sampled"], SAMPLINGS["penalised, last 7"]], ids=["plain", "penalised"])
def test_running_ahead_after_a_prompt_of_several_chunks(loaded, sampling):
    tokens = text(BLOCK + 30)
    assert tokens_of(generate(loaded, tokens, sampling, 10)) == one_at_a_time(loaded, tokens, sampling, 10)


def penalised(logits: np.ndarray, seen: list[int], made: int, s: Sampling) -> np.ndarray:
    """The rule itself: repetition over the last `repeat_last_n` of prompt and output, the others over the output."""
    scores = logits.astype(np.float64)
    for token, bias in s.logit_bias.items():
        scores[token] += bias
    near = seen if s.repeat_last_n < 0 else seen[len(seen) - min(s.repeat_last_n, len(seen)) :]
    for token in set(near):
        scores[token] *= s.repetition_penalty if scores[token] <= 0 else 1 / s.repetition_penalty
    for token in seen[len(seen) - made :]:
        scores[token] -= s.frequency_penalty
    for token in set(seen[len(seen) - made :]):
        scores[token] -= s.presence_penalty
    return scores


@pytest.mark.parametrize("last", [0, 1, 2, 7, 30, -1, 10_000])
@pytest.mark.parametrize(
    "amounts",
    [
        {"repetition_penalty": 1.7},
        {"repetition_penalty": 0.5},
        {"presence_penalty": 1.5},
        {"frequency_penalty": 0.7},
        {**ALL_PENALTIES, "logit_bias": {7: 1.0}},
    ],
    ids=lambda a: "+".join(a),
)
def test_a_penalised_token_is_the_best_by_the_rule(loaded, last, amounts):
    """Each made token is the likeliest of the float64 rule on the logits of the very text before it."""
    sampling = Sampling(repeat_last_n=last, **amounts)
    made = tokens_of(generate(loaded, PROMPT, sampling, 24))
    logits = score(loaded, PROMPT + made)
    for i, token in enumerate(made):
        at = len(PROMPT) + i
        scores = penalised(logits[at - 1], (PROMPT + made)[:at], i, sampling)
        assert scores[token] >= scores.max() - 1e-4, f"token {i} is {token}, the rule says {scores.argmax()}"


def test_a_drawn_token_depends_on_seed_and_choice(loaded):
    def draw(**changed) -> list[int]:
        return tokens_of(generate(loaded, PROMPT, Sampling(**{"temperature": 1.0, "seed": 3, **changed}), 24))

    assert draw() == draw()
    runs = [draw(), *(draw(seed=seed) for seed in (4, 5, 2**63 - 1)), draw(choice=1)]
    assert len({tuple(run) for run in runs}) == len(runs)


def test_greedy_depends_on_neither(loaded):
    runs = [tokens_of(generate(loaded, PROMPT, Sampling(seed=seed, choice=seed), 12)) for seed in (0, 1)]
    assert runs[0] == runs[1]


def test_a_strong_bias_forces_a_token_and_forbids_one(loaded):
    assert tokens_of(generate(loaded, PROMPT, Sampling(logit_bias={42: 1000.0}), 5)) == [42] * 5
    first = next(generate(loaded, PROMPT, Sampling(), 1)).token
    assert first not in tokens_of(generate(loaded, PROMPT, Sampling(temperature=2.0, logit_bias={first: -1e9}), 60))


@pytest.mark.parametrize("top", [1, 5, 20, 199])
@pytest.mark.parametrize(
    "sampling",
    [Sampling(), SAMPLINGS["sampled"], SAMPLINGS["penalised, last -1"]],
    ids=["greedy", "sampled", "penalised"],
)
def test_log_probabilities_are_those_of_the_text(loaded, sampling, top):
    """Of the model's own logits, before any penalty or temperature."""
    drawn = list(generate(loaded, PROMPT, sampling, 6, top=top))
    logits = score(loaded, PROMPT + [d.token for d in drawn]).astype(np.float64)
    for i, one in enumerate(drawn):
        row = logits[len(PROMPT) + i - 1]
        expected = row - row.max() - np.log(np.exp(row - row.max()).sum())
        assert one.logprob == pytest.approx(expected[one.token], abs=1e-5)
        assert len(one.top) == top
        assert len({token for token, _ in one.top}) == top
        values = [logprob for _, logprob in one.top]
        assert values == sorted(values, reverse=True)
        np.testing.assert_allclose(values, np.sort(expected)[::-1][:top], atol=1e-5)
        np.testing.assert_allclose(values, [expected[token] for token, _ in one.top], atol=1e-5)


def test_more_log_probabilities_than_tokens_are_all_of_them(loaded):
    (drawn,) = generate(loaded, PROMPT, Sampling(), 1, top=500)
    assert len(drawn.top) == 199


def test_log_probabilities_after_a_prompt_of_several_chunks(loaded):
    tokens = text(BLOCK + 5)
    (drawn,) = generate(loaded, tokens, Sampling(), 1, top=3)
    best = np.argsort(-score(loaded, tokens)[-1], kind="stable")[:3]
    assert [token for token, _ in drawn.top] == best.tolist()


def test_none_are_reported_unasked(loaded):
    (drawn,) = generate(loaded, PROMPT, Sampling(), 1)
    assert drawn.logprob is None
    assert drawn.top == ()


# Where it ends


@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_as_many_tokens_as_asked_for(loaded, count):
    assert len(tokens_of(generate(loaded, PROMPT, Sampling(), count))) == count
    assert held(loaded) == 0


@pytest.mark.parametrize("count", [0, -1])
def test_no_token_is_asked_for(loaded, count):
    assert tokens_of(generate(loaded, PROMPT, Sampling(), count)) == []
    assert held(loaded) == 0


def test_generation_ends_with_the_context(tmp_path, backend_name):
    case = golden("qwen3")
    small = replace(case, config={**case.config, "max_position_embeddings": 30})
    model = load(small.write(tmp_path), backend_name, "cpu", "float32")
    made = tokens_of(generate(model, PROMPT, Sampling(), 1000))
    assert len(PROMPT) + len(made) == 30
    assert made == case.arrays["greedy"].tolist()[: len(made)]
    assert tokens_of(generate(model, text(30), Sampling(), 5)) == []
    assert len(tokens_of(generate(model, text(29), Sampling(), 5))) == 1
    assert len(score(model, text(30))) == 30


@pytest.mark.parametrize("call", [lambda m, t: list(generate(m, t, Sampling(), 1)), score], ids=["generate", "score"])
def test_a_prompt_longer_than_the_context_is_told_both_counts(loaded, call):
    with pytest.raises(BadInput, match=rf"{CONTEXT + 1}\D.*\b{CONTEXT}\b"):
        call(loaded, text(CONTEXT + 1))
    assert held(loaded) == 0


@pytest.mark.parametrize("call", [lambda m, t: list(generate(m, t, Sampling(), 1)), score], ids=["generate", "score"])
@pytest.mark.parametrize("tokens", [[], [199], [-1], [0, 1, 2**31], [0, -(2**40)]], ids=str)
def test_a_prompt_that_the_model_cannot_read_is_refused(loaded, call, tokens):
    with pytest.raises(BadInput):
        call(loaded, tokens)
    assert held(loaded) == 0


# What it takes and gives back


def test_closing_gives_the_row_back(loaded):
    steps = generate(loaded, PROMPT, Sampling(), 100)
    for _ in range(3):
        next(steps)
    assert held(loaded) > 0
    steps.close()
    assert held(loaded) == 0
    steps.close()


def test_a_generator_that_was_never_begun_holds_nothing(loaded):
    steps = generate(loaded, PROMPT, Sampling(), 100)
    assert held(loaded) == 0
    steps.close()
    assert held(loaded) == 0


def test_an_exception_at_the_reader_gives_the_row_back(loaded):
    steps = generate(loaded, PROMPT, Sampling(), 100)
    next(steps)
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt())
    assert held(loaded) == 0


@pytest.fixture
def broken(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """Its fourth launch fails."""
    launch, count = loaded.runner.launch, 0

    def failing(*args, **kwargs):
        nonlocal count
        count += 1
        if count == 4:
            raise RuntimeError("the device is gone")
        return launch(*args, **kwargs)

    monkeypatch.setattr(loaded.runner, "launch", failing)
    return loaded


def test_an_exception_of_the_device_gives_the_row_back(broken):
    with pytest.raises(RuntimeError, match="gone"):
        list(generate(broken, PROMPT, Sampling(), 100))
    assert held(broken) == 0


def test_an_exception_while_scoring_gives_the_row_back(broken):
    with pytest.raises(RuntimeError, match="gone"):
        score(broken, text(3 * BLOCK + 1))
    assert held(broken) == 0


def test_a_model_works_on_after_all_that(broken):
    with pytest.raises(RuntimeError):
        list(generate(broken, PROMPT, Sampling(), 100))
    assert tokens_of(generate(broken, PROMPT, Sampling(), 32)) == golden("qwen3").arrays["greedy"].tolist()


@pytest.mark.parametrize("prompt", [BLOCK - 20, BLOCK - 1, BLOCK, 2 * BLOCK - 3])
def test_growth_in_mid_generation_changes_nothing(loaded, prompt):
    """Bitwise what a row gives that has the room from the start, across one and two borders."""
    count, tokens = 280, text(prompt)
    grown = list(generate(loaded, tokens, Sampling(temperature=1.0, seed=9), count, top=20))
    cache = loaded.runner.cache
    opened, cache.open = cache.open, lambda reserve: opened(prompt + count + BLOCK)
    try:
        roomy = list(generate(loaded, tokens, Sampling(temperature=1.0, seed=9), count, top=20))
    finally:
        del cache.open
    assert grown == roomy


def test_a_row_grows_by_need_not_by_what_may_come(loaded):
    """A request for many tokens holds what it has made, not what it might."""
    steps = generate(loaded, PROMPT, Sampling(), CONTEXT)
    next(steps)
    few = held(loaded)
    steps.close()
    steps = generate(loaded, PROMPT, Sampling(), 600)
    next(steps)
    assert held(loaded) == few
    for _ in range(500):
        next(steps)
    assert held(loaded) > few
    steps.close()
    assert held(loaded) == 0


def test_two_generators_at_once_do_not_mix(loaded):
    first, second = (generate(loaded, text(20, seed), Sampling(), 12) for seed in (1, 2))
    mixed = [(a.token, b.token) for a, b in zip(first, second, strict=True)]
    alone = zip(*(tokens_of(generate(loaded, text(20, seed), Sampling(), 12)) for seed in (1, 2)), strict=True)
    assert mixed == list(alone)
    assert held(loaded) == 0

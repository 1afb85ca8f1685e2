"""sample: each parameter alone and all together against the oracle; edges, noise, large vocabularies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crane_app.backends import draw as drawing
from crane_app.backends.draw import plan_draw, uniform
from crane_app.contract import Sampling, Work
from tests.ops.oracle import adjusted, candidates, distribution, drawn, normal, rounded

SMALL, LARGE = 7, 151_936
WARM = Sampling(temperature=1.0, seed=3)
SEEN = [6, 4, 1, 0, 5, 4, 1, 2]
CLOSE = 1e-5  # float32 sums cannot tell noise that lies this near a border

PENALTIES = {
    "repetition": {"repetition_penalty": 1.7},
    "repetition below one": {"repetition_penalty": 0.6},
    "repetition of the last": {"repetition_penalty": 2.5, "repeat_last_n": 3},
    "repetition of none": {"repetition_penalty": 2.5, "repeat_last_n": 0},
    "repetition past the start": {"repetition_penalty": 2.5, "repeat_last_n": 50},
    "presence": {"presence_penalty": 1.5},
    "frequency": {"frequency_penalty": 0.9},
    "presence below zero": {"presence_penalty": -1.5},
    "all penalties": {"repetition_penalty": 1.4, "presence_penalty": 0.7, "frequency_penalty": 0.5},
}
CASES = {
    "temperature": {},
    "cold": {"temperature": 0.3},
    "hot": {"temperature": 2.5},
    "top_k": {"top_k": 3},
    "top_k above the vocabulary": {"top_k": 1000},
    "top_p": {"top_p": 0.8},
    "top_p hot": {"top_p": 0.6, "temperature": 2.0},
    "min_p": {"min_p": 0.3},
    "min_p hot": {"min_p": 0.5, "temperature": 2.0},
    "top_k and top_p": {"top_k": 5, "top_p": 0.9},
    "top_k and min_p": {"top_k": 4, "min_p": 0.25},
    "top_p and min_p": {"top_p": 0.95, "min_p": 0.2},
    "bias": {"logit_bias": {2: 1.5, 6: -2.0}},
    **PENALTIES,
    "all together": {
        "temperature": 1.3,
        "top_k": 5,
        "top_p": 0.85,
        "min_p": 0.2,
        "repetition_penalty": 1.3,
        "repeat_last_n": 5,
        "presence_penalty": 0.3,
        "frequency_penalty": 0.2,
        "logit_bias": {0: 1.0, 4: 2.0, 5: -1.0},
    },
}


WITHOUT_EFFECT = {  # by what the other parameters say
    ("repetition of none", "repetition_penalty"),
    ("repetition past the start", "repeat_last_n"),
}


def work(sampling, *, row=0, seen=SEEN, made=5):
    return Work(row, np.array([1], np.int32), draw=sampling, seen=np.array(seen, np.int32), made=made)


def sample(backend, logits, works, starts):
    """Tokens of one-token works, checked to be int32 on the device."""
    tokens = backend.ops.sample(backend.array(np.asarray(logits, np.float32)), plan_draw(works, starts))
    assert str(tokens.dtype).endswith("int32")
    assert not str(tokens.dtype).endswith("uint32")
    assert tuple(tokens.shape) == (len(logits),)
    return backend.numpy(tokens).tolist()


def check(backend, logits, samplings, made=5, close=CLOSE):
    """Each row at its own position gives the token of the oracle, unless the noise is too near a border."""
    starts = list(range(10, 10 + len(samplings)))
    works = [work(s, row=i, made=made) for i, s in enumerate(samplings)]
    got = sample(backend, logits, works, starts)
    unsure = 0
    for token, row, s, start in zip(got, logits, samplings, starts, strict=True):
        want, margin = drawn(row, s, uniform(s.seed, s.choice, start + 1, 0), SEEN, made)
        unsure += margin < close
        assert token == want or margin < close, f"{s} at {start + 1} gave {token}, not {want}"
    assert unsure <= len(samplings) / 20
    return got


def rows(dtype, count, vocabulary=SMALL, scale=1.5):
    return normal(np.random.default_rng(11), count, vocabulary, dtype=dtype, scale=scale)


@pytest.mark.parametrize("case", CASES)
def test_each_parameter_draws_as_the_oracle_does(backend, case):
    sampling = replace(WARM, **CASES[case])
    check(backend, rows(backend.dtype, 60), [sampling] * 60)


@pytest.mark.parametrize("few", [20, 200, 1500])
def test_a_nucleus_may_hold_a_few_some_or_most_of_the_tokens(backend, few):
    """Beside rows whose nucleus is small: where one row's has to be looked for further, the others are not."""
    logits = rows(backend.dtype, 60, 2000, scale=0.2)
    logits[::2, :few] += 9.0
    logits[1::2, 17] += 12.0
    logits = rounded(logits, backend.dtype)
    check(backend, logits, [replace(WARM, top_p=0.95, min_p=0.0 if i % 3 else 1e-3) for i in range(60)])


@pytest.mark.parametrize("case", [*PENALTIES, "bias"])
def test_bias_and_penalties_act_on_greedy_rows(backend, case):
    check(backend, rows(backend.dtype, 60), [replace(WARM, temperature=0.0, **CASES[case])] * 60)


def test_all_cases_in_one_step(backend):
    """Rows with unlike parameters side by side, twice, so that each kind stands at several places."""
    samplings = [replace(WARM, **c) for c in CASES.values()] + [Sampling()]
    samplings = samplings + samplings[::-1]
    check(backend, rows(backend.dtype, len(samplings)), samplings)


@pytest.mark.parametrize("case", [c for c in CASES if c not in ("temperature", "top_k above the vocabulary")])
def test_each_case_would_show_if_a_parameter_were_ignored(case):
    """Of the oracle: without any one of its parameters, some of the tokens drawn above would be others."""
    logits, plain = rows("float32", 60), Sampling()
    for name in CASES[case]:
        if (case, name) in WITHOUT_EFFECT:
            continue
        full = replace(WARM, **CASES[case])
        ignoring = replace(full, **{name: getattr(WARM if name == "temperature" else plain, name)})
        noise = [uniform(3, 0, 11 + i, 0) for i in range(60)]
        differ = [
            drawn(x, full, u, SEEN, 5)[0] != drawn(x, ignoring, u, SEEN, 5)[0]
            for x, u in zip(logits, noise, strict=True)
        ]
        assert any(differ), f"{name} does not matter in '{case}'"


@pytest.mark.parametrize(
    ("case", "changes", "seen", "made"),
    [
        ("presence", {}, SEEN, 8),  # the prompt counted as made
        ("presence", {}, SEEN, 4),
        ("frequency", {}, SEEN, 8),
        ("frequency", {}, SEEN, 6),
        ("frequency", {"frequency_penalty": 0, "presence_penalty": 0.9}, SEEN, 8),  # presence for frequency
        ("repetition of the last", {"repeat_last_n": 2}, SEEN, 5),
        ("repetition of the last", {"repeat_last_n": 4}, SEEN, 5),
        ("repetition of the last", {}, SEEN[::-1], 5),  # the first for the last
    ],
)
def test_each_penalty_case_would_show_a_wrong_history(case, changes, seen, made):
    logits, s = rows("float32", 60), replace(WARM, **CASES[case])
    noise = [uniform(3, 0, 11 + i, 0) for i in range(60)]
    right = [drawn(x, s, u, SEEN, 5)[0] for x, u in zip(logits, noise, strict=True)]
    wrong = [drawn(x, replace(s, **changes), u, seen, made)[0] for x, u in zip(logits, noise, strict=True)]
    assert right != wrong


def without(s, *names):
    return replace(s, **{name: getattr(Sampling(), name) for name in names})


def bias_last(x, s):
    x = adjusted(x, without(s, "logit_bias"), SEEN, 5)
    for token, bias in s.logit_bias.items():
        x[token] += bias
    return x, without(s, "logit_bias", "repetition_penalty", "presence_penalty", "frequency_penalty")


def presence_first(x, s):
    x = adjusted(x, without(s, "repetition_penalty"), SEEN, 5)
    return x, without(s, "logit_bias", "presence_penalty", "frequency_penalty")


def temperature_last(x, s):
    ids, _, _ = candidates(x, replace(s, temperature=1.0), SEEN, 5)
    x = adjusted(x, s, SEEN, 5)
    x[np.setdiff1d(np.arange(SMALL), ids)] = -np.inf
    return x, Sampling(temperature=s.temperature)


@pytest.mark.parametrize("mutant", [bias_last, presence_first, temperature_last])
def test_all_together_would_show_another_order(mutant):
    logits, s = rows("float32", 60), replace(WARM, **CASES["all together"])
    noise = [uniform(3, 0, 11 + i, 0) for i in range(60)]
    right = [drawn(x, s, u, SEEN, 5)[0] for x, u in zip(logits, noise, strict=True)]
    assert right != [drawn(*mutant(x, s), u, SEEN, 5)[0] for x, u in zip(logits, noise, strict=True)]


@pytest.mark.parametrize("made", [0, 1, 8])
def test_presence_and_frequency_look_at_what_was_made(backend, made):
    sampling = replace(WARM, presence_penalty=1.0, frequency_penalty=0.5)
    check(backend, rows(backend.dtype, 40), [sampling] * 40, made=made)


@pytest.mark.parametrize("way", ["greedy", "plain", "sorted"])
def test_penalties_of_a_row_that_has_seen_nothing(backend, way):
    how = {"greedy": {"temperature": 0.0}, "plain": {}, "sorted": {"top_p": 0.9}}[way]
    s = replace(WARM, repetition_penalty=2.0, presence_penalty=1.0, frequency_penalty=1.0, **how)
    works = [work(s, seen=[], made=0), replace(work(s, row=1), seen=None, made=0)]
    logits = rows(backend.dtype, 2)
    got = sample(backend, logits, works, [10, 11])
    assert got == [drawn(x, s, uniform(3, 0, at, 0))[0] for x, at in zip(logits, (11, 12), strict=True)]


@pytest.mark.parametrize(
    "penalty", [{"repetition_penalty": 3.0, "repeat_last_n": 2}, {"frequency_penalty": 2.0}], ids=["last", "made"]
)
def test_each_of_several_logits_of_a_work_has_its_own_history_and_noise(backend, penalty):
    """Tokens scored at once: the history of a position is all before it, and its noise is its own."""
    s, logits = replace(WARM, **penalty), rows(backend.dtype, 60)
    seen, made = np.array(SEEN, np.int32), 3
    works = [Work(i, seen[-4:], logits=3, draw=s, seen=seen, made=made) for i in range(20)]
    got = sample(backend, logits, works, list(range(20)))
    for i, token in enumerate(got):
        start, back = i // 3, 2 - i % 3
        noise = uniform(3, 0, start + 4 - back, 0)
        want, margin = drawn(logits[i], s, noise, SEEN[: len(SEEN) - back], made - back)
        assert token == want or margin < CLOSE


@pytest.mark.parametrize(
    "sampling", [None, WARM, replace(WARM, presence_penalty=1.0)], ids=["greedy", "warm", "penalised"]
)
def test_nothing_to_draw_gives_no_token(backend, sampling):
    """A step of middle chunks."""
    item = Work(0, np.array([1, 2], np.int32), logits=0, draw=sampling)
    tokens = backend.ops.sample(backend.array(np.zeros((0, SMALL), np.float32)), plan_draw([item], [0]))
    got = backend.numpy(tokens)
    assert got.shape == (0,)
    assert got.dtype == np.int32


def test_works_without_logits_take_no_place(backend):
    works = [
        Work(0, np.array([1, 2], np.int32), logits=0, draw=WARM),
        work(replace(WARM, logit_bias={5: 100.0}), row=1),
        Work(2, np.array([1, 2], np.int32), logits=0),
        work(replace(WARM, logit_bias={2: 100.0}), row=3),
    ]
    assert sample(backend, rows(backend.dtype, 2), works, [0, 0, 0, 0]) == [5, 2]


# Greedy


def test_greedy_ties_give_the_lowest_id(backend):
    logits = np.array(
        [
            [0, 2, 2, 1, 2, 0, 0],
            [3, 3, 3, 3, 3, 3, 3],
            [-1, -1, -5, -1, -9, -1, -1],
            [-1, -0.0, 0, -2, 0, -3, 0],
        ]
    )
    assert sample(backend, logits, [work(Sampling(), row=i) for i in range(4)], [0] * 4) == [1, 0, 0, 1]


@pytest.mark.parametrize("noise", [0.0, 0.49, 0.51, 1 - 2**-24])
def test_zero_and_minus_zero_are_a_tie_in_order_of_id(backend, monkeypatch, noise):
    monkeypatch.setattr(drawing, "uniform", lambda *_: noise)
    logits = [[-1, -0.0, 0, -2, -5], [-1, 0, -2, -0.0, -5]]
    works = [work(replace(WARM, top_k=2), row=i) for i in range(2)]
    assert sample(backend, logits, works, [0, 0]) == ([1, 1] if noise < 0.5 else [2, 3])


def test_greedy_ties_of_a_large_vocabulary_give_the_lowest_id(backend):
    logits = np.zeros((3, LARGE), np.float32)
    logits[1, [90_000, 130_000]] = 1
    logits[2, [LARGE - 1, LARGE - 2]] = 1
    assert sample(backend, logits, [work(Sampling(), row=i) for i in range(3)], [0] * 3) == [
        0,
        90_000,
        LARGE - 2,
    ]


def test_a_work_without_a_sampling_is_greedy(backend):
    logits = rows(backend.dtype, 2)
    works = [Work(i, np.array([1], np.int32)) for i in range(2)]
    assert sample(backend, logits, works, [0, 0]) == logits.argmax(-1).tolist()


def test_temperature_zero_is_greedy_whatever_else_is_asked(backend):
    logits = rows(backend.dtype, 20)
    s = Sampling(temperature=0.0, top_k=5, top_p=0.9, min_p=0.01, seed=9)
    assert sample(backend, logits, [work(s, row=i) for i in range(20)], list(range(20))) == logits.argmax(-1).tolist()


@pytest.mark.parametrize("how", [{"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}, {"temperature": 1e-4}])
def test_a_filter_that_leaves_one_is_greedy(backend, how):
    """Rows without ties at the top, in an order of their own each."""
    rng = np.random.default_rng(12)
    logits = np.stack([rng.permutation(SMALL) for _ in range(30)]) / 2
    works = [work(replace(WARM, **how), row=i) for i in range(30)]
    assert sample(backend, logits, works, list(range(30))) == logits.argmax(-1).tolist()


# Edges, with the noise in the test's hand


@pytest.mark.parametrize(
    ("how", "noise", "want"),
    [
        ({}, 0.0, 0),  # in order of id: the first with any probability
        ({}, 0.1, 0),
        ({}, 0.25, 1),  # cumulative probability must exceed the noise
        ({}, 0.5, 2),
        ({}, 0.74, 2),
        ({}, 1 - 2**-24, 3),
        ({"top_k": 4}, 0.3, 1),  # ties lie in order of id
        ({"top_k": 2}, 0.49, 0),
        ({"top_k": 2}, 0.5, 1),
        ({"top_k": 2}, 1 - 2**-24, 1),
        ({"top_k": 1}, 1 - 2**-24, 0),
        ({"top_k": 3}, 1 - 2**-24, 2),
        ({"top_p": 0.5}, 1 - 2**-24, 1),  # two reach it; the third is not needed
        ({"top_p": 0.51}, 1 - 2**-24, 2),
        ({"top_p": 0.0}, 1 - 2**-24, 0),
        ({"min_p": 1.0}, 0.0, 0),  # as likely as the likeliest
        ({"min_p": 1.0}, 1 - 2**-24, 3),
    ],
)
def test_four_equal_candidates(backend, monkeypatch, how, noise, want):
    """Probabilities of a quarter add up without rounding; the others have none."""
    monkeypatch.setattr(drawing, "uniform", lambda *_: noise)
    logits = np.array([[1, 1, 1, 1, -np.inf, -np.inf, -np.inf]])
    assert sample(backend, logits, [work(replace(WARM, **how))], [0]) == [want]


@pytest.mark.parametrize("how", [{}, {"top_k": 3}, {"top_p": 0.99}, {"min_p": 0.01}], ids=str)
@pytest.mark.parametrize("noise", [0.0, 1 - 2**-24])
def test_noise_at_its_ends_never_draws_what_has_no_probability(backend, monkeypatch, how, noise):
    monkeypatch.setattr(drawing, "uniform", lambda *_: noise)
    logits = np.array([[-np.inf, -np.inf, 0.3, -np.inf, 0.1, 0.2, -np.inf]])
    order = [2, 5, 4] if "top_k" in how or "top_p" in how else [2, 4, 5]
    assert sample(backend, logits, [work(replace(WARM, **how))], [0]) == [order[0] if noise == 0 else order[-1]]


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.999, 1 - 2**-24])
@pytest.mark.parametrize("how", [{}, {"top_p": 0.999999}], ids=["plain", "sorted"])
def test_a_flat_large_vocabulary_is_cut_where_the_noise_says(backend, monkeypatch, how, noise):
    """Float32 sums of 151,936 equal parts stay within a thousandth, and inside the vocabulary."""
    monkeypatch.setattr(drawing, "uniform", lambda *_: noise)
    [token] = sample(backend, np.zeros((1, LARGE), np.float32), [work(replace(WARM, **how))], [0])
    assert 0 <= token < LARGE
    assert abs(token / LARGE - noise) < 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_large_vocabulary_draws_as_the_oracle_does(backend):
    """A few likely tokens far apart in a background that carries a tenth of the mass."""
    rng = np.random.default_rng(13)
    ways = [{}, {"top_k": 20}, {"top_p": 0.9}, {"min_p": 0.05}, {"top_k": 50, "top_p": 0.8, "min_p": 0.01}]
    ways += [{"temperature": 0.0}, {"repetition_penalty": 1.5, "logit_bias": {LARGE - 1: 20.0}}]
    logits = normal(rng, len(ways), LARGE, dtype=backend.dtype, scale=0.25)
    for row in logits:
        row[rng.choice(LARGE, 12, replace=False)] = 11 + np.arange(12) / 4
    check(backend, logits, [replace(WARM, **how) for how in ways], close=1e-4)


def test_a_bias_of_a_hundred_decides(backend):
    logits = rows(backend.dtype, 40)
    chosen = [work(replace(WARM, logit_bias={5: 100.0}), row=i) for i in range(40)]
    assert sample(backend, logits, chosen, list(range(40))) == [5] * 40
    banned = [work(replace(WARM, logit_bias={5: -100.0, 0: -100.0}), row=i) for i in range(40)]
    assert not {0, 5} & set(sample(backend, logits, banned, list(range(40))))
    greedy = [work(Sampling(logit_bias={i % SMALL: 100.0}), row=i) for i in range(40)]
    assert sample(backend, logits, greedy, list(range(40))) == [i % SMALL for i in range(40)]


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf], ids=str)
def test_a_row_of_broken_logits_spoils_no_other(backend, bad):
    """And gives some token of the vocabulary, since it goes into the next step's table."""
    ways = [Sampling(), WARM, replace(WARM, top_k=3), replace(WARM, top_p=0.9), replace(WARM, min_p=0.1)]
    ways.append(replace(WARM, repetition_penalty=1.5, frequency_penalty=0.5))
    samplings = [s for s in ways for _ in range(3)]
    logits = rows(backend.dtype, len(samplings))
    works, starts = [work(s, row=i) for i, s in enumerate(samplings)], list(range(len(samplings)))
    want = sample(backend, logits, works, starts)
    logits[1::3] = bad
    got = sample(backend, logits, works, starts)
    assert all(0 <= token < SMALL for token in got)
    assert [t for i, t in enumerate(got) if i % 3 != 1] == [t for i, t in enumerate(want) if i % 3 != 1]


# Noise


def test_noise_is_a_fraction_that_depends_on_all_its_parts():
    parts = [
        (7, 0, 5, 0),
        (8, 0, 5, 0),
        (7, 1, 5, 0),
        (7, 0, 6, 0),
        (7, 0, 5, 1),
        (2**63, 0, 5, 0),
        (0, 7, 5, 0),
        (5, 0, 7, 0),
    ]
    noise = [uniform(*p) for p in parts]
    assert noise == [uniform(*p) for p in parts]
    assert all(0 <= u < 1 for u in noise)
    assert len(set(noise)) == len(parts)


@pytest.mark.parametrize("how", [{}, {"top_k": 6}], ids=["plain", "sorted"])
def test_the_noise_of_a_draw_is_that_of_its_seed_choice_and_position(backend, how):
    """Same triple, same token, wherever the row stands; another seed, choice or position draws anew."""
    logits = np.zeros((200, SMALL), np.float32)

    def tokens(sampling, first):
        works = [work(replace(sampling, **how), row=i) for i in range(200)]
        return sample(backend, logits, works, list(range(first, first + 200)))

    reference = tokens(WARM, 0)
    assert tokens(WARM, 0) == reference
    assert tokens(WARM, 50)[:150] == reference[50:]
    for other in (replace(WARM, seed=4), replace(WARM, choice=1)):
        same = sum(a == b for a, b in zip(tokens(other, 0), reference, strict=True))
        assert same < 200 / SMALL * 2
    assert len(set(reference)) >= SMALL - 1


@pytest.mark.parametrize("dtype", ["float32"])
@pytest.mark.parametrize("case", ["temperature", "top_k", "top_p", "min_p", "all penalties", "all together"])
def test_over_many_positions_tokens_are_as_frequent_as_they_are_likely(backend, case):
    count, row, sampling = 1500, rows("float32", 1)[0], replace(WARM, **CASES[case])
    works = [work(sampling, row=i) for i in range(count)]
    got = sample(backend, np.broadcast_to(row, (count, SMALL)), works, list(range(count)))
    observed = np.bincount(got, minlength=SMALL)
    expected = count * distribution(row, sampling, SEEN, 5)
    possible = expected > 0
    assert observed[~possible].sum() == 0
    free = possible.sum() - 1
    error = ((observed - expected)[possible] ** 2 / expected[possible]).sum()
    assert error < free + 5 * np.sqrt(2 * max(free, 1))


# What is allowed


def bits(ids, vocabulary=SMALL):
    words = np.zeros((vocabulary + 31) // 32, np.uint32)
    for id in ids:
        words[id // 32] |= np.uint32(1 << id % 32)
    return words


def masked(logits, ids):
    x = np.full(len(logits), -np.inf)
    x[list(ids)] = np.asarray(logits, np.float64)[list(ids)]
    return x


@pytest.mark.parametrize("case", ["greedy", *CASES])
def test_a_mask_comes_before_everything_else(backend, case):
    """The other tokens are as if they had no logits, whatever the other parameters say; neighbours do not notice."""
    s = Sampling() if case == "greedy" else replace(WARM, **CASES[case])
    logits, rng = rows(backend.dtype, 60), np.random.default_rng(5)
    sets = [sorted(rng.choice(SMALL, rng.integers(1, SMALL + 1), replace=False).tolist()) for _ in range(60)]
    works = [replace(work(s, row=i), allowed=bits(ids) if i % 3 else None) for i, ids in enumerate(sets)]
    got = sample(backend, logits, works, list(range(10, 70)))
    unsure = 0
    for i, (token, row, ids) in enumerate(zip(got, logits, sets, strict=True)):
        x = masked(row, ids) if i % 3 else row
        want, margin = drawn(x, s, uniform(s.seed, s.choice, 11 + i, 0), SEEN, 5)
        unsure += margin < CLOSE
        assert token == want or margin < CLOSE, f"{s} among {ids} gave {token}, not {want}"
        assert i % 3 == 0 or token in ids
    assert unsure <= 3


def test_a_masked_draw_is_never_taken_for_a_plain_greedy_one():
    """What is captured in a graph draws the likeliest of all tokens."""
    assert plan_draw([work(Sampling())], [0]).greedy
    assert not plan_draw([work(Sampling()), replace(work(Sampling(), row=1), allowed=bits([1]))], [0, 0]).greedy


@pytest.mark.parametrize("vocabulary", [31, 32, 33, 64, 199])
def test_every_bit_of_a_mask_is_its_tokens_own(backend, vocabulary):
    works = [replace(work(Sampling(), row=i), allowed=bits([i], vocabulary)) for i in range(vocabulary)]
    logits = rows(backend.dtype, vocabulary, vocabulary)
    assert sample(backend, logits, works, [0] * vocabulary) == list(range(vocabulary))


def test_a_mask_over_a_large_vocabulary_leaves_the_best_of_its_tokens(backend):
    rng = np.random.default_rng(8)
    logits = normal(rng, 2, LARGE, dtype=backend.dtype, scale=3.0)
    ids = np.sort(rng.choice(LARGE, 500, replace=False))
    works = [replace(work(Sampling()), allowed=bits(ids.tolist(), LARGE)), work(Sampling(), row=1)]
    got = sample(backend, logits, works, [0, 0])
    assert got == [int(ids[np.argmax(np.asarray(logits[0], np.float64)[ids])]), int(np.argmax(logits[1]))]

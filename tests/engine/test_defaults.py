"""From what was asked to what is done: who is heard first, what is refused, and in which words."""

from __future__ import annotations

import math

import pytest

from crane_app.engine.defaults import ENDPOINTS, FIXED, RANGES, resolve
from crane_app.engine.request import Asked
from crane_app.errors import BadInput

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "repeat_last_n")
PENALTIES = ("presence_penalty", "frequency_penalty")
SPOKEN = {"temperature": 0.3, "top_k": 7, "top_p": 0.5, "min_p": 0.2, "repetition_penalty": 1.5, "repeat_last_n": 9}
ASKED = {"temperature": 0.9, "top_k": 3, "top_p": 0.7, "min_p": 0.1, "repetition_penalty": 1.2, "repeat_last_n": 4}


def refused(*said: str, generation: dict | None = None, **asked) -> None:
    with pytest.raises(BadInput) as error:
        resolve(Asked(**asked), generation or {}, "chat", (2,))
    assert all(part in str(error.value) for part in said), str(error.value)


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e != "greedy"])
@pytest.mark.parametrize("name", SAMPLING)
def test_the_request_then_the_models_file_then_the_endpoint(endpoint, name):
    def got(asked: dict, spoken: dict) -> float:
        return getattr(resolve(Asked(**asked), spoken, endpoint, ()).sampling, name)

    fallback = {**FIXED, **ENDPOINTS[endpoint]}[name]
    assert got({name: ASKED[name]}, {name: SPOKEN[name]}) == ASKED[name]
    assert got({}, {name: SPOKEN[name]}) == SPOKEN[name]
    assert got({}, {name: None}) == fallback
    assert got({}, {}) == fallback


@pytest.mark.parametrize("name", ["temperature", "presence_penalty", "repeat_last_n", "seed", "min_tokens", "top_k"])
def test_a_nought_was_asked_for(name):
    found = resolve(Asked(**{name: 0}), SPOKEN, "chat", ())
    assert getattr(found, name, getattr(found.sampling, name, None)) == 0


def test_the_greedy_endpoint_does_not_hear_the_models_file():
    found = resolve(Asked(), {**SPOKEN, "do_sample": True}, "greedy", ()).sampling
    assert found.plain
    assert resolve(Asked(temperature=0.5), SPOKEN, "greedy", ()).sampling.temperature == 0.5


@pytest.mark.parametrize(
    ("asked", "spoken", "temperature"),
    [
        ({"do_sample": False}, {}, 0.0),
        ({"do_sample": False, "temperature": 0.9}, {}, 0.0),
        ({"do_sample": True}, {}, 0.8),
        ({"do_sample": True}, {"do_sample": False}, 0.8),
        ({"do_sample": True}, {"do_sample": False, "temperature": 0.6}, 0.6),
        ({}, {"do_sample": False}, 0.0),
        ({}, {"do_sample": False, "temperature": 0.6}, 0.0),
        ({"temperature": 0.7}, {"do_sample": False}, 0.7),
        ({}, {"do_sample": True}, 0.8),
    ],
)
def test_whether_tokens_are_drawn(asked, spoken, temperature):
    assert resolve(Asked(**asked), spoken, "chat", ()).sampling.temperature == temperature


def test_counts_are_the_requests_alone():
    """A file's max_length or num_return_sequences is for scripts, not for people."""
    spoken = {"max_tokens": 3, "max_new_tokens": 3, "n": 4, "min_tokens": 9, "logprobs": 2}
    found = resolve(Asked(), spoken, "completions", ())
    assert (found.max_tokens, found.min_tokens, found.n, found.logprobs) == (16, 0, 1, 0)
    assert resolve(Asked(max_tokens=5, min_tokens=2, n=3, logprobs=4), {}, "chat", ()).max_tokens == 5


def test_no_top_k_is_minus_one_or_nought():
    assert resolve(Asked(top_k=-1), {}, "chat", ()).sampling.top_k == 0
    assert resolve(Asked(), {"top_k": -1}, "chat", ()).sampling.top_k == 0


# Ends


def test_all_ends_of_the_model_stop_and_the_requests_own():
    assert resolve(Asked(), {}, "chat", (2, 5, 7)).stop_ids == {2, 5, 7}
    assert resolve(Asked(stop_token_ids=(9,)), {}, "chat", (2, 5)).stop_ids == {2, 5, 9}
    assert resolve(Asked(ignore_eos=True), {}, "chat", (2, 5)).stop_ids == frozenset()
    assert resolve(Asked(ignore_eos=True, stop_token_ids=(2,)), {}, "chat", (2, 5)).stop_ids == {2}


def test_stop_texts():
    assert resolve(Asked(), {}, "chat", ()).stop == ()
    assert resolve(Asked(stop=("a", "b")), {}, "chat", ()).stop == ("a", "b")
    assert resolve(Asked(stop="ab"), {}, "chat", ()).stop == ("ab",)
    refused("stop", "1 to 1000", stop=("",))
    refused("stop", "1 to 1000", stop=("x" * 1001,))
    refused("stop", "1 to 1000", stop=(3,))
    refused("stop", "64", "65", stop=("x",) * 65)


def test_a_seed_is_made_where_none_is_given():
    seeds = {resolve(Asked(), {}, "chat", ()).sampling.seed for _ in range(20)}
    assert len(seeds) == 20
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert resolve(Asked(seed=-1), {}, "chat", ()).sampling.seed == 2**64 - 1
    assert resolve(Asked(seed=2**64 + 5), {}, "chat", ()).sampling.seed == 5


# What is refused


@pytest.mark.parametrize("name", [n for n in RANGES if n != "logit_bias"])
def test_a_range_ends_where_it_says_and_the_field_is_named(name):
    low, high = RANGES[name]
    for value in (low, high):
        resolve(Asked(**{name: value}), {}, "chat", ())
    for value in (low - 1, high + 1, math.nan, math.inf, -math.inf, "1", True, [1]):
        refused(name, str(low), str(high), **{name: value})


@pytest.mark.parametrize("name", ["top_k", "repeat_last_n", "max_tokens", "min_tokens", "logprobs", "n"])
def test_what_is_counted_is_whole(name):
    refused(name, "whole number", "1.5", **{name: 1.5})


@pytest.mark.parametrize("name", SAMPLING + PENALTIES)
def test_a_fault_of_the_models_file_names_the_file(name):
    refused("generation_config.json", name, "'hot'", generation={name: "hot"})


@pytest.mark.parametrize("value", [1.5, "7", True, [3]])
def test_a_seed_is_whole(value):
    refused("seed", str(value), seed=value)


def test_biases():
    assert resolve(Asked(logit_bias={3: -100, 4: 2}), {}, "chat", ()).sampling.logit_bias == {3: -100.0, 4: 2.0}
    refused("logit_bias", "-100", "100", "101", logit_bias={3: 101})
    refused("logit_bias", "nan", logit_bias={3: math.nan})
    refused("logit_bias", "-inf", logit_bias={3: -math.inf})
    refused("logit_bias", "'3'", logit_bias={"3": 1.0})


def test_stop_token_ids_are_ids():
    refused("stop_token_ids", "'x'", stop_token_ids=("x",))
    refused("stop_token_ids", "True", stop_token_ids=(True,))


def test_an_endpoint_nobody_knows():
    with pytest.raises(BadInput, match=r"'images'.*chat"):
        resolve(Asked(), {}, "images", ())


def test_what_is_shown_of_a_value_is_short():
    with pytest.raises(BadInput) as error:
        resolve(Asked(temperature="x" * 100_000), {}, "chat", ())
    assert len(str(error.value)) < 200

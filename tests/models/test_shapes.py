"""Real sizes without a weight: the names and shapes that a published config asks for are those of its checkpoint."""

from __future__ import annotations

import math

import pytest

from crane_app.models import registry
from crane_app.models.weights import Experts, Products, Table, names
from tests.models.scramble import published, published_names

BILLIONS = {  # of parameters, a tied head counted once; from the models' own pages
    "Hunyuan-0.5B-Instruct": 0.54,
    "Hunyuan-1.8B-Instruct": 1.79,
    "Mistral-7B-v0.1": 7.24,
    "Qwen2.5-0.5B-Instruct": 0.49,
    "Qwen2.5-7B-Instruct": 7.62,
    "Qwen3-0.6B": 0.60,
    "Qwen3-30B-A3B": 30.5,
    "Qwen3-8B": 8.19,
    "Spark-TTS-0.5B_LLM": 0.51,
    "orpheus-3b-0.1-ft": 3.30,
}


def wanted(name):
    """What Crane derives from the config, and what the checkpoint is recorded to hold."""
    raw, recorded = published(name)
    module = registry.find(raw)
    return raw, module.parameters(module.read(raw)), recorded


def test_every_published_checkpoint_is_measured():
    assert sorted(BILLIONS) == published_names()


@pytest.mark.parametrize("name", published_names())
def test_names_and_shapes_are_those_of_the_published_checkpoint(name):
    raw, parameters, recorded = wanted(name)
    derived = names(parameters)
    assert derived.keys() - recorded.keys() == set(), "asked for, but not published"
    assert recorded.keys() - derived.keys() == set(), "published, but not read"
    assert derived == recorded
    assert ("lm_head.weight" in derived) == (not raw["tie_word_embeddings"])


@pytest.mark.parametrize("name", published_names())
def test_its_size_is_the_published_one(name):
    """`pytest -s` shows the table."""
    _, parameters, recorded = wanted(name)
    count = sum(map(math.prod, names(parameters).values()))
    print(f"\n{name:24} {len(recorded):6} tensors  {count / 1e9:7.3f} B  {2 * count / 2**30:6.2f} GiB in 16 bits")
    assert count / 1e9 == pytest.approx(BILLIONS[name], rel=0.02)


@pytest.mark.parametrize("name", published_names())
def test_no_tensor_is_asked_for_twice(name):
    _, parameters, _ = wanted(name)
    paths = [leaf.path for p in parameters for leaf in leaves(p)]
    assert len(paths) == len(set(paths))


def leaves(parameter):
    match parameter:
        case Products():
            return parameter.leaves
        case Table():
            return (parameter.leaf,)
        case Experts():
            return (parameter,)


def test_a_mixture_is_48_layers_of_128_experts_in_both_forms():
    raw, parameters, _ = wanted("Qwen3-30B-A3B")
    mixtures = [p for p in parameters if isinstance(p, Experts)]
    assert len(mixtures) == 48
    for mixture in mixtures:
        published_form = sum(math.prod(shape) for _, shape in mixture.names())
        assert published_form == sum(map(math.prod, mixture.stacked().values()))
        assert len(list(mixture.names())) == 3 * raw["num_experts"] == 384

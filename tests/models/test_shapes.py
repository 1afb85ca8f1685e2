"""Real sizes without a weight: the names and shapes that a published config asks for are those of its checkpoint."""

from __future__ import annotations

import math
import re

import pytest

from crane_app.models import registry
from crane_app.models.weights import Experts, Products, Table, names
from tests.models.scramble import published, published_names


def wanted(name):
    """What Crane derives from the config, and what the checkpoint is recorded to hold."""
    raw, recorded = published(name)
    module = registry.find(raw)
    return raw, module.parameters(module.read(raw)), recorded


@pytest.mark.parametrize("name", published_names())
def test_names_and_shapes_are_those_of_the_published_checkpoint(name):
    raw, parameters, recorded = wanted(name)
    derived = names(parameters)
    assert derived.keys() - recorded.keys() == set(), "asked for, but not published"
    assert recorded.keys() - derived.keys() == set(), "published, but not read"
    assert derived == recorded
    assert ("lm_head.weight" in derived) == (not raw["tie_word_embeddings"])


@pytest.mark.parametrize("name", published_names())
def test_it_is_of_the_size_its_name_says(name):
    """A tied head counted once. `pytest -s` shows the table."""
    _, parameters, recorded = wanted(name)
    count = sum(map(math.prod, names(parameters).values()))
    print(f"\n{name:24} {len(recorded):6} tensors  {count / 1e9:7.3f} B  {2 * count / 2**30:6.2f} GiB in 16 bits")
    said = re.search(r"(\d+(?:\.\d+)?)b\b", name.replace("_", "-").lower())
    assert said
    assert count / 1e9 == pytest.approx(float(said[1]), rel=0.12)


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

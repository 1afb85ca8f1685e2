"""The memory limit: how it is written, who gets how much of it, and what is refused."""

from __future__ import annotations

import pytest

from crane_app.contract import BLOCK
from crane_app.engine.engine import Engine
from crane_app.engine.memory import Memory, parse
from crane_app.engine.null import NullRunner
from crane_app.engine.request import Asked, Request
from crane_app.errors import BadInput
from tests.engine.nulls import VOCABULARY, NullBackend, engine, events, shelved, table, tokens_of
from tests.models.scramble import golden

POSITION = 8  # bytes of a NullCache


@pytest.mark.parametrize(
    ("asked", "amount"),
    [
        ("5G", 5 * 2**30),
        ("5120M", 5 * 2**30),
        ("1.5g", 3 * 2**29),
        ("800MiB", 800 * 2**20),
        ("2GB", 2**31),
        ("0.7", 0.7),
        (".25", 0.25),
        ("1", 1.0),
        ("1.0", 1.0),
    ],
)
def test_an_amount_or_a_share(asked, amount):
    assert parse(asked) == amount
    assert isinstance(parse(asked), float) == isinstance(amount, float)


@pytest.mark.parametrize("asked", ["", "5", "0", "0.0", "1.2", "-1G", "G", "5 G", "5X", "0G", "nan", "1e3M"])
def test_what_is_neither_is_refused(asked):
    with pytest.raises(BadInput, match="5120M"):
        parse(asked)


def test_a_share_is_of_the_devices_own_limit_and_an_amount_never_more_than_it():
    backend = NullBackend(1000 * 2**20)
    assert Memory().limit(backend) == 1000 * 2**20
    assert Memory("0.5").limit(backend) == 500 * 2**20
    assert Memory("600M").limit(backend) == 600 * 2**20
    assert Memory("5G").limit(backend) == 1000 * 2**20


def test_rows_have_what_all_weights_and_the_other_rows_leave():
    memory = Memory()
    a, b = (shelved(NullRunner(table, VOCABULARY, budget=100 * BLOCK * POSITION), name) for name in "ab")
    limit = 100 * BLOCK * POSITION + 1000
    memory.divide([a, b])
    assert a.cache.budget == b.cache.budget == limit - 2000
    b.cache.open(3 * BLOCK)
    memory.divide([a, b])
    assert a.cache.budget == limit - 2000 - 3 * BLOCK * POSITION
    assert b.cache.budget == limit - 2000


def test_a_prompt_that_can_never_fit_is_refused_at_once_and_others_are_served():
    made = engine(shelved(NullRunner(table, VOCABULARY, budget=2 * BLOCK * POSITION)))
    try:
        asked = Asked(max_tokens=1000, ignore_eos=True, seed=1)
        large = made.submit(Request("null", tokens=(1,) * (2 * BLOCK), asked=asked))
        small = made.submit(Request("null", tokens=(1,) * 12, asked=asked))
        _, end = events(large)
        assert (end.reason, end.kind) == ("error", "NotEnoughMemory")
        assert f"{2 * BLOCK} tokens" in end.error
        found, end = events(small)
        assert end.reason == "length"
        assert len(tokens_of(found)) == 2 * BLOCK - 12, "as much as the memory holds"
        made.flush()
        assert made.stats().cache_nbytes == 0
    finally:
        made.close()


def test_a_model_larger_than_the_limit_is_not_read(tmp_path, backend_name):
    """And one that fits leaves the rest to its rows, in the engine's figures too."""
    folder = golden("qwen3").write(tmp_path / "m")
    small = Engine(memory_limit="100K")
    try:
        found, end = events(small.load(str(folder), backend=backend_name, device="cpu", dtype="float32"))
        assert (end.reason, end.kind) == ("error", "NotEnoughMemory")
        assert not found
        assert not small.models()
    finally:
        small.close()
    roomy = Engine(memory_limit="100M")
    try:
        events(roomy.load(str(folder), backend=backend_name, device="cpu", dtype="float32"))
        stats = roomy.stats()
        assert (stats.memory_limit, stats.limit_nbytes) == ("100M", 100 * 2**20)
        (model,) = roomy._shelf
        assert model.cache.budget == 100 * 2**20 - stats.weights_nbytes
    finally:
        roomy.close()


def test_an_engine_is_not_made_with_a_limit_that_is_none():
    with pytest.raises(BadInput, match="gpu-memory-limit"):
        Engine(start=False, memory_limit="much")

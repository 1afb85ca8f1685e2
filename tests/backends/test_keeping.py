"""What outlives a row or moves it: kept blocks, saved rows, and made tokens that run again, all to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from crane_app.contract import BLOCK, Slot, Work
from crane_app.engine.loading import load
from crane_app.errors import NotEnoughMemory
from tests.models.scramble import golden
from tests.ops.oracle import Rows

LAYOUT = (Slot("full", 2, 8), Slot("window", 1, 4, window=300))
SIZE = {"float32": 4, "float16": 2, "bfloat16": 2}

float32 = pytest.mark.parametrize("dtype", ["float32"])
both_ways = pytest.mark.parametrize("kv_cache", ["auto", "int8"])
pytestmark = both_ways


def position(backend) -> int:
    """Bytes of a position: keys and values of all layers, and in 8 bits a float32 for each."""
    if backend.kv_cache == "int8":
        return 2 * (2 * (8 + 4) + 1 * (4 + 4))
    return 2 * (2 * 8 + 1 * 4) * SIZE[backend.dtype]


def bits(cache, row) -> list[bytes]:
    return [layer.tobytes() for layer in cache.save(row).layers]


@pytest.fixture
def rows(backend) -> Rows:
    return Rows(backend, LAYOUT)


def filled(rows: Rows, length: int, reserve: int = 0) -> int:
    row = rows.open(max(length, reserve))
    rows.run(rows.inputs((row, length)))
    return row


def test_a_pasted_block_has_the_bits_of_the_row_it_is_of(rows):
    cache = rows.cache
    source = filled(rows, 2 * BLOCK + 5)
    kept = [cache.keep(source, 0), cache.keep(source, BLOCK)]
    target = rows.open(3 * BLOCK)
    cache.paste(target, kept)
    assert cache.length(target) == 2 * BLOCK
    cache.truncate(source, 2 * BLOCK)
    assert bits(cache, target) == bits(cache, source)


@pytest.mark.parametrize("length", [1, 7, BLOCK, 2 * BLOCK + 5])
@pytest.mark.parametrize("reserve", [0, 4 * BLOCK], ids=["of the same size", "of another size"])
def test_a_copy_of_a_row_has_its_bits_and_goes_on_by_itself(rows, length, reserve):
    cache = rows.cache
    source, target, bystander = filled(rows, length), rows.open(max(length, reserve)), filled(rows, 3)
    was, held = bits(cache, bystander), cache.nbytes()
    cache.fork(source, target)
    assert (cache.length(target), cache.nbytes()) == (length, held)
    assert bits(cache, target) == bits(cache, source)
    cache.truncate(source, 0)
    rows.run(rows.inputs((source, length)))
    assert bits(cache, target) != bits(cache, source)
    assert bits(cache, bystander) == was


@float32
def test_what_a_copy_held_before_is_gone_and_it_needs_the_room(rows):
    cache = rows.cache
    source, target = filled(rows, 5), filled(rows, 9, reserve=BLOCK)
    cache.fork(source, target)
    assert cache.length(target) == 5
    assert bits(cache, target) == bits(cache, source)
    long = filled(rows, BLOCK + 1)
    with pytest.raises(ValueError, match="cannot be a copy of 257"):
        cache.fork(long, target)
    assert bits(cache, target) == bits(cache, source)


@float32
def test_a_kept_block_outlives_its_row_and_what_is_written_over_it(rows):
    cache = rows.cache
    source, neighbour = filled(rows, BLOCK + 3), filled(rows, 7)
    cache.truncate(source, BLOCK)
    was = bits(cache, source)
    kept = cache.keep(source, 0)
    cache.truncate(source, 0)
    rows.run(rows.inputs((source, BLOCK), (neighbour, 1)))
    rows.close(source)
    filled(rows, BLOCK)
    target = rows.open(BLOCK)
    cache.paste(target, [kept])
    assert bits(cache, target) == was


@float32
def test_blocks_go_where_they_were_and_nowhere_else(rows):
    cache = rows.cache
    source = filled(rows, 2 * BLOCK + 5)
    first, second = cache.keep(source, 0), cache.keep(source, BLOCK)
    target = rows.open(BLOCK)
    for wrong in ([second], [first, first], [99]):
        with pytest.raises(ValueError, match=f"no kept block {wrong[-1]} for|has no room"):
            cache.paste(target, wrong)
    for start in (-BLOCK, 1, 2 * BLOCK):
        with pytest.raises(ValueError, match=f"no block at {start}"):
            cache.keep(source, start)
    cache.drop(first)
    with pytest.raises(ValueError, match=f"no kept block {first}"):
        cache.drop(first)
    with pytest.raises(ValueError, match=f"no kept block {first}"):
        cache.paste(target, [first])
    assert cache.length(target) == 0


def test_an_exported_block_comes_back_to_the_bit_in_another_cache(rows, backend):
    cache = rows.cache
    source = filled(rows, 2 * BLOCK)
    kept = [cache.keep(source, 0), cache.keep(source, BLOCK)]
    exported = [tuple(layer.copy() for layer in cache.export(block)) for block in kept]
    was = bits(cache, source)
    other = Rows(backend, LAYOUT)
    adopted = [other.cache.adopt(i * BLOCK, layers) for i, layers in enumerate(exported)]
    assert other.cache.nbytes() == 2 * BLOCK * position(backend)
    target = other.open(2 * BLOCK)
    other.cache.paste(target, adopted)
    assert bits(other.cache, target) == was


@float32
def test_only_a_block_of_its_own_shape_is_adopted_and_only_within_the_budget(rows, backend):
    cache = rows.cache
    source = filled(rows, BLOCK)
    exported = cache.export(cache.keep(source, 0))
    narrow = tuple(layer.astype(np.int16) for layer in exported)  # neither float32 nor int8
    for start, layers in ((1, exported), (0, exported[:1]), (0, exported[::-1]), (0, narrow)):
        with pytest.raises(ValueError, match="no block of this cache"):
            cache.adopt(start, layers)
    held = cache.nbytes()
    cache.budget = held + BLOCK * position(backend) - 1
    with pytest.raises(NotEnoughMemory):
        cache.adopt(0, exported)
    assert cache.nbytes() == held


def test_a_kept_block_costs_its_bytes_until_it_is_dropped(backend, rows):
    cache, block = rows.cache, BLOCK * position(backend)
    source = filled(rows, BLOCK)
    held = cache.nbytes()
    kept = [cache.keep(source, 0), cache.keep(source, 0)]
    assert cache.nbytes() == held + 2 * block
    rows.close(source)
    assert cache.nbytes() == 2 * block
    for each in kept:
        cache.drop(each)
    assert cache.nbytes() == 0


@float32
def test_what_the_budget_has_no_room_for_is_not_kept(backend, rows):
    cache = rows.cache
    source = filled(rows, BLOCK)
    cache.budget = cache.nbytes() + BLOCK * position(backend) - 1
    with pytest.raises(NotEnoughMemory):
        cache.keep(source, 0)
    cache.budget += 1
    cache.drop(cache.keep(source, 0))


def test_a_saved_row_comes_back_to_the_bit(backend, rows):
    cache = rows.cache
    row, neighbour = filled(rows, BLOCK + 37, 2 * BLOCK), filled(rows, 9)
    was, room = bits(cache, row), cache.room(row)
    saved = cache.save(row)
    assert saved.nbytes == (BLOCK + 37) * position(backend)
    rows.close(row)
    filled(rows, 300)
    back = cache.load(saved)
    assert (cache.length(back), cache.room(back)) == (BLOCK + 37, room)
    assert bits(cache, back) == was
    rows.close(neighbour)
    assert bits(cache, back) == was


# The budget


@float32
def test_a_row_alone_may_have_all_that_the_budget_holds_and_no_more(backend):
    """Also when it gets there by growing: what it had and what it gets are never both held as a whole."""
    cache = backend.cache(LAYOUT)
    cache.budget = 5 * BLOCK * position(backend)
    most = cache.most()
    assert most >= 4 * BLOCK
    row = cache.open(1)
    for length in range(BLOCK, most + 1, BLOCK):
        cache.reserve(row, length)
    assert cache.nbytes() <= cache.budget
    with pytest.raises(NotEnoughMemory):
        cache.reserve(row, most + 1)
    cache.close(row)
    assert cache.affords(most)
    assert not cache.affords(most + 1)


@float32
def test_what_is_affordable_can_be_opened_and_what_is_not_cannot(backend):
    """Free slots of rows that have gone do not stand in the way."""
    cache = backend.cache(LAYOUT)
    cache.budget = 8 * BLOCK * position(backend)
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        length = int(rng.choice([1, BLOCK + 1, 3 * BLOCK]))
        if held and rng.random() < 0.4:
            cache.close(held.pop(rng.integers(len(held))))
        elif cache.affords(length):
            held.append(cache.open(length))
        else:
            with pytest.raises(NotEnoughMemory):
                cache.open(length)
        assert cache.nbytes() <= cache.budget
    for row in held:
        cache.close(row)
    assert cache.nbytes() == 0


# Tokens that run again


@pytest.mark.parametrize("case", ["qwen3", "mistral", "near_flat"])
def test_made_tokens_run_singly_have_the_bits_of_their_own_steps(backend_name, case, kv_cache, tmp_path):
    """Beside a chunk and a decoding row; their logits and all their keys and values."""
    loaded = load(golden(case).write(tmp_path / "m"), backend_name, "cpu", "float32", kv_cache=kv_cache)
    runner, rng = loaded.runner, np.random.default_rng(1)
    prompt, made = (rng.integers(0, loaded.vocabulary, n).astype(np.int32) for n in (20, 9))
    cache = runner.cache
    slow, fast, other = cache.open(64), cache.open(64), cache.open(64)
    steps = []
    for row in (slow, fast):
        runner.launch([Work(row, prompt, 0)]).read()
    for token in made:
        steps.append(runner.launch([Work(slow, np.array([token]))], keep_logits=True).read().logits[0])
    runner.launch([Work(other, prompt[:3], 0)]).read()
    third = cache.open(64)
    works = [Work(other, prompt[:1]), Work(fast, made, len(made), singly=True), Work(third, prompt[:7], 0)]
    logits = runner.launch(works, keep_logits=True).read().logits[1:]
    np.testing.assert_array_equal(logits, np.stack(steps))
    assert cache.length(fast) == 29
    assert bits(cache, fast) == bits(cache, slow)
    for row in (slow, fast, other, third):
        cache.close(row)
    assert cache.nbytes() == 0

"""Rows of a cache: what they hold, what they cost, and that they never touch each other."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from crane_app.backends import choose
from crane_app.contract import BLOCK, Slot, Work
from crane_app.errors import NotEnoughMemory
from tests.ops.oracle import Rows, assert_close

LAYOUT = (Slot("full", 2, 8), Slot("window", 1, 4, window=3))
SIZE = {"float32": 4, "float16": 2, "bfloat16": 2}

PICK = st.integers(0, 4)

float32 = pytest.mark.parametrize("dtype", ["float32"])
both_ways = pytest.mark.parametrize("kv_cache", ["auto", "int8"])


def position(backend) -> int:
    """Bytes of a position: keys and values of all layers, and in 8 bits a float32 for each."""
    if backend.kv_cache == "int8":
        return 2 * (2 * (8 + 4) + 1 * (4 + 4))
    return 2 * (2 * 8 + 1 * 4) * SIZE[backend.dtype]


@pytest.fixture
def cache(backend):
    return backend.cache(LAYOUT)


def advance(backend, cache, row, new):
    """Positions without contents: enough where only lengths count."""
    backend.step(cache, [Work(row, np.zeros(new, np.int32))])


# Lengths and room


@float32
def test_a_new_row_is_empty_and_has_the_room_it_asked_for(cache):
    for reserve in (1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK):
        row = cache.open(reserve)
        assert cache.length(row) == 0
        assert cache.room(row) >= reserve
        assert cache.room(row) % BLOCK == 0


@float32
def test_open_rows_have_ids_of_their_own(backend, cache):
    rows = [cache.open(1) for _ in range(5)]
    assert len(set(rows)) == 5
    advance(backend, cache, rows[2], 7)
    assert [cache.length(row) for row in rows] == [0, 0, 7, 0, 0]


@float32
def test_a_step_advances_the_lengths_of_its_rows_alone(backend, cache):
    a, b = cache.open(64), cache.open(64)
    advance(backend, cache, a, 5)
    advance(backend, cache, a, 1)
    assert (cache.length(a), cache.length(b)) == (6, 0)


@float32
def test_reserve_makes_room_and_keeps_the_length(backend, cache):
    row = cache.open(1)
    advance(backend, cache, row, 9)
    cache.reserve(row, 3 * BLOCK - 1)
    assert cache.room(row) >= 3 * BLOCK - 1
    assert cache.length(row) == 9


@float32
@pytest.mark.parametrize("length", [0, 4, 9, BLOCK])
def test_reserve_of_what_is_there_changes_nothing(backend, cache, length):
    """Smaller than the room, smaller even than the length."""
    row = cache.open(BLOCK)
    advance(backend, cache, row, 9)
    room, nbytes = cache.room(row), cache.nbytes()
    cache.reserve(row, length)
    assert (cache.room(row), cache.length(row), cache.nbytes()) == (room, 9, nbytes)


@float32
def test_truncate_forgets_from_a_position_on(backend, cache):
    row = cache.open(64)
    advance(backend, cache, row, 9)
    for length in (9, 4, 4, 0):
        cache.truncate(row, length)
        assert cache.length(row) == length


@float32
@pytest.mark.parametrize("length", [10, BLOCK, -1])
def test_truncate_to_more_than_is_cached_is_refused(backend, cache, length):
    row = cache.open(64)
    advance(backend, cache, row, 9)
    with pytest.raises(ValueError, match=str(length)):
        cache.truncate(row, length)
    assert cache.length(row) == 9


@float32
def test_a_row_that_is_not_open_is_refused_by_every_method(cache):
    closed = cache.open(1)
    cache.close(closed)
    for row in (closed, closed + 1, -1):
        for call in (
            lambda row=row: cache.length(row),
            lambda row=row: cache.room(row),
            lambda row=row: cache.reserve(row, 1000),
            lambda row=row: cache.truncate(row, 0),
            lambda row=row: cache.close(row),
        ):
            with pytest.raises(ValueError, match=str(row)):
                call()
    assert cache.nbytes() == 0


# Bytes


@both_ways
def test_a_row_costs_its_room_times_its_positions_to_the_byte(backend, cache):
    assert cache.nbytes() == 0
    row = cache.open(BLOCK + 1)
    assert cache.nbytes() == cache.room(row) * position(backend)
    cache.reserve(row, 4 * BLOCK)
    assert cache.nbytes() == cache.room(row) * position(backend)
    cache.close(row)
    assert cache.nbytes() == 0


@float32
def test_room_is_never_twice_what_was_asked_for(cache):
    """A long conversation must not cost as much as two."""
    for asked in (3, 5, 9, 17):
        assert cache.room(cache.open(asked * BLOCK)) < 2 * asked * BLOCK


@both_ways
def test_many_rows_cost_at_least_their_room_and_nothing_when_closed(backend, cache):
    rows = [cache.open(n) for n in (1, BLOCK, 2 * BLOCK, 3, 2 * BLOCK)]
    needed = sum(cache.room(row) for row in rows) * position(backend)
    assert needed <= cache.nbytes() < 2 * needed
    for row in rows[::-1]:
        cache.close(row)
    assert cache.nbytes() == 0


@float32
def test_opening_and_closing_by_turns_uses_the_same_memory_again(cache):
    rows = [cache.open(BLOCK) for _ in range(4)]
    held = cache.nbytes()
    for i in range(20):
        cache.close(rows.pop(i % len(rows)))
        rows.append(cache.open(BLOCK))
        assert cache.nbytes() == held


@both_ways
@float32
def test_a_closed_row_gives_memory_back_while_others_stay(cache):
    """Closing all but one of many rows leaves about what the one needs."""
    rows = [cache.open(BLOCK) for _ in range(8)]
    full = cache.nbytes()
    for row in rows[1:]:
        cache.close(row)
    assert cache.nbytes() <= full / 2


@float32
def test_truncating_and_stepping_move_no_memory(backend, cache):
    row = cache.open(BLOCK)
    held = cache.nbytes()
    advance(backend, cache, row, BLOCK)
    cache.truncate(row, 3)
    assert cache.nbytes() == held


@both_ways
@float32
def test_a_row_past_all_memory_is_refused_before_anything_is_taken(backend, cache):
    row = cache.open(1)
    advance(backend, cache, row, 3)
    room, held = cache.room(row), cache.nbytes()
    with pytest.raises(NotEnoughMemory):
        cache.open(2**50)
    with pytest.raises(NotEnoughMemory):
        cache.reserve(row, 2**50)
    assert (cache.room(row), cache.length(row), cache.nbytes()) == (room, 3, held)
    other = cache.open(1)
    advance(backend, cache, other, 2)
    advance(backend, cache, row, 2)


# Contents, read back by attention


@both_ways
def test_growth_keeps_what_is_cached(backend):
    rows = Rows(backend, LAYOUT)
    a, b, c = rows.open(1), rows.open(1), rows.open(1)
    rows.check((a, 20), (b, 30), (c, 3))
    rows.cache.reserve(b, BLOCK + 1)
    rows.check((c, 1), (b, 1), (a, 1))
    rows.cache.reserve(a, 4 * BLOCK)
    rows.cache.reserve(b, 3 * BLOCK)
    rows.check((b, 2), (a, 4), (c, 1))
    rows.check((a, 1), (b, 1), (c, 1))


@both_ways
@float32
def test_growth_changes_no_result(backend):
    """The same step before and after a row has moved gives the same values."""
    rows = Rows(backend, LAYOUT)
    row = rows.open(1)
    rows.check((row, 40))
    probe = rows.inputs((row, 3))
    before = rows.run(probe)
    rows.cache.truncate(row, 40)
    rows.cache.reserve(row, 5 * BLOCK)
    for got, want in zip(rows.run(probe), before, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


@float32
def test_an_empty_row_may_grow(backend):
    rows = Rows(backend, LAYOUT)
    row = rows.open(1)
    rows.cache.reserve(row, 3 * BLOCK)
    rows.check((row, 5))


@both_ways
def test_truncated_positions_are_never_read_again(backend):
    """In windows too: what a window dropped must come back when its row is cut."""
    rows = Rows(backend, LAYOUT)
    a, b = rows.open(), rows.open()
    rows.check((a, 12), (b, 6))
    rows.truncate(a, 5)
    rows.check((a, 1), (b, 1))
    rows.check((a, 4))
    rows.truncate(a, 0)
    rows.truncate(b, 2)
    rows.check((b, 3), (a, 2))


@both_ways
def test_a_new_row_in_old_memory_is_empty(backend):
    rows = Rows(backend, LAYOUT)
    a, b = rows.open(), rows.open()
    rows.check((a, 9), (b, 5))
    rows.close(a)
    c = rows.open()
    rows.check((c, 2), (b, 1))
    rows.check((c, 1), (b, 1))


@both_ways
@float32
def test_rows_survive_the_closing_of_their_neighbours(backend):
    rows = Rows(backend, LAYOUT)
    many = [rows.open() for _ in range(5)]
    rows.check(*((row, 3 + i) for i, row in enumerate(many)))
    for row in (many[0], many[3], many[4]):
        rows.close(row)
    rows.check((many[2], 1), (many[1], 1))
    new = [rows.open(BLOCK * (1 + i % 2)) for i in range(4)]
    rows.check((many[1], 1), *((row, 2) for row in new), (many[2], 1))
    rows.check(*((row, 1) for row in (*new[::-1], *many[1:3])))


@float32
def test_caches_do_not_share_rows(backend):
    one, two = Rows(backend, LAYOUT, seed=1), Rows(backend, LAYOUT, seed=2)
    a, b = one.open(), two.open()
    one.check((a, 5))
    two.check((b, 3))
    one.check((a, 1))
    two.close(b)
    one.check((a, 1))


@both_ways
@float32
def test_a_row_may_be_filled_to_its_last_position(backend):
    """Beside a neighbour, which must not feel the writes at the end."""
    rows = Rows(backend, (Slot("full", 1, 4),), heads=1)
    a, b = rows.open(BLOCK), rows.open(BLOCK)
    rows.check((b, 3))
    rows.check((a, BLOCK - 2))
    rows.check((a, 1), (b, 1))
    rows.check((b, 1), (a, 1))
    rows.check((b, 2))


def spoil(rows, row, other):
    """A step in which one row gets keys and values that are not numbers; the other gives what it should."""
    inputs = rows.inputs((other, 1), (row, 3))
    for layer in inputs:
        layer[row] = tuple(np.full_like(x, np.nan) for x in layer[row])
    for got, want in zip(rows.run(inputs), rows.expect(inputs), strict=True):
        assert_close(got[:1], want[:1], rows.backend.dtype)
        assert np.isnan(got[1:]).all()


@both_ways
def test_values_that_are_not_numbers_stay_in_their_row(backend):
    """And go with it: nothing of them is left for the next row in its place."""
    rows = Rows(backend, LAYOUT)
    a, b = rows.open(), rows.open()
    rows.check((a, 9), (b, 5))
    spoil(rows, a, b)
    rows.check((b, 2))
    rows.close(a)
    c = rows.open()
    rows.check((c, 2), (b, 1))
    rows.check((b, 1), (c, 1))


@both_ways
def test_values_that_are_not_numbers_are_forgotten_when_their_row_is_cut(backend):
    rows = Rows(backend, LAYOUT)
    a, b = rows.open(), rows.open()
    rows.check((a, 9), (b, 5))
    spoil(rows, a, b)
    rows.truncate(a, 9)
    rows.check((a, 1), (b, 1))
    rows.check((b, 2), (a, 2))


class CacheMachine(RuleBasedStateMachine):
    """Any order of opening, growing, stepping, cutting and closing, against lists of what rows were given."""

    name, kv_cache = "", "auto"

    def __init__(self):
        super().__init__()
        self.rows = Rows(choose(self.name, "cpu", "float32", self.kv_cache), LAYOUT, heads=2)
        self.opened: set[int] = set()

    def pick(self, which: int) -> int:
        """One of the open rows; there is always one."""
        if not self.rows.held:
            self.open(1)
        return sorted(self.rows.held)[which % len(self.rows.held)]

    @rule(reserve=st.sampled_from([1, 200, BLOCK, BLOCK + 1, 3 * BLOCK]))
    def open(self, reserve):
        if len(self.rows.held) < 5:
            row = self.rows.open(reserve)
            assert row not in self.opened, "an id came back"
            self.opened.add(row)

    @rule(which=PICK, length=st.sampled_from([1, BLOCK, BLOCK + 1, 2 * BLOCK + 9]))
    def reserve(self, which, length):
        row = self.pick(which)
        room = self.rows.cache.room(row)
        self.rows.cache.reserve(row, length)
        assert self.rows.cache.room(row) >= max(length, room)

    @rule(chosen=st.dictionaries(PICK, st.sampled_from([1, 1, 1, 2, 9, 120]), min_size=1, max_size=5))
    def step(self, chosen):
        news = {self.pick(which): new for which, new in chosen.items()}
        free = {row: self.rows.cache.room(row) - self.rows.length(row) for row in news}
        news = {row: min(new, free[row]) for row, new in news.items() if free[row]}
        if news:
            self.rows.check(*news.items())

    @rule(which=PICK, part=st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    def truncate(self, which, part):
        row = self.pick(which)
        self.rows.truncate(row, int(self.rows.length(row) * part))

    @rule(which=PICK)
    def close(self, which):
        row = self.pick(which)
        self.rows.close(row)
        with pytest.raises(ValueError, match=str(row)):
            self.rows.cache.length(row)

    @invariant()
    def lengths_and_bytes_are_those_of_the_lists(self):
        cache = self.rows.cache
        for row in self.rows.held:
            assert cache.length(row) == self.rows.length(row) <= cache.room(row)
        needed = sum(cache.room(row) for row in self.rows.held) * position(self.rows.backend)
        assert needed <= cache.nbytes()
        assert cache.nbytes() == 0 or needed


def machine(name: str, kv_cache: str = "auto") -> type:
    """The unittest class of a machine on one backend, skipped where its library is missing."""
    case = type(f"CacheMachine_{name}_{kv_cache}", (CacheMachine,), {"name": name, "kv_cache": kv_cache}).TestCase
    case.settings = settings(max_examples=120, stateful_step_count=25, deadline=None)
    missing = importlib.util.find_spec(name) is None
    return pytest.mark.skipif(missing, reason=f"{name} is not installed")(case)


TestMlxCache = machine("mlx")
TestTorchCache = machine("torch")
TestMlxInt8Cache = machine("mlx", "int8")
TestTorchInt8Cache = machine("torch", "int8")

"""Memory that runs out at any one moment of a cache's work: the rows are as before, and nothing is lost or leaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from crane_app.contract import BLOCK, Slot
from crane_app.errors import DeviceLost, NotEnoughMemory
from tests.ops.oracle import Rows

LAYOUT = (Slot("full", 2, 8), Slot("window", 1, 4, window=300))
MAKERS = {
    "mlx": ("zeros", "concatenate", "stack", "array", "eval", "async_eval"),
    "torch": ("zeros", "stack", "from_numpy"),
}

pytestmark = [pytest.mark.parametrize("dtype", ["float32"]), pytest.mark.parametrize("kv_cache", ["auto", "int8"])]


class Memory:
    """Stands for the tensor library in a cache's module; the `first`th array, or each from it on, cannot be made."""

    def __init__(self, library: Any, makers: tuple[str, ...], first: int, last: int):
        self._library, self._makers, self.first, self.last, self.made = library, makers, first, last, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._library, name)
        return self._counted(real) if name in self._makers else real

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def make(*args: Any, **how: Any) -> Any:
            self.made += 1
            if self.first <= self.made <= self.last:
                raise RuntimeError("[malloc] Unable to allocate")
            return real(*args, **how)

        return make


class World:
    """Rows with numbers in them: two of one size, one alone in another; a kept block, and one from elsewhere."""

    def __init__(self, backend: Any):
        self.rows = Rows(backend, LAYOUT)
        self.backend, self.cache = backend, self.rows.cache
        self.one, self.two, self.long = (self._filled(length) for length in (40, 90, 2 * BLOCK - 3))
        self.kept = self.cache.keep(self.long, 0)
        self.exported = self.cache.export(self.kept)
        self.saved = self.cache.save(self.one)

    def _filled(self, length: int) -> int:
        row = self.rows.open(length)
        self.rows.run(self.rows.inputs((row, length)))
        return row

    @contextmanager
    def short(self, first: int, last: int) -> Iterator[Memory]:
        from importlib import import_module

        module = import_module(type(self.cache).__module__)
        name = "mx" if self.backend.device.backend == "mlx" else "torch"
        real = getattr(module, name)
        memory = Memory(real, MAKERS[self.backend.device.backend], first, last)
        setattr(module, name, memory)
        try:
            yield memory
        finally:
            setattr(module, name, real)

    def held(self) -> dict[str, Any]:
        """All that can be seen of it."""
        cache = self.cache
        return {
            "rows": {row: (cache.length(row), cache.room(row), bits(cache.save(row).layers)) for row in cache._lengths},
            "kept": {block: bits(cache.export(block)) for block in cache._kept},
        }

    def bytes_are_exact(self) -> None:
        """What the cache says is what its arrays are, of the shapes that its rows have."""
        cache, position = self.cache, self.cache.position_nbytes()
        if self.backend.device.backend == "mlx":
            for size, slab in cache.slabs.items():
                assert size == slab.capacity
                assert all(array.shape[0] == len(slab.taken) and array.shape[2] == size for array in slab.arrays())
            assert cache.homes.keys() == cache._lengths.keys()
            assert all(slab.taken[slot] == row for row, (slab, slot) in cache.homes.items())
            taken = sum(size * len(slab.taken) for size, slab in cache.slabs.items())
        else:
            taken = sum(cache.room(row) for row in cache._lengths)
        assert cache.nbytes() == (taken + BLOCK * len(cache._kept)) * position

    def live(self) -> int:
        """Bytes, without those of places that are free for the next row."""
        rows = sum(self.cache.room(row) for row in self.cache._lengths)
        return (rows + BLOCK * len(self.cache._kept)) * self.cache.position_nbytes()

    def close_all(self) -> None:
        for row in list(self.cache._lengths):
            self.cache.close(row)
        for block in list(self.cache._kept):
            self.cache.drop(block)
        assert self.cache.nbytes() == 0


def bits(layers: Any) -> list[bytes]:
    return [layer.tobytes() for layer in layers]


def append(world: World) -> None:
    row = world.cache.open(2 * BLOCK)
    world.cache.paste(row, [world.kept])


def once_more(world: World) -> None:
    """The other two fill the slab of their size, so that it grows for this one."""
    world.cache.open(BLOCK)


def fork(world: World) -> None:
    world.cache.fork(world.two, world.one)


def fork_of_less(world: World) -> None:
    world.cache.fork(world.one, world.two)


OPERATIONS: dict[str, Callable[[World], None]] = {
    "open": once_more,
    "append": append,
    "stretch": lambda world: world.cache.reserve(world.long, 3 * BLOCK),
    "grow beside another": lambda world: world.cache.reserve(world.one, 2 * BLOCK),
    "grow to a size of its own": lambda world: world.cache.reserve(world.one, 5 * BLOCK),
    "fork": fork,
    "fork of less": fork_of_less,
    "truncate": lambda world: world.cache.truncate(world.long, 7),
    "keep": lambda world: world.cache.keep(world.long, 0),
    "adopt": lambda world: world.cache.adopt(0, world.exported),
    "export": lambda world: world.cache.export(world.kept),
    "load": lambda world: world.cache.load(world.saved),
}
every = pytest.mark.parametrize("name", OPERATIONS)


def counted(backend: Any, name: str) -> tuple[int, dict[str, Any]]:
    """How many arrays an operation makes, and what it leaves."""
    world = World(backend)
    with world.short(1, 0) as memory:
        OPERATIONS[name](world)
    return memory.made, world.held()


@every
def test_an_array_that_cannot_be_made_costs_the_operation_and_nothing_else(backend, name):
    """Each of its arrays in turn; done once more, the operation has the result that it would have had."""
    count, wanted = counted(backend, name)
    for number in range(1, count + 1):
        world = World(backend)
        before, nbytes = world.held(), world.cache.nbytes()
        with world.short(number, number):
            with pytest.raises((NotEnoughMemory, RuntimeError)):
                OPERATIONS[name](world)
            gone = world.cache._lengths.keys() - before["rows"].keys()  # of "append": the row that was just opened
        for row in gone:
            assert world.cache.length(row) == 0
            world.cache.close(row)
        assert world.held() == before, f"array {number} of {count}"
        world.bytes_are_exact()
        assert world.live() <= nbytes
        OPERATIONS[name](world)
        again = world.held()
        assert [*again["rows"].values()] == [*wanted["rows"].values()]
        assert [*again["kept"].values()] == [*wanted["kept"].values()]
        world.bytes_are_exact()
        world.close_all()


@every
def test_with_no_memory_left_at_all_the_others_stay_and_all_can_be_closed(backend, name):
    """From each of its arrays on, nothing can be made, not even what would take back what was begun."""
    count, _ = counted(backend, name)
    for number in range(1, count + 1):
        world = World(backend)
        before = world.held()
        with world.short(number, 10**9), pytest.raises((NotEnoughMemory, DeviceLost, RuntimeError)):
            OPERATIONS[name](world)
        for row, (length, _, content) in before["rows"].items():
            assert (world.cache.length(row), bits(world.cache.save(row).layers)) == (length, content)
        world.close_all()

"""Blocks that outlive the engine: what a turn still computes after a restart, and what is never taken for its own."""

from __future__ import annotations

import errno
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crane_app.contract import BLOCK, Drawn
from crane_app.engine.engine import Engine
from crane_app.engine.null import NullRunner
from crane_app.engine.prefixes import PART
from crane_app.engine.request import Asked, Piece, Request
from crane_app.engine.storing import READ, Stored, Writer
from crane_app.errors import BadInput
from crane_app.library.block_file import Block
from crane_app.library.store import Store
from crane_app.pipelines.readiness import Readiness
from tests.chat_checkpoint import CHATML, SIZE, write_chat
from tests.engine.nulls import VOCABULARY, engine, events, resolved, shelved, table
from tests.engine.test_prefixes import computed
from tests.engine.test_scheduler import LANES, ROW, World, a_prompt, a_wish

OWNER = "chat-1"
WISH = resolved(6, stop_ids=())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store", spare=0)
    made.admit(OWNER)
    return made


def blocks_of(store: Store) -> list[Path]:
    return sorted(store.root.rglob("*.block"))


# On a table: what is computed, what is written


class Disk:
    """Worlds that come and go over one store; `mark` is what is said of their model."""

    def __init__(self, store: Store):
        self.store = store

    @contextmanager
    def world(self, mark: bytes = b"m", **how: Any) -> Iterator[World]:
        world, writer = World(**how), Writer(self.store)
        world.scheduler.stored = Stored(writer, world.scheduler.cache, mark)
        try:
            yield world
            world.run()
            while world.scheduler.stored.owes:  # the writer had no room
                writer.close(drain=True)
                world.run()
        finally:
            writer.close(drain=True)


@pytest.fixture
def disk(store) -> Disk:
    return Disk(store)


def ask(world: World, prompt: list[int], owner: str = OWNER) -> int:
    """How many tokens of this prompt are computed; it runs alone."""
    before = computed(world)
    one = world.ask(prompt, WISH, owner=owner)
    while world.scheduler.running or world.scheduler.waiting:
        world.step()
    assert one.sequence.cached + computed(world) - before == len(prompt)
    return computed(world) - before


def test_a_chat_goes_on_after_a_restart_as_if_there_had_been_none(disk):
    """A turn, the same again, an edit of each turn: the blocks that another world needed to compute are found."""
    rng = random.Random(1)
    history = a_prompt(rng, 700)
    with disk.world() as world:
        assert ask(world, history) == 700
    for _ in range(4):
        with disk.world() as world:
            assert ask(world, history) == len(history) - (len(history) - 1) // BLOCK * BLOCK, "again"
            answer = world.asked[-1][0].tokens
        known = (len(history) + len(answer) - 1) // BLOCK * BLOCK
        history = [*history, *answer, *a_prompt(rng, 290)]
        with disk.world() as world:
            assert ask(world, history) == len(history) - known, "the next turn"
    with disk.world() as world:
        assert ask(world, [*history[:800], *a_prompt(rng, 50)]) == 850 - 3 * BLOCK, "an edit"
    with disk.world() as world:
        assert ask(world, [*history[:600], *a_prompt(rng, 300)]) == 900 - 2 * BLOCK, "an edit further up"


def test_what_the_disk_has_is_read_a_little_in_each_step_while_others_go_on(disk):
    prompt = a_prompt(random.Random(2), 12 * BLOCK + 5)
    with disk.world() as world:
        ask(world, prompt)
    with disk.world() as world:
        other = world.ask([4] * 10, resolved(200, stop_ids=()))
        world.step(4)
        late = world.ask(prompt, WISH, owner=OWNER)
        made, read = len(other.tokens), 0
        while late.sequence.cached < 12 * BLOCK:
            world.step()
            assert len(other.tokens) == made + 1, "a row waited for the disk"
            assert late.sequence.cached - read <= READ * BLOCK
            made, read = len(other.tokens), late.sequence.cached
        assert late.sequence.cached == 12 * BLOCK


def test_who_waits_for_a_chain_on_the_disk_has_it_from_the_first_that_reads_it(disk, monkeypatch):
    prompt = a_prompt(random.Random(3), 3 * BLOCK + 10)
    with disk.world() as world:
        ask(world, prompt)
    looked = []
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda *args: looked.append(args[2]) or read(*args))
    with disk.world() as world:
        choices = [world.ask(prompt, WISH, choice, owner=OWNER) for choice in range(3)]
        world.run()
        assert [one.sequence.cached for one in choices] == [3 * BLOCK, len(prompt), len(prompt)]
    assert len(looked) == len(set(looked)) == 3


def test_rows_of_nobody_neither_write_nor_read(disk, store):
    prompt = a_prompt(random.Random(4), 700)
    with disk.world() as world:
        ask(world, prompt, owner="")
    assert blocks_of(store) == []
    with disk.world() as world:
        ask(world, prompt)
    assert len(blocks_of(store)) == 2
    with disk.world() as world:
        assert ask(world, prompt, owner="") == 700
    store.admit("chat-2")
    with disk.world() as world:
        assert ask(world, prompt, owner="chat-2") == 700, "another conversation"


def test_what_another_left_in_memory_is_written_for_this_one_too(disk, store):
    """A chain on the disk is whole, whoever made its beginning."""
    prompt = a_prompt(random.Random(5), 700)
    with disk.world() as world:
        ask(world, prompt, owner="")
        assert ask(world, prompt) == 700 - 2 * BLOCK
    with disk.world() as world:
        assert ask(world, prompt) == 700 - 2 * BLOCK


def test_nothing_is_written_twice(disk, store, monkeypatch):
    written = []
    write = Store.write
    monkeypatch.setattr(Store, "write", lambda *args: written.append(args[2].name) or write(*args))
    prompt = a_prompt(random.Random(6), 700)
    for _ in range(2):
        with disk.world() as world:
            for _ in range(3):
                ask(world, prompt)
    assert len(written) == 2


def test_blocks_of_a_prompt_of_another_model_are_not_found(disk):
    prompt = a_prompt(random.Random(7), 700)
    with disk.world(b"one") as world:
        ask(world, prompt)
    with disk.world(b"two") as world:
        assert ask(world, prompt) == 700
    with disk.world(b"one") as world:
        assert ask(world, prompt) == 700 - 2 * BLOCK


@pytest.mark.parametrize(("reuse", "again", "next_turn"), [("all", 2, 3), ("prompts", 2, 2), ("none", 0, 0)])
def test_what_is_written_is_what_is_kept(disk, store, reuse, again, next_turn):
    prompt = a_prompt(random.Random(8), 700)
    with disk.world(reuse=reuse) as world:
        first = world.ask(prompt, resolved(100, stop_ids=()), owner=OWNER)
    assert len(blocks_of(store)) == next_turn
    longer = [*prompt, *first.tokens, *a_prompt(random.Random(9), 30)]
    for asked, blocks in ((prompt, again), (longer, next_turn)):
        with disk.world(reuse=reuse) as world:
            assert ask(world, asked) == len(asked) - blocks * BLOCK


def test_an_evicted_row_takes_no_blocks_that_decoding_made(disk):
    """They may differ in the last bit, and the stream that a client sees goes on as it began."""
    prompt = a_prompt(random.Random(10), 700)
    with disk.world() as world:
        first = world.ask(prompt, resolved(100, stop_ids=()), owner=OWNER)
    stored = Stored(Writer(disk.store), NullRunner(table, VOCABULARY).cache, b"m")
    chain = _chain([*prompt, *first.tokens])
    prefixes = World().scheduler.prefixes
    assert len(stored.recall(OWNER, chain, 0, prefixes, exact=True)) == 2
    assert stored.recall(OWNER, chain, 2, prefixes, exact=True) == []
    assert len(stored.recall(OWNER, chain, 2, prefixes, exact=False)) == 1


def test_of_a_chain_longer_than_the_limit_the_beginning_stays(disk, store):
    prompt = a_prompt(random.Random(11), 8 * BLOCK + 5)
    store.limit = lambda: 5 * 4 * 2 * BLOCK  # numbers of five blocks; a file has some more
    with disk.world() as world:
        ask(world, prompt)
    there = len(blocks_of(store))
    assert 3 <= there <= 4
    with disk.world() as world:
        assert ask(world, prompt) == len(prompt) - there * BLOCK
    assert store.nbytes() <= store.limit()


def test_conversations_that_come_from_the_disk_together_do_not_wait_for_each_other_for_ever(disk):
    """Memory keeps two blocks: what one has from the disk takes the place of the other's."""
    first, second = (a_prompt(random.Random(seed), 3 * BLOCK + 10) for seed in (14, 15))
    for prompt in (first, second):
        with disk.world() as world:
            ask(world, prompt)
    with disk.world(budget=10 * ROW) as world:
        both = [world.ask(prompt, WISH, owner=OWNER) for prompt in (first, second)]
        world.run()
        assert [one.sequence.finish for one in both] == ["length", "length"]


def test_what_memory_has_no_room_to_keep_is_computed(disk):
    """The rows come first, as with what is kept in memory."""
    prompt = a_prompt(random.Random(12), 3 * BLOCK + 10)
    with disk.world() as world:
        ask(world, prompt)
    with disk.world(budget=PART * 2 * ROW) as world:
        assert ask(world, prompt) == len(prompt) - 2 * BLOCK


@pytest.mark.parametrize("harm", ["torn", "flipped", "another shape"])
def test_a_block_that_is_not_as_it_was_written_is_computed_and_written_again(disk, store, harm):
    prompt = a_prompt(random.Random(13), 3 * BLOCK + 10)
    with disk.world() as world:
        ask(world, prompt)
    stored = Stored(Writer(store), NullRunner(table, VOCABULARY).cache, b"m")
    name = stored._name(_chain(prompt)[1])
    path = store.root / OWNER / f"{name}.block"
    whole = path.read_bytes()
    if harm == "torn":
        path.write_bytes(whole[:-50])
    elif harm == "flipped":
        path.write_bytes(whole[:500] + bytes([whole[500] ^ 8]) + whole[501:])
    else:
        path.unlink()
        store.write(OWNER, Block(name, BLOCK, True, (np.zeros((2, 1, BLOCK, 2), np.int32),)), 0)
    with disk.world() as world:
        assert ask(world, prompt) == len(prompt) - BLOCK
    with disk.world() as world:
        assert ask(world, prompt) == len(prompt) - 3 * BLOCK


@pytest.mark.parametrize("seed", range(3))
def test_whoever_comes_and_fails_each_row_holds_what_is_its_own(disk, seed):
    """Rows of few prompts, with faults, evictions and a disk that loses blocks, over several restarts."""
    rng = random.Random(seed)
    roots = [a_prompt(rng, 1100) for _ in range(3)]
    for _ in range(3):
        with disk.world(rows=rng.choice([1, 3, 16]), budget=rng.choice([9 * ROW, 40 * ROW, 2**40])) as world:
            left = 40
            while left or world.scheduler.running or world.scheduler.waiting:
                if left and rng.random() < 0.3:
                    left -= 1
                    prompt = [*rng.choice(roots)[: rng.choice([100, 600, 900, 1100])], *a_prompt(rng, 20)]
                    world.ask(prompt, a_wish(rng), owner=rng.choice(["", OWNER]), lane=rng.choice(LANES))
                rows = [s.slot for s in world.scheduler.running if s.slot is not None]
                world.bad = {rng.choice(rows)} if rows and rng.random() < 0.02 else set()
                world.step()
                if rng.random() < 0.02:
                    for path in blocks_of(disk.store):
                        path.unlink(missing_ok=True) if rng.random() < 0.5 else path.write_bytes(b"CraneKV1")
            world.bad = set()


def _chain(tokens: list[int]) -> list[bytes]:
    from crane_app.engine.prefixes import keys

    return keys(np.array(tokens, np.int32))


# The writer


def test_a_full_disk_ends_the_writing_with_one_line_and_no_answer(store, monkeypatch, caplog):
    def full(*args: Any) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, "write", full)
    made = engine(shelved(NullRunner(table, VOCABULARY)), store=store)
    with caplog.at_level(logging.WARNING, "crane_app.engine.storing"):
        for fill in range(3):
            _, end = events(made.submit(_request(fill)))
            assert end.reason == "length"
        made._shelf.writer.close(drain=True)
        assert made.stats().store_problem == (
            "What was computed for conversations is not kept on the disk any more: No space left on device. "
            "Make room or allow writing there, and start Crane anew."
        )
        made.close()
    assert len(caplog.records) == 1


def test_a_crowded_disk_is_asked_again_with_each_block(store, caplog):
    store._spare = 2**60
    writer = Writer(store)
    for number in range(2):
        writer.put(OWNER, Block(f"{number:032x}", 0, True, (np.zeros(4, np.int32),)), 0)
    writer.close(drain=True)
    assert "nearly full" in writer.problem
    assert len(caplog.records) == 1
    store._spare = 0
    writer.put(OWNER, Block(f"{2:032x}", 0, True, (np.zeros(4, np.int32),)), 0)
    writer.close(drain=True)
    assert writer.problem == ""
    assert len(blocks_of(store)) == 1


def test_what_waits_for_the_disk_is_bounded_and_the_engine_sleeps_meanwhile(store, monkeypatch):
    """With a disk that never answers no more is copied, and nobody turns for nothing."""
    import threading

    from crane_app.engine import storing

    monkeypatch.setattr(storing, "WAITING", 2 * ROW)
    answer, write = threading.Event(), Store.write
    monkeypatch.setattr(Store, "write", lambda *args: answer.wait(20) and write(*args))
    made = engine(shelved(NullRunner(table, VOCABULARY), context=8192), store=store)
    events(made.submit(_request(1, 9 * BLOCK + 1)))
    _, end = events(made.submit(_request(2)))
    assert end.reason == "length"
    assert len(made._shelf.writer._coming) <= 2
    assert not next(iter(made._shelf)).scheduler.busy
    answer.set()
    made.close()
    assert len(blocks_of(store)) == 9 + 2


def test_closing_at_once_writes_no_more(store, monkeypatch):
    import threading

    answer, write = threading.Event(), Store.write
    monkeypatch.setattr(Store, "write", lambda *args: answer.wait(20) and write(*args))
    writer = Writer(store)
    for number in range(5):
        writer.put(OWNER, Block(f"{number:032x}", 0, True, (np.zeros(4, np.int32),)), 0)
    writer._stopped = True
    answer.set()
    writer.close(drain=False)
    assert len(blocks_of(store)) <= 1


def test_a_conversation_that_is_deleted_while_it_is_answered_leaves_nothing(store):
    made = engine(shelved(NullRunner(table, VOCABULARY)), store=store)
    stream = made.submit(_request(1))
    store.set_aside(OWNER)
    store.sweep()
    events(stream)
    made.close()
    assert list(store.root.iterdir()) == []


def test_words_that_are_deleted_on_their_way_to_the_disk_do_not_reach_it_though_the_conversation_goes_on(
    store, monkeypatch
):
    """The writer is held between the queueing of the blocks and their writing; a shorter chat is answered meanwhile."""
    import threading

    readiness = Readiness(lambda: True, root=store.root)
    made = engine(shelved(NullRunner(table, VOCABULARY)), store=store)
    queued, deleted, write = threading.Event(), threading.Event(), Store.write

    def held(*args: Any) -> bool:
        queued.set()
        assert deleted.wait(20)
        return write(*args)

    monkeypatch.setattr(Store, "write", held)
    before = readiness.owner(7)
    events(made.submit(replace(_request(1), owner=before)))
    assert queued.wait(20)
    readiness.forget(7).join()
    after = readiness.owner(7)
    events(made.submit(replace(_request(2), owner=after)))
    deleted.set()
    made.close()
    assert [path.name for path in store.root.iterdir() if path.name != OWNER] == [after]
    assert len(blocks_of(store)) == 2, "of what is left of the conversation, and of nothing else"
    assert {path.parent.name for path in blocks_of(store)} == {after}


def test_an_owner_that_is_a_path_is_refused(store):
    made = engine(shelved(NullRunner(table, VOCABULARY)), store=store)
    try:
        with pytest.raises(BadInput, match="nobody"):
            list(made.submit(Request("null", tokens=(1, 2), owner="../../etc")))
    finally:
        made.close()


def _request(fill: int, length: int = 600) -> Request:
    return Request("null", tokens=(fill,) * length, asked=Asked(max_tokens=5, seed=1, ignore_eos=True), owner=OWNER)


# On both backends: what is computed, and that it is the same


@pytest.fixture(params=["mlx", "torch"])
def backend_name(request: pytest.FixtureRequest) -> str:
    pytest.importorskip({"mlx": "mlx.core", "torch": "torch"}[request.param], exc_type=ImportError)
    return request.param


class Run:
    """An engine from its start to its end. computed: tokens of prompts that the device was given."""

    def __init__(self, store: Store | None, folder: Path, backend: str, **how: Any):
        self.computed = 0
        self.engine = Engine(store=store)
        for _ in self.engine.load(str(folder), "m", backend, "cpu", **how):
            pass
        runner = self.engine._shelf.get("m").scheduler.runner
        launch = runner.launch

        def counted(works: Any, *rest: Any, **more: Any) -> Any:
            self.computed += sum(len(w.tokens) for w in works if w.tokens is not None and len(w.tokens) > 1)
            return launch(works, *rest, **more)

        runner.launch = counted

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        self.engine.close()

    def ask(self, tokens: list[int], owner: str = OWNER, most: int = 8) -> tuple[int, list[Drawn]]:
        """How many tokens of the prompt were computed, and what was drawn."""
        asked = Asked(max_tokens=most, seed=3, temperature=0.8, ignore_eos=True, logprobs=3)
        stream = self.engine.submit(Request("m", tokens=tuple(tokens), asked=asked, owner=owner))
        drawn = [one for piece in stream if isinstance(piece, Piece) for one in piece.logprobs]
        assert stream.usage.cached_tokens == len(tokens) - self.computed
        computed, self.computed = self.computed, 0
        return computed, drawn


def some(rng: random.Random, length: int) -> list[int]:
    return [rng.randrange(5, SIZE) for _ in range(length)]


def test_after_a_restart_only_new_tokens_are_computed_and_the_answers_are_the_same_to_the_bit(
    store, tmp_path, backend_name
):
    """A first turn; then, each in an engine of its own, the answer again, an edit, and the second turn."""
    rng, folder = random.Random(14), write_chat(tmp_path / "m")
    first = some(rng, 700)
    edited = [*first[:600], *some(rng, 150)]
    with Run(store, folder, backend_name, dtype="float32") as run:
        computed, drawn = run.ask(first, most=100)
        assert computed == 700
    assert len(blocks_of(store)) == 3
    second = [*first, *(one.token for one in drawn), *some(rng, 60)]
    with Run(None, folder, backend_name, dtype="float32") as cold:
        again = cold.ask(first)[1]
        cold.engine.flush()
        other = cold.ask(edited)[1]
        cold.engine.flush()
        after = cold.ask(second)[1]
    with Run(store, folder, backend_name, dtype="float32") as run:
        assert run.ask(first) == (700 - 2 * BLOCK, again), "answered again"
    with Run(store, folder, backend_name, dtype="float32") as run:
        assert run.ask(edited) == (750 - 2 * BLOCK, other), "an edit"
    with Run(store, folder, backend_name, dtype="float32") as run:
        computed, drawn = run.ask(second)
        assert computed == len(second) - 3 * BLOCK, "the second turn"
        assert [one.token for one in drawn] == [one.token for one in after]
        if backend_name == "mlx":
            assert drawn == after
        assert [one.logprob for one in drawn] == pytest.approx([one.logprob for one in after], abs=1e-5)


def other_weights(folder: Path) -> None:
    """One byte in the middle of the file; its size and its time stay."""
    path = folder / "model.safetensors"
    raw, found = bytearray(path.read_bytes()), path.stat()
    raw[-3] ^= 1
    path.write_bytes(raw)
    import os

    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (other_weights, {}),
        (lambda folder: write_chat(folder, CHATML.replace("think", "thought")), {}),
        (None, {"dtype": "bfloat16"}),
        (None, {"quantize": "q8"}),
        (None, {"exact": True}),
    ],
    ids=["weights", "template", "dtype", "quantize", "exact"],
)
def test_another_model_another_template_or_another_way_to_compute_starts_anew(
    store, tmp_path, backend_name, change: Callable[[Path], Any] | None, how: dict[str, Any]
):
    folder, prompt = write_chat(tmp_path / "m"), some(random.Random(15), 300)
    usual = {"dtype": "float32"}
    with Run(store, folder, backend_name, **usual) as run:
        run.ask(prompt)
    with Run(store, folder, backend_name, **usual) as run:
        assert run.ask(prompt)[0] == 300 - BLOCK
    if change is not None:
        change(folder)
    with Run(store, folder, backend_name, **(usual | how)) as run:
        assert run.ask(prompt)[0] == 300


def test_a_request_of_nobody_leaves_nothing_on_the_disk(store, tmp_path, backend_name):
    folder = write_chat(tmp_path / "m")
    with Run(store, folder, backend_name) as run:
        run.ask(some(random.Random(16), 600), owner="")
    assert blocks_of(store) == []

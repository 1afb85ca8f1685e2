"""One budget over everything loaded: who goes, who stays, what is said of it, and who comes back."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass

import pytest

from crane_app.engine.engine import Engine
from crane_app.engine.null import NullRunner
from crane_app.engine.planner import Planner
from crane_app.engine.reading import READER, READER_NBYTES
from crane_app.engine.request import Asked, Part, Piece, Request
from crane_app.errors import ModelNotFound
from tests.engine.nulls import END, VOCABULARY, engine, events, shelved, table, tokens_of
from tests.models.scramble import golden

ASKED = Asked(max_tokens=12, ignore_eos=True, temperature=0.0)
LONG = Asked(max_tokens=200, ignore_eos=True, temperature=0.0)
PROMPT = (1, 2, 3, 4)


class Clock:
    """Moves when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Thing:
    name: str
    weights: int
    used: float
    pool: str = "main"


def chosen(missing: int, *things: Thing, pins: tuple[str, ...] = (), busy: tuple[str, ...] = ()) -> list[str]:
    planner = Planner()
    planner.pins |= set(pins)
    return [each.name for each in planner.choose(missing, things, lambda thing: thing.name in busy)]


def test_the_longest_idle_goes_first_and_none_that_need_not():
    a, b, c = Thing("a", 5, 1.0), Thing("b", 5, 2.0), Thing("c", 5, 3.0)
    assert chosen(5, c, b, a) == ["a"]
    assert chosen(6, c, b, a) == ["a", "b"]
    assert chosen(0, a) == []


def test_a_small_one_stays_where_a_larger_one_had_to_go_anyway():
    assert chosen(8, Thing("small", 1, 1.0), Thing("large", 10, 2.0)) == ["large"]


def test_nothing_goes_where_all_that_may_is_not_enough():
    a, b, c = Thing("a", 5, 1.0), Thing("b", 5, 2.0), Thing("c", 5, 3.0)
    assert chosen(11, a, b, c, pins=("a",)) == []
    assert chosen(10, a, b, c, pins=("a",)) == ["b", "c"]
    assert chosen(6, a, b, c, busy=("b", "c")) == []


@pytest.fixture
def two(tmp_path, backend_name):
    """Folders of two models of one size, and an engine that has room for one of them."""
    folders = [str(golden("qwen3").write(tmp_path / name)) for name in ("one", "two")]
    probe = Engine()
    (card,) = [e.value for e in events(load(probe, folders[0], backend_name))[0] if isinstance(e, Part)]
    probe.close()
    made = Engine(memory_limit=f"{(2 * card.nbytes - 1) // 1024}K", clock=Clock())
    yield made, folders, backend_name, card.nbytes
    made.close(drain=False)


def load(made: Engine, folder: str, backend: str):
    return made.load(folder, backend=backend, device="cpu", dtype="float32")


def told(made: Engine, model: str, asked: Asked = ASKED) -> list[int]:
    found, end = events(made.submit(Request(model, tokens=PROMPT, asked=asked)))
    assert end.reason == "length", end.error
    return tokens_of(found)


def names(made: Engine) -> list[str]:
    return [card.name for card in made.models()]


def test_an_idle_model_goes_for_another_and_comes_back_when_it_is_asked_for(two):
    made, (one, other), backend, nbytes = two
    events(load(made, one, backend))
    first = told(made, "one")
    (card,) = [e.value for e in events(load(made, other, backend))[0] if isinstance(e, Part)]
    assert names(made) == ["two"]
    assert any("one" in note and "left the memory" in note for note in card.notes)
    (parting,) = made.stats().gone
    assert (parting.name, parting.nbytes, parting.room) == ("one", nbytes, "two")
    assert told(made, "one") == first
    assert names(made) == ["one"]
    _, end = events(made.embed("two", [[1, 2, 3]]))
    assert end.reason == "stop", end.error
    assert names(made) == ["two"]


def test_a_pinned_model_stays_and_is_named(two):
    made, (one, other), backend, _ = two
    events(load(made, one, backend))
    made.pin("one")
    _, end = events(load(made, other, backend))
    assert end.kind == "NotEnoughMemory"
    assert "one (" in end.error
    assert "pinned" in end.error
    assert names(made) == ["one"]
    assert [(h.name, h.pinned) for h in made.stats().held if h.job == "text"] == [("one", True)]
    made.pin("one", False)
    assert events(load(made, other, backend))[1].reason == "stop"
    assert names(made) == ["two"]


def test_a_model_at_work_stays_and_goes_on(two):
    made, (one, other), backend, _ = two
    events(load(made, one, backend))
    alone = told(made, "one", LONG)
    stream = made.submit(Request("one", tokens=PROMPT, asked=LONG))
    found = [stream.get(timeout=20)]
    assert made.stats().held[0].busy
    _, end = events(load(made, other, backend))
    rest, last = events(stream)
    if end.kind == "NotEnoughMemory":  # it was still at work when room was looked for
        assert "at work" in end.error
    assert last.reason == "length"
    assert tokens_of([e for e in found if isinstance(e, Piece)] + rest) == alone


def test_two_loads_at_once_that_fit_one_at_a_time_both_end_well(two):
    made, folders, backend, nbytes = two
    streams = [load(made, folder, backend) for folder in folders]
    assert [events(stream)[1].reason for stream in streams] == ["stop", "stop"]
    assert len(names(made)) == 1
    assert made.stats().weights_nbytes == nbytes
    assert not made._shelf.coming


def test_a_load_that_is_given_up_leaves_its_room_to_the_next(two):
    made, (one, other), backend, _ = two
    first, second = load(made, one, backend), load(made, other, backend)
    first.cancel()
    assert events(first)[1].reason in ("cancelled", "stop")
    assert events(second)[1].reason == "stop"
    assert names(made) == ["two"]


def test_loads_pins_and_unloads_at_once_leave_a_shelf_that_adds_up(two):
    made, folders, backend, nbytes = two

    def trouble(name: str, folder: str) -> None:
        for _ in range(6):
            events(load(made, folder, backend))
            for act in (lambda: made.pin(name), lambda: made.unload(name), lambda: made.pin(name, False)):
                with contextlib.suppress(ModelNotFound):
                    act()

    threads = [threading.Thread(target=trouble, args=pair) for pair in zip(("one", "two"), folders, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    held = made.stats()
    assert held.weights_nbytes == nbytes * len(names(made)) <= made._shelf.memory.total()
    assert not made._shelf.coming
    assert not made._shelf.loading


def nulls(clock: Clock, *given: str, idle_s: float | None = None) -> Engine:
    made = engine(*(shelved(NullRunner(table, VOCABULARY), name) for name in given))
    made._shelf.planner.clock, made._shelf.planner.idle_s = clock, idle_s
    for model in made._shelf:
        model.used = clock()
    made.flush()
    return made


def pass_by(made: Engine, clock: Clock, seconds: float) -> None:
    """Let so much time go by, and the engine look at its clock."""
    clock.now += seconds
    made._ask(made._shelf.rest)


def test_what_has_no_work_goes_after_its_time_and_a_pin_keeps_it():
    clock = Clock()
    made = nulls(clock, "a", "b", "c", idle_s=60)
    made.pin("a")
    made.keep("b", 300)
    pass_by(made, clock, 59)
    assert names(made) == ["a", "b", "c"]
    pass_by(made, clock, 2)
    assert names(made) == ["a", "b"]
    (parting,) = made.stats().gone
    assert (parting.name, parting.room) == ("c", "")
    pass_by(made, clock, 300)
    assert names(made) == ["a"]
    made.close()


def test_use_begins_the_time_anew_and_a_request_may_say_how_long():
    clock = Clock()
    made = nulls(clock, "a", "b", idle_s=60)
    clock.now = 50
    events(made.submit(Request("a", tokens=PROMPT, asked=ASKED)))
    events(made.submit(Request("b", tokens=PROMPT, asked=ASKED, keep=0.0)))
    pass_by(made, clock, 0)
    assert names(made) == ["a"], "0: until its work has ended"
    # The voice finder belongs to the process, and another test may have it.
    assert {h.name: h.keep_s for h in made.stats().held if h.job == "text"} == {"a": 60}
    pass_by(made, clock, 59)
    assert names(made) == ["a"]
    events(made.submit(Request("a", tokens=PROMPT, asked=ASKED, keep=float("inf"))))
    pass_by(made, clock, 10**6)
    assert names(made) == ["a"]
    assert made.stats().held[0].pinned
    made.close()


def test_giving_back_by_hand_forgets_what_was_wished():
    made = nulls(Clock(), "a")
    made.pin("a")
    made.unload("a")
    assert not made._shelf.planner.pins
    with pytest.raises(ModelNotFound):
        made.pin("a")
    _, end = events(made.submit(Request("a", tokens=PROMPT, asked=ASKED)))
    assert end.kind == "ModelNotFound"
    made.close()


def test_the_reader_counts_and_goes_like_a_model():
    clock = Clock()
    made = nulls(clock, "a")
    reader = made._shelf.reader
    reader._reader = object()
    (holding,) = [h for h in made.stats().held if h.name == READER]
    assert (holding.job, holding.nbytes, holding.keep_s) == ("pictures", READER_NBYTES, 180.0)
    made._ask(made._shelf.divide)
    pass_by(made, clock, 181)
    assert reader.weights == 0
    assert names(made) == ["a"]
    made.close()


def test_a_reader_without_room_says_what_would_have_to_go():
    made = Engine(memory_limit="300M")
    made._shelf.put(shelved(NullRunner(table, VOCABULARY, budget=2**40), "a"))
    (model,) = made._shelf
    object.__setattr__(model.loaded, "nbytes", 200 * 2**20)
    made.pin("a")
    with pytest.raises(Exception, match=r"built-in reader.*a \(210 MB, pinned\)"):
        made._shelf.reader.room(READER_NBYTES)
    made.pin("a", False)
    made._shelf.reader.room(READER_NBYTES)
    assert names(made) == []
    made.close()


@pytest.mark.parametrize("way", ["an end", "the limit", "a cancel"])
def test_the_time_without_work_begins_when_the_last_step_is_over(way):
    """However the answer ended, and though a step of more was under way by then."""
    clock = Clock()
    made = engine(shelved(NullRunner(lambda token, position: END if position >= 12 else 5, VOCABULARY), "a"))
    made._shelf.planner.idle_s, made._shelf.planner.clock = 60.0, clock
    most = {"an end": 100, "the limit": 3, "a cancel": 3000}[way]
    stream = made.submit(Request("a", tokens=PROMPT, asked=Asked(max_tokens=most, ignore_eos=way == "a cancel")))
    if way == "a cancel":
        stream.get()
        stream.cancel()
    events(stream)
    while made.stats().phase != "idle":
        made.flush()
    clock.now = 61.0
    made.flush()
    made.flush()  # the turn that the first has begun is over
    assert made.models() == []
    made.close(drain=False)

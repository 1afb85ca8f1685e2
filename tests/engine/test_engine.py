"""The engine and its threads: whatever is asked from wherever, each stream ends once and nothing is left behind."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from crane_app.contract import BLOCK
from crane_app.engine import engine as engine_module
from crane_app.engine import jobs, loading, tracking
from crane_app.engine.engine import Engine
from crane_app.engine.loading import How
from crane_app.engine.null import NullRunner
from crane_app.engine.request import Asked, End, Job, Part, Progress, Request, Stream
from crane_app.errors import BadInput, CraneError, ModelNotFound, Unsupported
from tests.engine.nulls import VOCABULARY, Letters, alone, engine, events, resolved, shelved, table, tokens_of
from tests.models.scramble import golden

ROOT = Path(__file__).parents[2]
GREEDY = Asked(max_tokens=20, ignore_eos=True)
LONG = Asked(max_tokens=3000, ignore_eos=True)


def runner(seconds: float = 0.0, **how) -> NullRunner:
    """A device that takes its time."""
    return NullRunner(table, VOCABULARY, on_launch=lambda works: time.sleep(seconds), **how)


@pytest.fixture
def fast() -> Iterator[Engine]:
    made = engine(shelved(runner()))
    yield made
    made.close(drain=False)


@pytest.fixture
def slow() -> Iterator[Engine]:
    made = engine(shelved(runner(0.002)))
    yield made
    made.close(drain=False)


def ask(prompt: Sequence[int] = (1, 2), asked: Asked = GREEDY, **how) -> Request:
    return Request(how.pop("model", "null"), tokens=tuple(prompt), asked=asked, endpoint="greedy", **how)


def once_running(made: Engine, *streams: Stream) -> None:
    """Wait until each stream has said something."""
    for stream in streams:
        stream.get(timeout=10)


def counted(made: Engine, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one for each turn of the engine's loop."""
    turns: list[None] = []
    turn = made._turn
    monkeypatch.setattr(made, "_turn", lambda: turns.append(None) or turn())
    return turns


def no_rows(made: Engine) -> bool:
    """Within a second."""
    until = time.monotonic() + 1
    while time.monotonic() < until:
        stats = made.stats()
        if (stats.running, stats.waiting) == (0, 0):
            made.flush()
            stats = made.stats()
        if (stats.running, stats.waiting, stats.cache_nbytes) == (0, 0, 0):
            return True
        time.sleep(0.005)
    return False


def error_of(stream: Stream) -> tuple[str, str]:
    found, end = events(stream)
    assert end.reason == "error"
    assert not found
    return end.kind, end.error


# Many at once


def test_a_request_gives_its_pieces_and_one_end(fast):
    stream = fast.submit(ask((3, 4), Asked(max_tokens=20)))
    found, end = events(stream)
    tokens, text, reason = alone((3, 4), resolved(20))
    assert tokens_of(found) == tokens
    assert "".join(piece.text for piece in found) == text
    assert [piece.finish for piece in found][-1] == end.reason == reason
    assert end.usage.prompt_tokens == 2
    assert end.usage.output_tokens == len(tokens)
    assert 0 < end.usage.queued_s <= end.usage.first_s <= end.usage.total_s
    assert no_rows(fast)


def test_many_threads_cancel_at_random_moments(fast):
    """Each request ends once, with all of what it gives alone or with a beginning of it."""

    def work(seed: int) -> list[str]:
        rng, reasons = random.Random(seed), []
        for _ in range(40):
            prompt = [rng.randrange(96) for _ in range(rng.choice([1, 5, 300, 700]))]
            n, most = rng.choice([1, 1, 3]), rng.choice([1, 5, 60])
            stream = fast.submit(ask(prompt, Asked(max_tokens=most, n=n), lane=rng.choice(["chat", "server"])))
            timer = None
            if rng.random() < 0.5:
                timer = threading.Timer(rng.random() * 0.02, stream.cancel)
                timer.start()
            found, end = events(stream)
            reasons.append(end.reason)
            for choice in range(n):
                whole = alone(prompt, resolved(most), choice)[0]
                got = tokens_of(found, choice)
                assert got == whole if end.reason != "cancelled" else got == whole[: len(got)]
                finishes = [e.finish for e in found if e.choice == choice and e.finish]
                assert len(finishes) == (1 if found or end.reason != "cancelled" else 0)
            if timer is not None:
                timer.join()
        return reasons

    with ThreadPoolExecutor(8) as pool:
        reasons = [reason for part in pool.map(work, range(8)) for reason in part]
    assert len(reasons) == 320
    assert {"cancelled"} < set(reasons) <= {"stop", "length", "cancelled"}
    assert no_rows(fast)
    assert not fast._tracked


def test_cancelling_is_harmless_at_any_time(slow):
    stream = slow.submit(ask(asked=LONG))
    stream.cancel()
    stream.cancel()
    assert events(stream)[1].reason == "cancelled"
    stream.cancel()
    done = slow.submit(ask())
    assert events(done)[1].reason == "length"
    done.cancel()
    assert events(slow.submit(ask()))[1].reason == "length"


def test_a_deadline_ends_a_running_request_and_a_waiting_one():
    made = engine(shelved(runner(0.002, budget=3 * BLOCK * 8)))  # room for one row of two blocks
    first, second = (made.submit(ask(asked=LONG, deadline=seconds)) for seconds in (0.3, 0.1))
    start = time.monotonic()
    assert events(second)[1].reason == "cancelled"
    assert time.monotonic() - start > 0.05
    found, end = events(first)
    assert end.reason == "cancelled"
    assert len(tokens_of(found)) > 10
    assert time.monotonic() - start > 0.25
    assert no_rows(made)
    made.close()


def test_a_deadline_holds_while_the_prompt_is_read(fast, monkeypatch):
    read = threading.Event()
    monkeypatch.setattr(engine_module, "prepare", lambda *args: read.wait(30))
    assert events(fast.submit(ask(deadline=0.1)))[1].reason == "cancelled"
    read.set()


@pytest.mark.parametrize("deadline", [-1, float("nan"), float("inf")])
def test_a_deadline_that_is_none(fast, deadline):
    assert "deadline" in error_of(fast.submit(ask(deadline=deadline)))[1]


# What is refused


def test_an_id_is_taken_once_at_a_time(slow):
    first = slow.submit(ask(asked=LONG, id="mine"))
    once_running(slow, first)
    kind, error = error_of(slow.submit(ask(id="mine")))
    assert kind == "CraneError"
    assert "mine" in error
    first.cancel()
    assert events(first)[1].reason == "cancelled"
    assert events(slow.submit(ask(id="mine")))[1].reason == "length"


def test_ids_of_the_engines_own_avoid_those_of_others(slow):
    streams = [slow.submit(ask(asked=LONG, id=f"r{i}")) for i in range(1, 4)]
    streams += [slow.submit(ask(asked=LONG)) for _ in range(4)]
    once_running(slow, *streams)
    assert len({stream.id for stream in streams}) == 7


def test_a_queue_that_is_full_takes_no_more(slow, monkeypatch):
    monkeypatch.setattr(tracking, "QUEUE", 5)
    streams = [slow.submit(ask(asked=LONG)) for _ in range(5)]
    assert "5 requests" in error_of(slow.submit(ask()))[1]
    streams[0].cancel()
    events(streams[0])
    again = slow.submit(ask(asked=LONG))
    once_running(slow, again)


def test_names_that_nobody_knows(fast):
    kind, error = error_of(fast.submit(ask(model="llama")))
    assert kind == "ModelNotFound"
    assert "llama" in error
    assert "null" in error
    kind, error = error_of(fast.submit(ask(lane="express")))
    assert "express" in error
    assert "dictation" in error
    kind, error = error_of(fast.submit(Request("null", tokens=(1,), endpoint="images")))
    assert kind == "BadInput"
    assert "images" in error
    kind, error = error_of(fast.open(Job("embroider")))
    assert kind == "Unsupported"
    assert "embroider" in error
    with pytest.raises(Unsupported):
        list(fast.open(Job("embroider")))
    with pytest.raises(ModelNotFound):
        fast.unload("llama")
    assert no_rows(fast)
    assert not fast._tracked


def test_with_no_name_the_only_model_is_meant(fast):
    assert events(fast.submit(ask(model="")))[1].reason == "length"
    fast.unload("")
    assert fast.models() == []


def test_an_unexpected_error_while_preparing_ends_that_request_alone(fast, monkeypatch):
    class Broken(Letters):
        def encode(self, text: str, special: bool = False) -> list[int]:
            raise (MemoryError if text == "m" else KeyError)(text)

    fast._shelf.get("null").tokenizer = Broken()
    for text, name in (("k", "KeyError"), ("m", "MemoryError")):
        kind, error = error_of(fast.submit(Request("null", text=text)))
        assert kind == "CraneError"
        assert name in error
    assert events(fast.submit(ask()))[1].reason == "length"


# The end


def test_draining_finishes_what_was_submitted():
    made = engine(shelved(runner(0.001)))
    streams = [made.submit(ask((i, 1))) for i in range(20)]
    made.close(drain=True)
    for i, stream in enumerate(streams):
        found, end = events(stream, 0.1)
        assert end.reason == "length"
        assert tokens_of(found) == alone((i, 1), resolved(20, stop_ids=()))[0]


def test_draining_waits_for_prompts_that_are_being_read(monkeypatch):
    made, real = engine(shelved(runner())), engine_module.prepare

    def slowly(*args):
        time.sleep(0.2)
        return real(*args)

    monkeypatch.setattr(engine_module, "prepare", slowly)
    good, bad = made.submit(ask()), made.submit(ask(()))
    turns = counted(made, monkeypatch)
    made.close(drain=True)
    assert len(turns) < 300, "it waits without turning"
    assert events(good, 0.1)[1].reason == "length"
    assert events(bad, 0.1)[1].kind == "BadInput"


def test_closing_at_once_cancels_what_runs_and_what_waits():
    made = engine(shelved(runner(0.002)))
    streams = [made.submit(ask(asked=LONG)) for _ in range(100)]
    once_running(made, streams[0])
    made.close(drain=False)
    assert {events(stream, 0.1)[1].reason for stream in streams} == {"cancelled"}
    assert made.stats().models == 0


def test_closing_at_once_overtakes_a_drain():
    made = engine(shelved(runner(0.002)))
    stream = made.submit(ask(asked=LONG))
    once_running(made, stream)
    drain = threading.Thread(target=made.close)
    drain.start()
    time.sleep(0.05)
    assert drain.is_alive()
    made.close(drain=False)
    drain.join(1)
    assert not drain.is_alive()
    assert events(stream, 0.1)[1].reason == "cancelled"


def test_a_closed_engine_says_so(fast):
    fast.close()
    fast.close()
    fast.close(drain=False)
    for stream in (fast.submit(ask()), fast.load("/nowhere"), fast.open(Job("tokenize"))):
        assert "closing" in error_of(stream)[1]
    with pytest.raises(CraneError, match="closing"):
        fast.unload("null")
    assert fast.models() == []
    assert fast.stats().phase == "closed"


def test_an_engine_that_never_ran_closes():
    made = engine(shelved(runner()), start=False)
    stream = made.submit(ask())
    made.close()
    assert events(stream, 0.1)[1].reason == "cancelled"


@pytest.mark.parametrize("seeds", [range(5), pytest.param(range(5, 50), marks=pytest.mark.soak)], ids=["few", "many"])
def test_submitting_while_it_closes_never_leaves_a_stream_open(seeds):
    for seed in seeds:
        made, streams = engine(shelved(runner())), []

        def submit(made: Engine = made, streams: list[Stream] = streams) -> None:
            for _ in range(30):
                streams.append(made.submit(ask()))

        threads = [threading.Thread(target=submit) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(random.Random(seed).random() * 0.01)
        made.close(drain=seed % 2 == 0)
        for thread in threads:
            thread.join()
        assert len(streams) == 90
        assert all(events(stream, 1)[1] for stream in streams)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_device_thread_that_fails_ends_every_stream_with_an_error(slow, monkeypatch):
    streams = [slow.submit(ask(asked=LONG)) for _ in range(3)]
    once_running(slow, *streams)
    monkeypatch.setattr(slow._shelf.get("null").scheduler, "step", lambda: 1 / 0)
    for stream in streams:
        end = events(stream)[1]
        assert end.reason == "error"
        assert "ZeroDivisionError" in end.error
    slow.close()
    assert "closing" in error_of(slow.submit(ask()))[1]


def test_an_idle_engine_waits_without_turning(fast, monkeypatch):
    events(fast.submit(ask(deadline=100.0)))
    time.sleep(0.1)
    turns = counted(fast, monkeypatch)
    time.sleep(0.5)
    assert len(turns) < 5
    assert fast.stats().phase == "idle"


# Models


def test_unloading_ends_the_models_requests_as_cancelled(slow):
    slow._shelf.put(shelved(runner(), "other"))
    streams = [slow.submit(ask(asked=LONG)) for _ in range(80)]
    once_running(slow, streams[0])
    slow.unload("null")
    assert {events(stream)[1].reason for stream in streams} <= {"cancelled", "error"}
    assert [card.name for card in slow.models()] == ["other"]
    assert no_rows(slow)
    assert error_of(slow.submit(ask()))[0] == "ModelNotFound"
    assert events(slow.submit(ask(model="other")))[1].reason == "length"


def test_what_an_unloaded_model_did_still_counts(fast):
    events(fast.submit(ask()))
    assert no_rows(fast)
    before = fast.stats()
    fast.unload("null")
    after = fast.stats()
    assert (after.steps, after.tokens) == (before.steps, before.tokens)
    assert after.weights_nbytes == 0


def test_two_models_are_served_in_turn():
    """Of one lane: each has half of the steps, however old the other's requests are."""
    served: list[str] = []
    models = []
    for name in "ab":
        device = NullRunner(table, VOCABULARY, on_launch=lambda works, name=name: served.append(name))
        models.append(shelved(device, name))
    made = engine(*models, start=False)
    old = made.submit(ask(asked=LONG, model="a"))
    thread = threading.Thread(target=made.run)
    thread.start()
    once_running(made, old)
    made._tracked[old.id].submitted -= 1000
    new = made.submit(ask(asked=Asked(max_tokens=500, ignore_eos=True), model="b"))
    events(new)
    first, last = served.index("b"), len(served) - served[::-1].index("b")
    assert served[first:last].count("b") == pytest.approx(served[first:last].count("a"), abs=3)
    made.close(drain=False)
    thread.join()


def test_a_model_of_the_last_lane_has_its_turns_too():
    """The first lane is served 4 * TURN before it each time, not for ever."""
    made = engine(shelved(runner(0.002), "a"), shelved(runner(0.002), "b"))
    first = made.submit(ask(asked=LONG, model="a", lane="dictation"))
    once_running(made, first)
    last = made.submit(ask(asked=Asked(max_tokens=3, ignore_eos=True), model="b", lane="server"))
    assert events(last)[1].reason == "length"
    assert first.end is None
    made.close(drain=False)


# Jobs


@pytest.fixture
def closed(monkeypatch) -> list[str]:
    """Job kinds of all sorts; what their generators said when they were closed."""
    said: list[str] = []

    def all_sorts(shelf, job) -> Iterator:
        yield None
        yield Progress(1, 2, "half")
        yield np.arange(3)
        yield "text"
        yield Part({"plain": 1})
        yield b"end"

    def raising(shelf, job) -> Iterator:
        yield 1
        raise job.inputs

    def endless(shelf, job) -> Iterator:
        try:
            while True:
                time.sleep(0.001)
                yield None
        finally:
            said.append(threading.current_thread().name)

    def stubborn(shelf, job) -> Iterator:
        try:
            while True:
                yield None
        finally:
            raise RuntimeError("I do not want to close")

    for kind in (all_sorts, raising, endless, stubborn):
        monkeypatch.setitem(jobs.KINDS, kind.__name__, kind)
    return said


def test_a_job_says_what_it_yields(fast, closed):
    found, end = events(fast.open(Job("all_sorts")))
    assert end.reason == "stop"
    assert found[0] == Progress(1, 2, "half")
    assert found[1].value.tolist() == [0, 1, 2]
    assert [part.value for part in found[2:]] == ["text", {"plain": 1}, b"end"]


@pytest.mark.parametrize(("error", "kind"), [(BadInput("no"), "BadInput"), (ValueError("v"), "CraneError")])
def test_a_job_that_raises_ends_with_its_error(fast, closed, error, kind):
    found, end = events(fast.open(Job("raising", error)))
    assert [part.value for part in found] == [1]
    assert (end.reason, end.kind) == ("error", kind)
    assert events(fast.submit(ask()))[1].reason == "length"


def test_a_cancelled_job_is_closed_on_the_device_thread(fast, closed):
    stream = fast.open(Job("endless"))
    time.sleep(0.02)
    stream.cancel()
    assert events(stream)[1].reason == "cancelled"
    assert closed == ["crane-device"]
    fast.open(Job("endless"))
    time.sleep(0.02)
    fast.close(drain=False)
    assert closed == ["crane-device"] * 2


def test_a_job_that_will_not_close_is_over_all_the_same(fast, closed):
    stream = fast.open(Job("stubborn"))
    time.sleep(0.02)
    stream.cancel()
    assert events(stream)[1].reason == "cancelled"
    assert events(fast.submit(ask()))[1].reason == "length"


def test_jobs_and_requests_share_the_device(slow, closed):
    job, stream = slow.open(Job("endless")), slow.submit(ask())
    assert events(stream)[1].reason == "length"
    job.cancel()
    assert events(job)[1].reason == "cancelled"


def test_a_job_of_a_model_ends_with_it(fast, closed):
    stream = fast.open(Job("endless", model="null"))
    time.sleep(0.02)
    fast.unload("null")
    assert events(stream)[1].reason == "cancelled"


def test_tokenising_runs_beside_the_device(fast, monkeypatch):
    where: list[str] = []

    class Watched(Letters):
        def encode(self, text: str, special: bool = False) -> list[int]:
            where.append(threading.current_thread().name)
            return super().encode(text, special)

    fast._shelf.get("null").tokenizer = Watched()
    (part,) = fast.open(Job("tokenize", "abc"))
    assert part.value == [1, 2, 3]
    assert "crane-host" in where[0]
    (part,) = fast.open(Job("detokenize", [0, 1, 2]))
    assert part.value == "abc"
    with pytest.raises(ModelNotFound):
        list(fast.open(Job("tokenize", "abc", model="none")))


# Loading


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return golden("qwen3").write(tmp_path / "qwen3")


@pytest.fixture
def empty() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.close(drain=False)


def load(made: Engine, folder: Path, backend: str, **how) -> tuple[list, End]:
    return events(made.load(str(folder), backend=backend, device="cpu", dtype="float32", **how))


def test_a_model_is_loaded_with_progress_and_speaks(empty, folder, backend_name):
    found, end = load(empty, folder, backend_name)
    assert end.reason == "stop"
    *progress, card = found
    assert [p.done for p in progress] == sorted(p.done for p in progress)
    assert all(p.done <= p.total for p in progress)
    assert card.value == empty.models()[0]
    assert card.value.name == "qwen3"
    assert not card.value.chat
    case = golden("qwen3")
    tokens = tuple(case.arrays["tokens"].tolist())
    asked = Asked(max_tokens=32, ignore_eos=True)
    found, end = events(empty.submit(Request("qwen3", tokens=tokens, asked=asked, endpoint="greedy")))
    assert tokens_of(found) == case.arrays["greedy"].tolist()
    assert no_rows(empty)


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_cancelled_load_leaves_nothing(empty, folder, after, monkeypatch):
    monkeypatch.setattr(loading, "BREATH", 0.0)
    monkeypatch.setattr(jobs, "NEWS", 0.0)
    stream = empty.load(str(folder), backend="torch", device="cpu", dtype="float32")
    for _ in range(after):
        stream.get(timeout=10)
    stream.cancel()
    found, end = events(stream)
    assert end.reason == "cancelled" or isinstance(found[-1], Part)
    assert len(empty.models()) == (0 if end.reason == "cancelled" else 1)
    assert not empty._shelf.loading
    assert load(empty, folder, "torch")[1].reason == "stop"


def test_a_load_that_is_cancelled_between_its_card_and_its_end_leaves_nothing(empty, folder):
    shelf = empty._shelf
    steps = jobs.loading_job(shelf, str(folder), None, How("torch", "cpu", "float32"))
    while not isinstance(next(steps), Part):
        pass
    assert shelf.find(folder.name) is not None
    steps.close()
    assert shelf.find(folder.name) is None
    assert not shelf.loading


def test_a_folder_is_loaded_once_however_often_it_is_asked_for(empty, folder, monkeypatch):
    loads: list[Path] = []
    real = jobs.loading
    monkeypatch.setattr(jobs, "loading", lambda path, *how: (loads.append(path), real(path, *how))[1])
    streams = [empty.load(str(folder), backend="torch", device="cpu", dtype="float32") for _ in range(3)]
    cards = [[e for e in events(stream)[0] if isinstance(e, Part)] for stream in streams]
    assert cards[0] == cards[1] == cards[2]
    assert load(empty, folder, "torch")[0] == cards[0]
    assert len(loads) == 1


def test_who_waits_for_a_load_that_is_cancelled_loads_itself(empty, folder):
    streams = [empty.load(str(folder), backend="torch", device="cpu", dtype="float32") for _ in range(2)]
    streams[0].get(timeout=10)
    streams[0].cancel()
    assert events(streams[1])[1].reason == "stop"
    assert len(empty.models()) == 1


def test_another_model_of_the_same_name_is_refused(empty, folder, tmp_path):
    other = golden("mistral").write(tmp_path / "more" / "qwen3")
    load(empty, folder, "torch")
    end = load(empty, other, "torch")[1]
    assert end.kind == "BadInput"
    assert str(folder) in end.error
    assert load(empty, other, "torch", name="second")[1].reason == "stop"
    assert {card.name for card in empty.models()} == {"qwen3", "second"}


@pytest.mark.parametrize("path", ["/nowhere", "\0", "~nobody-of-this-name/x", ""])
def test_a_folder_that_cannot_be_loaded(empty, path):
    end = events(empty.load(path))[1]
    assert end.reason == "error"
    assert not empty._shelf.loading


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_a_loaded_model_does_not_need_its_folder(empty, folder, backend_name, change):
    load(empty, folder, backend_name)
    shutil.rmtree(folder)
    if change == "replaced":
        golden("mistral").write(folder)
    case = golden("qwen3")
    found, _ = events(empty.submit(ask(case.arrays["tokens"].tolist(), Asked(max_tokens=8), model="qwen3")))
    assert tokens_of(found) == case.arrays["greedy"].tolist()[:8]
    empty.unload("qwen3")
    end = load(empty, folder, backend_name)[1]
    assert end.reason == ("error" if change == "deleted" else "stop")
    assert change == "replaced" or end.kind == "ModelNotFound"


MEASURE = """
import gc, json, sys, time
from pathlib import Path
from crane_app.engine.engine import Engine
from crane_app.engine.request import Asked, Request
def rss():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
folder, backend = sys.argv[1:]
made, found = Engine(), []
def load(name):
    return made.load(folder, name=name, backend=backend, device="cpu", dtype="float32")
def speak():
    stream = made.submit(Request("", tokens=tuple(range(300)), asked=Asked(max_tokens=4), endpoint="greedy"))
    list(stream)
    return stream
list(load("m")); kept = speak(); made.unload("m")  # code and thread pools of the libraries stay
before = rss()
for _ in range(3):
    list(load("m")); kept = speak(); found.append(rss() - before)
    while made.stats().running: time.sleep(0.01)
    made.flush()
    assert made.stats().cache_nbytes == 0
    made.unload("m"); found.append(rss() - before)
stream = load("m")
while getattr(stream.get(), "done", 0) < 100e6: pass
stream.cancel(); list(stream); found.append(rss() - before)
print(json.dumps({"nbytes": made.stats().weights_nbytes, "rss": found}))
made.close()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_unloading_gives_the_memory_back(tmp_path, backend_name):
    """Resident memory around three loads of 200 MB and one that is cancelled.

    All but a tenth comes back; now and then the allocator keeps up to a third once, which does not add up.
    """
    case = golden("qwen3")
    config = {**case.config, "vocab_size": 60_000, "hidden_size": 768, "intermediate_size": 1024}
    folder = large(tmp_path / "large", config)
    run = [sys.executable, "-c", MEASURE, str(folder), backend_name]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    print(backend_name, [f"{n / 1e6:+.0f} MB" for n in found["rss"]])
    size = (folder / "model.safetensors").stat().st_size
    loaded, unloaded, cancelled = found["rss"][0:6:2], found["rss"][1:6:2], found["rss"][6]
    assert size > 180e6
    assert min(loaded) > 0.9 * size
    assert sorted([*unloaded, cancelled])[1] < 0.1 * size
    assert max(*unloaded, cancelled) < 0.35 * size


def large(folder: Path, config: dict) -> Path:
    from crane_app.models import registry
    from crane_app.models.weights import names
    from tests.models.scramble import write_checkpoint

    module = registry.find(config)
    return write_checkpoint(folder, config, names(module.parameters(module.read(config))))

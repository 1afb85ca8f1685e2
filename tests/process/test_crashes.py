"""An engine that dies costs a sentence: what came is kept, and the next request works."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from pathlib import Path

import pytest

from crane_app.engine.process.client import Client
from crane_app.engine.process.place import Place
from crane_app.engine.request import End, Job, Part, Piece, Request, Stream
from crane_app.errors import DeviceLost, ModelNotFound, Unsupported
from tests.process.conftest import Connect, alive, wait_for

LONG = Request("any", text="word " * 1000, template={"pause": 0.01})


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crane_app.engine.process.client.FIRST_PAUSE", 0.01)


def kill(client: Client) -> None:
    os.kill(client.peer.pid, signal.SIGKILL)
    assert wait_for(lambda: not alive(client.peer.pid))


def collect(stream: Stream) -> list[object]:
    """All events up to the End, which is the last and the only one."""
    events: list[object] = []
    while not events or not isinstance(events[-1], End):
        events.append(stream.get(timeout=10))
    with pytest.raises(queue.Empty):
        stream.get(timeout=0.02)
    return events


def answer(client: Client, text: str = "again", model: str = "any", **template: object) -> str:
    events = client.submit(Request(model, text=text, template=template))
    return "".join(event.text for event in events if isinstance(event, Piece)).strip()


def load(client: Client, folder: str, **choices: str) -> object:
    return next(event.value for event in list(client.load(folder, **choices)) if isinstance(event, Part))


def test_killed_in_the_middle_of_an_answer_the_text_so_far_stands_and_the_next_request_works(join: Connect):
    client = join()
    stream = client.submit(LONG)
    got = [stream.get() for _ in range(5)]
    pid = client.peer.pid
    kill(client)
    killed = time.perf_counter()
    events = collect(stream)
    end = events[-1]
    assert got == [Piece("word ", (n,)) for n in range(5)]
    assert (end.reason, end.kind) == ("error", "DeviceLost")
    assert "stopped while it was answering with any" in end.error
    assert "What came so far is kept" in end.error
    assert answer(client) == "again"
    print(f"restart after kill: {time.perf_counter() - killed:.2f} s")
    assert client.peer.pid != pid
    assert not client.attached


def test_every_stream_under_way_ends_once(join: Connect):
    client = join()
    streams = [client.submit(LONG) for _ in range(20)]
    for stream in streams:
        stream.get()
    kill(client)
    assert {collect(stream)[-1].kind for stream in streams} == {"DeviceLost"}


def test_what_the_engine_never_took_is_told_apart_from_what_was_interrupted(join: Connect):
    client = join()
    begun = client.submit(LONG)
    begun.get()
    os.kill(client.peer.pid, signal.SIGSTOP)
    lost = client.submit(Request("any", text="unheard"))
    time.sleep(0.05)
    kill(client)
    assert "kept" in collect(begun)[-1].error
    assert collect(lost) == [Piece("unheard ", (0,)), End("stop")]  # by the next engine
    assert client.last_crash is not None
    assert client.last_crash.lost == (lost.id,)
    assert client.last_crash.interrupted == (begun.id,)
    assert client.last_crash.status == -signal.SIGKILL
    assert client.last_crash.phase == "answering with any"


def test_what_was_cancelled_before_the_engine_took_it_is_not_sent_again(join: Connect):
    client = join()
    os.kill(client.peer.pid, signal.SIGSTOP)
    lost = client.submit(LONG)
    lost.cancel()
    kill(client)
    assert collect(lost) == [End("cancelled")]
    assert client.stats().running == 0


def test_what_is_lost_twice_is_given_up_with_a_sentence(join: Connect):
    client = join()
    pid = client.peer.pid
    os.kill(pid, signal.SIGSTOP)
    lost = client.submit(Request("any", text="unheard"))
    lost.repeated = True
    kill(client)
    assert "before it took this, so nothing was done" in collect(lost)[-1].error


def test_questions_that_wait_when_the_engine_dies_are_asked_again_or_moot(
    join: Connect, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ECHO_FLUSH", "20")
    client = join()
    for ask in (client.models, client.flush):
        os.kill(client.peer.pid, signal.SIGSTOP)
        killer = threading.Timer(0.1, kill, (client,))
        killer.start()
        assert not ask()
        killer.join()


def test_both_clients_of_a_dead_engine_meet_again_in_one_new_engine(join: Connect):
    clients = [join(), join()]
    kill(clients[0])
    streams = [client.submit(Request("any", text="hello")) for client in clients]
    assert [len(collect(stream)) for stream in streams] == [2, 2]
    assert clients[0].peer == clients[1].peer


def test_a_model_that_was_loaded_is_loaded_again_when_a_request_names_it(join: Connect):
    client = join()
    load(client, "/models/good", name="mine", device="cuda")
    load(client, "/models/other")
    kill(client)
    assert wait_for(lambda: not client._session.alive)
    assert client.models() == []
    streams = [client.submit(Request("mine", text="one two")) for _ in range(3)]
    assert [len(collect(stream)) for stream in streams] == [3, 3, 3]
    (card,) = client.models()
    assert (card.name, card.folder, card.device) == ("mine", "/models/good", "cuda")
    assert client.stats().steps == 1  # loads of the new engine: once for all three


def test_a_model_that_went_with_the_engine_can_still_be_unloaded(join: Connect):
    client = join()
    load(client, "/models/good")
    kill(client)
    client.unload("good")
    with pytest.raises(ModelNotFound):
        answer(client, model="good")


def test_a_request_cancelled_while_the_engine_starts_anew_is_not_sent(join: Connect):
    client = join()
    kill(client)
    assert wait_for(lambda: not client._session.alive)
    stream = client.submit(LONG)
    stream.cancel()
    assert collect(stream) == [End("cancelled")]
    assert client.stats().running == 0


def test_a_relative_folder_means_the_clients_folder(join: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tmp_path.joinpath("model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load(join(), "model").folder == str(tmp_path / "model")


def test_a_model_whose_load_kills_the_engine_twice_is_set_aside(join: Connect):
    client = join()
    for _ in range(2):
        end = collect(client.load("/models/deadly"))[-1]
        assert end.kind == "DeviceLost"
        assert "while it was loading /models/deadly" in end.error
        assert "it was killed" in end.error
    pid = client.stats().pid
    with pytest.raises(Unsupported, match=r"/models/deadly is set aside: the engine died 2 times while loading it"):
        list(client.load("/models/deadly"))
    assert load(client, "/models/good")  # others are not meant
    assert client.stats().pid == pid
    assert client.forget("/models/deadly")
    assert not client.forget("/models/deadly")
    assert collect(client.load("/models/deadly"))[-1].kind == "DeviceLost"


def test_a_model_that_kills_the_engine_with_every_answer_is_set_aside(join: Connect):
    client = join()
    load(client, "/models/good")
    for _ in range(2):
        with pytest.raises(DeviceLost):
            answer(client, "a b c", "good", die_at=1)
    with pytest.raises(Unsupported, match="answering with it"):
        answer(client, "a b c", "good")
    assert client.forget("good")
    assert answer(client, "a b c", "good") == "a b c"


def test_a_page_that_may_have_killed_the_engine_takes_the_blame_off_the_model_beside_it(join: Connect):
    """What is read from a page needs no model, so nobody can say which of the two it was."""
    client = join()
    load(client, "/models/good")
    for _ in range(3):
        page = client.open(Job("busy"))
        page.get()
        beside = client.submit(Request("good", text="word " * 1000, template={"pause": 0.01}))
        beside.get()
        kill(client)
        assert {collect(page)[-1].kind, collect(beside)[-1].kind} == {"DeviceLost"}
    assert answer(client, "a b c", "good") == "a b c"


def test_an_answer_in_between_takes_the_suspicion_away(join: Connect):
    client = join()
    load(client, "/models/good")
    for _ in range(3):
        with pytest.raises(DeviceLost):
            answer(client, "a b c", "good", die_at=1)
        assert answer(client, "fine", "good") == "fine"


def test_a_load_that_fails_in_the_engine_is_no_death(join: Connect):
    client = join()
    for _ in range(3):
        assert "broken" in collect(client.load("/models/broken"))[-1].error
    assert client.last_crash is None


def test_the_pause_before_a_restart_grows_with_the_deaths(join: Connect, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("crane_app.engine.process.client.FIRST_PAUSE", 0.2)
    client = join()
    took = []
    for _ in range(3):
        kill(client)
        assert wait_for(lambda: not client._session.alive)
        before = time.perf_counter()
        assert answer(client) == "again"
        took.append(time.perf_counter() - before)
    assert took[2] > 0.4


def test_an_engine_that_cannot_come_back_is_an_error_of_the_request(join: Connect, monkeypatch: pytest.MonkeyPatch):
    client = join()
    kill(client)
    monkeypatch.setenv("ECHO_BROKEN", "1")
    assert "did not start" in collect(client.submit(LONG))[-1].error
    monkeypatch.delenv("ECHO_BROKEN")
    assert answer(client) == "again"


def test_an_engine_of_ones_own_comes_back_as_ones_own(join: Connect, place: Place):
    client = join(new_engine=True)
    kill(client)
    assert answer(client) == "again"
    assert not place.address.exists()


def test_a_job_names_itself_in_the_sentence(join: Connect):
    client = join()
    stream = client.open(Job("busy", model="tower"))
    stream.get()
    kill(client)
    assert "while it was working with tower" in collect(stream)[-1].error

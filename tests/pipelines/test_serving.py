"""A server in its process, by a stand-in that fares as it is told: how it is seen from its start to its end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crane_app.pipelines import serving
from crane_app.pipelines.serving import Plan, Served, Server, new_key
from crane_app.platform import addresses

STAND_IN = str(Path(__file__).with_name("stand_in_server.py"))
PLAN = Plan(model="/models/tiny", name="tiny", port=0)


def server(fate: str = "good") -> Server:
    return Server((sys.executable, STAND_IN, fate), look_s=0.05)


def until(steps: Iterator[Served], wanted) -> Served:
    """The first moment of which that is true."""
    for _ in range(2000):
        now = next(steps)
        if wanted(now):
            return now
    raise AssertionError("it did not come about")


@pytest.fixture
def good() -> Iterator[tuple[Server, Iterator[Served]]]:
    made = server()
    steps = made.run(PLAN)
    yield made, steps
    steps.close()


def pid_of(made: Server) -> int:
    return made._process._process.pid


def test_it_starts_serves_and_tells_its_figures(good):
    _, steps = good
    assert next(steps) == Served("starting")
    now = until(steps, lambda now: now.answered)
    assert now.state == "on"
    assert now.url.startswith("http://127.0.0.1:")
    assert (now.active, now.waiting, now.answered) == (2, 3, 41)
    assert now.models == ("tiny", "moonshine")


def test_its_last_complaint_is_told_and_its_notes_are_not(good):
    _, steps = good
    assert until(steps, lambda now: now.sentence).sentence == "a request failed"


def test_stopped_it_ends_by_itself(good):
    made, steps = good
    until(steps, lambda now: now.state == "on")
    made.stop()
    assert [now.state for now in steps][-1] == "off"


def test_what_is_under_way_has_time_and_a_second_stop_has_none():
    made = server("slow")
    steps = made.run(PLAN)
    until(steps, lambda now: now.state == "on")
    made.stop()
    until(steps, lambda now: now.state == "ending")
    assert next(steps).state == "ending"
    made.stop()
    assert [now.state for now in steps][-1] == "off"


def test_when_nobody_looks_any_more_it_is_ended(monkeypatch):
    monkeypatch.setattr(serving, "GRACE_S", 0.1)
    made = server("slow")
    steps = made.run(PLAN)
    until(steps, lambda now: now.state == "on")
    pid = pid_of(made)
    steps.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_it_says_before_it_serves_is_why_it_failed():
    now = list(server("broken").run(PLAN))[-1]
    assert (now.state, now.fault) == ("failed", "died")
    assert now.sentence == "No model at /nowhere. Download one in Models."


def test_a_death_is_told_with_how_and_what_to_do():
    now = list(server("dies").run(PLAN))[-1]
    assert (now.state, now.fault, now.url) == ("failed", "died", "")
    assert "exit status 7" in now.sentence
    assert "Start it again" in now.sentence


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_kill_is_told_as_the_signal_it_was(good):
    made, steps = good
    until(steps, lambda now: now.state == "on")
    os.kill(pid_of(made), signal.SIGKILL)
    now = list(steps)[-1]
    assert now.fault == "died"
    assert "signal 9" in now.sentence


def test_with_a_key_it_is_asked_with_the_key_which_is_not_on_its_command_line():
    key = new_key()
    made = server()
    steps = made.run(Plan("/models/tiny", "tiny", port=0, key=key))
    try:
        assert until(steps, lambda now: now.answered).answered == 41
        assert key not in made._process._process.args
    finally:
        steps.close()


def test_that_there_is_no_key_is_said_since_the_settings_may_have_one():
    flags = serving._flags(PLAN)
    assert flags[flags.index("--api-key") + 1] == ""
    assert "--tied" in flags


def test_no_two_keys_are_the_same_and_none_is_short():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert min(map(len, keys)) >= 32


# What is refused before anything is started


def refused(plan: Plan) -> Served:
    made = Server(("/no/such/program",))
    return list(made.run(plan))[-1]


def test_a_port_that_is_taken_comes_with_one_that_is_not():
    with addresses.bound("127.0.0.1", 0) as other:
        other.listen()
        port = other.getsockname()[1]
        now = refused(Plan("/models/tiny", port=port))
        assert (now.state, now.fault) == ("failed", "port")
        assert str(port) in now.sentence
        assert now.free_port != port
        addresses.bound("127.0.0.1", now.free_port).close()


def test_the_network_needs_a_key():
    now = refused(Plan("/models/tiny", host="0.0.0.0", port=0))
    assert now.fault == "key"
    assert "make a key" in now.sentence


def test_without_a_model_there_is_nothing_to_serve():
    assert refused(Plan("")).fault == "model"


def test_an_address_of_another_machine_cannot_be_had():
    now = refused(Plan("/models/tiny", host="192.0.2.1", port=0, key="k"))
    assert now.fault == "address"
    assert "192.0.2.1" in now.sentence


def test_a_program_that_cannot_be_started_is_told():
    now = refused(PLAN)
    assert (now.state, now.fault) == ("failed", "died")
    assert "could not be started" in now.sentence


def test_at_all_addresses_its_own_is_the_one_to_use(monkeypatch):
    monkeypatch.setattr(addresses, "own", lambda: "10.1.2.3")
    assert serving._reachable("http://0.0.0.0:81") == "http://10.1.2.3:81"
    assert serving._reachable("http://[::]:81") == "http://10.1.2.3:81"
    assert serving._reachable("http://127.0.0.1:81") == "http://127.0.0.1:81"

"""The engine seen from the window: not there yet, there, busy, silent, gone, and back."""

import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from fakes import FakeEngine, card, stats

from crane_app.engine.process.client import connect
from crane_app.engine.process.place import Place
from crane_app.engine.process.reach import Start, tidy
from crane_app.engine.request import Job, Request
from crane_app.errors import CraneError, DeviceLost
from crane_app.pipelines.chat import events
from crane_app.ui.connection import BUSY_LOOK_MS, LOOK_MS, UNSEEN_LOOK_MS, Connection
from crane_app.ui.worker import stop_all

ECHO = Path(__file__).parents[1] / "process" / "echo.py"


class Peerless(FakeEngine):
    """A fake engine that also tells how long it has been silent."""

    silent_s, phase = 0.0, "idle"


@pytest.fixture
def join(qtbot):
    made = []

    def joined(connect) -> Connection:
        connection = Connection(connect)
        made.append(connection)
        return connection

    yield joined
    for connection in made:
        connection.close()
    assert stop_all(20)


def test_the_window_need_not_wait_for_the_engine(qtbot, join):
    # GIVEN an engine that takes its time to come up
    up = threading.Event()
    engine = Peerless()
    connection = join(lambda: (up.wait(20), engine)[1])
    connection.start()
    connection.start()
    # WHEN something is asked of it meanwhile
    came = []
    connection.run(lambda engine: iter([engine])).yielded.connect(came.append)
    assert (connection.state, came) == ("starting", [])
    up.set()
    # THEN it is done as soon as the engine is there
    qtbot.waitUntil(lambda: came == [engine] and connection.state == "ready")


def test_what_is_to_come_after_a_worker_waits_for_it(qtbot, join):
    # GIVEN something under way
    gate, came = threading.Event(), []
    connection = join(Peerless)
    connection.start()

    def steps(name, until=None):
        if until is not None:
            assert until.wait(20)
        yield name

    first = connection.run(lambda _engine: steps("first", gate))
    second = connection.run(lambda _engine: steps("second"), after=first)
    for worker in (first, second):
        worker.yielded.connect(came.append)
    qtbot.waitUntil(lambda: connection.state == "ready")
    # WHEN it goes on THEN the other follows
    gate.set()
    qtbot.waitUntil(lambda: len(came) == 2)
    assert came == ["first", "second"]


def test_an_engine_that_cannot_start_is_told_and_can_be_tried_again(qtbot, join):
    # GIVEN an engine that fails the first time
    answers = iter([CraneError("The engine could not be started: no room."), Peerless()])

    def start():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    connection = join(start)
    failed = []
    connection.run(lambda engine: iter([1])).failed.connect(failed.append)
    connection.start()
    # THEN both the state and what was asked say why
    qtbot.waitUntil(lambda: connection.state == "failed" and bool(failed))
    assert connection.sentence == str(failed[0]) == "The engine could not be started: no room."
    # AND a second try works
    connection.restart()
    qtbot.waitUntil(lambda: connection.state == "ready")


def test_an_engine_that_nobody_sees_is_hardly_looked_at(qtbot, join):
    # GIVEN an idle engine, looked at every two seconds
    connection = join(Peerless)
    connection.start()
    qtbot.waitUntil(lambda: connection.state == "ready" and connection._timer.interval() == LOOK_MS)
    # WHEN the window is hidden THEN it is looked at once a minute
    connection.attend(False)
    connection.look()
    qtbot.waitUntil(lambda: connection._timer.interval() == UNSEEN_LOOK_MS)
    # AND again as before when it comes back, from that moment on
    connection.attend(True)
    assert connection._timer.interval() == BUSY_LOOK_MS
    qtbot.waitUntil(lambda: connection._timer.interval() == LOOK_MS)


def test_work_under_way_is_looked_at_though_nobody_sees_it(qtbot, join):
    engine = Peerless()
    engine.stats_now = stats(running=1)
    connection = join(lambda: engine)
    connection.attend(False)
    connection.start()
    qtbot.waitUntil(lambda: connection.state == "busy")
    assert connection._timer.interval() == BUSY_LOOK_MS


def test_what_is_loaded_and_how_busy_it_is_are_looked_at(qtbot, join):
    engine = Peerless()
    connection = join(lambda: engine)
    connection.start()
    qtbot.waitUntil(lambda: connection.state == "ready")
    # WHEN a model is loaded and answers
    engine.cards = {"m": card("m")}
    engine.stats_now = stats(running=1)
    connection.look()
    # THEN it is seen
    qtbot.waitUntil(lambda: connection.state == "busy" and [each.name for each in connection.cards] == ["m"])


def test_nothing_is_told_when_nothing_changed(qtbot, join):
    connection = join(Peerless)
    connection.start()
    qtbot.waitUntil(lambda: connection.state == "ready")
    told = []
    connection.changed.connect(lambda: told.append(connection.state))
    looks = []
    for _ in range(3):
        connection.look()
        looking = connection._looking
        looking.ended.connect(lambda: looks.append(1))
        qtbot.waitUntil(lambda: connection._looking is None)
    assert told == []


def test_a_silent_engine_is_told_with_what_it_was_doing(qtbot, join):
    # GIVEN an engine that answers nothing any more
    engine, answer = Peerless(), threading.Event()
    connection = join(lambda: engine)
    connection.start()
    qtbot.waitUntil(lambda: connection.state == "ready")
    engine.stats = lambda: (answer.wait(20), stats())[1]
    engine.silent_s, engine.phase = 12.3, "loading /m/big"
    # WHEN it is looked at
    connection.look()
    connection.look()
    # THEN the sentence says for how long, and what it was doing
    assert connection.state == "stalled"
    assert "12 seconds" in connection.sentence
    assert "loading /m/big" in connection.sentence
    answer.set()
    qtbot.waitUntil(lambda: connection.state == "ready")


def test_an_engine_that_is_lost_is_told(qtbot, join):
    engine = Peerless()
    connection = join(lambda: engine)
    connection.start()
    qtbot.waitUntil(lambda: connection.state == "ready")

    def gone():
        raise DeviceLost("The engine stopped.")

    engine.models = gone
    connection.look()
    qtbot.waitUntil(lambda: connection.state == "lost")
    assert (connection.sentence, connection.cards) == ("The engine stopped.", ())


def test_after_closing_what_is_asked_ends_with_a_sentence(qtbot, join):
    connection = join(Peerless)
    connection.start()
    qtbot.waitUntil(lambda: connection.state == "ready")
    connection.close()
    failed = []
    connection.run(lambda engine: iter([1])).failed.connect(failed.append)
    qtbot.waitUntil(lambda: bool(failed))
    assert "closed" in str(failed[0])


# With a real engine process


@pytest.fixture
def real(join):
    # The engine may still be writing its last words when the folder goes.
    with tempfile.TemporaryDirectory(prefix="crane-", ignore_cleanup_errors=True) as folder:
        place = Place(Path(folder, "run"))
        how = Start((sys.executable, "-P", str(ECHO)), linger=0.0, log=Path(folder, "engine.log"))
        connection = join(lambda: connect(place=place, how=how))
        yield connection
        connection.close()
        tidy(place)


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_when_the_engine_is_killed_the_window_hears_of_it_and_gets_another(qtbot, real):
    # GIVEN an answer under way in a real engine
    real.start()
    qtbot.waitUntil(lambda: real.state == "ready", timeout=20_000)
    pid = real.stats.pid
    pieces, failed = [], []
    request = Request("any", text="word " * 1000, template={"pause": 0.01})
    worker = real.run(lambda engine: events(engine.submit(request)))
    worker.yielded.connect(pieces.append)
    worker.failed.connect(failed.append)
    qtbot.waitUntil(lambda: len(pieces) > 3, timeout=20_000)
    # WHEN it is killed
    os.kill(pid, signal.SIGKILL)
    # THEN the answer ends with a sentence, and another engine is there
    qtbot.waitUntil(lambda: bool(failed), timeout=20_000)
    assert "The engine stopped" in str(failed[0])
    qtbot.waitUntil(lambda: real.state in ("ready", "busy") and real.stats.pid != pid, timeout=20_000)


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_an_engine_that_hangs_can_be_ended_from_the_window(qtbot, real):
    # GIVEN an engine that is stopped like a hung one
    real.start()
    qtbot.waitUntil(lambda: real.state == "ready", timeout=20_000)
    pid = real.stats.pid
    os.kill(pid, signal.SIGSTOP)
    # WHEN the person ends it
    real.restart()
    # THEN there is another that works
    qtbot.waitUntil(lambda: real.stats is not None and real.stats.pid != pid, timeout=20_000)
    back = []
    real.run(lambda engine: events(engine.open(Job("back", inputs="here")))).yielded.connect(back.append)
    qtbot.waitUntil(lambda: [part.value for part in back] == ["here"], timeout=20_000)

import gc
import logging
import threading
import time

import pytest
from PySide6.QtCore import QThread

from crane_app.errors import BadInput
from crane_app.ui import worker as module
from crane_app.ui.worker import Worker, sentence, stop_all


class Heard:
    """Everything a worker says."""

    def __init__(self, worker):
        self.news, self.threads = [], []
        worker.yielded.connect(lambda value: self.hear("yielded", value))
        worker.returned.connect(lambda value: self.hear("returned", value))
        worker.failed.connect(lambda error: self.hear("failed", error))

    def hear(self, what, value):
        self.news.append((what, value))
        self.threads.append(QThread.currentThread())


def gone(qtbot):
    qtbot.waitUntil(lambda: not module._running, timeout=5000)


def test_yields_and_the_return_arrive_in_order_in_the_gui_thread(qtbot, qapp):
    # GIVEN a generator that tells which thread it runs on
    ran_on = []

    def steps():
        for number in range(100):
            ran_on.append(threading.current_thread())
            yield number
        return "end"

    worker = Worker(steps())
    heard = Heard(worker)
    # WHEN it runs
    worker.start()
    gone(qtbot)
    # THEN all its news came in order, to the GUI thread, from another
    assert heard.news == [("yielded", number) for number in range(100)] + [("returned", "end")]
    assert set(heard.threads) == {qapp.thread()}
    assert threading.main_thread() not in ran_on


def test_cancel_closes_the_generator_at_its_next_yield_and_silences_it(qtbot):
    # GIVEN a generator in the middle of a step, with an earlier yield not yet delivered
    inside, go_on, closed = threading.Event(), threading.Event(), []

    def steps():
        try:
            yield 1
            inside.set()
            assert go_on.wait(5)
            yield 2
            yield 3
        finally:
            closed.append(threading.current_thread())

    worker = Worker(steps())
    heard = Heard(worker)
    worker.start()
    assert inside.wait(5)
    # WHEN it is cancelled and the step goes on
    worker.cancel()
    go_on.set()
    gone(qtbot)
    # THEN it was closed on its own thread, and nothing was said, not even the first yield
    assert [thread.name for thread in closed] == ["worker"]
    assert heard.news == []


def test_a_worker_cancelled_by_its_own_news_says_no_more(qtbot):
    # GIVEN a worker that is cancelled on its second yield
    worker = Worker(iter_steps(50))
    heard = Heard(worker)
    worker.yielded.connect(lambda value: worker.cancel() if value == 1 else None)
    # WHEN it runs
    worker.start()
    gone(qtbot)
    # THEN the second is the last that is heard
    assert heard.news == [("yielded", 0), ("yielded", 1)]


def test_a_worker_cancelled_before_its_start_never_steps(qtbot):
    # GIVEN a generator that tells when it starts
    started = []

    def steps():
        started.append(True)
        yield

    worker = Worker(steps())
    heard = Heard(worker)
    # WHEN it is cancelled first
    worker.cancel()
    worker.start()
    gone(qtbot)
    # THEN nothing happened
    assert (started, heard.news) == ([], [])


@pytest.mark.parametrize("error", [BadInput("The file is empty."), ValueError("x"), MemoryError(), SystemExit(1)])
def test_an_error_arrives_and_only_an_unexpected_one_is_logged(qtbot, caplog, error):
    # GIVEN a generator that fails after its first yield
    def steps():
        yield 1
        raise error

    worker = Worker(steps())
    heard = Heard(worker)
    # WHEN it runs
    with caplog.at_level(logging.ERROR):
        worker.start()
        gone(qtbot)
    # THEN the error is told once; the traceback of one that is not ours is in the log
    assert heard.news == [("yielded", 1), ("failed", error)]
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == (0 if isinstance(error, BadInput) else 1)


def test_sentences_of_ours_are_shown_and_others_are_not():
    assert sentence(BadInput("The file is empty.")) == "The file is empty."
    assert "secret" not in sentence(ValueError("/home/me/secret"))
    assert "ValueError" in sentence(ValueError("x"))


def test_a_worker_waits_for_the_one_before_it_even_when_that_is_cancelled(qtbot):
    # GIVEN a first worker that hangs in its step, and two more behind it
    inside, go_on, order = threading.Event(), threading.Event(), []

    def slow():
        inside.set()
        assert go_on.wait(5)
        order.append("first ends")
        yield

    def quick(name):
        order.append(name)
        yield

    first = Worker(slow())
    second = Worker(quick("second"), after=first)
    third = Worker(quick("third"), after=second)
    first.start()
    assert inside.wait(5)
    # WHEN the first two are cancelled and all are started
    first.cancel()
    second.cancel()
    second.start()
    third.start()
    time.sleep(0.05)
    assert order == []
    go_on.set()
    gone(qtbot)
    # THEN the third came after the first was over
    assert order == ["first ends", "third"]


def test_stopping_all_is_bounded_and_tells_when_one_hangs(qtbot, caplog):
    # GIVEN a worker that hangs and whose maker forgot it
    go_on = threading.Event()

    def steps():
        go_on.wait(10)
        yield

    Worker(steps()).start()
    gc.collect()
    # WHEN all are stopped
    begun = time.monotonic()
    stopped = stop_all(0.1)
    # THEN it took no longer than allowed, and later everything ends quietly
    assert not stopped
    assert time.monotonic() - begun < 1
    assert "go_on.wait(10)" in caplog.text
    go_on.set()
    assert stop_all(5)
    gone(qtbot)


def test_a_hundred_workers_leave_nothing_behind(qtbot):
    before = threading.active_count()
    for _ in range(100):
        worker = Worker(iter_steps(3))
        worker.start()
        worker.cancel()
    gone(qtbot)
    assert threading.active_count() <= before


def iter_steps(count):
    yield from range(count)

"""Widgets are destroyed by the window's thread alone."""

import gc
import threading
from typing import ClassVar

import pytest
from PySide6.QtWidgets import QWidget

from crane_app.ui.garbage import collect, collected_here
from crane_app.ui.worker import Worker


class Circle(QWidget):
    """Lives until a search for cycles finds it; notes the thread that does."""

    ends: ClassVar[list[threading.Thread]] = []

    def __init__(self):
        super().__init__()
        self.me = self

    def __del__(self):
        self.ends.append(threading.current_thread())


@pytest.fixture
def ends(monkeypatch):
    monkeypatch.setattr(Circle, "ends", [])
    return Circle.ends


def litter(rounds=40):
    """A worker that makes far more than any search waits for."""
    for _ in range(rounds):
        kept = [[] for _ in range(1000)]
        kept.append(kept)
        yield


def test_a_widget_is_never_destroyed_by_a_worker(qtbot, ends):
    # GIVEN a widget that nobody needs any more
    Circle()
    # WHEN a worker makes so much that Python would look for garbage
    worker = Worker(litter())
    worker.start()
    assert worker.wait(10)
    # THEN it did not, there
    assert ends == []
    # WHEN the window has nothing to do THEN the widget is found by its own thread
    qtbot.waitUntil(lambda: bool(ends), timeout=10_000)
    assert ends == [threading.main_thread()]


def test_afterwards_python_looks_by_itself_again():
    gc.enable()
    with collected_here():
        assert not gc.isenabled()
    try:
        assert gc.isenabled()
    finally:
        gc.disable()  # as it is during these tests


@pytest.mark.parametrize(("counts", "searched"), [((5_000, 10, 10), []), ((5_001, 0, 0), [0]), ((6_000, 11, 11), [2])])
def test_the_older_is_looked_at_less_often(monkeypatch, counts, searched):
    found = []
    monkeypatch.setattr(gc, "get_count", lambda: counts)
    monkeypatch.setattr(gc, "collect", found.append)
    collect()
    assert found == searched

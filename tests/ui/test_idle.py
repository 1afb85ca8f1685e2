"""While nothing happens nothing runs: no timer is left, in no view."""

import pytest
from PySide6.QtCore import QAbstractEventDispatcher, QObject
from PySide6.QtWidgets import QApplication

RESTING = (
    "chat, no model",
    "chat, empty",
    "chat, in use",
    "pictures, in use",
    "pictures, many",
    "dictate, in use",
    "read aloud, empty",
    "models, in use",
    "server, off",
    "server, on",
    "settings",
)


@pytest.fixture
def steady_cursor(qapp):
    """Where a person writes, the cursor blinks; that is all that may move."""
    before = qapp.cursorFlashTime()
    qapp.setCursorFlashTime(0)
    yield
    qapp.setCursorFlashTime(before)


def ticking(*roots: QObject) -> list[str]:
    """The objects below `roots` that have a timer running, once or again and again."""
    dispatcher = QAbstractEventDispatcher.instance()
    every = [each for root in roots for each in (root, *root.findChildren(QObject))]
    return [
        f"{type(each).__name__} in {type(each.parent()).__name__}"
        for each in every
        if dispatcher.registeredTimers(each)
    ]


def test_a_timer_that_runs_is_found(qtbot):
    # GIVEN two objects of which one has a timer
    root = QObject()
    busy, _resting = QObject(root), QObject(root)
    busy.startTimer(60_000)
    # THEN one is found
    assert len(ticking(root)) == 1


@pytest.mark.parametrize("scene", RESTING)
def test_no_timer_runs_while_nothing_happens(qtbot, enter, stage, steady_cursor, scene):
    # GIVEN a view in which nothing is under way
    window = enter(scene)
    # WHEN all views exist
    for name in window._makers:
        window.view(name)

    # THEN soon no timer runs any more
    def still():
        assert ticking(QApplication.instance(), window, stage.connection, stage.preferences, stage.shelf) == []

    qtbot.waitUntil(still, timeout=10_000)

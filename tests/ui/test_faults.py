import logging
import sys
import threading

import pytest
from PySide6.QtCore import QtMsgType, qWarning

from crane_app.errors import CraneError
from crane_app.ui import faults


@pytest.fixture
def caught():
    """Faults that are caught, and the sentences told of them."""
    made = faults.Faults()
    told: list[str] = []
    made.told.connect(told.append)
    with made.caught():
        yield told


def raised(error: Exception) -> tuple:
    try:
        raise error
    except Exception:
        return sys.exc_info()


def test_an_exception_of_a_slot_becomes_a_sentence(caught, caplog):
    # WHEN a slot raises
    sys.excepthook(*raised(CraneError("The disk is full. Make room.")))
    # THEN the sentence is told and the log has the rest
    assert caught == ["The disk is full. Make room."]
    assert "nobody caught" in caplog.text


def test_an_unexpected_one_is_told_without_its_details(caught, caplog):
    sys.excepthook(*raised(ValueError("secret")))
    assert len(caught) == 1
    assert "ValueError" in caught[0]
    assert "secret" not in caught[0]


def test_an_exception_of_a_thread_is_told_in_ours(qtbot, caught, caplog):
    # GIVEN a thread that raises
    def fail():
        raise CraneError("The microphone is gone.")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    # THEN the sentence comes once the loop runs
    qtbot.waitUntil(lambda: caught == ["The microphone is gone."])


def test_ctrl_c_is_no_fault(caught):
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert caught == []


def test_what_qt_says_goes_to_the_log(caught, caplog):
    qWarning("a layout is odd")
    assert ("qt", logging.WARNING, "a layout is odd") in caplog.record_tuples


def test_every_kind_of_message_has_a_level():
    assert set(faults.LEVELS) == set(QtMsgType)


def test_hooks_are_as_before_afterwards():
    before = sys.excepthook, threading.excepthook
    with faults.Faults().caught():
        assert (sys.excepthook, threading.excepthook) != before
    assert (sys.excepthook, threading.excepthook) == before


def test_a_windowed_build_without_a_terminal_can_print(monkeypatch):
    # GIVEN no stdout and no stderr
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    # WHEN they are given THEN printing works
    faults.give_streams()
    print("into the void")
    print("too", file=sys.stderr)
    sys.stdout.close()
    sys.stderr.close()


def test_warnings_are_kept_in_a_file(monkeypatch, tmp_path):
    # GIVEN a log
    monkeypatch.setattr(faults, "log_path", lambda: tmp_path / "logs" / "window.log")
    root = logging.getLogger()
    before = root.handlers[:], root.level
    faults.keep_log()
    try:
        logging.getLogger("crane_app").warning("the disk is slow")
        assert "the disk is slow" in (tmp_path / "logs" / "window.log").read_text()
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = before[0]
        root.setLevel(before[1])

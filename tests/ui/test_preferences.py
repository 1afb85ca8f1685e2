"""The settings as the window has them: asked, changed, told, written."""

from __future__ import annotations

import json
import threading

import pytest

from crane_app import settings
from crane_app.errors import BadInput, CraneError
from crane_app.settings import SETTINGS, variable
from crane_app.ui.preferences import Preferences, starting_options
from crane_app.ui.worker import stop_all


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for setting in SETTINGS:
        monkeypatch.delenv(variable(setting), raising=False)
    yield
    assert stop_all(10)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "settings.json"


def values(path):
    return json.loads(path.read_text("utf-8"))["values"]


def test_a_value_is_told_and_written_and_there_at_the_next_start(qtbot, path):
    # GIVEN preferences without a file
    preferences = Preferences(path)
    assert preferences.get("text-size") == 100
    # WHEN a value is set
    with qtbot.waitSignal(preferences.changed) as told:
        preferences.set("text-size", 120)
    # THEN it counts at once, and is on the disk a moment later
    assert told.args == ["text-size"]
    assert preferences.get("text-size") == 120
    qtbot.waitUntil(path.exists)
    assert values(path) == {"text-size": 120}
    assert Preferences(path).get("text-size") == 120


def test_many_changes_are_written_together_and_off_the_gui_thread(qtbot, path, monkeypatch):
    # GIVEN a record of what is written where
    written, save = [], settings.save
    monkeypatch.setattr(
        settings, "save", lambda *given: (written.append((threading.current_thread(), dict(given[1]))), save(*given))
    )
    preferences = Preferences(path)
    # WHEN a slider is drawn and something else is changed
    for size in range(101, 151):
        preferences.set("text-size", size)
    preferences.set("appearance", "dark")
    qtbot.waitUntil(path.exists)
    # THEN the file was written once, by another thread
    ((thread, changes),) = written
    assert changes == {"text-size": 150, "appearance": "dark"}
    assert thread is not threading.main_thread()


def test_what_is_unsaved_is_written_at_the_end(path):
    preferences = Preferences(path)
    preferences.set("text-size", 120)
    preferences.flush()
    assert values(path) == {"text-size": 120}


def test_the_end_waits_for_what_is_being_written(qtbot, path, monkeypatch):
    # GIVEN a disk that takes its time
    gate, save = threading.Event(), settings.save
    monkeypatch.setattr(settings, "save", lambda *given: (gate.wait(10), save(*given)))
    preferences = Preferences(path)
    preferences.set("text-size", 120)
    qtbot.waitUntil(lambda: preferences._writer is not None)
    # WHEN another value is set and the program ends
    preferences.set("appearance", "dark")
    gate.set()
    preferences.flush()
    # THEN both are on the disk
    assert values(path) == {"text-size": 120, "appearance": "dark"}


def test_the_same_value_again_is_no_change(qtbot, path):
    preferences = Preferences(path)
    with qtbot.assertNotEmitted(preferences.changed):
        preferences.set("text-size", 100)
    preferences.flush()
    assert not path.exists()


def test_reset_goes_back_to_the_default(path):
    preferences = Preferences(path)
    preferences.set("text-size", 120)
    assert not preferences.is_default("text-size")
    preferences.reset("text-size")
    assert preferences.is_default("text-size")
    preferences.flush()
    assert values(path) == {}


def test_a_value_that_cannot_be_is_refused_and_changes_nothing(qtbot, path):
    preferences = Preferences(path)
    with qtbot.assertNotEmitted(preferences.changed), pytest.raises(BadInput, match="from 80 to 200"):
        preferences.set("text-size", 300)
    assert preferences.get("text-size") == 100


def test_a_variable_stands_above_the_file_and_says_so(qtbot, path, monkeypatch):
    # GIVEN a file and a variable that says something else
    settings.save(path, {"text-size": 120})
    monkeypatch.setenv("CRANE_TEXT_SIZE", "150")
    preferences = Preferences(path)
    # THEN the variable holds, and the page can say why
    assert preferences.get("text-size") == 150
    assert "CRANE_TEXT_SIZE" in preferences.overruled("text-size")
    assert preferences.overruled("appearance") == ""
    # WHEN it is changed all the same
    with qtbot.assertNotEmitted(preferences.changed):
        preferences.set("text-size", 130)
    preferences.flush()
    # THEN the file has it for a start without the variable
    assert preferences.get("text-size") == 150
    assert values(path) == {"text-size": 130}


def test_a_bad_variable_is_told_and_does_not_count(path, monkeypatch):
    monkeypatch.setenv("CRANE_TEXT_SIZE", "huge")
    preferences = Preferences(path)
    assert preferences.get("text-size") == 100
    assert preferences.overruled("text-size") == ""
    assert "CRANE_TEXT_SIZE" in preferences.notice
    assert "'huge'" in preferences.notice


def test_a_damaged_file_is_kept_aside_and_told(path):
    path.write_bytes(b'{"version": 1, "val')
    preferences = Preferences(path)
    (aside,) = path.parent.glob("settings.damaged-*.json")
    assert str(aside) in preferences.notice
    assert preferences.get("text-size") == 100
    assert Preferences(path).notice == ""


def test_a_bad_value_is_told_and_the_others_count(path):
    path.write_text('{"version": 1, "values": {"text-size": 900, "appearance": "dark"}}')
    preferences = Preferences(path)
    assert "text-size is '900'" in preferences.notice
    assert preferences.get("text-size") == 100
    assert preferences.get("appearance") == "dark"


def test_a_disk_that_refuses_is_told_and_the_next_change_tries_again(qtbot, path, monkeypatch):
    # GIVEN a disk that is full
    save = settings.save

    def full(*_given):
        raise CraneError("The disk is full.")

    monkeypatch.setattr(settings, "save", full)
    preferences = Preferences(path)
    # WHEN a value is set
    with qtbot.waitSignal(preferences.problem) as told:
        preferences.set("text-size", 120)
    # THEN it counts in this window, and why it is not kept is told
    assert told.args == ["The disk is full."]
    assert preferences.get("text-size") == 120
    # WHEN there is room again and another value is set
    monkeypatch.setattr(settings, "save", save)
    preferences.set("appearance", "dark")
    qtbot.waitUntil(path.exists)
    # THEN both are written
    assert values(path) == {"text-size": 120, "appearance": "dark"}


def test_a_disk_that_refuses_at_the_end_is_told(qtbot, path, monkeypatch):
    preferences = Preferences(path)
    preferences.set("text-size", 120)
    path.mkdir()
    with qtbot.waitSignal(preferences.problem) as told:
        preferences.flush()
    assert str(path) in told.args[0]


def test_a_new_conversation_begins_with_what_was_set(path):
    preferences = Preferences(path)
    assert starting_options(preferences) == {}
    preferences.set("temperature", 0.0)
    preferences.set("max-tokens", 500)
    preferences.set("think", "no")
    assert starting_options(preferences) == {"temperature": 0.0, "max_tokens": 500, "think": False}
    preferences.flush()

"""The models that the window knows of."""

import os
import threading

import pytest
from fakes import FakePreferences, on_disk

from crane_app.ui.models.shelf import Shelf, folders, keep_folders
from crane_app.ui.worker import stop_all
from tests.library.test_models_on_disk import write


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    yield
    assert stop_all(10)


def names(shelf) -> list[str]:
    return [entry.name for entry in shelf.entries]


def test_it_looks_again_when_a_folder_is_added(qtbot, tmp_path):
    preferences = FakePreferences()
    shelf = Shelf(preferences)
    assert shelf.entries == ()
    # WHEN folders are added, one of them twice
    one, two = write(tmp_path / "b"), write(tmp_path / "a")
    keep_folders(preferences, [one, two, one])
    # THEN their models are there, by name
    qtbot.waitUntil(lambda: names(shelf) == ["a", "b"])
    assert preferences.get("model-folders") == f"{one}{os.pathsep}{two}"
    assert folders(preferences) == [one, two]


def test_the_chosen_model_is_there_wherever_it_lies(qtbot, tmp_path):
    preferences = FakePreferences()
    shelf = Shelf(preferences)
    preferences.set("model", str(write(tmp_path / "mine")))
    qtbot.waitUntil(lambda: names(shelf) == ["mine"])
    # AND if it is gone, that is told
    preferences.set("model", str(tmp_path / "gone"))
    qtbot.waitUntil(lambda: names(shelf) == ["gone"])
    assert shelf.entries[0].problem == "There is no such folder any more."


def test_asked_while_looking_it_looks_once_more(qtbot):
    gate, looks = threading.Semaphore(0), []

    def find(_folders):
        assert gate.acquire(timeout=20)
        looks.append(len(looks))
        return [on_disk(f"look {len(looks)}")]

    shelf = Shelf(FakePreferences(), find)
    for _ in range(5):
        shelf.rescan()
    gate.release(10)
    qtbot.waitUntil(lambda: names(shelf) == ["look 2"])
    assert stop_all(10)
    assert looks == [0, 1]


def test_a_look_that_fails_leaves_what_was_known(qtbot):
    results = [[on_disk("a")], OSError("broken")]

    def find(_folders):
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    shelf = Shelf(FakePreferences(), find)
    shelf.rescan()
    qtbot.waitUntil(lambda: names(shelf) == ["a"])
    with qtbot.waitSignal(shelf.changed):
        shelf.rescan()
    assert names(shelf) == ["a"]

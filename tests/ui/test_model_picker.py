"""The button that says which model is in use, and its menu."""

from pathlib import Path

import pytest
from fakes import card, on_disk
from PySide6.QtCore import Qt, QTimer

from crane_app.ui import theme
from crane_app.ui.models.picker import ModelPicker
from tests.library.test_models_on_disk import write

QWEN = "/models/Qwen3-0.6B"


@pytest.fixture
def picker(qtbot, connection, preferences, shelf):
    made = ModelPicker(connection, preferences, shelf)
    qtbot.addWidget(made)
    made.show()
    return made


def rows(picker) -> list[str]:
    picker.menu().aboutToShow.emit()
    return [action.text() for action in picker.menu().actions() if not action.isSeparator()]


def row(picker, begin: str):
    picker.menu().aboutToShow.emit()
    return next(action for action in picker.menu().actions() if action.text().startswith(begin))


def test_without_a_model_it_invites_to_choose_one(picker):
    assert picker.text() == "Choose a model"
    assert rows(picker) == ["There is no chat model on this computer yet", "Choose a folder…", "More models…"]
    assert not row(picker, "There is no").isEnabled()


def test_it_lists_the_chat_models_with_size_and_whether_they_fit(picker, shelf, monkeypatch):
    # GIVEN a computer of 8 GB and models of several sizes
    monkeypatch.setattr(picker, "_memory", 8 * 10**9)
    shelf.put(
        on_disk("small", nbytes=10**9, cache=0),
        on_disk("middle", nbytes=5 * 10**9, cache=0),
        on_disk("huge & odd\tname", nbytes=61 * 10**9, cache=0),
        on_disk("broken", problem="It is not complete."),
        on_disk("moonshine", job="dictate"),
    )
    # THEN each says so, and those for other jobs are not there
    assert rows(picker)[:4] == [
        "small\t1.0 GB · fits well",
        "middle\t5.0 GB · fits tightly",
        "huge && odd name\t61.0 GB · too large",
        "broken\t1.5 GB · cannot be loaded",
    ]
    assert not row(picker, "broken").isEnabled()
    assert row(picker, "huge").isEnabled()  # a person may know better


def test_a_choice_is_kept_and_told(qtbot, picker, preferences, shelf):
    shelf.put(on_disk())
    # WHEN a model is taken from the menu
    with qtbot.waitSignal(picker.chosen) as told:
        row(picker, "Qwen3").trigger()
    # THEN the preference has it, and the button says it is not loaded
    assert told.args == [QWEN]
    assert preferences.get("model") == QWEN
    assert picker.text() == "Qwen3-0.6B · not loaded"
    assert row(picker, "Qwen3").isChecked()


def test_the_state_follows_the_engine(picker, connection, preferences, shelf):
    shelf.put(on_disk())
    preferences.set("model", QWEN)
    assert picker.state() == "absent"
    # WHEN the chat loads it
    picker.show_loading(40)
    assert picker.text() == "Qwen3-0.6B · loading 40 %"
    # AND it is there
    picker.show_loading(None)
    connection.show(card())
    assert picker.text() == "Qwen3-0.6B · ready"
    # AND the engine has it no longer
    connection.show()
    assert picker.text() == "Qwen3-0.6B · not loaded"


def test_a_model_that_cannot_be_loaded_says_why(picker, preferences, shelf):
    preferences.set("model", QWEN)
    shelf.put(on_disk(problem="It is not complete: a file is missing."))
    assert picker.text() == "Qwen3-0.6B · problem"
    assert "It is not complete: a file is missing." in picker.toolTip()


def test_a_load_that_failed_is_a_problem(qtbot, picker, connection, preferences, shelf):
    from crane_app.errors import BadCheckpoint
    from crane_app.ui.models.loads import Loads

    preferences.set("model", QWEN)
    connection.engine.refusal = BadCheckpoint("model.safetensors is truncated.")
    Loads.of(connection, preferences).load(QWEN)
    assert picker.state() == "loading"
    qtbot.waitUntil(lambda: picker.state() == "problem")
    assert "model.safetensors is truncated." in picker.toolTip()


def test_a_long_name_is_shortened_in_the_middle(picker, preferences):
    preferences.set("model", "/models/" + "a-long-name-" * 20 + "end")
    assert len(picker.text()) < 60
    assert "…" in picker.text()
    assert picker.text().endswith("end · not loaded")
    assert "end, not loaded" in picker.accessibleDescription()


@pytest.mark.qt_log_ignore("This plugin does not support", extend=True)
def test_it_opens_from_the_keyboard(qtbot, picker, shelf):
    shelf.put(on_disk())
    picker.setFocus()
    seen = []
    picker.menu().aboutToShow.connect(lambda: seen.append(True))
    QTimer.singleShot(0, picker.menu().close)
    qtbot.keyClick(picker, Qt.Key.Key_Space)
    assert seen


def test_more_models_are_asked_for(qtbot, picker):
    with qtbot.waitSignal(picker.wanted):
        row(picker, "More").trigger()


def test_a_folder_with_one_model_is_used_at_once(qtbot, picker, preferences, tmp_path):
    folder = write(tmp_path / "a 🐦 model")
    with qtbot.waitSignal(picker.chosen):
        picker.take(str(tmp_path))
    assert preferences.get("model") == str(folder.resolve())
    assert preferences.get("model-folders") == str(tmp_path.resolve())


def test_of_a_folder_with_several_none_is_guessed(qtbot, picker, preferences, tmp_path):
    write(tmp_path / "one")
    write(tmp_path / "two")
    with qtbot.waitSignal(picker.said) as told:
        picker.take(str(tmp_path))
    assert "2 chat models" in told.args[0]
    assert preferences.get("model") is None


def test_a_folder_without_a_model_is_a_sentence(qtbot, picker, tmp_path):
    with qtbot.waitSignal(picker.said) as told:
        picker.take(str(tmp_path))
    assert told.args[0].startswith("There is no model in")


def test_the_dialog_is_opened_once(picker):
    picker.choose_folder()
    dialog = picker._dialog
    picker.choose_folder()
    assert picker._dialog is dialog
    dialog.reject()
    assert picker._dialog is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_dot_is_drawn_anew_in_another_scheme(qtbot, picker, preferences, scheme):
    preferences.set("model", str(Path(QWEN)))
    theme.set_scheme(scheme)
    drawn = picker.icon().pixmap(picker.iconSize()).toImage()
    assert drawn.pixelColor(6, 6).name() == theme.colours().muted

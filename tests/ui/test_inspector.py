"""How a conversation is answered: what is set is told, what is not stays the model's own."""

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication

from crane_app.engine.defaults import RANGES
from crane_app.engine.request import Asked
from crane_app.pipelines.conversation import asked_of
from crane_app.ui.chat.inspector import KNOBS, Inspector


@pytest.fixture
def panel(qtbot):
    made = Inspector()
    qtbot.addWidget(made)
    made.resize(280, 700)
    made.show()
    made.told_texts, made.choices = [], []
    made.told.connect(made.told_texts.append)
    made.chosen.connect(made.choices.append)
    return made


def test_nothing_set_is_nothing_asked(panel):
    panel.show_values("", {})
    assert panel.options() == {}
    assert asked_of(panel.options()) == Asked()
    assert panel.boxes["temperature"].text() == "The model's own"


def test_what_is_set_comes_back_as_it_was(panel):
    options = {"temperature": 0.0, "top_p": 0.9, "top_k": 40, "max_tokens": 1, "seed": 42, "think": False}
    panel.show_values("Be brief.", options)
    assert panel.options() == options
    assert panel.system.toPlainText() == "Be brief."
    assert panel.choices == []


def test_a_change_is_told_once_a_moment_later(qtbot, panel):
    panel.boxes["temperature"].setValue(0.5)
    panel.seed.setText("7")
    panel.think.setCurrentIndex(1)
    panel.system.setPlainText("Rhyme.")
    qtbot.waitUntil(lambda: bool(panel.choices))
    assert panel.choices == [{"temperature": 0.5, "seed": 7, "think": True}]
    assert panel.told_texts == ["Rhyme."]


def test_reset_leaves_everything_to_the_model_but_the_system_text(qtbot, panel):
    panel.show_values("Be brief.", {"temperature": 0.5, "think": True})
    panel.reset()
    assert panel.options() == {}
    assert panel.system.toPlainText() == "Be brief."


@pytest.mark.parametrize("seed", ["", "x", "-1", "1.5", "٣"])
def test_a_seed_that_is_no_number_is_none(panel, seed):
    panel.seed.setText(seed)
    assert panel.options().get("seed") in (None, 3)


def test_every_value_it_can_take_is_one_the_engine_takes():
    for knob in KNOBS:
        low, high = RANGES[knob.name]
        assert low <= knob.low <= knob.high <= high, knob.name


def test_the_wheel_scrolls_the_panel_and_changes_no_number_in_passing(panel):
    box = panel.boxes["top_k"]
    before = box.value()
    panel.system.setFocus()
    at = QPointF(box.rect().center())
    down = QPoint(0, -120)
    none = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
    wheel = QWheelEvent(at, box.mapToGlobal(at), down, down, *none, Qt.ScrollPhase.NoScrollPhase, False)
    QApplication.sendEvent(box, wheel)
    assert box.value() == before

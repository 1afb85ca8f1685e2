"""A button that is held ends with its release; one that is pressed shortly goes on until the next press."""

import pytest
from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QApplication, QLineEdit, QWidget

from crane_app.ui.dictate.hold import HOLD_S, Hold, HoldKey

SHORT, LONG = HOLD_S / 2, HOLD_S * 2


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def hold(clock):
    made = Hold(clock)
    made.news = []
    made.began.connect(lambda: made.news.append("began"))
    made.ended.connect(lambda: made.news.append("ended"))
    return made


def press(hold, clock, seconds):
    hold.down()
    clock.now += seconds
    hold.up()


def test_held_it_lasts_as_long_as_it_is_held(hold, clock):
    press(hold, clock, LONG)
    assert hold.news == ["began", "ended"]


def test_pressed_shortly_it_goes_on_until_the_next_press(hold, clock):
    press(hold, clock, SHORT)
    assert (hold.news, hold.latched) == (["began"], True)
    hold.down()
    assert hold.news == ["began", "ended"]
    hold.up()
    assert hold.news == ["began", "ended"]
    press(hold, clock, SHORT)
    assert hold.news == ["began", "ended", "began"]


def test_a_second_down_without_an_up_is_nothing(hold, clock):
    hold.down()
    hold.down()
    clock.now += LONG
    hold.up()
    hold.up()
    assert hold.news == ["began", "ended"]


def test_a_release_that_will_never_be_seen_ends_what_is_held(hold, clock):
    hold.down()
    hold.let_go()
    hold.let_go()
    assert hold.news == ["began", "ended"]
    hold.up()
    assert hold.news == ["began", "ended"]


def test_what_is_latched_outlasts_the_window(hold, clock):
    press(hold, clock, SHORT)
    hold.let_go()
    assert hold.news == ["began"]


def test_what_ended_for_another_reason_begins_anew_with_the_next_press(hold, clock):
    press(hold, clock, SHORT)
    hold.forget()
    press(hold, clock, LONG)
    assert hold.news == ["began", "began", "ended"]


@pytest.fixture
def window(qtbot, hold):
    made = QWidget()
    made.field = QLineEdit(made)
    qtbot.addWidget(made)
    made.keys = HoldKey(hold, Qt.Key.Key_F9)
    made.keys.watch(made)
    made.show()
    return made


def key(window, type, key=Qt.Key.Key_F9, repeated=False):
    event = QKeyEvent(type, key, Qt.KeyboardModifier.NoModifier, "", repeated)
    QApplication.sendEvent(window.field, event)


def test_the_key_works_wherever_the_focus_is(window, hold, clock):
    key(window, QEvent.Type.KeyPress)
    clock.now += LONG
    key(window, QEvent.Type.KeyRelease)
    assert hold.news == ["began", "ended"]


def test_a_key_that_repeats_itself_is_one_press(window, hold, clock):
    key(window, QEvent.Type.KeyPress)
    for _ in range(5):
        key(window, QEvent.Type.KeyRelease, repeated=True)
        key(window, QEvent.Type.KeyPress, repeated=True)
        clock.now += LONG
    assert hold.news == ["began"]
    key(window, QEvent.Type.KeyRelease)
    assert hold.news == ["began", "ended"]


def test_a_window_that_loses_the_keyboard_ends_what_is_held(window, hold):
    key(window, QEvent.Type.KeyPress)
    QApplication.sendEvent(window, QEvent(QEvent.Type.WindowDeactivate))
    assert hold.news == ["began", "ended"]


def test_other_keys_and_other_windows_are_nothing(window, hold):
    key(window, QEvent.Type.KeyPress, Qt.Key.Key_F8)
    window.keys.watch(None)
    key(window, QEvent.Type.KeyPress)
    assert hold.news == []

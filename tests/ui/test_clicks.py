"""Impatient hands: every button twice, and every button while something is under way. A table of scenes and buttons."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QAbstractButton, QApplication, QDialog, QMenu, QToolButton
from scenes import SCENES, settled
from walk import told


@pytest.fixture(autouse=True)
def kept_inside(monkeypatch):
    """No link and no folder is opened outside the window."""
    opened = []
    monkeypatch.setattr("PySide6.QtGui.QDesktopServices.openUrl", lambda url: opened.append(url) or True)
    return opened


def buttons(window) -> list[QAbstractButton]:
    """Those a hand can press, but for what belongs to Qt itself."""
    every = window.findChildren(QAbstractButton)
    return [each for each in every if each.isVisible() and each.isEnabled() and not each.objectName().startswith("qt_")]


def opens_menu(button: QAbstractButton) -> bool:
    """A press would wait in the menu's own loop for a choice."""
    instant = QToolButton.ToolButtonPopupMode.InstantPopup
    return isinstance(button, QToolButton) and (button.menu() is not None or button.popupMode() is instant)


def click_twice(qtbot, button: QAbstractButton) -> None:
    """As fast as two clicks can come: the second is that of a double click, if the button is still there."""
    where = button.rect().center()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton, pos=where)
    if alive(button) and button.isVisible() and button.isEnabled() and not QApplication.activePopupWidget():
        qtbot.mouseDClick(button, Qt.MouseButton.LeftButton, pos=where)


def alive(widget) -> bool:
    import shiboken6

    return shiboken6.isValid(widget)


def dialogs(window) -> list[QDialog]:
    return [each for each in window.findChildren(QDialog) if each.isVisible()]


def close_all(window) -> None:
    while isinstance(QApplication.activePopupWidget(), QMenu):
        QApplication.activePopupWidget().close()
    for dialog in dialogs(window):
        dialog.reject()


def words_kept(stage) -> set[str]:
    """All questions and answers of all conversations, seen or not."""
    return {turn.text for chat in stage.chats.chats() for turn in stage.chats.tree(chat.id)}


def press_each(qtbot, stage, window, name: str) -> None:
    """Every button that is there, and those that come, each once in its turn."""
    pressed: set[str] = set()
    for _ in range(60):
        button = next((each for each in buttons(window) if _key(each) not in pressed and not opens_menu(each)), None)
        if button is None:
            return
        pressed.add(_key(button))
        click_twice(qtbot, button)
        assert len(dialogs(window)) <= 1, f"{name}: two dialogs after {button}"
        close_all(window)
        assert stage.connection.engine.most_answering <= 1
        assert stage.reader.most_at_once <= 1
        if SCENES[name].view != window.current:
            window.show_view(SCENES[name].view)


def _key(button: QAbstractButton) -> str:
    return f"{told(button)} {button.text()}"


@pytest.mark.parametrize("name", SCENES)
def test_two_clicks_on_every_button_do_no_harm(qtbot, stage, enter, name):
    # GIVEN a view
    window = enter(name)
    before = words_kept(stage)
    # WHEN every button is clicked and clicked again at once
    press_each(qtbot, stage, window, name)
    stage.connection.engine.let(10_000)
    stage.reader.let(10_000)
    # THEN one thing was done at a time, the window is there, and nothing that was said is lost
    assert window.isVisible()
    assert not dialogs(window)
    assert before - words_kept(stage) == set() or _can_be_undone(window)


@pytest.mark.parametrize("name", ["chat, answering", "pictures, reading"])
def test_clicks_while_something_is_under_way_do_no_harm(qtbot, stage, enter, name):
    # GIVEN an answer, or a page, that takes long
    window = enter(name)
    before = words_kept(stage)
    # WHEN every button is pressed meanwhile, other views too
    press_each(qtbot, stage, window, name)
    for other in window.go_actions.values():
        other.trigger()
        other.trigger()
    # THEN what was under way comes to its end once it may
    stage.connection.engine.held = stage.reader.held = False
    stage.connection.engine.let(10_000)
    stage.reader.let(10_000)
    qtbot.waitUntil(lambda: settled(stage) and stage.connection.engine.at_once == 0, timeout=10_000)
    assert window.isVisible()
    assert before - words_kept(stage) == set() or _can_be_undone(window)


@pytest.mark.parametrize("state", ["starting", "stalled", "lost", "failed"])
@pytest.mark.parametrize("name", ["chat, in use", "models, in use", "settings"])
def test_clicks_while_there_is_no_engine_do_no_harm(qtbot, stage, enter, name, state):
    # GIVEN an engine in trouble
    window = enter(name)
    stage.connection.become(state)
    # WHEN every button is pressed, Restart among them
    press_each(qtbot, stage, window, name)
    # THEN the window is there, and when the engine is, things go on
    stage.connection.become("ready")
    assert window.isVisible()


def _can_be_undone(window) -> bool:
    """A button or a command offers to bring back what was deleted."""
    return any("undo" in button.accessibleName().casefold() for button in buttons(window))

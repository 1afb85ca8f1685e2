"""A walk over every control of every view, in its states: named, reachable, legible, whole."""

import pytest
from pseudo import Pseudo
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QApplication, QLineEdit, QWidget
from scenes import SCENES
from walk import backwards, clipped, faint, nameless, overlapping, place, stops, told

from crane_app.ui import theme
from crane_app.ui.parts import button


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    theme.set_scheme(request.param)


@pytest.fixture
def size(request):
    theme.set_text_size(request.param)
    yield request.param
    theme.set_text_size(100)


@pytest.fixture
def language(request, qapp):
    """The words as they are, or longer and with accents."""
    if request.param == "english":
        yield request.param
        return
    translator = Pseudo()
    qapp.installTranslator(translator)
    yield request.param
    qapp.removeTranslator(translator)


# What fits at twice the size, in longer words, fits at half of that; `make soak` tries the rest too.
CROWDED = pytest.mark.parametrize(
    ("size", "language"),
    [
        (100, "english"),
        (100, "pseudo"),
        (200, "pseudo"),
        *(
            pytest.param(*rest, marks=pytest.mark.soak)
            for rest in ((150, "english"), (200, "english"), (150, "pseudo"))
        ),
    ],
    indirect=True,
)


@pytest.fixture
def right_to_left(qapp):
    qapp.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
    yield
    qapp.setLayoutDirection(Qt.LayoutDirection.LeftToRight)


def route(qtbot, window) -> list[QWidget]:
    """Where Tab leads, from the first button of the sidebar until it is there again."""
    first = window.sidebar.buttons()[0]
    first.setFocus()
    found = [first]
    for _ in range(200):
        # A text in which Tab is a letter is left by Ctrl+Tab.
        before = QApplication.focusWidget()
        qtbot.keyClick(before, Qt.Key.Key_Tab)
        if QApplication.focusWidget() is before:
            qtbot.keyClick(before, Qt.Key.Key_Tab, Qt.KeyboardModifier.ControlModifier)
        for _ in range(3):  # what came into sight is painted, and has its buttons, before a person's next key
            QApplication.processEvents()
        if QApplication.focusWidget() is first:
            return found
        found.append(QApplication.focusWidget())
    raise AssertionError(f"Tab never came back: {[told(each) for each in found[-12:]]}")


@pytest.mark.parametrize("scene", SCENES)
def test_every_control_says_what_it_is(enter, scene):
    assert nameless(enter(scene)) == []


@pytest.mark.parametrize("scene", SCENES)
def test_tab_reaches_every_control_in_reading_order(qtbot, enter, scene):
    # GIVEN a view
    window = enter(scene)
    # WHEN Tab goes round
    found = route(qtbot, window)
    # THEN it came by everything, down and along, never back
    missed = [told(each) for each in stops(window) if each not in found and not _inside(each, found)]
    assert missed == []
    assert backwards(window, found) == []


@pytest.mark.parametrize("scene", SCENES)
def test_letters_stand_out_from_their_ground(qtbot, enter, scheme, scene):
    window = enter(scene)

    def legible():
        assert faint(window) == []

    qtbot.waitUntil(legible)


@CROWDED
@pytest.mark.parametrize("scene", SCENES)
def test_no_words_are_cut_off_in_the_smallest_window(qtbot, enter, size, language, scene):
    window = enter(scene, 1, 1)

    def whole():
        assert clipped(window) == []
        assert overlapping(window) == []

    qtbot.waitUntil(whole)  # sentences that wrap find their height in more than one round


@pytest.mark.parametrize("scene", SCENES)
def test_right_to_left_turns_the_window_round(qtbot, enter, right_to_left, scene):
    # GIVEN a language that is read from the right
    window = enter(scene)
    # THEN the sidebar is at the right, the view at its left, and nothing is cut off
    assert place(window, window.sidebar).right() >= window.width() - 2

    def whole():
        assert clipped(window) == []

    qtbot.waitUntil(whole)


@pytest.mark.parametrize("scene", SCENES)
def test_the_keyboard_never_falls_into_a_trap(qtbot, enter, scene):
    # GIVEN a view with the focus where a person begins
    window = enter(scene)
    focused = QApplication.focusWidget()
    assert focused is not None
    # WHEN Shift+Tab is pressed often THEN the focus comes out of the view again
    for _ in range(200):
        if not window.stack.isAncestorOf(QApplication.focusWidget()):
            return
        backtab = Qt.Key.Key_Backtab
        qtbot.keyClick(QApplication.focusWidget(), backtab, Qt.KeyboardModifier.ShiftModifier)
    raise AssertionError(f"never out of {told(QApplication.focusWidget())}")


@pytest.mark.parametrize("scene", SCENES)
def test_no_two_commands_of_a_view_and_the_window_share_keys(enter, scene):
    # GIVEN all commands that keys can reach while the view is in sight
    window = enter(scene)
    own = window.findChildren(QAction, options=Qt.FindChildOption.FindDirectChildrenOnly)
    actions = [*own, *window.toolbar.findChildren(QAction), *window.stack.currentWidget().findChildren(QAction)]
    # THEN no keys would do two things, not even when more of them can be done
    keys = [(each.toString(), action.text()) for action in actions if action.isVisible() for each in action.shortcuts()]
    twice = [pair for pair in keys if [each for each, _ in keys].count(pair[0]) > 1]
    assert twice == []


@pytest.mark.parametrize("scene", SCENES)
def test_every_entry_of_the_menus_has_a_mnemonic_of_its_own(enter, scene):
    window = enter(scene)
    for menu in (window.menus.file, window.menus.edit, window.menus.view, window.menus.go, window.menus.help):
        menu.aboutToShow.emit()
        texts = [action.text() for action in menu.actions() if not action.isSeparator()]
        letters = [text.split("&")[1][0].lower() for text in texts if "&" in text]
        assert len(set(letters)) == len(texts), texts


def _inside(widget: QWidget, found: list[QWidget]) -> bool:
    """A field within a control that was reached, such as that of a combo box."""
    return any(each.isAncestorOf(widget) for each in found) and isinstance(widget, QLineEdit)


def test_enter_presses_the_button_that_has_the_keyboard(qtbot):
    pressed = []
    action = QAction("Go on")
    action.triggered.connect(lambda: pressed.append(1))
    made = button(action)
    qtbot.addWidget(made)
    for key in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
        qtbot.keyClick(made, key)
    assert len(pressed) == 3

import pytest
from fakes import FakeConnection, FakePreferences
from hands import press
from probe import Probe
from PySide6.QtCore import QSettings, Qt

from crane_app.ui import theme, views
from crane_app.ui.window import Window


@pytest.fixture
def window(qtbot, tmp_path):
    makers = {name: lambda name=name: Probe(name) for name in views.NAMES}
    settings = QSettings(str(tmp_path / "window.ini"), QSettings.Format.IniFormat)
    made = Window(settings, FakeConnection(), FakePreferences(), makers)
    qtbot.addWidget(made)
    made.show()
    with qtbot.waitActive(made):
        made.activateWindow()
    return made


def test_a_click_shows_the_view(qtbot, window):
    qtbot.mouseClick(window.sidebar.buttons()[3], Qt.MouseButton.LeftButton)
    assert window.current == "read_aloud"
    assert window.sidebar.buttons()[3].isChecked()


def test_a_click_on_the_view_in_sight_leaves_it_there(qtbot, window):
    for _ in range(2):
        qtbot.mouseClick(window.sidebar.buttons()[0], Qt.MouseButton.LeftButton)
    assert window.current == "chat"
    assert window.sidebar.buttons()[0].isChecked()


def test_folded_it_shows_icons_alone_and_keeps_their_names(qtbot, window):
    # GIVEN the sidebar with names
    names = [button.accessibleName() for button in window.sidebar.buttons()[:-1]]
    wide = window.sidebar.width()
    # WHEN Ctrl+B is pressed
    press(qtbot, window, Qt.Key.Key_B)
    # THEN it is narrow, and each button still says what it is, to eyes by its tip
    assert window.sidebar.width() < wide / 2
    assert [button.accessibleName() for button in window.sidebar.buttons()[:-1]] == names
    for button, name in zip(window.sidebar.buttons(), names, strict=False):
        assert name in button.toolTip()
        assert button.toolButtonStyle() is Qt.ToolButtonStyle.ToolButtonIconOnly
    # AND again brings the names back
    press(qtbot, window, Qt.Key.Key_B)
    assert window.sidebar.width() == wide


def test_it_grows_with_the_letters(qtbot, window):
    before = window.sidebar.width()
    theme.set_text_size(200)
    try:
        qtbot.waitUntil(lambda: window.sidebar.width() > before)
        qtbot.waitUntil(lambda: all(each.width() >= each.sizeHint().width() for each in window.sidebar.buttons()))
    finally:
        theme.set_text_size(100)


def test_the_chosen_view_is_marked_by_more_than_a_shade(window):
    # GIVEN the icons of two views, one of them in sight
    chat, pictures = (window.go_actions[name].icon().pixmap(24, 24).toImage() for name in ("chat", "pictures"))
    colours = [
        {image.pixelColor(x, y).name() for x in range(24) for y in range(24) if image.pixelColor(x, y).alpha() == 255}
        for image in (chat, pictures)
    ]
    # THEN one is drawn in the accent and the other in grey
    assert theme.colours().accent in colours[0]
    assert theme.colours().muted in colours[1]

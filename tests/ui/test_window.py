import itertools
from pathlib import Path

import pytest
from fakes import FakeConnection, FakePreferences, card
from hands import clipboard, files, picture, press
from probe import Probe
from PySide6.QtCore import QByteArray, QMimeData, QPoint, QPointF, QRect, QSettings, Qt
from PySide6.QtGui import QAction, QDragEnterEvent, QDropEvent, QGuiApplication, QKeySequence
from PySide6.QtWidgets import QApplication, QLabel, QMenu, QPushButton

from crane_app.engine.request import Parting
from crane_app.errors import CraneError
from crane_app.ui import theme, views
from crane_app.ui.window import Broken, Window


def ini(path: Path) -> QSettings:
    return QSettings(str(path), QSettings.Format.IniFormat)


@pytest.fixture
def probes():
    """What each view wants: nothing, until a test says."""
    return {name: lambda data: "" for name in views.NAMES}


@pytest.fixture
def open_window(qtbot, tmp_path, connection, preferences, probes):
    """Opens a window of probes, again and again in the same place."""

    def made(**more) -> Window:
        makers = {name: lambda name=name: Probe(name, lambda data: probes[name](data)) for name in views.NAMES}
        window = Window(ini(tmp_path / "window.ini"), connection, preferences, makers | more)
        qtbot.addWidget(window)
        window.show()
        with qtbot.waitActive(window):
            window.activateWindow()
        return window

    return made


def drag(window, data: QMimeData) -> bool:
    """Drag it in; whether the window would take it."""
    actions, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    event = QDragEnterEvent(QPoint(400, 300), actions, data, left, none)
    event.ignore()
    window.dragEnterEvent(event)
    return event.isAccepted()


def drop(window, data: QMimeData) -> None:
    actions, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    window.dropEvent(QDropEvent(QPointF(400, 300), actions, data, left, none))


# Views


@pytest.mark.parametrize(("number", "name"), list(enumerate(views.NAMES, 1)))
def test_a_number_key_shows_each_view(qtbot, open_window, number, name):
    # GIVEN a window that shows something else
    window = open_window()
    window.show_view(views.NAMES[number % 6])
    # WHEN its number is pressed
    press(qtbot, window, getattr(Qt.Key, f"Key_{number}"))
    # THEN it is in sight, entered, named above and marked at the left
    assert window.current == name
    assert window.stack.currentWidget() is window.view(name)
    assert window.view(name).asked[-1] == "enter"
    assert window.toolbar.title.text() == views.title(name).replace("&", "")
    assert [each for each, action in window.go_actions.items() if action.isChecked()] == [name]


def test_only_the_view_in_sight_is_made(open_window):
    window = open_window()
    assert list(window.made()) == ["chat"]


def test_the_others_are_made_while_nothing_else_is_to_be_done(qtbot, open_window):
    window = open_window()
    window.make_ahead()
    qtbot.waitUntil(lambda: set(window.made()) == set(views.NAMES))
    assert window.current == "chat"


def test_a_view_that_cannot_be_made_says_so_and_the_others_work(open_window, caplog):
    # GIVEN settings that cannot be made
    def fails():
        raise CraneError("No settings today.")

    window = open_window(settings=fails)
    # WHEN they are asked for
    window.show_view("settings")
    # THEN the sentence stands in their place, and the next view is there
    assert isinstance(window.view("settings"), Broken)
    assert "No settings today." in [label.text() for label in window.view("settings").findChildren(QLabel)]
    window.show_view("models")
    assert isinstance(window.view("models"), Probe)


def test_what_a_view_sends_arrives_in_the_other(open_window):
    window = open_window()
    window.view("chat").sent.emit("read_aloud", "Grus grus")
    assert window.current == "read_aloud"
    assert ("receive", "Grus grus") in window.view("read_aloud").asked


def test_the_title_is_that_of_what_is_in_sight(open_window):
    # GIVEN two views of which the hidden one changes its title
    window = open_window()
    window.view("chat").titled.emit("Cranes")
    window.view("pictures").titled.emit("a [*] b.png")
    # THEN it counts only when it comes into sight
    assert window.windowTitle() == "Cranes – Crane"
    window.show_view("pictures")
    assert window.windowTitle() == "a [ * ] b.png – Crane"
    window.show_view("models")
    assert window.windowTitle() == "Crane"


def test_news_are_shown_at_the_bottom(open_window):
    window = open_window()
    window.view("chat").said.emit("Copied.")
    assert window.statusBar().currentMessage() == "Copied."


# Menus and keys


def test_no_two_commands_share_keys(open_window):
    window = open_window()
    for name in views.NAMES:
        window.show_view(name)
        active = [*window.findChildren(QAction, options=Qt.FindChildOption.FindDirectChildrenOnly)]
        active += window.view(name).findChildren(QAction)
        keys = [each.toString() for action in active if action.isEnabled() for each in action.shortcuts()]
        assert len(keys) == len(set(keys)), name
        assert {"Ctrl+O", "Ctrl+V", "Ctrl+C", "Ctrl+Q", "Ctrl+B", "Esc", "F1", "Ctrl+1", "Ctrl+7"} <= set(keys)


def test_every_menu_entry_has_a_mnemonic_of_its_own(open_window):
    window = open_window()
    titles = [action.text() for action in window.menuBar().actions()]
    menus = window.findChildren(QMenu)
    for texts in [titles, *([a.text() for a in menu.actions() if not a.isSeparator()] for menu in menus)]:
        letters = [text.split("&")[1][0].lower() for text in texts if "&" in text]
        assert len(letters) == len(texts), texts
        assert len(letters) == len(set(letters)), texts


def test_the_menus_begin_with_what_the_view_offers(open_window):
    # GIVEN a view with commands and one without
    window = open_window(settings=lambda: views.View())
    assert [action.objectName() for action in window.menus.file.actions()][:2] == ["open", "stop"]
    # WHEN the other comes into sight
    window.show_view("settings")
    # THEN only those of the window remain
    names = [action.objectName() for action in window.menus.file.actions() if not action.isSeparator()]
    assert names == ["preferences", "close_window", "quit"]


def test_copy_of_a_view_stands_for_that_of_the_window(open_window):
    # GIVEN a view that copies in its own way
    class Copier(Probe):
        def commands(self):
            return {"edit": [self.action("copy", "&Copy", lambda: self.asked.append("copy"), "Ctrl+C")]}

    window = open_window(pictures=lambda: Copier("pictures"))
    # WHEN it is in sight
    window.show_view("pictures")
    # THEN the menu has one Copy, and the usual one is back when it leaves
    assert [a.objectName() for a in window.menus.edit.actions() if "Ctrl+C" in a.shortcut().toString()] == ["copy"]
    window.show_view("chat")
    assert [a.objectName() for a in window.menus.edit.actions() if "Ctrl+C" in a.shortcut().toString()] == [
        "copy_field"
    ]


def test_the_edit_menu_works_in_the_field_with_the_focus(open_window):
    # GIVEN a field with some text
    window = open_window()
    field = window.view("chat").field
    field.setText("Grus grus")
    field.setFocus()
    entries = {action.objectName(): action for action in window.menus.edit.actions()}
    # WHEN all is selected, cut, and pasted twice, by the menu
    for name in ("select_all", "cut", "paste_field", "paste_field"):
        entries[name].trigger()
    # THEN the field has done so
    assert clipboard() == "Grus grus"
    assert field.text() == "Grus grusGrus grus"
    # AND undoes it
    entries["undo"].trigger()
    assert field.text() == "Grus grus"


def test_keys_of_the_edit_menu_where_nothing_can_be_written_do_nothing(qtbot, open_window):
    # GIVEN the focus on something that has no use for them, such as a message
    window = open_window()
    button = window.view("chat").findChild(QPushButton)
    button.setFocus()
    assert button.hasFocus()
    # WHEN they are pressed THEN nothing happens, not even to the field
    QGuiApplication.clipboard().setText("Grus grus")
    for key in (Qt.Key.Key_V, Qt.Key.Key_X, Qt.Key.Key_Z, Qt.Key.Key_A):
        press(qtbot, button, key)
    assert window.view("chat").field.text() == ""


def test_stop_is_that_of_the_view_in_sight(qtbot, open_window):
    # GIVEN one view that can be stopped and one that cannot
    window = open_window(settings=lambda: views.View())
    qtbot.mouseClick(window.toolbar.stop_button, Qt.MouseButton.LeftButton)
    assert window.view("chat").asked[-1] == "stop"
    # WHEN the other is in sight THEN there is nothing to stop
    window.show_view("settings")
    assert not window.toolbar.stop_button.isEnabled()
    # AND Esc belongs to the view in sight alone
    window.show_view("pictures")
    press(qtbot, window.view("pictures").field, Qt.Key.Key_Escape, Qt.KeyboardModifier.NoModifier)
    assert window.view("pictures").asked[-1] == "stop"
    assert window.view("chat").asked[-2:] != ["stop", "stop"]


def test_the_keyboard_shortcuts_can_be_searched(qtbot, open_window):
    # GIVEN the sheet
    window = open_window()
    press(qtbot, window, Qt.Key.Key_F1, Qt.KeyboardModifier.NoModifier)
    sheet = window.help._dialog
    rows = sheet.shown()
    # THEN it has the window's commands and those of each view, read off the actions
    assert ("Everywhere", "Pictures", "Ctrl+2") in rows
    assert ("Chat", "Open", "Ctrl+O") in rows
    assert {area for area, _, _ in rows} == {"Everywhere", *(views.title(n).replace("&", "") for n in views.NAMES)}
    # WHEN something is typed THEN only what matches is left
    qtbot.keyClicks(sheet.search, "ctrl+2")
    assert sheet.shown() == [("Everywhere", "Pictures", "Ctrl+2")]
    # AND asking twice opens one sheet
    window.help.show_shortcuts()
    assert window.help._dialog is sheet
    sheet.close()


def test_licences_and_about_open_and_close(qtbot, open_window):
    window = open_window()
    window.help.show_licences()
    licences = window.help._dialog
    qtbot.waitUntil(lambda: "numpy" in licences.text.toPlainText(), timeout=20000)
    assert "MIT License" in licences.text.toPlainText()
    # WHEN another is asked for THEN it takes the place of the first
    window.help.show_about()
    assert window.help._dialog is not licences
    window.help._dialog.close()
    assert window.help._dialog is None


def test_the_diagnostics_are_copied_once(qtbot, open_window, monkeypatch):
    # GIVEN a doctor that takes its time
    import crane_app.ui.about as about

    asked = []

    def doctor():
        asked.append(1)
        return "all is well"
        yield

    monkeypatch.setattr(about, "_doctor", doctor)
    window = open_window()
    # WHEN it is asked twice
    window.help.copy_diagnostics()
    window.help.copy_diagnostics()
    # THEN it looks once, and what it says is on the clipboard
    qtbot.waitUntil(lambda: clipboard() == "all is well")
    assert asked == [1]


def test_a_window_out_of_sight_leaves_the_engine_alone(qtbot, open_window, connection):
    # GIVEN a window in sight
    window = open_window()
    assert connection.attended
    # WHEN it is minimised or hidden THEN the connection knows, and when it is back
    for away, back in ((window.showMinimized, window.showNormal), (window.hide, window.show)):
        away()
        qtbot.waitUntil(lambda: connection.attended is False)
        back()
        qtbot.waitUntil(lambda: connection.attended is True)


def test_appearance_is_a_preference(open_window, preferences):
    window = open_window()
    next(action for action in window.schemes.actions() if action.data() == "dark").trigger()
    assert preferences.get("appearance") == "dark"
    # AND the menu follows a change from elsewhere
    preferences.set("appearance", "light")
    assert window.schemes.checkedAction().data() == "light"


# What it remembers


def test_the_window_remembers_its_place(open_window, tmp_path):
    # GIVEN a window that was resized, used and closed
    first = open_window()
    first.resize(933, 655)
    view = first.show_view("pictures")
    view.folder = "/files"
    view.splitter.setSizes([100, 300])
    panes = view.splitter.saveState()
    first.fold_action.trigger()
    first.close()
    # WHEN another is made
    second = open_window()
    # THEN it is as the first was, and all of it is in that one file
    assert (second.width(), second.height()) == (933, 655)
    assert second.current == "pictures"
    assert second.sidebar.folded
    assert second.view("pictures").folder == "/files"
    assert second.view("pictures").splitter.saveState() == panes
    assert [path.name for path in tmp_path.iterdir()] == ["window.ini"]


@pytest.mark.parametrize(
    "text",
    [
        "[General]\ngeometry=rubbish\nview=nowhere\nfolded=perhaps\n[chat]\npanes0=@ByteArray(\\x1)\nfolder=@Invalid()\n",
        "\0\1\2 not an ini at all [[[",
        "",
    ],
)
def test_damaged_settings_do_not_keep_the_window_from_opening(open_window, tmp_path, text):
    # GIVEN an ini of rubbish
    (tmp_path / "window.ini").write_text(text)
    # WHEN a window is made from it
    window = open_window()
    # THEN it opens at its own size, with the first view
    assert window.width() >= 840
    assert window.current == "chat"


def test_a_window_on_a_screen_that_is_gone_comes_back_into_sight(open_window, tmp_path):
    # GIVEN a place far outside every screen
    first = open_window()
    first.setGeometry(QRect(90_000, 70_000, 900, 600))
    first.close()
    # WHEN it is opened again
    window = open_window()
    # THEN its top can be taken hold of
    top = QRect(window.geometry().topLeft(), window.geometry().topRight() + QPoint(0, 40))
    assert any(screen.availableGeometry().intersects(top) for screen in QGuiApplication.screens())


def test_closing_lets_views_leave_and_the_engine_go(open_window, connection):
    # GIVEN a view that cannot leave well
    class Stubborn(Probe):
        def leave(self):
            raise ValueError("no")

    window = open_window(chat=lambda: Stubborn("chat"))
    other = window.view("models")
    # WHEN the window is closed
    assert window.close()
    # THEN the others have left all the same
    assert other.asked[-1] == "leave"
    assert connection.closed


# Drops


def test_a_drop_goes_to_the_view_in_sight(open_window, probes):
    # GIVEN two views with a use for files
    probes |= {"chat": lambda data: "Release to attach", "pictures": lambda data: "Release to read"}
    window = open_window()
    # WHEN a file is dragged in
    assert drag(window, files("/files/a.txt"))
    # THEN the veil says what the view in sight would do, and the drop does it
    assert window.veil.isVisible()
    assert window.veil.text() == "Release to attach"
    drop(window, files("/files/a.txt"))
    assert not window.veil.isVisible()
    assert window.view("chat").asked[-1] == ("take", ["/files/a.txt"])


def test_a_drop_that_is_of_no_use_here_goes_to_the_view_that_has_one(open_window, probes):
    # GIVEN a chat that takes no pictures
    probes["pictures"] = lambda data: "Release to read the text" if data.hasImage() else ""
    window = open_window()
    # WHEN a picture is dragged over it
    assert drag(window, picture())
    # THEN the veil names the other view
    assert window.veil.text() == "Pictures: Release to read the text"
    # AND the drop goes there
    drop(window, picture())
    assert window.current == "pictures"
    assert window.view("pictures").asked[-1] == ("take", [])


def test_what_nobody_wants_is_not_taken(open_window):
    window = open_window()
    assert not drag(window, files("/files/a.xyz"))
    assert not window.veil.isVisible()
    drop(window, files("/files/a.xyz"))
    assert window.current == "chat"


def test_files_from_outside_go_to_the_view_that_reads_them(open_window, probes):
    # GIVEN settings in sight, and pictures that read files
    probes |= {"settings": lambda data: "", "pictures": lambda data: "read"}
    window = open_window()
    window.show_view("settings")
    window.open([Path("/files/a.png"), Path("/files/b.png")])
    assert window.current == "pictures"
    assert window.view("pictures").asked[-1] == ("take", ["/files/a.png", "/files/b.png"])


def test_a_folder_with_a_model_goes_to_the_models_and_another_to_the_pictures(open_window, probes, tmp_path):
    # GIVEN both with a use for folders, and two folders of which one holds a model
    probes |= {"models": lambda data: "add", "pictures": lambda data: "read"}
    window = open_window()
    for name in ("model", "scans"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    # THEN each goes where it belongs
    assert drag(window, files(tmp_path / "model"))
    assert window.veil.text() == "Models: add"
    drop(window, files(tmp_path / "model"))
    assert window.current == "models"
    window.open([tmp_path / "scans"])
    assert window.current == "pictures"


def test_a_file_that_nobody_reads_is_told(open_window):
    window = open_window()
    window.open([Path("/files/a.xyz")])
    assert "a.xyz" in window.statusBar().currentMessage()


@pytest.mark.qt_log_ignore("does not support raise", "does not support propagateSizeHints")
def test_coming_forward_opens_a_window_that_was_put_away(open_window):
    window = open_window()
    window.showMinimized()
    window.come_forward()
    assert not window.isMinimized()
    assert window.isVisible()


# The frame itself; what is within it is walked over in test_controls


def test_the_frame_comes_before_the_view_in_the_order_of_tab(qtbot, open_window):
    # GIVEN the first button of the sidebar with the focus
    window = open_window()
    window.sidebar.buttons()[0].setFocus()
    # WHEN Tab is pressed
    names = []
    for _ in itertools.repeat(None, 10):
        qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        names.append(QApplication.focusWidget().accessibleName())
    # THEN it goes down the sidebar, along the toolbar and into the view
    views = ["Pictures", "Dictate", "Read aloud", "Models", "Server", "Settings"]
    assert names == [*views, "Fold the sidebar", "Stop", "Field", ""]


def test_letters_twice_as_large_leave_nothing_cut_off(qtbot, open_window):
    theme.set_text_size(200)
    try:
        window = open_window()
        window.resize(1, 1)
        short = [b for b in window.sidebar.buttons() if b.width() < b.sizeHint().width()]
        assert short == []
        assert window.toolbar.stop_button.width() >= window.toolbar.stop_button.sizeHint().width()
    finally:
        theme.set_text_size(100)


def test_an_empty_place_is_no_place(qtbot, tmp_path):
    # GIVEN kept bytes that are no geometry
    settings = ini(tmp_path / "window.ini")
    settings.setValue("geometry", QByteArray(b"\x01\x02"))
    settings.setValue("chat/panes0", QByteArray(b"\x03"))
    makers = {name: lambda name=name: Probe(name) for name in views.NAMES}
    window = Window(settings, FakeConnection(), FakePreferences(), makers)
    qtbot.addWidget(window)
    assert window.width() >= 840


def test_keys_of_commands_are_valid(open_window):
    window = open_window()
    for action in window.findChildren(QAction):
        assert all(keys != QKeySequence() and keys.toString() for keys in action.shortcuts())


def test_a_model_that_left_for_another_is_told_at_the_bottom(open_window, connection):
    window = open_window()
    connection.show(card("Qwen3-4B"), gone=(Parting("Qwen3-0.6B", 10**9, "Qwen3-4B", 1.0),))
    assert window.status.currentMessage().startswith("To make room for Qwen3-4B, Qwen3-0.6B (1.0 GB) left the memory.")

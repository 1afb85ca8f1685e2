import itertools
from pathlib import Path

import pytest
from fake_reader import FakeReader
from PySide6.QtCore import QSettings, Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QAbstractButton, QAbstractScrollArea, QApplication, QLabel, QProgressBar

from crane_app.ui import theme
from crane_app.ui.pictures import PicturesView
from crane_app.ui.window import Window

CONTROLS = (QAbstractButton, QAbstractScrollArea, QProgressBar)


def test_the_window_remembers_its_place_and_looks(qtbot, tmp_path):
    # GIVEN a window that was resized, used, set to dark and closed
    def settings():
        return QSettings(str(tmp_path / "window.ini"), QSettings.Format.IniFormat)

    first = Window(settings(), PicturesView(FakeReader()))
    qtbot.addWidget(first)
    first.resize(777, 555)
    first.pictures.folder = "/files"
    next(action for action in first.schemes.actions() if action.data() == "dark").trigger()
    assert theme.colours() is theme.DARK
    first.close()
    # WHEN another is made
    second = Window(settings(), PicturesView(FakeReader()))
    qtbot.addWidget(second)
    # THEN it is as the first was, and all of it is in that one file
    assert (second.width(), second.height()) == (777, 555)
    assert second.pictures.folder == "/files"
    assert settings().value("scheme") == "dark"
    assert [path.name for path in tmp_path.iterdir()] == ["window.ini"]


def test_damaged_settings_do_not_keep_the_window_from_opening(qtbot, tmp_path):
    # GIVEN an ini of rubbish
    path = tmp_path / "window.ini"
    path.write_text("[General]\ngeometry=rubbish\npanes=@ByteArray(\\x1)\nfolder=@Invalid()\n\0\1")
    # WHEN a window is made from it
    window = Window(QSettings(str(path), QSettings.Format.IniFormat), PicturesView(FakeReader()))
    qtbot.addWidget(window)
    window.show()
    # THEN it opens at its own size
    assert window.width() >= 640


def test_no_two_commands_share_keys(window):
    keys = [
        keys.toString(QKeySequence.SequenceFormat.PortableText)
        for action in window.findChildren(QAction)
        for keys in action.shortcuts()
    ]
    assert len(keys) == len(set(keys))
    assert {"Ctrl+O", "Ctrl+V", "Ctrl+C", "Ctrl+Q", "Esc"} <= set(keys)


def test_every_menu_entry_has_a_mnemonic_of_its_own(window):
    for menu in window.menuBar().findChildren(type(window.menuBar().addMenu("x"))):
        letters = [a.text().split("&")[1][0].lower() for a in menu.actions() if "&" in a.text()]
        assert len(letters) == len(set(letters)), menu.title()


def test_every_control_has_a_name_for_screen_readers(qtbot, window, view):
    # GIVEN all that can be seen: the welcome, then several files
    view.read([Path("/a.png"), Path("/b.png")])
    qtbot.waitUntil(lambda: view.queue.reading is None)
    # THEN each control says what it is
    nameless = [
        widget
        for kind in CONTROLS
        for widget in view.findChildren(kind)
        if not widget.accessibleName() and not widget.objectName().startswith("qt_")
    ]
    assert nameless == []


def test_the_tab_key_goes_round_all_controls_in_reading_order(qtbot, window, view, reader):
    # GIVEN a read document of three pages
    reader.counts = {"b.pdf": 3}
    view.read([Path("/b.pdf")])
    qtbot.waitUntil(lambda: view.queue.reading is None)
    view.turn(1)
    view.text.setFocus()
    # WHEN Tab is pressed until the text has the focus again
    names = []
    for _ in itertools.repeat(None, 30):
        qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        names.append(QApplication.focusWidget().accessibleName())
        if QApplication.focusWidget() is view.text:
            break
    # THEN it came by every control, from top left to bottom right
    assert names == [
        "Open",
        "Paste",
        "Copy as Markdown",
        "Copy text",
        "Picture of the page",
        "Previous page",
        "Next page",
        "Zoom out",
        "Fit page",
        "Zoom in",
        "Text of the page",
    ]


def clipped(window) -> list[str]:
    """The words that have less room than they need."""
    found = []
    for widget in window.findChildren(QAbstractButton) + window.findChildren(QLabel):
        if not widget.isVisible() or not widget.text() or hasattr(widget, "shown"):
            continue
        need = widget.sizeHint()
        wraps = isinstance(widget, QLabel) and widget.wordWrap()
        narrow = not wraps and widget.width() < need.width()
        flat = widget.height() < (widget.heightForWidth(widget.width()) if wraps else need.height())
        if narrow or flat:
            found.append(f"{widget.text()}: {widget.size().toTuple()} for {need.toTuple()}")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("percent", [100, 150, 200])
def test_no_words_are_clipped_in_the_smallest_window(qtbot, qapp, window, view, reader, scheme, percent):
    # GIVEN letters of some size, and the smallest window that the words allow
    theme.set_scheme(scheme)
    usual = qapp.font()
    bigger = qapp.font()
    bigger.setPointSizeF(usual.pointSizeF() * percent / 100)
    qapp.setFont(bigger)
    try:
        made = Window(QSettings(), PicturesView(reader))
        qtbot.addWidget(made)
        made.show()
        made.resize(1, 1)
        qtbot.wait(20)
        # THEN nothing is cut off, neither empty
        assert clipped(made) == []
        # NOR with a document of many pages, of which the second failed
        reader.counts, reader.errors = {"b.pdf": 123}, {("b.pdf", 2): ValueError()}
        made.pictures.read([Path("/b.pdf")])
        qtbot.waitUntil(lambda: made.pictures.queue.reading is None)
        qtbot.wait(20)
        assert clipped(made) == []
    finally:
        qapp.setFont(usual)

from pathlib import Path

import pytest
from fake_reader import words
from hands import A, B, C, button, done, files, picture, press
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import (
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QGuiApplication,
)
from PySide6.QtWidgets import QApplication

from crane_app.errors import BadInput
from crane_app.ui.queue import State


def nothing_of_use() -> QMimeData:
    data = QMimeData()
    data.setText("words")
    data.setUrls([QUrl("https://example.org/picture.png")])
    return data


def enter(window, data) -> bool:
    buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    event = QDragEnterEvent(QPoint(50, 50), Qt.DropAction.CopyAction, data, buttons, keys)
    event.ignore()
    QApplication.sendEvent(window, event)
    return event.isAccepted()


def drop(window, data) -> None:
    buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    event = QDropEvent(QPointF(50, 50), Qt.DropAction.CopyAction, data, buttons, keys)
    QApplication.sendEvent(window, event)


# Ways in


@pytest.mark.parametrize(("data", "name"), [(files(A), "a.png"), (picture(), "Pasted picture")])
def test_what_is_dropped_on_the_window_is_read(qtbot, window, view, data, name):
    # WHEN something is held over the window, and let go
    assert enter(window, data)
    assert window.veil.isVisible()
    drop(window, data)
    # THEN it is read and its text stands beside it
    qtbot.waitUntil(lambda: done(view))
    assert not window.veil.isVisible()
    assert view.text.toPlainText().split("\n") == list(words(name, 1))
    assert len(view.canvas.boxes()) == 3
    assert view.name.text() == name
    assert window.windowTitle().startswith(name)


def test_a_drag_that_leaves_takes_the_veil_with_it(window):
    enter(window, files(A))
    QApplication.sendEvent(window, QDragLeaveEvent())
    assert not window.veil.isVisible()


def test_what_cannot_be_read_is_not_taken(window, reader):
    # WHEN words and a web address are held over the window
    # THEN they are refused: nothing is fetched from elsewhere
    assert not enter(window, nothing_of_use())
    drop(window, nothing_of_use())
    assert reader.started == []


@pytest.mark.parametrize(("data", "name"), [(picture(), "Pasted picture"), (files(C), C.name)])
def test_ctrl_v_reads_the_clipboard(qtbot, window, view, data, name):
    # GIVEN a picture, or a file copied in a file manager
    QGuiApplication.clipboard().setMimeData(data)
    # WHEN it is pasted
    press(qtbot, window, Qt.Key.Key_V)
    # THEN it is read
    qtbot.waitUntil(lambda: done(view))
    assert view.name.text() == name
    assert view.text.toPlainText()


def test_pasting_words_says_why_nothing_happens(qtbot, window, reader):
    QGuiApplication.clipboard().setText("words")
    press(qtbot, window, Qt.Key.Key_V)
    assert "no picture" in window.statusBar().currentMessage()
    assert reader.started == []


def test_ctrl_o_opens_a_file_and_remembers_its_folder(qtbot, window, view):
    # WHEN Ctrl+O is pressed twice and a file is chosen
    press(qtbot, window, Qt.Key.Key_O)
    dialog = view._dialog
    press(qtbot, window, Qt.Key.Key_O)
    assert view._dialog is dialog
    dialog.filesSelected.emit([str(B)])
    dialog.done(1)
    # THEN it is read, and the next dialog starts there
    qtbot.waitUntil(lambda: done(view))
    assert view.name.text() == "b.pdf"
    assert view.folder == "/files"
    assert view._dialog is None


# Reading


def test_progress_is_told_and_the_picture_comes_before_the_text(qtbot, view, reader):
    # GIVEN a document of three pages whose text takes its time
    reader.held, reader.counts = True, {"b.pdf": 3}
    view.read([B])
    # THEN the first page is seen, and the long start explained
    qtbot.waitUntil(lambda: bool(view.canvas.sceneRect().width() > 100))
    assert "Loading" in view.state_label.text()
    assert view.text.toPlainText() == ""
    assert button(view, "stop").isVisible()
    # WHEN a text comes
    reader.let()
    # THEN it is shown while the next page is read
    qtbot.waitUntil(lambda: view.state_label.text() == "Reading page 2 of 3…")
    assert view.text.toPlainText().startswith("b.pdf, page 1")
    assert (view.progress.value(), view.progress.maximum()) == (1, 3)
    reader.let(2)
    qtbot.waitUntil(lambda: done(view))
    assert view.state_label.text() == "All 3 pages read."
    assert not button(view, "stop").isVisible()


def test_escape_stops_and_what_was_read_stays(qtbot, window, view, reader):
    # GIVEN a document of which one page was read
    reader.held, reader.counts = True, {"b.pdf": 12}
    view.read([B])
    reader.let()
    qtbot.waitUntil(lambda: "2 of 12" in view.state_label.text())
    # WHEN Escape is pressed, in the text
    press(qtbot, view.text, Qt.Key.Key_Escape, Qt.KeyboardModifier.NoModifier)
    # THEN it stops at once
    assert done(view)
    assert view.state_label.text() == "Stopped; 1 of 12 pages read."
    assert view.text.toPlainText().startswith("b.pdf, page 1")
    # AND what still comes from the thread changes nothing
    reader.let(12)
    qtbot.waitUntil(lambda: reader.closed == ["b.pdf"])
    qtbot.wait(20)
    assert len(view._shown.texts) == 1


def test_a_new_file_replaces_the_one_being_read_and_nothing_is_mixed_up(qtbot, view, reader):
    # GIVEN a file that is being read
    reader.held, reader.counts = True, {"b.pdf": 5}
    view.read([B])
    reader.let()
    qtbot.waitUntil(lambda: len(view._shown.texts) == 1)
    # WHEN two others come, one right after the other, and everything may go on
    view.read([C])
    view.read([A])
    reader.let(20)
    qtbot.waitUntil(lambda: done(view))
    # THEN only the last is shown, and no two were ever read at once
    assert view.text.toPlainText().split("\n") == list(words("a.png", 1))
    assert view.name.text() == "a.png"
    assert [entry.name for entry in view.queue.entries] == ["a.png"]
    assert reader.most_at_once == 1
    assert reader.closed[0] == "b.pdf"


def test_several_files_are_read_one_after_another(qtbot, view, reader):
    # GIVEN three files, of which the second is damaged
    reader.errors[("b.pdf", 1)] = BadInput("b.pdf is damaged.")
    # WHEN they are dropped together
    view.read([A, B, C])
    assert view.files.isVisible()
    qtbot.waitUntil(lambda: done(view))
    # THEN each was read in turn, and each can be looked at
    states = [entry.state for entry in view.queue.entries]
    assert states == [State.DONE, State.FAILED, State.DONE]
    assert reader.started == ["a.png", "b.pdf", C.name]
    assert view.name.text() == "a.png"
    view.files.setCurrentRow(1)
    assert view.notice.words() == "b.pdf is damaged."
    view.files.setCurrentRow(2)
    assert view.text.toPlainText().split("\n") == list(words(C.name, 1))
    assert not view.notice.isVisible()


def test_looking_at_another_file_while_one_is_read(qtbot, view, reader):
    # GIVEN the second of two files is being read
    reader.held = True
    view.read([A, B])
    reader.let()
    qtbot.waitUntil(lambda: view.queue.reading is view.queue.entries[1])
    # WHEN its text comes while the first is shown
    reader.let()
    qtbot.waitUntil(lambda: done(view))
    # THEN the first stays, and the second is there when asked for
    assert view.text.toPlainText().startswith("a.png")
    view.files.setCurrentRow(1)
    assert view.text.toPlainText().startswith("b.pdf")


@pytest.mark.parametrize(
    ("error", "shown"),
    [(BadInput("Page 2 is damaged."), "Page 2 is damaged."), (ZeroDivisionError(), "unexpected")],
)
def test_a_failure_is_told_in_place_and_can_be_tried_again(qtbot, view, reader, error, shown):
    # GIVEN a document whose second page fails
    reader.counts, reader.errors = {"b.pdf": 3}, {("b.pdf", 2): error}
    view.read([B])
    # THEN a sentence says so, no dialog opens, and the first page stays
    qtbot.waitUntil(lambda: done(view))
    assert view.notice.isVisible()
    assert shown in view.notice.words()
    assert QApplication.activeModalWidget() is None
    assert view.text.toPlainText().startswith("b.pdf, page 1")
    # WHEN it is tried again and goes well
    reader.errors.clear()
    button(view, "retry").click()
    qtbot.waitUntil(lambda: view._shown.state is State.DONE)
    # THEN everything is there
    assert not view.notice.isVisible()
    assert len(view._shown.texts) == 3


def test_a_page_without_text_says_so(qtbot, view, reader):
    reader.blank = True
    view.read([A])
    qtbot.waitUntil(lambda: done(view))
    assert view.text.toPlainText() == ""
    assert "No text was found" in view.text.placeholderText()


# Clumsy hands


COPYING = ("copy_text", "copy_markdown")
LOOKING = ("previous", "next", "zoom_in", "zoom_out", "fit")
BUTTONS = ("open", "paste", "stop", "retry", *COPYING, *LOOKING)


@pytest.mark.parametrize("name", BUTTONS)
@pytest.mark.parametrize("when", ["empty", "busy", "read", "failed"])
def test_two_clicks_at_any_time_do_no_harm(qtbot, window, view, reader, name, when):
    # GIVEN a view in some state, and a picture on the clipboard
    QGuiApplication.clipboard().setMimeData(picture())
    reader.held, reader.counts = when == "busy", {"b.pdf": 2}
    reader.errors = {("b.pdf", 2): BadInput("Damaged.")} if when == "failed" else {}
    if when != "empty":
        view.read([B])
        reader.let()
        qtbot.waitUntil(lambda: len(view._shown.texts) == 1 if when == "busy" else done(view))
    # WHEN a button is double-clicked
    where = button(view, name)
    qtbot.mouseClick(where, Qt.MouseButton.LeftButton)
    qtbot.mouseDClick(where, Qt.MouseButton.LeftButton)
    if view._dialog is not None:
        view._dialog.reject()
    # THEN it all comes to rest, and a new file is read as ever
    reader.let(50)
    qtbot.waitUntil(lambda: done(view))
    reader.errors = {}
    view.read([A])
    qtbot.waitUntil(lambda: done(view))
    assert view.text.toPlainText().split("\n") == list(words("a.png", 1))
    assert reader.most_at_once <= 1


def test_the_window_closes_at_once_while_a_page_is_read(qtbot, window, view, reader):
    # GIVEN a page that takes its time
    reader.held = True
    view.read([B])
    qtbot.waitUntil(lambda: reader.started == ["b.pdf"])
    # WHEN the window is closed
    assert window.close()
    # THEN reading was given up, and the thread's late news goes nowhere
    assert done(view)
    reader.let()
    qtbot.waitUntil(lambda: reader.closed == ["b.pdf"])
    assert view._shown.texts == {}


def test_names_are_shown_as_they_are_and_shortened_in_the_middle(qtbot, window, view):
    # GIVEN names that are long, or look like markup
    odd = Path("/files/<b>bold & 🐦 " + "very " * 60 + "long.png")
    # WHEN such files are read
    view.read([odd, A])
    qtbot.waitUntil(lambda: done(view))
    # THEN the name fits, keeps its end, and its tooltip is the name, not markup
    assert view.name.shown().endswith("long.png")
    assert "…" in view.name.shown()
    assert "&lt;b&gt;" in view.name.toolTip()
    assert "&lt;b&gt;" in view.files.item(0).toolTip()
    assert window.width() < 1400

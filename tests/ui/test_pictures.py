from pathlib import Path

import pytest
from fake_reader import shown, words
from hands import A, B, C, button, done, files, picture, press
from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtWidgets import QApplication

from crane_app.errors import BadInput
from crane_app.pipelines.kept_reading import Contents, Unkept
from crane_app.ui.pictures.queue import Queue, State


@pytest.fixture
def view(qtbot, reader):
    return shown(qtbot, reader)


def nothing_of_use() -> QMimeData:
    data = QMimeData()
    data.setText("words")
    data.setUrls([QUrl("https://example.org/picture.png")])
    return data


def names(view) -> list[str]:
    return [entry.name for entry in view.queue.entries]


def states(view) -> list[State]:
    return [entry.state for entry in view.queue.entries]


def pick(view, row: int) -> None:
    view.files.setCurrentIndex(view.queue.index(row))


# Ways in


@pytest.mark.parametrize(("data", "name"), [(files(A), "a.png"), (picture(), "Pasted picture")])
def test_what_is_dropped_is_read(qtbot, view, data, name):
    # WHEN something is held over the view, and let go
    assert view.offer(data)
    assert view.take(data)
    # THEN it is read and its text stands beside it
    qtbot.waitUntil(lambda: done(view))
    assert view.text.toPlainText().split("\n") == list(words(name, 1))
    qtbot.waitUntil(lambda: len(view.canvas.boxes()) == 3)
    assert view.name.text() == name


def test_what_cannot_be_read_is_not_taken(view, reader):
    # WHEN words and a web address are held over the view
    # THEN they are refused: nothing is fetched from elsewhere
    assert not view.offer(nothing_of_use())
    assert not view.take(nothing_of_use())
    assert reader.started == []


@pytest.mark.parametrize(("data", "name"), [(picture(), "Pasted picture"), (files(C), C.name)])
def test_ctrl_v_reads_the_clipboard(qtbot, view, data, name):
    # GIVEN a picture, or a file copied in a file manager
    QGuiApplication.clipboard().setMimeData(data)
    # WHEN it is pasted
    press(qtbot, view, Qt.Key.Key_V)
    # THEN it is read
    qtbot.waitUntil(lambda: done(view))
    assert view.name.text() == name
    assert view.text.toPlainText()


def test_pasting_words_says_why_nothing_happens(qtbot, view, reader):
    QGuiApplication.clipboard().setText("words")
    press(qtbot, view, Qt.Key.Key_V)
    assert "no picture" in view.heard[-1]
    assert reader.started == []


def test_ctrl_o_opens_a_file_and_remembers_its_folder(qtbot, view):
    # WHEN Ctrl+O is pressed twice and a file is chosen
    press(qtbot, view, Qt.Key.Key_O)
    dialog = view._dialog
    press(qtbot, view, Qt.Key.Key_O)
    assert view._dialog is dialog
    dialog.filesSelected.emit([str(B)])
    dialog.done(1)
    # THEN it is read, and the next dialog starts there
    qtbot.waitUntil(lambda: done(view))
    assert view.name.text() == "b.pdf"
    assert view.folder == "/files"
    assert view._dialog is None


@pytest.mark.parametrize("what", [A, str(A), [A], files(A)])
def test_another_view_may_send_a_file(qtbot, view, what):
    view.receive(what)
    qtbot.waitUntil(lambda: done(view))
    assert names(view) == ["a.png"]


def test_another_view_may_send_a_picture(qtbot, view):
    view.receive(QImage(30, 20, QImage.Format.Format_RGB32))
    qtbot.waitUntil(lambda: done(view))
    assert names(view) == ["Pasted picture"]


# Reading


def test_progress_is_told_and_the_picture_comes_before_the_text(qtbot, view, reader):
    # GIVEN a document of three pages whose text takes its time
    reader.held, reader.counts = True, {"b.pdf": 3}
    view.read([B])
    # THEN the first page is seen, and the long start explained
    qtbot.waitUntil(view.canvas.filled)
    assert "Loading" in view.line.label.text()
    assert view.text.toPlainText() == ""
    assert button(view, "stop").isVisible()
    # WHEN a text comes
    reader.let()
    # THEN it is shown while the next page is read
    qtbot.waitUntil(lambda: view.line.label.text() == "Reading page 2 of 3…")
    assert view.text.toPlainText().startswith("b.pdf, page 1")
    assert (view.line.bar.value(), view.line.bar.maximum()) == (1, 3)
    reader.let(2)
    qtbot.waitUntil(lambda: done(view))
    assert view.line.label.text() == "All 3 pages read."
    assert not button(view, "stop").isVisible()


def test_a_page_can_be_looked_at_before_it_is_read(qtbot, view, reader):
    # GIVEN a document of which nothing is read yet
    reader.held, reader.counts = True, {"b.pdf": 9}
    view.read([B])
    qtbot.waitUntil(view.canvas.filled)
    # WHEN its third page is turned to
    view.turn(1)
    view.turn(1)
    # THEN it is seen, and its text comes when its turn has come
    qtbot.waitUntil(lambda: ("b.pdf", 3) in reader.drawn and view.canvas.filled())
    assert view.text.hint() == "The text appears here."
    reader.let(3)
    qtbot.waitUntil(lambda: view.text.toPlainText().startswith("b.pdf, page 3"))


def test_escape_stops_and_what_was_read_stays(qtbot, view, reader):
    # GIVEN a document of which one page was read
    reader.held, reader.counts = True, {"b.pdf": 12}
    view.read([B])
    reader.let()
    qtbot.waitUntil(lambda: "2 of 12" in view.line.label.text())
    # WHEN Escape is pressed, in the text
    press(qtbot, view.text, Qt.Key.Key_Escape, Qt.KeyboardModifier.NoModifier)
    # THEN it stops at once
    assert done(view)
    assert view.line.label.text() == "Stopped; 1 of 12 pages read."
    assert view.text.toPlainText().startswith("b.pdf, page 1")
    # AND what still comes from the thread changes nothing
    reader.let(12)
    qtbot.waitUntil(lambda: reader.closed == ["b.pdf"])
    qtbot.wait(20)
    assert len(view._shown.texts) == 1


def test_a_pause_lasts_until_it_is_ended_and_no_page_is_read_twice(qtbot, view, reader):
    # GIVEN the second page of a document is being read
    reader.held, reader.counts = True, {"b.pdf": 3}
    view.read([B])
    reader.let()
    qtbot.waitUntil(lambda: len(view._shown.texts) == 1)
    # WHEN the reading is paused, and the page under way comes to its end
    button(view, "pause").click()
    reader.let()
    qtbot.waitUntil(lambda: reader.closed == ["b.pdf"])
    # THEN nothing goes on
    assert view.line.label.text() == "Paused; 1 of 3 pages read."
    assert states(view) == [State.WAITING]
    assert not button(view, "pause").isVisible()
    # WHEN it is resumed
    button(view, "resume").click()
    # THEN that page is there, and only the third is read
    qtbot.waitUntil(lambda: len(view._shown.texts) == 2)
    reader.let()
    qtbot.waitUntil(lambda: states(view) == [State.DONE])
    assert len(view._shown.texts) == 3


def test_files_that_come_while_one_is_read_wait_for_their_turn(qtbot, view, reader):
    # GIVEN a file that is being read
    reader.held, reader.counts = True, {"b.pdf": 2}
    view.read([B])
    reader.let()
    qtbot.waitUntil(lambda: len(view._shown.texts) == 1)
    # WHEN two others come, and everything may go on
    view.take(files(C))
    view.take(files(A))
    assert view.name.text() == "b.pdf"
    assert view.files.isVisible()
    reader.let(20)
    qtbot.waitUntil(lambda: done(view))
    # THEN all were read in the order in which they came, never two at once
    assert reader.started == names(view) == ["b.pdf", C.name, "a.png"]
    assert states(view) == [State.DONE] * 3
    assert reader.most_at_once == 1
    # AND the first is still in sight
    assert view.name.text() == "b.pdf"


def test_a_file_that_comes_when_all_is_done_is_shown(qtbot, view):
    view.read([A])
    qtbot.waitUntil(lambda: done(view))
    view.read([B])
    qtbot.waitUntil(lambda: done(view))
    assert names(view) == ["a.png", "b.pdf"]
    assert view.text.toPlainText().startswith("b.pdf")


def test_the_same_file_again_is_read_afresh_and_listed_once(qtbot, view, reader):
    view.read([A, B])
    qtbot.waitUntil(lambda: done(view))
    view.read([A])
    qtbot.waitUntil(lambda: done(view))
    assert names(view) == ["b.pdf", "a.png"]
    assert reader.started == ["a.png", "b.pdf", "a.png"]
    assert view.name.text() == "a.png"


def test_several_files_are_read_one_after_another(qtbot, view, reader):
    # GIVEN three files, of which the second is damaged
    reader.errors[("b.pdf", 1)] = BadInput("b.pdf is damaged.")
    # WHEN they are dropped together
    view.read([A, B, C])
    assert view.files.isVisible()
    qtbot.waitUntil(lambda: done(view))
    # THEN each was read in turn, and each can be looked at
    assert states(view) == [State.DONE, State.FAILED, State.DONE]
    assert reader.started == ["a.png", "b.pdf", C.name]
    assert view.pane.counts.text() == "2 of 3 done, 1 not read"
    assert view.queue.state_word(view.queue.entries[1]) == "Not read"
    assert view.name.text() == "a.png"
    pick(view, 1)
    assert view.notice.words() == "b.pdf is damaged."
    pick(view, 2)
    assert view.text.toPlainText().split("\n") == list(words(C.name, 1))
    assert not view.notice.isVisible()


def test_the_rest_is_read_again_and_nothing_else(qtbot, view, reader):
    # GIVEN two of four files were not read
    reader.errors = {("b.pdf", 1): BadInput("Damaged."), (C.name, 1): BadInput("Damaged.")}
    view.read([A, B, C, "/files/d.png"])
    qtbot.waitUntil(lambda: done(view))
    # WHEN the rest is asked for
    reader.errors, reader.started = {}, []
    button(view, "again").click()
    qtbot.waitUntil(lambda: done(view))
    # THEN those two are read
    assert reader.started == ["b.pdf", C.name]
    assert states(view) == [State.DONE] * 4
    assert not button(view, "again").isVisible()


def test_a_folder_gives_way_to_what_is_in_it(qtbot, view, reader):
    # GIVEN a folder with two files, and one with none
    reader.news = {"scans": Contents((Path("/scans/1.png"), Path("/scans/2.png")), 7), "empty": Contents((), 0)}
    # WHEN they are dropped with a file
    view.read([Path("/scans"), A, Path("/empty")])
    qtbot.waitUntil(lambda: done(view))
    # THEN its files are read in its place, and what was left out is said
    assert names(view) == ["1.png", "2.png", "a.png", "empty"]
    assert states(view) == [*[State.DONE] * 3, State.FAILED]
    assert view.name.text() == "1.png"
    assert "7 were left out" in view.heard[0]
    pick(view, 3)
    assert "no picture or PDF" in view.notice.words()


def test_looking_at_another_file_while_one_is_read(qtbot, view, reader):
    # GIVEN the second of two files is being read
    reader.held = True
    view.read([A, B])
    reader.let()
    qtbot.waitUntil(lambda: view.queue.reading is view.queue.entries[1])
    assert view.line.label.text() == "b.pdf: Reading…"
    # WHEN its text comes while the first is shown
    reader.let()
    qtbot.waitUntil(lambda: done(view))
    # THEN the first stays, and the second is there when asked for
    assert view.text.toPlainText().startswith("a.png")
    pick(view, 1)
    assert view.text.toPlainText().startswith("b.pdf")


@pytest.mark.parametrize(
    ("error", "told"),
    [(BadInput("Page 2 is damaged."), "Page 2 is damaged."), (ZeroDivisionError(), "unexpected")],
)
def test_a_failure_is_told_in_place_and_can_be_tried_again(qtbot, view, reader, error, told):
    # GIVEN a document whose reading fails at the second page
    reader.counts, reader.errors = {"b.pdf": 3}, {("b.pdf", 2): error}
    view.read([B])
    # THEN a sentence says so, no dialog opens, and the first page stays
    qtbot.waitUntil(lambda: done(view))
    assert view.notice.isVisible()
    assert told in view.notice.words()
    assert QApplication.activeModalWidget() is None
    assert view.text.toPlainText().startswith("b.pdf, page 1")
    # WHEN it is tried again and goes well
    reader.errors.clear()
    button(view, "retry").click()
    qtbot.waitUntil(lambda: view._shown.state is State.DONE)
    # THEN everything is there
    assert not view.notice.isVisible()
    assert len(view._shown.texts) == 3


def test_a_damaged_page_costs_only_itself(qtbot, view, reader):
    # GIVEN a document of four pages, two of them damaged
    reader.counts = {"b.pdf": 4}
    reader.damaged = {("b.pdf", page): f"Page {page} is damaged." for page in (2, 3)}
    view.read([B])
    qtbot.waitUntil(lambda: done(view))
    # THEN the last is read, and the two are told
    assert sorted(view._shown.texts) == [1, 4]
    assert view.notice.words() == "2 pages were not read. Page 2 is damaged."
    assert view.line.label.text() == "2 of 4 pages read."
    view.turn(1)
    view.turn(1)
    assert view.notice.words().endswith("Page 3 is damaged.")
    assert view.text.hint() == "This page was not read."


def test_what_cannot_be_kept_is_said_and_read_all_the_same(qtbot, view, reader):
    reader.news = {"a.png": Unkept("What is read cannot be kept, the disk is full.")}
    view.read([A])
    qtbot.waitUntil(lambda: done(view))
    assert view.heard == ["What is read cannot be kept, the disk is full."]


def test_a_page_without_text_says_so(qtbot, view, reader):
    reader.blank = True
    view.read([A])
    qtbot.waitUntil(lambda: done(view))
    assert view.text.toPlainText() == ""
    assert "No text was found" in view.text.hint()


# The list


def test_a_file_is_taken_off_the_list_and_its_neighbour_shown(qtbot, view):
    view.read([A, B, C])
    qtbot.waitUntil(lambda: done(view))
    pick(view, 1)
    # WHEN the second is taken off, then what follows
    for left in (["a.png", C.name], ["a.png"], []):
        view.does["remove"].trigger()
        assert names(view) == left
    # THEN the empty view invites to the next
    assert view.start.isVisible()


def test_taking_off_what_is_being_read_goes_on_with_the_next(qtbot, view, reader):
    reader.held = True
    view.read([A, B])
    qtbot.waitUntil(lambda: reader.started == ["a.png"])
    view.does["remove"].trigger()
    reader.let(2)
    qtbot.waitUntil(lambda: done(view))
    assert states(view) == [State.DONE]
    assert view.text.toPlainText().startswith("b.pdf")


def test_clearing_the_list_stops_and_forgets_nothing_that_is_kept(qtbot, view, reader):
    # GIVEN a queue under way
    reader.held, reader.counts = True, {"a.png": 2}
    view.read([A, B])
    reader.let()
    qtbot.waitUntil(lambda: len(view._shown.texts) == 1)
    # WHEN the list is cleared
    button(view, "clear").click()
    # THEN nothing is listed and nothing is read
    assert view.start.isVisible()
    assert names(view) == []
    reader.let(9)
    qtbot.waitUntil(lambda: reader.closed == ["a.png"])
    # AND the same file again begins with what is kept of it
    view.read([A])
    qtbot.waitUntil(lambda: done(view))
    assert len(view._shown.texts) == 2


def test_forgetting_drops_what_is_kept(qtbot, view, reader):
    view.read([A])
    qtbot.waitUntil(lambda: done(view))
    view.does["forget"].trigger()
    qtbot.waitUntil(lambda: reader.forgotten == 1 and bool(view.heard))
    assert reader.kept == {}
    assert view.start.isVisible()
    assert "kept" in view.heard[-1]


def test_a_thousand_files_are_listed_by_one_model(qtbot, view, reader):
    # WHEN a thousand files are dropped
    reader.held = True
    view.read([Path(f"/files/{number}.png") for number in range(1000)])
    # THEN they are rows of a model, not widgets, and each says its name, its place and its state
    assert view.queue.rowCount() == view.files.model().rowCount() == 1000
    last = view.queue.index(999)
    assert last.data(Qt.ItemDataRole.AccessibleTextRole) == "999.png, Waiting"
    assert "/files/999.png" in last.data(Qt.ItemDataRole.ToolTipRole)
    assert last.data(Queue.ENTRY) is view.queue.entries[999]


# Where an earlier program ended


def test_what_was_left_over_is_offered_and_read(qtbot, reader):
    # GIVEN two files that an earlier program did not finish
    reader.left_over = ["/files/a.png", "/files/b.pdf"]
    view = shown(qtbot, reader)
    assert "2 documents" in view.left_over.words()
    assert reader.started == []
    # WHEN the offer is taken
    button(view, "go_on").click()
    qtbot.waitUntil(lambda: done(view))
    # THEN they are read, and nothing is left over
    assert states(view) == [State.DONE] * 2
    assert not view.left_over.isVisible()
    assert reader.plans[-1] == []


def test_what_was_left_over_stays_planned_until_it_is_declined(qtbot, reader):
    # GIVEN an offer, and another file that is being read
    reader.left_over, reader.held = ["/files/a.png"], True
    view = shown(qtbot, reader)
    view.read([B])
    assert reader.plans[-1] == ["/files/b.pdf", "/files/a.png"]
    # WHEN it is declined
    button(view, "decline").click()
    # THEN only the other stays
    assert reader.plans[-1] == ["/files/b.pdf"]
    assert not view.left_over.isVisible()
    assert names(view) == ["b.pdf"]


def test_closing_keeps_the_plan_and_stopping_drops_it(qtbot, view, reader):
    # GIVEN two files and a pasted picture, which has no file to go on with
    reader.held = True
    view.read([A, B])
    view.take(picture())
    assert reader.plans[-1] == ["/files/a.png", "/files/b.pdf"]
    # WHEN the window closes
    view.leave()
    # THEN the plan stays
    assert done(view)
    assert reader.plans[-1] == ["/files/a.png", "/files/b.pdf"]
    # WHEN it is stopped by hand
    view.stop()
    # THEN nothing is planned
    assert reader.plans[-1] == []


# Clumsy hands


COPYING = ("copy_text", "copy_markdown", "send_to_chat", "send_to_speech")
LOOKING = ("previous", "next", "zoom_in", "zoom_out", "fit", "fit_width")
BUTTONS = ("open", "paste", "pause", "resume", "stop", "again", "clear", "retry", *COPYING, *LOOKING)


@pytest.mark.parametrize("name", BUTTONS)
@pytest.mark.parametrize("when", ["empty", "busy", "paused", "read", "failed"])
def test_two_clicks_at_any_time_do_no_harm(qtbot, view, reader, name, when):
    # GIVEN a view in some state, and a picture on the clipboard
    QGuiApplication.clipboard().setMimeData(picture())
    reader.held, reader.counts = when in ("busy", "paused"), {"b.pdf": 2}
    reader.errors = {("b.pdf", 2): BadInput("Damaged.")} if when == "failed" else {}
    if when != "empty":
        view.read([B])
        reader.let()
        qtbot.waitUntil(lambda: len(view._shown.texts) == 1 if reader.held else done(view))
    if when == "paused":
        view.queue.pause()
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
    view.queue.resume()
    qtbot.waitUntil(lambda: done(view))
    pick(view, len(view.queue.entries) - 1)
    assert view.text.toPlainText().split("\n") == list(words("a.png", 1))
    assert reader.most_at_once <= 1


def test_the_view_is_left_at_once_while_a_page_is_read(qtbot, view, reader):
    # GIVEN a page that takes its time
    reader.held = True
    view.read([B])
    qtbot.waitUntil(lambda: reader.started == ["b.pdf"])
    # WHEN the window is closed
    view.leave()
    # THEN reading was given up, and the thread's late news goes nowhere
    assert done(view)
    reader.let()
    qtbot.waitUntil(lambda: reader.closed == ["b.pdf"])
    assert view._shown.texts == {}


def test_names_are_shown_as_they_are_and_shortened_in_the_middle(qtbot, view):
    # GIVEN names that are long, or look like markup
    odd = Path("/files/<b>bold & 🐦 " + "very " * 60 + "long.png")
    # WHEN such files are read
    view.read([odd, A])
    qtbot.waitUntil(lambda: done(view))
    # THEN the name fits, keeps its end, and its tooltip is the name, not markup
    assert view.name.shown().endswith("long.png")
    assert "…" in view.name.shown()
    assert "&lt;b&gt;" in view.name.toolTip()
    assert "&lt;b&gt;" in view.queue.index(0).data(Qt.ItemDataRole.ToolTipRole)
    assert view.width() < 1400

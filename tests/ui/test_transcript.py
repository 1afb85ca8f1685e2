import pytest
from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

from crane_app.ui import theme
from crane_app.ui.chat.transcript import GAP, Transcript
from crane_app.ui.markdown.view import MarkdownView
from crane_app.ui.slices import slices


class Note(QWidget):
    """A message of a given height; measured: the widths that its height was asked for."""

    grew = Signal()

    def __init__(self, height=100):
        super().__init__()
        self.tall = height
        self.measured = []
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def height_for(self, width):
        self.measured.append(width)
        return self.tall

    def grow(self, height):
        self.tall = height
        self.grew.emit()


class Wrapped(QWidget):
    """A message around a text, as the chat has them."""

    grew = Signal()

    def __init__(self, text):
        super().__init__()
        self.body = MarkdownView("Answer")
        self.body.grew.connect(self.grew)
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 30, 10, 10)
        column.addWidget(self.body)
        self.body.set_text(text)

    def height_for(self, width):
        return self.layout().totalHeightForWidth(width)


@pytest.fixture
def transcript(qtbot):
    made = Transcript()
    made.resize(900, 600)
    qtbot.addWidget(made)
    made.show()
    with qtbot.waitActive(made):
        made.activateWindow()
    return made


def fill(transcript, count, height=100):
    notes = [Note(height) for _ in range(count)]
    for note in notes:
        transcript.add(note)
    return notes


def quiet():
    return not slices()._steps


def bar(transcript):
    return transcript.verticalScrollBar()


def y_in_sight(widget) -> int:
    """Where a message is, from the top of the sight."""
    return widget.geometry().top()


def test_messages_stand_below_each_other_in_a_column_in_the_middle(transcript):
    one, two = fill(transcript, 2)
    assert transcript.widgets() == (one, two)
    assert one.width() == two.width() == 760
    assert two.geometry().top() - one.geometry().bottom() - 1 == GAP == 16
    left, room = one.geometry().left(), transcript.viewport().width()
    assert abs(left - (room - 760 - left)) <= 1
    # WHEN there is less room
    transcript.resize(500, 600)
    assert one.width() == transcript.viewport().width() - 2 * 16


def test_the_end_stays_in_sight_while_the_last_message_grows(transcript):
    notes = fill(transcript, 20)
    assert bar(transcript).value() == bar(transcript).maximum() > 0
    for height in range(100, 2000, 50):
        notes[-1].grow(height)
        assert bar(transcript).value() == bar(transcript).maximum()
    assert transcript.is_at_end()
    assert not transcript.jump.isVisible()


def test_a_reader_who_scrolled_up_is_not_moved(qtbot, transcript):
    notes = fill(transcript, 20)
    bar(transcript).setValue(900)
    seen = {note: y_in_sight(note) for note in notes if note.isVisible()}
    # WHEN the last message grows and more come
    notes[-1].grow(900)
    transcript.add(Note())
    # THEN nothing moves, and a button leads to the latest
    assert {note: y_in_sight(note) for note in seen} == seen
    assert transcript.jump.isVisible()
    assert transcript.jump.accessibleName() == "Jump to the latest"
    qtbot.mouseClick(transcript.jump, Qt.MouseButton.LeftButton)
    assert bar(transcript).value() == bar(transcript).maximum()
    assert not transcript.jump.isVisible()
    # AND from there it follows again
    notes[-1].grow(1500)
    assert bar(transcript).value() == bar(transcript).maximum()


def test_scrolling_back_to_the_end_follows_again(transcript):
    notes = fill(transcript, 20)
    bar(transcript).setValue(500)
    assert not transcript.is_at_end()
    bar(transcript).setValue(bar(transcript).maximum())
    notes[-1].grow(500)
    assert bar(transcript).value() == bar(transcript).maximum()


def test_older_messages_come_in_above_without_a_jump(qtbot, transcript):
    notes = fill(transcript, 20)
    bar(transcript).setValue(350)
    seen = {note: y_in_sight(note) for note in notes if note.isVisible()}
    # WHEN ten older ones of other heights are put before them
    for height in range(50, 1050, 100):
        transcript.insert(0, Note(height))
    qtbot.waitUntil(quiet)
    # THEN what was read stands where it stood
    assert {note: y_in_sight(note) for note in seen} == seen


def test_a_message_above_that_grows_moves_nothing(transcript):
    notes = fill(transcript, 20)
    bar(transcript).setValue(1000)
    seen = {note: y_in_sight(note) for note in notes if 0 <= y_in_sight(note) < 600 and note.isVisible()}
    notes[3].grow(700)
    notes[5].grow(20)
    assert {note: y_in_sight(note) for note in seen} == seen


def test_what_is_read_stays_in_sight_when_the_window_gets_narrower(qtbot, transcript):
    text = "\n\n".join(f"Paragraph {i}. " + "More words that wrap. " * 20 for i in range(60))
    messages = [Wrapped(text) for _ in range(3)]
    for message in messages:
        transcript.add(message)
    qtbot.waitUntil(quiet, timeout=20_000)
    # GIVEN a paragraph at the top, in the middle of a long message
    bar(transcript).setValue(bar(transcript).maximum() // 2)
    body = messages[1].body

    def read() -> int:
        return body.anchor_at(body.mapFrom(transcript.viewport(), QPoint(0, 2)).y())[0]

    before = read()
    assert 10 < before < 50
    # WHEN the window changes, and everything is laid out
    for width in (600, 420, 800):
        transcript.resize(width, 600)
        assert read() == before
        qtbot.waitUntil(quiet, timeout=20_000)
        assert read() == before
    # AND with larger letters
    theme.set_text_size(150)
    try:
        qtbot.waitUntil(quiet, timeout=20_000)
        assert read() == before
    finally:
        theme.set_text_size(100)


def test_two_thousand_messages_are_measured_in_slices_and_few_are_shown(qtbot, transcript):
    # GIVEN two thousand, of which the last are in sight
    notes = fill(transcript, 2000)
    qtbot.waitUntil(quiet, timeout=20_000)
    for note in notes:
        note.measured.clear()
    # WHEN the window changes
    transcript.resize(600, 600)
    # THEN only those near the sight are measured at once
    assert 0 < sum(bool(note.measured) for note in notes) < 40
    assert sum(note.isVisible() for note in notes) < 40
    # AND in the end all are, once
    qtbot.waitUntil(quiet, timeout=20_000)
    assert all(note.measured == [transcript.column().width()] for note in notes)
    bar(transcript).setValue(bar(transcript).maximum() // 2)
    assert sum(note.isVisible() for note in notes) < 40


def test_a_message_can_be_removed_and_all_can(transcript):
    one, two, three = fill(transcript, 3)
    top = y_in_sight(two)
    transcript.remove(two)
    assert transcript.widgets() == (one, three)
    assert y_in_sight(three) == top
    transcript.clear()
    assert transcript.widgets() == ()
    assert bar(transcript).maximum() == 0
    assert transcript.is_at_end()


def test_a_message_is_brought_into_sight(transcript):
    notes = fill(transcript, 30)
    transcript.reveal(notes[4])
    assert y_in_sight(notes[4]) == GAP
    transcript.reveal(notes[20])
    assert y_in_sight(notes[20]) + 100 == transcript.viewport().height() - GAP
    where = bar(transcript).value()
    transcript.reveal(notes[19])
    assert bar(transcript).value() == where


def test_coming_near_the_top_asks_for_older_messages(qtbot, transcript):
    fill(transcript, 30)
    with qtbot.assertNotEmitted(transcript.earlier):
        bar(transcript).setValue(1500)
    with qtbot.waitSignal(transcript.earlier):
        bar(transcript).setValue(100)


def test_keys_scroll(qtbot, transcript):
    notes = fill(transcript, 30)
    notes[-1].setFocus()
    qtbot.keyClick(notes[-1], Qt.Key.Key_Home)
    assert bar(transcript).value() == 0
    qtbot.keyClick(notes[-1], Qt.Key.Key_PageDown)
    assert bar(transcript).value() == bar(transcript).pageStep()
    qtbot.keyClick(notes[-1], Qt.Key.Key_PageUp)
    assert bar(transcript).value() == 0
    qtbot.keyClick(notes[-1], Qt.Key.Key_End)
    assert bar(transcript).value() == bar(transcript).maximum()


def test_tab_goes_through_the_messages_in_order_and_shows_them(qtbot, transcript):
    notes = fill(transcript, 12)
    older = Note()
    transcript.insert(0, older)
    bar(transcript).setValue(0)
    older.setFocus()
    for note in notes:
        qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        assert note.hasFocus()
        assert y_in_sight(note) >= 0
        assert y_in_sight(note) + 100 <= transcript.viewport().height()
    qtbot.keyClick(notes[-1], Qt.Key.Key_Backtab)
    assert notes[-2].hasFocus()


def test_tab_leaves_the_transcript_at_its_ends(qtbot):
    window = QWidget()
    before, transcript, after = Note(), Transcript(), Note()
    column = QVBoxLayout(window)
    for each in (before, after):
        each.setMinimumHeight(40)
    for each in (before, transcript, after):
        column.addWidget(each)
    qtbot.addWidget(window)
    window.resize(900, 900)
    window.show()
    with qtbot.waitActive(window):
        window.activateWindow()
    _, two = fill(transcript, 2)
    transcript.insert(0, older := Note())
    two.setFocus()
    qtbot.keyClick(two, Qt.Key.Key_Tab)
    assert after.hasFocus()
    older.setFocus()
    qtbot.keyClick(older, Qt.Key.Key_Backtab)
    assert before.hasFocus()


def test_dragging_beyond_the_sight_scrolls_on(transcript):
    fill(transcript, 30)
    bar(transcript).setValue(1000)
    top = transcript.viewport().mapToGlobal(QPoint(0, 0)).y()
    transcript.follow_pointer(top - 20)
    assert bar(transcript).value() == 980
    transcript.follow_pointer(top + 50)
    assert bar(transcript).value() == 980
    transcript.follow_pointer(top + transcript.viewport().height() + 500)
    assert bar(transcript).value() == 1040

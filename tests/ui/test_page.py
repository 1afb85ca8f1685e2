import pytest
from fake_reader import words
from hands import A, B, button, clipboard, done, press
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import (
    QGuiApplication,
    QWheelEvent,
)
from PySide6.QtWidgets import QApplication


def test_pages_are_turned(qtbot, window, view, reader):
    # GIVEN three pages
    reader.counts = {"b.pdf": 3}
    view.read([B])
    qtbot.waitUntil(lambda: done(view))
    assert not button(view, "previous").isEnabled()
    # WHEN pages are turned with the button and with the keys
    button(view, "next").click()
    press(qtbot, window, Qt.Key.Key_Right, Qt.KeyboardModifier.AltModifier)
    # THEN the third is shown, and there is no further
    assert view.text.toPlainText().startswith("b.pdf, page 3")
    assert view.page_label.text() == "Page 3 of 3"
    assert not button(view, "next").isEnabled()
    view.turn(1)
    assert view.page_label.text() == "Page 3 of 3"


def centre_of_box(view, index) -> QPoint:
    return view.canvas.mapFromScene(view.canvas.boxes()[index].boundingRect().center())


def centre_of_block(view, index) -> QPoint:
    block = view.text.document().findBlockByNumber(index)
    area = view.text.document().documentLayout().blockBoundingRect(block)
    return QPoint(20, int(area.center().y()))


def marked(view) -> list[str]:
    return [each.cursor.selectedText() for each in view.text.extraSelections()]


def test_pointing_at_a_box_marks_its_text_and_the_other_way_round(qtbot, view):
    view.read([A])
    qtbot.waitUntil(lambda: done(view))
    # WHEN the pointer is over the second box
    qtbot.mouseMove(view.canvas.viewport(), centre_of_box(view, 0))
    qtbot.mouseMove(view.canvas.viewport(), centre_of_box(view, 1))
    # THEN the second block is marked
    assert marked(view) == [words("a.png", 1)[1]]
    # WHEN it is over the third block
    qtbot.mouseMove(view.text.viewport(), centre_of_block(view, 2))
    # THEN the third box is filled more than the others
    fills = [box.brush().color().alpha() for box in view.canvas.boxes()]
    assert fills[2] > fills[0] == fills[1]
    # WHEN it is below all text
    qtbot.mouseMove(view.text.viewport(), QPoint(20, view.text.viewport().height() - 2))
    # THEN nothing is marked
    assert marked(view) == []


def test_a_click_on_a_box_selects_its_text_for_copying(qtbot, window, view):
    view.read([A])
    qtbot.waitUntil(lambda: done(view))
    # WHEN the second box is clicked and Ctrl+C pressed
    qtbot.mouseClick(view.canvas.viewport(), Qt.MouseButton.LeftButton, pos=centre_of_box(view, 1))
    press(qtbot, view.text, Qt.Key.Key_C)
    # THEN just that text is on the clipboard
    assert clipboard() == words("a.png", 1)[1]


def test_the_keyboard_in_the_text_chooses_the_box(qtbot, view):
    view.read([A])
    qtbot.waitUntil(lambda: done(view))
    # WHEN the cursor goes to the end of the text
    press(qtbot, view.text, Qt.Key.Key_End)
    # THEN the last box is drawn stronger
    widths = [box.pen().widthF() for box in view.canvas.boxes()]
    assert widths[2] > widths[0] == widths[1]


def test_zoom_with_the_wheel_and_fit(qtbot, window, view):
    view.read([A])
    qtbot.waitUntil(lambda: done(view))
    fitted = view.canvas.zoom()
    # WHEN the wheel turns with Ctrl held
    wheel = QWheelEvent(
        QPointF(50, 50),
        QPointF(50, 50),
        QPoint(),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.ControlModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(view.canvas.viewport(), wheel)
    # THEN the page grows by a step, and Ctrl+0 fits it again, also after a resize
    assert view.canvas.zoom() == pytest.approx(1.25 * fitted)
    press(qtbot, window, Qt.Key.Key_0)
    assert view.canvas.zoom() == pytest.approx(fitted)
    window.resize(700, 500)
    qtbot.waitUntil(lambda: view.canvas.zoom() < fitted)


def test_copying_takes_all_pages_or_the_selection_and_always_plain(qtbot, window, view, reader):
    reader.counts = {"b.pdf": 2}
    view.read([B])
    qtbot.waitUntil(lambda: done(view))
    both = "\n".join(words("b.pdf", 1) + words("b.pdf", 2))
    # WHEN nothing is selected, Ctrl+C takes everything, wherever the focus is
    for focused in (view.text, view.canvas, window):
        QGuiApplication.clipboard().clear()
        press(qtbot, focused, Qt.Key.Key_C)
        assert clipboard() == both
    assert "Copied" in window.statusBar().currentMessage()
    # AND the buttons do whatever is selected
    view.text.choose(0)
    button(view, "copy_text").click()
    assert clipboard() == both
    button(view, "copy_markdown").click()
    assert clipboard() == "# " + both
    # AND a selection over two blocks is copied as plain text
    view.text.selectAll()
    press(qtbot, view.text, Qt.Key.Key_C)
    assert clipboard() == "\n".join(words("b.pdf", 1))
    assert not QGuiApplication.clipboard().mimeData().hasHtml()

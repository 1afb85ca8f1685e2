import pytest
from fake_reader import shown, words
from hands import A, B, button, clipboard, done, press
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QGuiApplication, QImage, QWheelEvent
from PySide6.QtWidgets import QApplication


@pytest.fixture
def view(qtbot, reader):
    return shown(qtbot, reader)


def read(qtbot, view, *paths) -> None:
    view.read(paths)
    qtbot.waitUntil(lambda: done(view) and view.canvas.filled() and bool(view.canvas.boxes()))
    QApplication.processEvents()  # the panes have found their places


def test_pages_are_turned(qtbot, view, reader):
    # GIVEN three pages
    reader.counts = {"b.pdf": 3}
    read(qtbot, view, B)
    assert not button(view, "previous").isEnabled()
    # WHEN pages are turned with the button and with the keys
    button(view, "next").click()
    press(qtbot, view, Qt.Key.Key_Right, Qt.KeyboardModifier.AltModifier)
    # THEN the third is shown, and there is no further
    assert view.text.toPlainText().startswith("b.pdf, page 3")
    assert view.page.label.text() == "3 of 3"
    assert not button(view, "next").isEnabled()
    view.turn(1)
    assert view.page.label.text() == "3 of 3"


def centre_of_box(view, index) -> QPoint:
    return view.canvas.mapFromScene(view.canvas.boxes()[index].boundingRect().center())


def centre_of_block(view, index) -> QPoint:
    block = view.text.document().findBlockByNumber(index)
    area = view.text.document().documentLayout().blockBoundingRect(block)
    return QPoint(20, int(area.center().y()))


def marked(view) -> list[str]:
    return [each.cursor.selectedText() for each in view.text.extraSelections()]


def test_pointing_at_a_box_marks_its_text_and_the_other_way_round(qtbot, view):
    read(qtbot, view, A)
    # A dialog that came between press and release leaves Qt with a button held, in whatever test that was.
    qtbot.mouseClick(view.canvas.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(2, 2))
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


def test_a_click_on_a_box_selects_its_text_for_copying(qtbot, view):
    read(qtbot, view, A)
    # WHEN the second box is clicked and Ctrl+C pressed
    qtbot.mouseClick(view.canvas.viewport(), Qt.MouseButton.LeftButton, pos=centre_of_box(view, 1))
    press(qtbot, view.text, Qt.Key.Key_C)
    # THEN just that text is on the clipboard
    assert clipboard() == words("a.png", 1)[1]


def test_the_keyboard_in_the_text_chooses_the_box(qtbot, view):
    read(qtbot, view, A)
    # WHEN the cursor goes to the end of the text
    press(qtbot, view.text, Qt.Key.Key_End)
    # THEN the last box is drawn stronger
    widths = [box.pen().widthF() for box in view.canvas.boxes()]
    assert widths[2] > widths[0] == widths[1]


def test_zoom_with_the_wheel_and_fit(qtbot, view):
    read(qtbot, view, A)
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
    press(qtbot, view, Qt.Key.Key_0)
    assert view.canvas.zoom() == pytest.approx(fitted)
    view.resize(700, 500)
    qtbot.waitUntil(lambda: view.canvas.zoom() < fitted)


def test_a_page_can_be_as_wide_as_there_is_room(qtbot, view):
    read(qtbot, view, A)
    whole = view.canvas.zoom()
    # WHEN the width is fitted
    press(qtbot, view, Qt.Key.Key_9)
    # THEN it is wider than the whole page was, and stays as wide as there is room
    room = view.canvas.maximumViewportSize().width()
    assert whole < view.canvas.zoom() <= room / view.canvas.sceneRect().width()
    assert not view.canvas.horizontalScrollBar().isVisible()
    before = view.canvas.zoom()
    view.resize(view.width() - 200, view.height())
    qtbot.waitUntil(lambda: view.canvas.zoom() < before)
    assert not view.canvas.horizontalScrollBar().isVisible()


def test_the_keys_of_the_page(qtbot, view, reader):
    # GIVEN three pages, the focus on the picture
    reader.counts = {"b.pdf": 3}
    read(qtbot, view, B)
    view.canvas.setFocus()
    fitted, bare = view.canvas.zoom(), Qt.KeyboardModifier.NoModifier
    # WHEN plus, minus and nought are pressed
    press(qtbot, view.canvas, Qt.Key.Key_Plus, bare)
    assert view.canvas.zoom() > fitted
    press(qtbot, view.canvas, Qt.Key.Key_Minus, bare)
    assert view.canvas.zoom() == pytest.approx(fitted)
    press(qtbot, view.canvas, Qt.Key.Key_W, bare)
    assert view.canvas.zoom() > fitted
    press(qtbot, view.canvas, Qt.Key.Key_0, bare)
    assert view.canvas.zoom() == pytest.approx(fitted)
    # THEN the page down and up keys turn, where there is nothing to scroll
    press(qtbot, view.canvas, Qt.Key.Key_PageDown, bare)
    assert view.page.label.text() == "2 of 3"
    press(qtbot, view.canvas, Qt.Key.Key_PageUp, bare)
    assert view.page.label.text() == "1 of 3"


def test_a_drag_moves_the_page_and_chooses_nothing(qtbot, view):
    read(qtbot, view, A)
    for _ in range(6):
        view.canvas.zoom_in()
    chosen = []
    view.canvas.chosen.connect(chosen.append)
    bar, ground = view.canvas.verticalScrollBar(), view.canvas.viewport()
    bar.setValue(bar.minimum())
    view.canvas.centerOn(view.canvas.boxes()[1])
    before, start = bar.value(), centre_of_box(view, 1)
    # WHEN the page is dragged by a box
    qtbot.mousePress(ground, Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(ground, start - QPoint(0, 60))
    qtbot.mouseRelease(ground, Qt.MouseButton.LeftButton, pos=start - QPoint(0, 60))
    # THEN it follows
    assert bar.value() == before + 60
    assert chosen == []


def test_a_page_far_away_is_painted_from_a_smaller_picture(qtbot, view):
    # GIVEN pictures of three sizes, each of its own colour
    pictures = [QImage(side, side, QImage.Format.Format_RGB32) for side in (400, 200, 100)]
    for picture, colour in zip(pictures, ("red", "green", "blue"), strict=True):
        picture.fill(QColor(colour))
    read(qtbot, view, A)
    canvas = view.canvas
    canvas.show_picture(pictures, 400, 400)
    seen = []
    for zoom in (1.0, 0.5, 0.4, 0.2):
        canvas._zoom_to(zoom)
        middle = canvas.mapFromScene(200, 200)
        seen.append(QColor(canvas.viewport().grab().toImage().pixel(middle)).name())
    # THEN the smallest that has enough pixels is used
    assert seen == ["#ff0000", "#008000", "#008000", "#0000ff"]


BOTH = "b.pdf, page 1\n\nCranes stand in shallow water.\n\nGrus grus\n"


def test_copying_takes_all_pages_or_the_selection_and_always_plain(qtbot, view, reader):
    reader.counts = {"b.pdf": 2}
    read(qtbot, view, B)
    both = BOTH + "\n" + BOTH.replace("page 1", "page 2")
    # WHEN nothing is selected, Ctrl+C takes everything, wherever the focus is
    for focused in (view.text, view.canvas, view):
        QGuiApplication.clipboard().clear()
        press(qtbot, focused, Qt.Key.Key_C)
        qtbot.waitUntil(lambda: clipboard() == both)
    assert "Copied" in view.heard[-1]
    # AND the buttons do whatever is selected
    view.text.choose(0)
    QGuiApplication.clipboard().clear()
    button(view, "copy_text").click()
    qtbot.waitUntil(lambda: clipboard() == both)
    button(view, "copy_markdown").click()
    qtbot.waitUntil(lambda: clipboard().startswith("## b.pdf, page 1"))
    # AND a selection over two blocks is copied as plain text
    view.text.selectAll()
    press(qtbot, view.text, Qt.Key.Key_C)
    assert clipboard() == "\n".join(words("b.pdf", 1))
    assert not QGuiApplication.clipboard().mimeData().hasHtml()


def test_the_text_is_arranged_in_another_way_without_reading_again(qtbot, view, reader):
    read(qtbot, view, A)
    started, text = list(reader.started), BOTH.replace("b.pdf", "a.png")
    # WHEN the lines are to be kept
    view.does["lines"].trigger()
    # THEN the sentence breaks where the page does; the boxes stay those of the paragraphs
    assert "Cranes stand in\u2028shallow water." in view.text.document().findBlockByNumber(1).text()
    assert len(view.canvas.boxes()) == 3
    button(view, "copy_text").click()
    qtbot.waitUntil(lambda: clipboard() == text.replace("in shallow", "in\nshallow"))
    # WHEN it is to be code
    view.side.modes.setCurrentIndex(2)
    view.side.modes.activated.emit(2)
    # THEN it is not wrapped, of fixed pitch, and still linked with its boxes
    assert view.does["code"].isChecked()
    assert view.text.lineWrapMode() == view.text.LineWrapMode.NoWrap
    blocks = view.text.document().blockCount()
    assert blocks == len(view.canvas.boxes()) > 0
    button(view, "copy_markdown").click()
    qtbot.waitUntil(lambda: clipboard().startswith("```\n"))
    # AND nothing was read again
    assert reader.started == started


@pytest.mark.parametrize(("name", "target"), [("send_to_chat", "chat"), ("send_to_speech", "read_aloud")])
def test_the_text_is_handed_on_to_another_view(qtbot, view, name, target):
    read(qtbot, view, A)
    # WHEN nothing is selected, everything goes
    with qtbot.waitSignal(view.sent) as sent:
        button(view, name).click()
    assert sent.args == [target, BOTH.replace("b.pdf", "a.png")]
    # WHEN something is, that
    view.text.choose(2)
    with qtbot.waitSignal(view.sent) as sent:
        button(view, name).click()
    assert sent.args == [target, "Grus grus"]

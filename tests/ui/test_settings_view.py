"""The settings page: every setting can be found, changed, understood and set back, by mouse and keyboard."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FakeConnection, FakePreferences, FakeReadiness
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QDesktopServices, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QListWidget,
    QPlainTextEdit,
    QToolButton,
    QWidget,
)

from crane_app.settings import SETTINGS
from crane_app.ui import theme
from crane_app.ui.parts import ElidedLabel
from crane_app.ui.settings.view import SettingsView, nearest

SHOWN = [setting for setting in SETTINGS if setting.title]


@pytest.fixture
def preferences():
    return FakePreferences()


@pytest.fixture
def page(qtbot, preferences):
    made = SettingsView(preferences)
    qtbot.addWidget(made)
    made.resize(840, 560)
    made.show()
    with qtbot.waitActive(made):
        made.activateWindow()
    qtbot.waitUntil(lambda: made.built)
    return made


@pytest.fixture
def usual_size():
    yield
    theme.set_text_size(100)


def control(page, name: str) -> QWidget:
    return page.rows[name].field.control


def seen(page) -> list[str]:
    return [name for name, row in page.rows.items() if row.isVisible()]


def choose(box: QComboBox, words: str) -> None:
    """As a person does: from the opened list."""
    index = box.findText(words)
    box.setCurrentIndex(index)
    box.activated.emit(index)


# What can be changed


def test_every_setting_has_a_row_that_shows_its_value(page):
    assert list(page.rows) == [setting.name for setting in SHOWN]
    assert control(page, "appearance").currentText() == "Same as the system"
    assert control(page, "text-size").text() == "100 %"
    assert control(page, "temperature").text() == "The model's own"
    assert control(page, "backend").currentText() == "This machine's own"
    assert control(page, "keep-history").isChecked()
    assert not any(row.reset.isVisible() for row in page.rows.values())


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [("appearance", "Dark", "dark"), ("send-key", "Ctrl+Enter", "ctrl-enter"), ("backend", "MLX", "mlx")],
)
def test_a_choice_counts_at_once(page, preferences, name, words, value):
    choose(control(page, name), words)
    assert preferences.get(name) == value
    choose(control(page, name), control(page, name).itemText(0))
    assert preferences.is_default(name)


def test_what_does_not_work_yet_is_not_offered(page):
    assert control(page, "backend").findData("remote") < 0


def test_a_number_counts_when_it_is_written_to_its_end(qtbot, page, preferences):
    # GIVEN the text's size in per cent
    box = control(page, "text-size")
    box.setFocus()
    box.selectAll()
    # WHEN 150 is typed, the first digits of which are sizes too
    sizes = []
    preferences.changed.connect(lambda name: sizes.append(preferences.get(name)))
    qtbot.keyClicks(box, "150")
    assert sizes == []
    qtbot.keyClick(box, Qt.Key.Key_Return)
    # THEN only the whole number counted
    assert sizes == [150]


def test_a_number_has_a_way_to_the_models_own(qtbot, page, preferences):
    box = control(page, "temperature")
    box.setFocus()
    qtbot.keyClick(box, Qt.Key.Key_Up)
    assert preferences.get("temperature") == 0
    qtbot.keyClick(box, Qt.Key.Key_Up)
    assert preferences.get("temperature") == 0.1
    for _ in range(3):
        qtbot.keyClick(box, Qt.Key.Key_Down)
    assert preferences.get("temperature") is None
    assert box.text() == "The model's own"


def test_every_step_of_a_number_is_a_value_it_may_have(page, preferences):
    for setting in SHOWN:
        if setting.kind in ("whole", "number"):
            box = control(page, setting.name)
            for value in (box.maximum(), box.minimum(), box.minimum() + box.singleStep()):
                box.setValue(value)
            assert page.rows[setting.name].note.text() == ""


def test_yes_and_no(qtbot, page, preferences):
    box = control(page, "keep-history")
    box.setFocus()
    qtbot.keyClick(box, Qt.Key.Key_Space)
    assert preferences.get("keep-history") is False
    qtbot.keyClick(box, Qt.Key.Key_Space)
    assert preferences.get("keep-history") is True


def test_a_paragraph_counts_after_a_pause(qtbot, page, preferences):
    qtbot.keyClicks(control(page, "system-prompt"), "Be brief.")
    qtbot.waitUntil(lambda: preferences.get("system-prompt") == "Be brief.")


@pytest.mark.parametrize("end", ["focus", "leave", "hide"])
def test_a_paragraph_counts_when_it_is_left(qtbot, page, preferences, end):
    text = control(page, "system-prompt")
    text.setFocus()
    qtbot.keyClicks(text, "Be brief.")
    {"focus": page.search.setFocus, "leave": page.leave, "hide": page.hide}[end]()
    assert preferences.get("system-prompt") == "Be brief."


def test_what_is_being_written_is_not_taken_away_by_another_change(qtbot, page, preferences):
    text = control(page, "system-prompt")
    qtbot.keyClicks(text, "Be brief.")
    preferences.set("appearance", "dark")
    assert text.toPlainText() == "Be brief."


def test_a_folder_is_written_or_chosen(qtbot, page, preferences):
    line = control(page, "model")
    qtbot.keyClicks(line, "/models/a")
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert preferences.get("model") == "/models/a"
    page.rows["model"].field.dialog.chosen.emit("/models/b")
    assert preferences.get("model") == "/models/b"
    assert line.text() == "/models/b"
    line.clear()
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert preferences.get("model") is None


def test_folders_are_added_and_taken_off(qtbot, page, preferences):
    # GIVEN the list, empty
    field = page.rows["model-folders"].field
    assert not control(page, "model-folders").isVisible()
    # WHEN two folders are added, one of them twice
    for folder in ("/a", "/b", "/a"):
        field.dialog.chosen.emit(folder)
    # THEN each is there once
    assert preferences.get("model-folders") == os.pathsep.join(["/a", "/b"])
    remove = field.findChild(QToolButton, "remove")
    assert not remove.isEnabled()
    # WHEN the first one is taken off by the keyboard
    listed = control(page, "model-folders")
    listed.setFocus()
    listed.setCurrentRow(0)
    remove.setFocus()
    qtbot.keyClick(remove, Qt.Key.Key_Space)
    # THEN the other one is left
    assert preferences.get("model-folders") == "/b"


def test_a_folder_that_the_list_cannot_hold_is_a_sentence(page, preferences):
    row = page.rows["model-folders"]
    row.field.dialog.chosen.emit(f"/a{os.pathsep}b")
    assert preferences.is_default("model-folders")
    assert row.note.isVisible()
    assert "cannot be listed" in row.note.text()


def test_only_one_dialog_opens(qtbot, page):
    choose_button = page.rows["model"].field.findChild(QToolButton, "choose")
    for _ in range(3):
        choose_button.click()
    dialogs = [each for each in page.findChildren(QWidget) if each.inherits("QFileDialog")]
    assert len(dialogs) == 1
    dialogs[0].reject()
    choose_button.click()
    qtbot.waitUntil(lambda: page.rows["model"].field.dialog._dialog.isVisible())
    page.rows["model"].field.dialog._dialog.reject()


def test_a_row_goes_back_to_the_default(qtbot, page, preferences):
    # GIVEN a changed setting
    preferences.set("temperature", 0.5)
    row = page.rows["temperature"]
    assert row.reset.isVisible()
    # WHEN its reset is pressed, twice because the finger was quick
    row.reset.click()
    row.reset.click()
    # THEN it is the default, and the focus is on the field
    assert preferences.is_default("temperature")
    assert not row.reset.isVisible()
    assert QApplication.focusWidget() is control(page, "temperature")


@pytest.mark.parametrize(
    ("name", "value", "shows"),
    [
        ("appearance", "dark", lambda box: box.currentText() == "Dark"),
        ("text-size", 150, lambda box: box.value() == 150),
        ("top-p", 0.95, lambda box: box.value() == 0.95),
        ("keep-history", False, lambda box: not box.isChecked()),
        ("system-prompt", "Be brief.", lambda text: text.toPlainText() == "Be brief."),
        ("model", "/models/a", lambda line: line.text() == "/models/a"),
        ("model-folders", "/a", lambda listed: listed.item(0).text() == "/a"),
        ("backend", "remote", lambda box: box.currentText() == "remote"),
    ],
)
def test_what_is_changed_elsewhere_is_shown_and_not_told_again(page, preferences, name, value, shows):
    told = []
    preferences.changed.connect(told.append)
    preferences.set(name, value)
    assert shows(control(page, name))
    assert told == [name]


def test_what_a_variable_decides_cannot_be_changed_and_says_why(qtbot):
    preferences = FakePreferences(text_size=150)
    preferences.overruling["text-size"] = "Set by CRANE_TEXT_SIZE where Crane was started."
    page = SettingsView(preferences)
    qtbot.addWidget(page)
    page.show()
    qtbot.waitUntil(lambda: page.built)
    row = page.rows["text-size"]
    assert not row.field.isEnabled()
    assert not row.reset.isVisible()
    assert "CRANE_TEXT_SIZE" in row.note.text()


def test_the_wheel_scrolls_the_page_and_changes_no_value(page, preferences):
    for setting in SHOWN:
        box = control(page, setting.name)
        if not isinstance(box, QComboBox | QAbstractSpinBox) or box.hasFocus():
            continue
        turn = QWheelEvent(
            QPointF(5, 5),
            QPointF(box.mapToGlobal(QPoint(5, 5))),
            QPoint(),
            QPoint(0, -120),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(box, turn)
        assert preferences.is_default(setting.name)


# What is told


def test_what_was_wrong_with_the_file_is_told_until_it_is_closed(qtbot):
    preferences = FakePreferences()
    preferences.notice = "The file with the settings was damaged."
    page = SettingsView(preferences)
    qtbot.addWidget(page)
    page.show()
    assert page.notice.isVisible()
    page.notice.findChild(QToolButton).click()
    assert not page.notice.isVisible()
    preferences.problem.emit("The disk is full.")
    assert page.notice.words() == "The disk is full."


# What can be found


def test_a_search_leaves_the_rows_that_have_all_words(qtbot, page):
    page.search.setFocus()
    qtbot.keyClicks(page.search, "TEXT size")
    assert seen(page) == ["text-size"]
    assert [name for name, card in page.cards.items() if card.isVisible()] == ["Appearance"]
    page.search.clear()
    assert len(seen(page)) == len(SHOWN)
    assert all(card.isVisible() for card in page.cards.values())


@pytest.mark.parametrize(("words", "name"), [("dark", "appearance"), ("mlx", "backend"), ("max-tokens", "max-tokens")])
def test_settings_are_found_by_their_values_and_names_too(page, words, name):
    page.search.setText(words)
    assert name in seen(page)


def test_a_search_that_finds_nothing_says_so(page):
    page.search.setText("<b>hologram")
    assert seen(page) == []
    assert page.nothing.isVisible()
    assert "<b>hologram" in page.nothing.text()
    page.search.clear()
    assert not page.nothing.isVisible()


def test_a_search_holds_for_rows_that_are_built_afterwards(qtbot, preferences):
    page = SettingsView(preferences)
    qtbot.addWidget(page)
    page.show()
    page.search.setText("number type")
    assert not page.nothing.isVisible()
    qtbot.waitUntil(lambda: page.built)
    assert seen(page) == ["dtype"]


def test_the_page_is_built_in_short_steps(qtbot, preferences):
    page = SettingsView(preferences)
    qtbot.addWidget(page)
    assert page.rows == {}
    page._build_next()
    assert len(page.rows) == 1


def test_the_shortcut_for_finding_goes_to_the_search(qtbot, page):
    control(page, "text-size").setFocus()
    page.find_action.trigger()
    assert QApplication.focusWidget() is page.search


# Where things are kept


def test_what_was_computed_for_conversations_can_be_seen_and_removed(qtbot, preferences):
    # GIVEN some, on a disk that is nearly full
    readiness = FakeReadiness()
    readiness.problem = "The disk is nearly full."
    page = SettingsView(preferences, readiness, FakeConnection())
    qtbot.addWidget(page)
    page.show()
    qtbot.waitUntil(lambda: page.built)
    qtbot.waitUntil(lambda: page.ready.size.text() == "1.2 GB")
    assert page.ready.note.isVisible()
    # WHEN more is there the next time, and it is cleared
    readiness.size, readiness.problem = "1.5 GB", ""
    page.enter()
    qtbot.waitUntil(lambda: page.ready.size.text() == "1.5 GB")
    assert not page.ready.note.isVisible()
    page.ready.findChild(QToolButton).click()
    # THEN it is gone, and says so
    qtbot.waitUntil(lambda: page.ready.size.text() == "0 MB")
    assert readiness.forgotten == [None]
    assert page.ready.clear_action.isEnabled()


def test_why_nothing_more_is_kept_is_told_as_soon_as_the_engine_says_it(qtbot, preferences):
    # GIVEN the page, while all is well
    connection = FakeConnection()
    page = SettingsView(preferences, FakeReadiness(), connection)
    qtbot.addWidget(page)
    page.show()
    qtbot.waitUntil(lambda: page.built and page.ready.size.text() == "1.2 GB")
    assert not page.ready.note.isVisible()
    # WHEN the disk refuses a block
    connection.stats = replace(connection.stats, store_problem="No space left. Mend that.")
    connection.changed.emit()
    # THEN the page says so, and no longer once it is over
    assert page.ready.note.isVisible()
    assert page.ready.note.text() == "No space left. Mend that."
    connection.stats = None
    connection.changed.emit()
    assert not page.ready.note.isVisible()


def test_folders_are_shown_in_the_file_manager(page, preferences, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(Path(url.toLocalFile())))
    buttons = page.cards["places"].findChildren(QToolButton, "show")
    assert len(buttons) == 4
    for each in buttons:
        each.click()
    assert all(path.is_dir() for path in opened)


def test_the_nearest_folder_of_what_is_not_there_yet(tmp_path):
    (tmp_path / "file").touch()
    assert nearest(tmp_path / "file") == tmp_path
    assert nearest(tmp_path / "a" / "b" / "c") == tmp_path
    assert nearest(tmp_path) == tmp_path


# How it is seen and reached


@pytest.mark.parametrize("changed", [{}, {"temperature": 0.5, "model-folders": "/a"}], ids=["defaults", "changed"])
def test_tab_reaches_every_control_in_reading_order(qtbot, page, preferences, changed):
    # GIVEN nothing, or something to reset and to take off
    for name, value in changed.items():
        preferences.set(name, value)
    page.search.setFocus()
    # WHEN Tab is pressed until the search has the focus again
    visited = []
    while (now := QApplication.focusWidget()) is not page.search or not visited:
        visited.append(now)
        QTest.keyClick(now, Qt.Key.Key_Tab)
        assert len(visited) < 100
    # THEN every control that can be used was visited, row after row, and in a row from top to bottom
    kinds = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit, QPlainTextEdit, QListWidget)
    wanted = {each for each in page.findChildren(QWidget) if isinstance(each, kinds) and _usable(each)}
    assert {each.objectName() or each.accessibleName() for each in wanted - set(visited)} == set()
    rows = [row for row in (_row(page, each) for each in visited) if row]
    assert rows == sorted(rows, key=list(page.rows).index)


def _usable(widget: QWidget) -> bool:
    inner = isinstance(widget.parent(), QAbstractSpinBox | QComboBox | QLineEdit | QListWidget)
    return widget.isVisible() and widget.isEnabled() and not inner and widget.focusPolicy() & Qt.FocusPolicy.TabFocus


def _row(page, widget: QWidget) -> str:
    return next((name for name, row in page.rows.items() if row.isAncestorOf(widget)), "")


def test_a_control_that_gets_the_focus_is_scrolled_into_sight(qtbot, page):
    page.search.setFocus()
    for _ in range(100):
        if control(page, "dtype").hasFocus():
            break
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
    below = control(page, "dtype").mapTo(page, QPoint(0, control(page, "dtype").height())).y()
    assert 0 < below <= page.height()


def test_every_control_says_what_it_is(page):
    kinds = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit, QPlainTextEdit, QListWidget)
    inner = (QAbstractSpinBox, QComboBox, QLineEdit)
    controls = [each for each in page.findChildren(QWidget) if isinstance(each, kinds)]
    nameless = [each for each in controls if not each.accessibleName() and not isinstance(each.parent(), inner)]
    assert nameless == []
    for setting in SHOWN:
        assert control(page, setting.name).accessibleDescription() == setting.sentence
    names = [each.accessibleName() for each in page.findChildren(QToolButton)]
    shown = [name for name in names if name and name != "Close"]
    assert len(shown) == len(set(shown)), "two buttons sound alike"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("percent", "width"), [(80, 840), (100, 608), (150, 608), (200, 608), (200, 1400)])
def test_nothing_is_cut_off(qtbot, page, preferences, usual_size, scheme, percent, width):
    # GIVEN rows with everything that they can show
    preferences.set("temperature", 0.5)
    preferences.set("model-folders", os.pathsep.join(["/a", "/b/" + "long " * 40]))
    # WHEN the letters have that size
    theme.set_scheme(scheme)
    theme.set_text_size(percent)
    page.resize(width, 560)
    qtbot.waitUntil(lambda: page.area.widget().width() <= page.area.viewport().width())
    # THEN each text and control has the room it asks for
    for each in page.findChildren(QWidget):
        if not each.isVisible() or isinstance(each, ElidedLabel) or isinstance(each.parent(), QLineEdit):
            continue
        if isinstance(each, QLabel) and each.wordWrap():
            assert each.height() >= each.heightForWidth(each.width()), each.text()
        elif isinstance(each, QAbstractButton | QComboBox | QAbstractSpinBox | QLabel):
            assert each.width() >= each.minimumSizeHint().width(), each.accessibleName()
            assert each.height() >= each.minimumSizeHint().height(), each.accessibleName()


def test_the_fields_stand_in_one_column(page):
    lefts = {row.field.mapTo(page, QPoint(0, 0)).x() for row in page.rows.values() if not row.field.wide}
    assert len(lefts) == 1


def test_it_reads_from_right_to_left(qtbot, page, monkeypatch):
    page.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
    row = page.rows["appearance"]
    qtbot.waitUntil(lambda: row.field.x() < row.title.x())

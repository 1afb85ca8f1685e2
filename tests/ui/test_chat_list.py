"""The conversations at the side: by day, found, renamed, deleted and brought back."""

import time

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction

from crane_app.errors import CraneError
from crane_app.library.chats import Chats
from crane_app.ui.chat.conversations import ChatList, Row, _by_day
from crane_app.ui.worker import stop_all

DAY = 86400
HEADINGS = ("Today", "Yesterday", "Last seven days", "Last thirty days")


@pytest.fixture
def chats():
    made = Chats.in_memory()
    for title, text in (("Cranes", "They stand in water."), ("鶴の話", "千年生きる鶴"), ("Dinner", "Soup and bread")):
        chat = made.new(title)
        made.add(chat, "user", text)
    yield made
    made.close()


@pytest.fixture
def view(qtbot, chats):
    made = ChatList(chats, QAction("New chat"))
    qtbot.addWidget(made)
    made.resize(240, 500)
    made.show()
    made.picked = []
    made.opened.connect(made.picked.append)
    yield made
    assert stop_all(20)


def titles(view):
    return [row.title for row in view.model.rows if row.chat]


def id_of(view, title):
    return next(row.chat for row in view.model.rows if row.title == title)


def test_the_newest_is_first_below_its_day(view):
    assert view.model.rows[0] == Row(0, "Today")
    assert titles(view) == ["Dinner", "鶴の話", "Cranes"]


def test_days_are_told_by_the_calendar():
    class Old:
        def __init__(self, days):
            self.id, self.title, self.changed = days + 1, f"{days} days", time.time() - days * DAY

    rows = _by_day([Old(days) for days in (0, 1, 2, 7, 8, 30, 400)], HEADINGS)
    assert [row.title for row in rows if not row.chat][:4] == list(HEADINGS)
    assert len([row for row in rows if not row.chat]) == 5


def test_one_that_is_clicked_is_opened_once(qtbot, view):
    place = view.list.visualRect(view.model.index(2)).center()
    qtbot.mouseClick(view.list.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseDClick(view.list.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert view.picked == [id_of(view, "鶴の話")]


def test_arrows_go_through_them_past_the_headings(qtbot, view):
    view.list.setFocus()
    for _ in range(3):
        qtbot.keyClick(view.list, Qt.Key.Key_Down)
    assert view.picked[-1] == id_of(view, "Cranes")


def test_headings_cannot_be_chosen(qtbot, view):
    place = view.list.visualRect(view.model.index(0)).center()
    qtbot.mouseClick(view.list.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert view.picked == []


@pytest.mark.parametrize(
    ("words", "found"), [("water", ["Cranes"]), ("鶴", ["鶴の話"]), ("soup", ["Dinner"]), ('"', [])]
)
def test_a_search_finds_words_in_questions_and_titles(qtbot, view, words, found):
    view.search.setText(words)
    qtbot.waitUntil(lambda: titles(view) == found)
    assert view.empty.isVisible() == (not found)
    view.search.clear()
    qtbot.waitUntil(lambda: len(titles(view)) == 3)


def test_a_deleted_one_can_be_brought_back(qtbot, view):
    gone = []
    view.gone.connect(gone.append)
    chat = id_of(view, "Dinner")
    view.delete(chat)
    assert (titles(view), gone) == (["鶴の話", "Cranes"], [chat])
    assert "Dinner" in view.undo.words.text()
    # WHEN undo is clicked twice
    view.undo.undo()
    view.undo.undo()
    # THEN it is there again, once, and opened
    assert titles(view) == ["Dinner", "鶴の話", "Cranes"]
    assert view.picked == [chat]


def test_escape_leaves_a_title_as_it_was(qtbot, view):
    view.rename(id_of(view, "Dinner"))
    view.title.setText("Supper")
    qtbot.keyClick(view.title, Qt.Key.Key_Escape)
    assert not view.title.isVisible()
    assert "Dinner" in titles(view)


def test_escape_empties_the_search_before_it_does_anything_else(qtbot, view):
    # GIVEN a command of the window that has Esc, and words that are looked for
    stopped = []
    stop = QAction("Stop", view)
    stop.setShortcut(Qt.Key.Key_Escape)
    stop.triggered.connect(lambda: stopped.append(True))
    view.addAction(stop)
    with qtbot.waitActive(view):
        view.activateWindow()
    view.search.setFocus()
    view.search.setText("Soup")
    # WHEN Esc is pressed THEN the search is empty, and nothing was stopped
    qtbot.keyClick(view.search, Qt.Key.Key_Escape)
    assert view.search.text() == ""
    assert stopped == []
    # WHEN it is pressed again THEN it stops what is under way
    qtbot.keyClick(view.search, Qt.Key.Key_Escape)
    assert stopped == [True]


def test_a_new_title_is_kept_and_an_empty_one_is_not(qtbot, view):
    chat = id_of(view, "Dinner")
    view.rename(chat)
    view.title.insert("Supper 🍲")
    qtbot.keyClick(view.title, Qt.Key.Key_Return)
    assert "Supper 🍲" in titles(view)
    view.rename(chat)
    view.title.clear()
    qtbot.keyClick(view.title, Qt.Key.Key_Return)
    assert "Supper 🍲" in titles(view)
    assert not view.title.isVisible()


def test_the_one_in_view_is_marked_without_being_opened_again(view):
    view.set_current(id_of(view, "Cranes"))
    assert view.list.currentIndex().data() == "Cranes"
    assert view.picked == []
    view.set_current(None)
    assert not view.list.selectionModel().hasSelection()


def test_what_the_history_refuses_is_told(view, monkeypatch):
    def locked(*_args):
        raise CraneError("The history is locked.")

    told = []
    view.said.connect(told.append)
    for name in ("chats", "delete", "rename"):
        monkeypatch.setattr(view._chats, name, locked)
    view.refresh()
    view.delete(1)
    assert told == ["The history is locked."] * 2


def test_the_menu_offers_all_that_can_be_done(view):
    chat = id_of(view, "Dinner")
    asked = []
    view.exported.connect(lambda *what: asked.append(what))
    actions = [action for action in view.menu(chat).actions() if action.text()]
    assert [a.text().replace("&", "") for a in actions] == [
        "Rename",
        "Export as Markdown…",
        "Export as JSON…",
        "Delete",
    ]
    actions[1].trigger()
    assert asked == [(chat, "markdown")]

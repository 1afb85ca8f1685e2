import pytest
from fakes import GIB, FakePreferences, FakeShelf, on_disk
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QIcon
from PySide6.QtWidgets import QLabel
from scenes import MODEL, NoDownload

from crane_app.library import catalogue
from crane_app.ui import app, views
from crane_app.ui.models.downloads import Downloads
from crane_app.ui.welcome.first_model import MOST, FirstModel
from crane_app.ui.welcome.looks import KeysAndLooks
from crane_app.ui.welcome.view import WelcomeView


@pytest.fixture
def welcome(qtbot):
    made = WelcomeView(FakePreferences(), FakeShelf(), QIcon(), 16 * GIB)
    qtbot.addWidget(made)
    made.show()
    return made


@pytest.fixture
def first_model(qtbot):
    """The second step over a shelf, in a computer with some memory."""

    def made(*entries, memory: int = 16 * GIB) -> FirstModel:
        preferences, shelf = FakePreferences(), FakeShelf()
        Downloads(preferences, NoDownload)
        shelf.put(*entries)
        step = FirstModel(preferences, shelf, memory)
        qtbot.addWidget(step)
        step.show()
        return step

    return made


def words(widget) -> str:
    return " ".join(label.text() for label in widget.findChildren(QLabel) if label.isVisible())


# Its three steps


def test_three_steps_lead_to_the_chat(welcome):
    # GIVEN the first step, which says where everything happens
    left = []
    welcome.sent.connect(lambda name, what: left.append((name, what)))
    assert "Nothing leaves this computer" in words(welcome)
    assert not welcome._back_button.isVisible()
    # WHEN a person goes on
    said = []
    for _ in range(2):
        welcome.next_action.trigger()
        said.append(words(welcome))
    assert "A model to begin with" in said[0]
    assert "Looks and keys" in said[1]
    assert left == []
    # THEN the last step ends in the chat
    assert welcome.next_action.text() == "Start"
    welcome.next_action.trigger()
    assert left == [("chat", None)]


def test_back_is_where_one_was(welcome):
    welcome.next_action.trigger()
    welcome.back_action.trigger()
    assert welcome.step == 0
    welcome.back_action.trigger()
    assert welcome.step == 0


@pytest.mark.parametrize("step", [0, 1, 2])
def test_esc_skips_it_from_every_step(qtbot, welcome, step):
    welcome.show_step(step)
    welcome.enter()
    with qtbot.waitSignal(welcome.sent) as sent:
        qtbot.keyClick(welcome, Qt.Key.Key_Escape)
    assert sent.args == ["chat", None]


def test_steps_that_nobody_went_to_are_not_made(welcome):
    assert welcome.steps.count() == 1


# A model to begin with


def test_without_a_model_those_that_fit_are_offered(first_model):
    # GIVEN a computer without models
    step = first_model()
    # THEN a few are offered, the first of them as the one to take
    assert list(step.offers) == [offer.repo for offer in catalogue.suited(16 * GIB)[:MOST]]
    assert "fetched once" in words(step)
    assert all(card.buttons["download"].isEnabled() for card in step.offers.values())


def test_models_that_are_here_can_be_chosen(first_model):
    # GIVEN two models, of which one cannot be used, and a model that hears
    broken = on_disk("broken", problem="A file is missing.")
    step = first_model(on_disk(), broken, on_disk("moonshine", job="dictate"))
    assert (list(step.found), step.offers) == ([MODEL], {})
    # WHEN it is chosen
    step.found[MODEL].use.trigger()
    # THEN the chat uses it, and the button says so
    assert step._preferences.get("model") == MODEL
    assert step.found[MODEL].use.text() == "In use"
    assert not step.found[MODEL].use.isEnabled()


def test_a_model_that_came_takes_the_place_of_the_offers(qtbot, first_model):
    step = first_model()
    step._shelf.put(on_disk())
    assert (list(step.found), step.offers) == ([MODEL], {})
    qtbot.waitUntil(lambda: "on this computer already" in words(step))


def test_a_download_is_seen_where_it_was_begun(qtbot, first_model):
    step = first_model()
    repo, card = next(iter(step.offers.items()))
    card.download.trigger()
    qtbot.waitUntil(lambda: "of 2.1 GB" in card.state.text())
    card.cancel.trigger()
    qtbot.waitUntil(lambda: not step._downloads.running(repo))


def test_in_a_tiny_computer_nothing_is_offered_and_all_can_be_seen(qtbot, first_model):
    step = first_model(memory=GIB)
    assert step.offers == {}
    with qtbot.waitSignal(step.more):
        step.findChild(QAction, "all_models").trigger()


# Looks and keys


def test_looks_are_those_of_the_settings(qtbot):
    # GIVEN the last step
    preferences = FakePreferences()
    step = KeysAndLooks(preferences)
    qtbot.addWidget(step)
    # WHEN dark is chosen THEN that is the setting
    field = step.rows["appearance"].field
    field.control.setCurrentIndex(field.control.findData("dark"))
    field.control.activated.emit(field.control.currentIndex())
    assert preferences.get("appearance") == "dark"
    # AND what is set elsewhere is seen here
    preferences.set("appearance", "light")
    assert field.control.currentData() == "light"


# When it is shown


@pytest.fixture
def opened(stage, qtbot):
    window = stage.open("chat")
    qtbot.addWidget(window, before_close_func=lambda _window: stage.rest())
    return window


def test_it_is_shown_at_the_first_start_only(stage, opened):
    app._welcome(opened, stage.preferences)
    assert opened.current == views.WELCOME
    assert not any(action.isChecked() for action in opened.go_actions.values())
    # WHEN it was left and Crane is started again
    opened.show_view("chat")
    app._welcome(opened, stage.preferences)
    # THEN it is not
    assert opened.current == "chat"
    assert opened.go_actions["chat"].isChecked()


def test_it_gives_way_to_a_file_and_to_any_view(stage, opened, tmp_path):
    app._welcome(opened, stage.preferences)
    (tmp_path / "note.txt").write_text("a note")
    opened.open([tmp_path / "note.txt"])
    assert opened.current != views.WELCOME


def test_the_help_menu_brings_it_back(opened):
    opened.help.welcome_action.trigger()
    assert opened.current == views.WELCOME
    opened.view(views.WELCOME).skip_action.trigger()
    assert opened.current == "chat"


def test_it_is_made_for_those_who_see_it_only(qtbot, opened):
    opened.make_ahead()
    qtbot.waitUntil(lambda: set(opened.made()) == set(views.NAMES))


def test_it_is_not_where_the_next_start_begins(stage, opened):
    opened.show_view(views.WELCOME)
    opened._keep()
    assert stage.open("chat").current == "chat"

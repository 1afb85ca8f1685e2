import pytest
import shiboken6
from fakes import GIB, card, holding
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QWidget

from crane_app.engine.request import Holding
from crane_app.ui.status import Status
from crane_app.ui.toolbar import Toolbar
from crane_app.ui.view import View


@pytest.fixture
def status(qtbot, connection):
    made = Status(connection, memory=16 * GIB)
    qtbot.addWidget(made)
    made.resize(1100, 30)
    made.show()
    return made


@pytest.mark.parametrize("state", ["starting", "ready", "busy"])
def test_an_engine_that_is_well_offers_no_restart(status, connection, state):
    connection.become(state)
    assert bool(status.engine.text()) == (state != "ready")  # all is well: nothing to be said
    assert not status.restart_button.isVisible()


@pytest.mark.parametrize("state", ["stalled", "lost", "failed"])
def test_an_engine_in_trouble_says_so_and_can_be_restarted(qtbot, status, connection, state):
    # GIVEN a sentence about what happened
    connection.become(state, "The engine has been silent for 12 seconds; it was loading Qwen3.")
    # THEN it is shown in full, with one thing to do
    assert "loading Qwen3" in status.engine.shown()
    assert status.restart_button.text() == ("End it and restart" if state == "stalled" else "Restart")
    # WHEN that is done
    with qtbot.waitSignal(status.restart_wanted):
        qtbot.mouseClick(status.restart_button, Qt.MouseButton.LeftButton)
    # AND the engine is back THEN the offer goes
    connection.become("ready")
    assert not status.restart_button.isVisible()


def test_a_lost_engine_without_a_sentence_still_says_what_matters(status, connection):
    connection.become("lost")
    assert status.engine.text() == "The engine stopped. Your text is safe."


def test_loaded_models_and_their_memory_are_shown(status, connection):
    # GIVEN nothing loaded THEN nothing is said of it
    assert not status.models.isVisible()
    assert not status.memory.isVisible()
    # WHEN two models are loaded, with half a gibibyte of conversations
    cards = card("Qwen3-0.6B", GIB), card("Qwen3-4B", 2 * GIB)
    connection.show(*cards, held=(holding(cards[0], rows_nbytes=GIB // 2),))
    # THEN each is named with its size, and the bar has their share of 16 GiB
    assert status.models.text() == "Qwen3-0.6B · 1.1 GB, Qwen3-4B · 2.1 GB"
    assert status.memory.text() == "3.8 GB of 17.2 GB"
    assert status.bar.value() == round(1000 * 3.5 / 16)


def test_memory_is_told_as_a_share_of_what_may_be_held(status, connection):
    # GIVEN an engine that may use 8 of the 16 GiB, with a model and the reader
    reader = Holding("built-in reader", "pictures", "cpu", GIB)
    connection.show(card(nbytes=3 * GIB), held=(reader,), limit_nbytes=8 * GIB)
    # THEN both count, and the tooltip has them one by one
    assert status.memory.text() == "4.3 GB of 8.6 GB"
    assert status.bar.value() == 500
    assert "Qwen3-0.6B 3.2 GB, the built-in reader 1.1 GB" in status.memory.parentWidget().toolTip()


def test_the_speed_is_counted_by_the_clock_of_the_engine(status, connection):
    # GIVEN an answer under way, looked at twice with 50 tokens and two seconds between
    connection.show(card(), running=1, tokens=100, uptime_s=60.0)
    connection.show(card(), running=1, tokens=150, uptime_s=62.0)
    assert status.speed.text() == "25.0 tokens/s"
    # WHEN the state changes before the next look THEN the speed stays
    connection.become("busy")
    assert status.speed.text() == "25.0 tokens/s"
    # WHEN another engine has taken over THEN nothing is counted across the two
    connection.show(card(), running=1, tokens=7, uptime_s=1.0, pid=4712)
    assert not status.speed.isVisible()
    # AND when nothing runs there is no speed
    connection.show(card(), running=0, tokens=9, uptime_s=2.0, pid=4712)
    assert not status.speed.isVisible()


def test_a_machine_that_does_not_say_its_memory_has_no_bar(qtbot, connection):
    status = Status(connection, memory=0)
    qtbot.addWidget(status)
    connection.show(card())
    assert not status.bar.isVisibleTo(status)


def test_the_promise_is_always_there(status):
    assert status.promise.text() == "Nothing leaves this machine"


@pytest.mark.parametrize(
    ("state", "cards", "words"),
    [
        ("starting", (), "Starting the engine…"),
        ("ready", (), "No model loaded"),
        ("ready", (card(),), "CPU · float32"),
        ("busy", (card(device="metal", dtype="bfloat16"),), "Metal · bfloat16"),
        ("lost", (), "No engine"),
    ],
)
def test_the_chip_says_what_computes(qtbot, connection, state, cards, words):
    toolbar = Toolbar(connection)
    qtbot.addWidget(toolbar)
    connection.show(*cards)
    connection.become(state)
    assert toolbar.chip.text() == words


def test_actions_of_cards_that_go_are_not_what_stop_follows(qtbot, connection):
    # GIVEN a view with a card that can be cancelled, in sight
    toolbar, view, other = Toolbar(connection), View(), View()
    for each in (toolbar, view, other):
        qtbot.addWidget(each)
    gone = QWidget(view)
    gone.addAction(QAction("Cancel", gone, objectName="cancel"))
    toolbar.show_view("Models", view)
    # WHEN the card goes, and then the view
    shiboken6.delete(gone)
    toolbar.show_view("Chat", other)
    # THEN Stop is that of the view in sight
    assert not toolbar.stop_action.isEnabled()

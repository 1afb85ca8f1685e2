"""What stays in memory by a person's wish, and what left it for something else."""

import math

import pytest
from fakes import GIB, FakeConnection, card

from crane_app.engine.request import Parting
from crane_app.errors import CraneError
from crane_app.ui import worker
from crane_app.ui.models.residents import Residents
from crane_app.ui.worker import stop_all

QWEN = "/models/Qwen3-0.6B"
OTHER = "/models/a:b, with commas"


@pytest.fixture
def residents(connection, preferences):
    return Residents.of(connection, preferences)


@pytest.fixture
def news(residents):
    """Every sentence that was said."""
    said = []
    residents.said.connect(said.append)
    return said


def let_go(name: str, room: str, ago_s: float) -> Parting:
    return Parting(name, 2 * GIB, room, ago_s)


def test_a_wish_is_kept_in_the_settings_and_told_to_the_engine(qtbot, connection, preferences, residents):
    # GIVEN a loaded model
    connection.show(card())
    assert not residents.kept(QWEN, card())
    # WHEN it is to stay THEN that is seen at once, before the engine has answered
    residents.keep(QWEN, card(), True)
    assert residents.kept(QWEN, card())
    assert preferences.get("pinned-models") == QWEN
    qtbot.waitUntil(lambda: connection.engine.pins == {"Qwen3-0.6B"})
    # WHEN it is lifted THEN it is gone from both
    residents.keep(QWEN, card(), False)
    assert not residents.kept(QWEN, card())
    assert preferences.get("pinned-models") == ""
    qtbot.waitUntil(lambda: not connection.engine.pins)


def test_wishes_in_haste_end_with_the_last(qtbot, connection, residents):
    connection.show(card())
    for on in (True, False) * 10:
        residents.keep(QWEN, card(), on)
    qtbot.waitUntil(lambda: not worker._running, timeout=20_000)
    assert connection.engine.pins == set()


def test_any_folder_can_be_named(preferences, residents):
    for folder in (QWEN, OTHER):
        residents.keep(folder, None, True)
    residents.keep(QWEN, None, False)
    assert preferences.get("pinned-models") == OTHER
    assert residents.kept(OTHER, None)


def test_a_model_that_was_to_stay_stays_again_when_it_is_loaded(qtbot, connection, preferences, residents):
    # GIVEN a wish of an earlier day
    preferences.set("pinned-models", QWEN)
    assert not connection.engine.pins
    # WHEN it is loaded, with another THEN it is pinned, and the other is not
    connection.show(card(), card("another"))
    qtbot.waitUntil(lambda: connection.engine.pins == {"Qwen3-0.6B"})
    # WHEN it was unloaded by hand, which lifts the engine's pin, and is loaded anew THEN it is pinned again
    connection.engine.pins.clear()
    connection.show()
    connection.show(card())
    qtbot.waitUntil(lambda: connection.engine.pins == {"Qwen3-0.6B"})


def test_another_engine_is_told_too(qtbot, connection, preferences, residents):
    # GIVEN an engine that knows
    preferences.set("pinned-models", QWEN)
    connection.show(card())
    qtbot.waitUntil(lambda: connection.stats.held[0].pinned)
    # WHEN it dies and the next one has the model THEN that is told as well
    connection.engine.pins.clear()
    connection.show(card(), pid=4712)
    qtbot.waitUntil(lambda: connection.engine.pins == {"Qwen3-0.6B"})


def test_nothing_is_asked_of_an_engine_that_knows(qtbot, connection, preferences, residents, monkeypatch):
    preferences.set("pinned-models", QWEN)
    connection.engine.pins.add("Qwen3-0.6B")
    asked = []
    monkeypatch.setattr(connection, "run", lambda *_: asked.append(1))
    for second in range(5):
        connection.show(card(), uptime_s=60.0 + second)
    assert not asked


def test_a_refusal_is_said_once(qtbot, connection, preferences, residents, news):
    # GIVEN an engine that cannot pin it now
    connection.engine.refusal = CraneError("The engine is busy.")
    preferences.set("pinned-models", QWEN)
    connection.show(card())
    qtbot.waitUntil(lambda: news == ["The engine is busy."])
    # WHEN looks come and go THEN it is not tried again, until the model is loaded anew
    connection.look()
    assert stop_all(10)
    assert connection.engine.pins == set()
    connection.show()
    connection.show(card())
    qtbot.waitUntil(lambda: connection.engine.pins == {"Qwen3-0.6B"})
    assert len(news) == 1


def test_what_another_program_keeps_for_ever_can_be_lifted(qtbot, connection, residents):
    # GIVEN a model that a client of the server wants kept for ever
    connection.engine.kept_for["Qwen3-0.6B"] = math.inf
    connection.show(card())
    assert residents.kept(QWEN, card())
    # WHEN it is lifted here THEN it goes like any other
    residents.keep(QWEN, card(), False)
    qtbot.waitUntil(lambda: connection.engine.kept_for == {"Qwen3-0.6B": None})
    qtbot.waitUntil(lambda: not connection.stats.held[0].pinned)
    assert not residents.kept(QWEN, card())


def test_a_model_that_made_room_is_told_once(connection, residents, news):
    connection.show(card(), uptime_s=100.0)
    # WHEN one left three seconds ago, and is looked at twice, not quite at the same moment
    connection.show(card("Qwen3-4B"), uptime_s=110.0, gone=(let_go("Qwen3-0.6B", "Qwen3-4B", 3.0),))
    connection.show(card("Qwen3-4B"), uptime_s=112.0, gone=(let_go("Qwen3-0.6B", "Qwen3-4B", 5.02),))
    # THEN it is said once, which and for what
    assert news == [
        "To make room for Qwen3-4B, Qwen3-0.6B (2.1 GB) left the memory. What left comes back when it is needed."
    ]
    # AND once more when the same happens later
    gone = let_go("Qwen3-0.6B", "Qwen3-4B", 95.0), let_go("Qwen3-0.6B", "Qwen3-4B", 1.0)
    connection.show(card("Qwen3-4B"), uptime_s=202.0, gone=gone)
    assert len(news) == 2


def test_all_that_left_for_one_is_one_sentence(connection, residents, news):
    connection.show()
    gone = let_go("a", "large", 1.0), let_go("built-in reader", "large", 1.0)
    connection.show(card("large"), gone=gone)
    assert news[0].startswith("To make room for large, a (2.1 GB), the built-in reader (2.1 GB) left the memory.")


def test_what_left_after_a_time_without_work_is_no_news(connection, residents, news):
    connection.show()
    connection.show(gone=(let_go("a", "", 1.0),))
    assert news == []
    assert residents.away() == []


def test_what_left_before_the_window_came_is_no_news(preferences, news, connection):
    early = FakeConnection()
    early.show(card(), gone=(let_go("a", "Qwen3-0.6B", 40.0),))
    said = []
    Residents.of(early, preferences).said.connect(said.append)
    early.look()
    assert said == []
    early.close()


def test_what_is_back_is_not_away(connection, residents):
    gone = let_go("a", "b", 40.0), let_go("b", "a", 20.0), let_go("a", "b", 1.0)
    connection.show(card("b"), gone=gone)
    assert [each.ago_s for each in residents.away()] == [1.0]
    connection.show(card("a"), card("b"), gone=gone)
    assert residents.away() == []
    # AND where both have gone since, it is no news any more
    connection.show(gone=(*gone, let_go("b", "", 0.5)))
    assert residents.away() == []

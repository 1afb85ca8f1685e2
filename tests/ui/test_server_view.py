"""The view of the server, over a server that does what a test tells it to."""

import stat
import sys

import pytest
from fakes import FakeServers, on_disk
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QLineEdit, QToolButton

from crane_app.pipelines.serving import Plan, Served
from crane_app.ui.preferences import Preferences
from crane_app.ui.server.serving import Serving
from crane_app.ui.server.view import ServerView

URL = "http://127.0.0.1:8080"
QWEN = "/models/Qwen3-0.6B"
FAILED = Served("failed", sentence="The server has stopped by itself (signal 9). Start it again.", fault="died")


@pytest.fixture
def view(qtbot, preferences, shelf, servers):
    shelf.put(on_disk())
    preferences.set("model", QWEN)
    Serving(preferences, servers)
    made = ServerView(preferences, shelf)
    qtbot.addWidget(made)
    made.resize(900, 1400)
    made.show()
    return made


def click(qtbot, widget):
    qtbot.mouseClick(widget, Qt.MouseButton.LeftButton)


def press(qtbot, view, name: str):
    found = [each for each in view.findChildren(QToolButton, name) if each.isVisible()]
    assert len(found) == 1, f"{name}: {found}"
    click(qtbot, found[0])


def switch_on(qtbot, view):
    click(qtbot, view.state.switch)
    qtbot.waitUntil(lambda: view.serving.now.state == "on")


def numbers(view) -> list[str]:
    figures = view.state.figures
    return [each.text() for each in (figures.active, figures.waiting, figures.answered)]


def over(qtbot, view):
    qtbot.waitUntil(lambda: not view.serving.under_way)


# On and off


def test_the_switch_starts_what_the_settings_say(qtbot, view, preferences, servers):
    # GIVEN settings of another port and a key
    preferences.set("port", 9001)
    preferences.set("api-key", "secret")
    # WHEN it is switched on
    switch_on(qtbot, view)
    # THEN that is what is served
    assert servers.last.plans == [Plan(QWEN, "Qwen3-0.6B", "127.0.0.1", 9001, "secret")]
    assert view.state.switch.isChecked()
    assert URL in view.state.sentence.text()


def test_what_it_does_is_seen_as_numbers(qtbot, view, servers):
    # GIVEN a server that is on WHEN it tells of requests
    switch_on(qtbot, view)
    servers.last.tell(Served("on", URL, models=("Qwen3-0.6B",), active=2, waiting=1, answered=1284))
    # THEN they are counted
    qtbot.waitUntil(lambda: numbers(view) == ["2", "1", "1,284"])
    assert view.state.figures.isVisible()


def test_switched_off_it_ends(qtbot, view, servers):
    # GIVEN a server that is on WHEN it is switched off
    switch_on(qtbot, view)
    click(qtbot, view.state.switch)
    # THEN it was asked to end once, and has
    over(qtbot, view)
    assert servers.last.stops == 1
    assert view.serving.now.state == "off"
    assert not view.state.switch.isChecked()


def test_one_that_has_something_to_finish_can_be_hurried(qtbot, view, servers):
    # GIVEN a server with a request under way, switched off
    servers.patient = True
    switch_on(qtbot, view)
    click(qtbot, view.state.switch)
    qtbot.waitUntil(lambda: view.serving.now.state == "ending")
    assert view.state.hurry.isVisible()
    # WHEN it is to end now THEN it does
    press(qtbot, view, "end_server")
    over(qtbot, view)
    assert servers.last.stops == 2


def test_switched_on_while_it_ends_it_is_started_anew_and_nothing_is_cut_off(qtbot, view, servers):
    # GIVEN a server that is ending
    servers.patient = True
    switch_on(qtbot, view)
    click(qtbot, view.state.switch)
    qtbot.waitUntil(lambda: view.serving.now.state == "ending")
    # WHEN it is switched on
    click(qtbot, view.state.switch)
    # THEN the first one is left to finish, and another follows it
    assert servers.made[0].stops == 1
    servers.made[0].stop()
    qtbot.waitUntil(lambda: view.serving.now.state == "on" and len(servers.made) == 2)


def test_clicks_without_end_leave_one_server_at_most(qtbot, view, servers):
    # WHEN an impatient hand clicks on and on
    for _ in range(9):
        click(qtbot, view.state.switch)
    # THEN it is on or off, and no second one was begun beside another
    qtbot.waitUntil(lambda: view.serving.now.state in ("on", "off"))
    going = [server for server in servers.made if server.plans and not server.stops]
    assert len(going) <= 1


def test_it_goes_with_the_window(qtbot, view, servers):
    # GIVEN a server that is on WHEN the window closes
    switch_on(qtbot, view)
    view.leave()
    # THEN it is asked to end, and nothing starts any more
    assert servers.last.stops == 1
    view.switch(True)
    assert len(servers.made) == 1


def test_it_can_be_on_from_the_start(qtbot, view, shelf, servers):
    # GIVEN a window that is to serve from its start
    view.start_with_the_app()
    assert servers.made == []  # which models there are is not known yet
    # WHEN the shelf has been looked through THEN it serves
    shelf.put(on_disk("Qwen3-4B"), on_disk())
    qtbot.waitUntil(lambda: view.serving.now.state == "on")
    assert servers.last.plans[0].name == "Qwen3-0.6B"
    # and a second look starts nothing more
    shelf.put(on_disk())
    assert len(servers.made) == 1


# What goes wrong


def test_a_taken_port_comes_with_the_way_out(qtbot, view, preferences, servers):
    # GIVEN a port that another program has
    told = "Another program is at port 8080 already. Choose another port, or end that program."
    servers.script = (Served("failed", sentence=told, fault="port", free_port=8081),)
    click(qtbot, view.state.switch)
    over(qtbot, view)
    assert view.state.notice.words() == told
    assert not view.state.switch.isChecked()
    # WHEN the offer is taken
    servers.script = FakeServers().script
    press(qtbot, view, "retry")
    # THEN it serves at the other port, which is kept
    qtbot.waitUntil(lambda: view.serving.now.state == "on")
    assert servers.last.plans[0].port == preferences.get("port") == 8081


def test_the_network_without_a_key_is_offered_one(qtbot, view, preferences, servers):
    # GIVEN the whole network and no key
    preferences.set("host", "0.0.0.0")
    servers.script = (Served("failed", sentence="Make a key first.", fault="key"),)
    click(qtbot, view.state.switch)
    over(qtbot, view)
    # WHEN the offer is taken
    servers.script = FakeServers().script
    press(qtbot, view, "retry")
    # THEN there is a key that nobody guesses, and it is asked for
    qtbot.waitUntil(lambda: view.serving.now.state == "on")
    assert len(preferences.get("api-key")) >= 32
    assert servers.last.plans[0].key == preferences.get("api-key")


def test_a_death_is_told_and_it_can_be_started_again(qtbot, view, servers):
    # GIVEN a server that dies
    switch_on(qtbot, view)
    servers.last.tell(FAILED)
    over(qtbot, view)
    # THEN the page says so
    assert view.state.notice.words() == FAILED.sentence
    assert view.state.notice.isVisible()
    assert not view.state.switch.isChecked()
    # WHEN it is to start again THEN it does, and the words are gone
    press(qtbot, view, "retry")
    qtbot.waitUntil(lambda: view.serving.now.state == "on")
    assert not view.state.notice.isVisible()


def test_a_complaint_of_a_server_that_goes_on_can_be_put_away(qtbot, view, servers):
    # GIVEN a complaint
    switch_on(qtbot, view)
    servers.last.tell(Served("on", URL, sentence="A request failed."))
    qtbot.waitUntil(lambda: view.state.notice.isVisible())
    # WHEN it has been read THEN it stays away, and the server goes on
    press(qtbot, view, "retry")
    assert not view.state.notice.isVisible()
    servers.last.tell(Served("on", URL, sentence="A request failed.", answered=1))
    qtbot.waitUntil(lambda: view.serving.now.answered == 1)
    assert not view.state.notice.isVisible()
    # but another one is told
    servers.last.tell(Served("on", URL, sentence="The engine was lost."))
    qtbot.waitUntil(lambda: view.state.notice.words() == "The engine was lost.")


def test_without_a_model_the_way_to_one_is_shown(qtbot, view, preferences, shelf):
    # GIVEN no model
    asked = []
    view.sent.connect(lambda name, what: asked.append((name, what)))
    preferences.set("model", None)
    shelf.put()
    # THEN getting one is offered
    assert view.state.need.isVisible()
    press(qtbot, view, "get_model")
    assert asked == [("models", None)]


# How it serves


def test_what_is_changed_while_it_is_on_counts_after_a_restart(qtbot, view, preferences, servers):
    # GIVEN a server that is on WHEN the port is changed
    switch_on(qtbot, view)
    preferences.set("port", 9002)
    # THEN a restart is offered, and no more when it was changed back
    assert view.state.stale.isVisible()
    preferences.set("port", 8080)
    assert not view.state.stale.isVisible()
    # WHEN it is restarted THEN it serves there
    preferences.set("port", 9002)
    press(qtbot, view, "restart_server")
    qtbot.waitUntil(lambda: len(servers.made) == 2 and view.serving.now.state == "on")
    assert servers.made[0].stops == 1
    assert servers.last.plans[0].port == 9002
    assert not view.state.stale.isVisible()


def test_another_model_than_the_chats_can_be_served(qtbot, view, preferences, shelf):
    # GIVEN two models that chat, one that hears, and one that is damaged
    shelf.put(on_disk(), on_disk("Qwen3-4B"), on_disk("moonshine", job="dictate"), on_disk("half", problem="damaged"))
    box = view.rows["served-model"].field.control
    assert [box.itemText(row) for row in range(box.count())] == ["As the chat: Qwen3-0.6B", "Qwen3-0.6B", "Qwen3-4B"]
    # WHEN the second is chosen THEN the chat keeps its own
    box.setCurrentIndex(2)
    box.activated.emit(2)
    assert view.plan().name == "Qwen3-4B"
    assert preferences.get("model") == QWEN


def test_a_model_that_is_nowhere_on_the_shelf_is_served_by_its_folders_name(view, preferences):
    preferences.set("served-model", "/elsewhere/mine")
    assert (view.plan().model, view.plan().name) == ("/elsewhere/mine", "mine")


# The key


def test_a_key_is_made_shown_copied_and_taken_away(qtbot, view, preferences):
    # WHEN a key is made THEN it is hidden
    press(qtbot, view, "make_key")
    key = preferences.get("api-key")
    assert len(key) >= 32
    assert view.key.control.text() == key
    assert view.key.control.echoMode() is QLineEdit.EchoMode.Password
    # WHEN it is copied THEN all of it is on the clipboard
    press(qtbot, view, "copy_key")
    assert QApplication.clipboard().text() == key
    # WHEN it is shown THEN it can be read, and hidden again
    press(qtbot, view, "show_key")
    assert view.key.control.echoMode() is QLineEdit.EchoMode.Normal
    press(qtbot, view, "show_key")
    assert view.key.control.echoMode() is QLineEdit.EchoMode.Password
    # WHEN it is taken away THEN there is none, and another would be another
    press(qtbot, view, "remove_key")
    assert preferences.get("api-key") == ""
    press(qtbot, view, "make_key")
    assert preferences.get("api-key") not in ("", key)


@pytest.mark.parametrize("name", ["remove_key", "make_key"])
def test_a_key_that_was_lost_by_a_click_comes_back(qtbot, view, preferences, name):
    # GIVEN a key that other programs have
    preferences.set("api-key", "theirs")
    assert not view.undo.isVisible()
    # WHEN it is taken away, or another is made
    press(qtbot, view, name)
    assert preferences.get("api-key") != "theirs"
    # THEN that can be undone, once
    press(qtbot, view, "undo")
    assert preferences.get("api-key") == "theirs"
    assert view.key.control.text() == "theirs"
    assert not view.undo.isVisible()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes of files")
def test_the_key_is_kept_where_only_this_user_reads_it(tmp_path):
    path = tmp_path / "crane" / "settings.json"
    path.parent.mkdir()
    path.write_text('{"version": 1, "values": {}}')
    path.chmod(0o644)
    preferences = Preferences(path)
    preferences.set("api-key", "secret")
    preferences.flush()
    assert "secret" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# Other programs


def test_what_is_copied_has_the_key_that_is_not_on_the_screen(qtbot, view, preferences):
    # GIVEN a key that is hidden
    preferences.set("api-key", "secret")
    assert "secret" not in view.programs.text.toPlainText()
    # WHEN the text is copied THEN it works as it is
    press(qtbot, view, "copy_text")
    assert "Bearer secret" in QApplication.clipboard().text()
    # and where the key is shown, so it is here
    press(qtbot, view, "show_key")
    assert "Bearer secret" in view.programs.text.toPlainText()


@pytest.mark.parametrize(
    ("kind", "base"), [("curl", f"{URL}/v1"), ("Python", f"{URL}/v1"), ("SGLang", URL), ("Ollama", URL)]
)
def test_the_base_url_is_the_one_of_that_kind_of_program(qtbot, view, kind, base):
    view.programs.kinds.setCurrentText(kind)
    press(qtbot, view, "copy_address")
    assert QApplication.clipboard().text() == base
    assert base in view.programs.address.text()


def test_the_texts_name_the_server_that_is_on(qtbot, view, servers):
    # GIVEN a server at a port that the system chose
    servers.script = (Served("on", "http://127.0.0.1:40123", models=("mine",)),)
    switch_on(qtbot, view)
    # THEN that is what other programs are told
    assert "http://127.0.0.1:40123/v1" in view.programs.text.toPlainText()
    assert '"mine"' in view.programs.text.toPlainText()
    press(qtbot, view, "copy_url")
    assert QApplication.clipboard().text() == "http://127.0.0.1:40123"

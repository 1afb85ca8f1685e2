"""The promise at the bottom of the window, and what takes its place while it does not hold word for word."""

import threading

import pytest
from fakes import GIB

from crane_app.library.downloads import Progress
from crane_app.pipelines.serving import Plan, Served
from crane_app.ui.contacts import Contacts
from crane_app.ui.models.downloads import Downloads
from crane_app.ui.server.serving import Serving
from crane_app.ui.status import Status

PROMISE = "Nothing leaves this machine"
QWEN = "Qwen/Qwen3-0.6B"


class Held:
    """A download that waits until it is stopped."""

    def __init__(self, repo):
        self._over = threading.Event()

    def stop(self):
        self._over.set()

    def steps(self):
        yield Progress(doing="downloading", file="model.safetensors", done=GIB // 2, total=2 * GIB)
        self._over.wait(10)
        return "/models/Qwen3-0.6B"


@pytest.fixture
def status(qtbot, connection, preferences, servers):
    made = Status(connection, memory=16 * GIB)
    qtbot.addWidget(made)
    Downloads(preferences, Held)
    Serving(preferences, servers)
    made.follow(Contacts(preferences))
    return made


def tip(status) -> str:
    return status._promise_row.toolTip()


def test_while_nobody_is_met_nothing_leaves_this_machine(status):
    assert status.promise.text() == PROMISE
    assert tip(status) == ""


def test_while_a_model_comes_it_says_from_where(qtbot, status, preferences):
    # GIVEN a download THEN whom it meets is told, and what they learn
    downloads = Downloads.of(preferences)
    downloads.start(QWEN)
    assert status.promise.text() == "Downloading from huggingface.co"
    assert QWEN in tip(status)
    assert "Nothing of yours is sent" in tip(status)
    # WHEN it is paused THEN the promise holds again
    downloads.pause(QWEN)
    assert status.promise.text() == PROMISE
    assert tip(status) == ""


def test_a_mirror_is_called_by_its_name(status, preferences):
    preferences.set("hub-endpoint", "https://models.example.org/hub")
    Downloads.of(preferences).start(QWEN)
    assert status.promise.text() == "Downloading from models.example.org"
    Downloads.of(preferences).pause(QWEN)


@pytest.mark.parametrize(("host", "words"), [("127.0.0.1", PROMISE), ("0.0.0.0", "Open to the network")])
def test_a_server_is_told_of_where_others_can_reach_it(qtbot, status, preferences, servers, host, words):
    # GIVEN a server WHEN it is on
    serving = Serving.of(preferences)
    servers.script = (Served("on", f"http://{host}:8080"),)
    serving.start(Plan("/models/tiny", host=host, key="secret"))
    qtbot.waitUntil(lambda: serving.now.state == "on")
    # THEN that is told if others than this computer's programs can use it
    assert status.promise.text() == words
    # WHEN it has ended THEN the promise holds again
    serving.stop()
    qtbot.waitUntil(lambda: not serving.under_way)
    assert status.promise.text() == PROMISE


def test_both_are_told_together(qtbot, status, preferences, servers):
    serving = Serving.of(preferences)
    servers.script = (Served("on", "http://10.0.0.2:8080"),)
    serving.start(Plan("/models/tiny", host="0.0.0.0", key="secret"))
    Downloads.of(preferences).start(QWEN)
    qtbot.waitUntil(lambda: serving.now.state == "on")
    assert status.promise.text() == "Open to the network, Downloading from huggingface.co"
    assert "http://10.0.0.2:8080" in tip(status)
    Downloads.of(preferences).pause(QWEN)

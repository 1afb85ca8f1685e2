"""One window per user: in this process by its parts, then with real processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PySide6.QtNetwork import QLocalSocket

from crane_app.engine.process.place import Place
from crane_app.errors import CraneError
from crane_app.ui import instance

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="kills processes")


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path / "crane")
    made.open()
    return made


@pytest.fixture
def door(place, qapp):
    with instance.only_one([], place) as made:
        yield made


class Visitor:
    """Says something at the door from the same process, with Qt's loop running."""

    def __init__(self, qtbot, place, words: bytes):
        self.socket, self.qtbot = QLocalSocket(), qtbot
        self.socket.connectToServer(instance.address(place))
        assert self.socket.waitForConnected(2000)
        self.socket.write(words)
        self.socket.flush()

    def answer(self) -> bytes:
        """What comes back before the door closes; b"" if it only closes."""
        closed = QLocalSocket.LocalSocketState.UnconnectedState
        self.qtbot.waitUntil(lambda: self.socket.canReadLine() or self.socket.state() is closed, timeout=8000)
        return bytes(self.socket.readAll().data())


def test_files_that_a_later_start_wants_arrive(qtbot, door, place):
    # GIVEN someone at the door
    with qtbot.waitSignal(door.asked) as asked:
        visitor = Visitor(qtbot, place, json.dumps({"open": ["/a b.png", "/ü🐦.pdf"]}).encode() + b"\n")
        # THEN it is answered, and the files have come
        assert visitor.answer() == instance.ANSWER
    assert asked.args == [[Path("/a b.png"), Path("/ü🐦.pdf")]]


def test_a_start_without_files_only_asks_to_come_forward(qtbot, door, place):
    with qtbot.waitSignal(door.asked) as asked:
        assert Visitor(qtbot, place, b'{"open": []}\n').answer() == instance.ANSWER
    assert asked.args == [[]]


@pytest.mark.parametrize(
    "words",
    [
        b"\n",
        b"GET / HTTP/1.1\r\n",
        b"\xff\xfe\0\n",
        b'{"open": "no list"}\n',
        b'{"open": [1]}\n',
        b'{"open": ["/a\\u0000b"]}\n',
        b"[" * 100_000 + b"\n",
        b"x" * (instance.MOST_BYTES + 100),
    ],
    ids=["empty", "http", "binary", "no list", "numbers", "a zero", "deep", "endless"],
)
def test_garbage_is_ignored(qtbot, door, place, words):
    # GIVEN something else at the door
    told = []
    door.asked.connect(told.append)
    # THEN it is shown out without an answer
    assert Visitor(qtbot, place, words).answer() == b""
    assert told == []
    # AND who comes next is served
    assert Visitor(qtbot, place, b'{"open": []}\n').answer() == instance.ANSWER


def test_relative_names_are_not_opened(qtbot, door, place):
    with qtbot.waitSignal(door.asked) as asked:
        Visitor(qtbot, place, b'{"open": ["../a.png", "/b.png"]}\n').answer()
    assert asked.args == [[Path("/b.png")]]


def test_who_says_nothing_is_shown_out(qtbot, door, place, monkeypatch):
    monkeypatch.setattr(instance, "IDLE_MS", 50)
    assert Visitor(qtbot, place, b"").answer() == b""


def test_a_crowd_is_not_let_in(qtbot, door, place):
    crowd = [Visitor(qtbot, place, b"") for _ in range(instance.MOST_VISITORS)]
    assert Visitor(qtbot, place, b'{"open": []}\n').answer() == b""
    # WHEN one leaves THEN there is room
    crowd[0].socket.abort()
    qtbot.waitUntil(lambda: len(door._visitors) < instance.MOST_VISITORS)
    assert Visitor(qtbot, place, b'{"open": []}\n').answer() == instance.ANSWER


@POSIX
def test_the_door_is_closed_to_other_users(door, place):
    assert place.folder.stat().st_mode & 0o777 == 0o700
    assert Path(instance.address(place)).stat().st_mode & 0o077 == 0


def test_what_a_dead_window_left_is_replaced(qapp, place):
    # GIVEN a file where the socket would be
    Path(instance.address(place)).write_text("left behind")
    # THEN a window opens there all the same
    with instance.only_one([], place) as door:
        assert door is not None


def test_too_many_files_are_told(place):
    with pytest.raises(CraneError, match="too many"):
        instance.hand_over(instance.address(place), [Path("/" + "x" * 200)] * 10_000)


def test_a_window_that_does_not_answer_is_told(place):
    # GIVEN a lock that is held and nobody at the door
    # THEN the later one gets a sentence
    with place.lock(instance.LOCK, 0), pytest.raises(CraneError, match="does not answer"):
        instance.hand_over(instance.address(place), [], seconds=0.1)


# With real processes

WINDOW = """
import sys
from crane_app.errors import CraneError
from crane_app.ui import connection, app
from crane_app.ui.window import Window

def none():
    raise CraneError("No engine in this test.")

def told(what):
    print(what, flush=True)

connection._connect = none
Window.open = lambda self, paths: told("open " + " ".join(map(str, paths)))
forward = Window.come_forward
Window.come_forward = lambda self: (forward(self), told("forward"))
Window.make_ahead = lambda self: told("usable")
from crane_app.__main__ import main
sys.argv[0] = "crane"
main()
"""


@pytest.fixture
def start(tmp_path):
    """Starts `crane app` as a process, at home in a folder of the test; its output can be read line by line.

    before: Python that runs in it first.
    """
    started = []
    names = ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")
    (tmp_path / "home").mkdir(mode=0o700)
    homes = dict.fromkeys(names, str(tmp_path / "home"))

    def made(*files, before: str = "") -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", before + WINDOW, "app", *map(str, files)],
            env=os.environ | homes | {"QT_QPA_PLATFORM": "offscreen"},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield made
    for process in started:
        process.kill()
        process.communicate()


def heard(process: subprocess.Popen, words: str) -> str:
    """The line of its output that has these words."""
    for line in process.stdout:
        if words in line:
            return line.strip()
    raise AssertionError(f"it ended without {words!r}: {process.stderr.read()}")


@POSIX
def test_a_second_start_hands_over_its_files_and_goes(start, tmp_path):
    # GIVEN a window
    first = start()
    heard(first, "usable")
    # WHEN Crane is started again with a file
    second = start(tmp_path / "a b.png")
    # THEN that start ends well, and the first comes forward with the file
    assert second.wait(20) == 0
    assert heard(first, "forward") == "forward"
    assert heard(first, "open") == f"open {tmp_path / 'a b.png'}"


@POSIX
def test_after_a_kill_it_starts_again(start):
    # GIVEN a window that was killed
    first = start()
    heard(first, "usable")
    first.kill()
    first.wait(20)
    # WHEN Crane is started again THEN it opens a window of its own
    heard(start(), "usable")


@POSIX
def test_a_window_that_hangs_leads_to_a_sentence(start):
    # GIVEN a window that does not get to run
    first = start()
    heard(first, "usable")
    os.kill(first.pid, signal.SIGSTOP)
    # WHEN Crane is started again
    second = start()
    _, told = second.communicate(timeout=20)
    # THEN it says so, and ends
    assert "does not answer" in told
    assert second.returncode == 1
    os.kill(first.pid, signal.SIGCONT)


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_closes_the_window_cleanly(start, tmp_path, number):
    # GIVEN the app in a process of its own
    process = start()
    heard(process, "usable")
    # WHEN it is interrupted while the window is open
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    # THEN it ends well, quietly, and the window's place was kept
    assert process.returncode == 0
    assert "Traceback" not in told
    assert list(tmp_path.rglob("window.ini"))


@POSIX
def test_a_view_that_never_leaves_does_not_keep_the_program(start):
    # GIVEN a window whose view hangs when it should leave
    hang = "import time\nfrom crane_app.ui.chat.view import ChatView\nChatView.leave = lambda self: time.sleep(600)\n"
    process = start(before=hang)
    heard(process, "usable")
    # WHEN it is closed
    process.send_signal(signal.SIGTERM)
    # THEN it ends all the same
    process.communicate(timeout=60)
    assert process.returncode == 1

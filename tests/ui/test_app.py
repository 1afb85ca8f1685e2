import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import FakePreferences

from crane_app.errors import Unsupported
from crane_app.library.chats import Chats
from crane_app.ui import app, libraries, theme

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="about Linux displays")


@pytest.fixture
def no_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@LINUX
def test_without_a_display_a_sentence_says_so(no_display):
    assert not app.display_available()
    assert "DISPLAY" in app.display_problem()
    with pytest.raises(Unsupported, match="no screen"):
        app.run()


@LINUX
@pytest.mark.parametrize("display", [":4711", "nowhere.invalid:0", "rubbish"])
def test_a_display_that_does_not_answer_is_none(no_display, display):
    no_display.setenv("DISPLAY", display)
    assert not app.display_available()
    assert display in app.display_problem()


@LINUX
def test_a_wayland_socket_that_answers_is_a_display(no_display, tmp_path):
    # GIVEN a socket where a compositor would have one
    no_display.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    no_display.setenv("WAYLAND_DISPLAY", "wayland-7")
    assert not app.display_available()
    with socket.socket(socket.AF_UNIX) as compositor:
        compositor.bind(str(tmp_path / "wayland-7"))
        compositor.listen()
        # THEN there is a display
        assert app.display_available()


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_macs_and_windows_have_displays(no_display, platform):
    no_display.setattr(sys, "platform", platform)
    assert app.display_available()


def test_asking_for_a_display_does_not_import_qt():
    code = "import sys; from crane_app.ui import app; app.display_available(); print('PySide6' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


def test_missing_libraries_are_named_with_the_command_that_brings_them(monkeypatch):
    # GIVEN two libraries that are not there, one of them of X11
    monkeypatch.setitem(libraries.ALWAYS, "libnothere.so.1", "libnothere1")
    monkeypatch.setitem(libraries.PLATFORM, "xcb", {"libxcb-nothere.so.0": "libxcb-nothere0"})
    monkeypatch.setitem(libraries.PLATFORM, "wayland", {})
    # THEN the sentence has both, and what to type
    with pytest.raises(Unsupported, match=r"libnothere\.so\.1.*apt-get install -y .*libnothere1 libxcb-nothere0"):
        libraries.require(("xcb",))
    # AND what X11 needs is not asked for where Wayland does
    with pytest.raises(Unsupported) as told:
        libraries.require(("wayland", "xcb"))
    assert "xcb" not in str(told.value)


def test_settings_live_in_a_file_of_our_own():
    assert app.settings_path().parts[-2:] == ("crane", "window.ini")


def test_the_phases_of_the_start_are_timed(monkeypatch):
    # GIVEN marks at known times
    monkeypatch.setattr(app, "_marks", {"": 1.0})
    times = iter([1.5, 3.5])
    monkeypatch.setattr(app, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    # WHEN two phases are over
    app.mark("qt")
    app.mark("shown")
    # THEN each has the time since the one before
    assert app.marks() == {"qt": 0.5, "shown": 2.0}


def test_conversations_that_cannot_be_kept_are_told(monkeypatch, tmp_path):
    # GIVEN a file where the folder of the conversations would be
    (tmp_path / "crane").write_text("in the way")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("crane_app.library.chats.chats_path", lambda: tmp_path / "crane" / "chats.db")
    # WHEN they are opened
    chats, notice = app._chats(kept=True)
    # THEN there are some for now, and a sentence
    assert notice
    assert chats.chats() == []
    chats.close()


def test_without_history_nothing_is_written(monkeypatch, tmp_path):
    monkeypatch.setattr("crane_app.library.chats.chats_path", lambda: tmp_path / "chats.db")
    chats, notice = app._chats(kept=False)
    assert not notice
    chats.close()
    assert list(tmp_path.iterdir()) == []


def test_only_conversations_that_are_kept_are_kept_ready(qtbot, monkeypatch, tmp_path):
    # GIVEN what was computed for two conversations, of which one is there
    chats = Chats.open(tmp_path / "chats.db")
    preferences = FakePreferences()
    monkeypatch.setattr("crane_app.ui.preferences.Preferences", lambda: preferences)
    monkeypatch.setattr("crane_app.library.store.store_root", lambda: tmp_path / "store")
    monkeypatch.setattr(app, "_chats", lambda kept: (chats, ""))
    shared = app._Shared()
    chat = chats.new("A title")
    owners = [shared.readiness.owner(number) for number in (chat, chat + 1)]
    assert [owner.rpartition("-")[0] for owner in owners] == [f"chat-{chat}", f"chat-{chat + 1}"]
    # WHEN the window has started
    for _ in app._tidied(chats, shared.readiness):
        pass
    # THEN the other's is gone
    assert [path.name for path in (tmp_path / "store").iterdir()] == owners[:1]
    # WHEN nothing is to be kept ready any more
    preferences.set("keep-ready", False)
    # THEN nothing is left, and nothing more comes
    qtbot.waitUntil(lambda: list((tmp_path / "store").iterdir()) == [])
    assert shared.readiness.owner(chat) == ""
    chats.close()


def test_conversations_in_memory_are_not_kept_ready(monkeypatch, tmp_path):
    chats = Chats.in_memory()
    monkeypatch.setattr("crane_app.ui.preferences.Preferences", FakePreferences)
    monkeypatch.setattr("crane_app.library.store.store_root", lambda: tmp_path / "store")
    monkeypatch.setattr(app, "_chats", lambda kept: (chats, ""))
    assert app._Shared().readiness.owner(chats.new("A title")) == ""
    assert not (tmp_path / "store").exists()
    chats.close()


def test_preferences_change_the_looks_at_once(qapp, monkeypatch):
    # GIVEN what the views share, over preferences of a test
    monkeypatch.setattr("crane_app.ui.preferences.Preferences", FakePreferences)
    monkeypatch.setattr(app, "_chats", lambda kept: (None, ""))
    shared = app._Shared()
    before = qapp.font().pointSizeF()
    try:
        # WHEN they change
        shared.preferences.set("appearance", "dark")
        shared.preferences.set("text-size", 200)
        # THEN the application follows
        assert theme.colours() is theme.DARK
        assert qapp.font().pointSizeF() == pytest.approx(2 * before)
    finally:
        theme.set_text_size(100)


SLOW = (
    *("torch", "mlx", "onnxruntime", "rapidocr", "numpy", "sounddevice", "soundfile", "huggingface_hub", "httpx"),
    *("httpx2", "markdown_it", "pygments", "PIL", "pypdfium2", "jinja2", "tokenizers", "safetensors", "filelock"),
    *("email", "asyncio", "multiprocessing", "http", "unittest"),
)
# Each is wanted by a view that is not in sight yet, by the engine's process, or by an answer.
LATER = re.compile(
    r"crane_app\.(backends|models|demo|doctor|bench|api|cli|platform"
    r"|engine\.(engine|loading|scheduler|process\.(client|child))|pipelines\.(conversation|narration|reading|dictation)"
    r"|ui\.(pictures|dictate|read_aloud|settings|models\.view))\b"
)


def test_the_window_opens_without_what_is_slow_to_import(started_modules):
    assert "crane_app.ui.chat.view" in started_modules
    assert sorted(set(SLOW) & {name.split(".")[0] for name in started_modules}) == []


def test_the_window_opens_without_what_other_views_need(started_modules):
    assert [name for name in sorted(started_modules) if LATER.match(name)] == []


@pytest.fixture(scope="module")
def started_modules() -> set[str]:
    """What any thread imports until the first view can be seen."""
    code = (
        "import sys\n"
        "from PySide6.QtWidgets import QApplication\n"
        "from crane_app.ui import app, faults, instance\n"
        "qt = QApplication([])\n"
        "app._introduce(qt)\n"
        "window = app._window(qt, app._Shared())\n"
        "window.show()\n"
        "print(*sys.modules, flush=True)\n"
        "import os\n"
        "os._exit(0)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
        cwd=Path(app.__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    return set(told.stdout.split())

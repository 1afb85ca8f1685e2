import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from crane_app.errors import Unsupported
from crane_app.ui import app, libraries

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


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_ctrl_c_closes_the_window_cleanly(tmp_path, name):
    # GIVEN the app in a process of its own
    code = (
        "import os, signal, threading\n"
        "from crane_app.ui.app import run\n"
        f"threading.Timer(1.0, os.kill, (os.getpid(), signal.{name})).start()\n"
        "status = run()\n"
        "print('closed', status)\n"
    )
    homes = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "QT_QPA_PLATFORM": "offscreen"}
    # WHEN it is interrupted while the window is open
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | homes,
        cwd=Path(app.__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
    )
    # THEN it ends well, quietly, and the window's place was kept
    assert told.stdout == "closed 0\n"
    assert "Traceback" not in told.stderr
    assert told.returncode == 0
    assert list(tmp_path.rglob("window.ini"))

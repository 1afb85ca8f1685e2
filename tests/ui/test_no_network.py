"""The window and its engine talk to each other and to nobody else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, signal, sys
met = []

def listen(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        met.append((event, repr(arguments[1] if event == "socket.connect" else arguments[0])))

sys.addaudithook(listen)
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
from crane_app.ui import app

def watch():
    window = next(w for w in QApplication.topLevelWidgets() if hasattr(w, "connection"))
    def over():
        # With the introduction, as in every new home.
        if window.connection.state == "ready" and set(window.go_actions) <= set(window.made()):
            window.close()
    window.timer = QTimer(window, interval=50)
    window.timer.timeout.connect(over)
    window.timer.start()

real = app._usable
app._usable = lambda *given: (real(*given), watch())
status = app.run()
print(json.dumps([status, met]))
"""


@pytest.mark.skipif(os.name != "posix", reason="counts the sockets of an engine on AF_UNIX")
def test_all_views_and_an_engine_open_no_connection_to_another_machine(tmp_path):
    # GIVEN the whole program, its views made and its engine up
    homes = {name: str(tmp_path) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")}
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | homes | {"XDG_RUNTIME_DIR": str(runtime), "QT_QPA_PLATFORM": "offscreen"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    status, met = json.loads(told.stdout.splitlines()[-1])
    # THEN it met the engine's socket, which is a file, and nothing else
    assert status == 0
    assert met
    assert [each for each in met if each[0] != "socket.connect" or "engine.sock" not in each[1]] == []

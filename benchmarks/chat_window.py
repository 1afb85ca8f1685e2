"""Whether the whole window ever stands still while it chats: also while its engine is killed and starts again.

    python -m benchmarks.chat_window [--seconds 10]

Offscreen, with a real engine process that has no model and writes 200 tokens/s of Markdown into a conversation of 4,000
words. Three phases: streaming; the engine is killed with SIGKILL and another starts; streaming again. Prints JSON with
the gaps of a 10 ms timer, as benchmarks.window does, and exits with 1 where the clock saw one above 50 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from benchmarks.window import ANSWER, LIMIT, WORDS, Probe, turn

FOLDER = "/models/talker"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to stream, before and after")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crane-", ignore_cleanup_errors=True) as home:
        for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
            os.environ[name] = home
        os.environ["TALKER_TEXT"] = ANSWER
        found = measured(Path(home), args.seconds)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    print(json.dumps({"machine": machine, "limit_ms": LIMIT, "gaps": found}, indent=1))
    return int(any(one["wall"]["max_ms"] > LIMIT for one in found.values()))


def measured(home: Path, seconds: float) -> dict[str, Any]:
    from PySide6.QtCore import QSettings
    from PySide6.QtGui import QIcon
    from PySide6.QtWidgets import QApplication

    from crane_app.engine.process.client import connect
    from crane_app.engine.process.place import Place
    from crane_app.engine.process.reach import Start, tidy
    from crane_app.library.chats import Chats
    from crane_app.ui import theme, views
    from crane_app.ui.connection import Connection
    from crane_app.ui.models.shelf import Shelf
    from crane_app.ui.preferences import Preferences
    from crane_app.ui.window import Window

    app = QApplication.instance() or QApplication([])
    theme.install(app)
    place = Place(home / "run")
    talker = str(Path(__file__).with_name("_talker.py"))
    how = Start((sys.executable, "-P", talker), linger=0.0, log=home / "engine.log")
    connection = Connection(lambda: connect(place=place, how=how))
    chats, preferences = Chats.open(home / "chats.db"), Preferences(home / "settings.json")
    preferences.set("model", FOLDER)
    chat = conversation(chats)
    makers = views.makers(connection, chats, preferences, Shelf(preferences), QIcon())
    settings = QSettings(str(home / "window.ini"), QSettings.Format.IniFormat)
    window = Window(settings, connection, preferences, makers)
    window.resize(1180, 760)
    window.show()
    connection.start()
    view = window.show_view("chat")
    turn(lambda: connection.state == "ready")
    view.open(chat)
    turn(settled(0.5))
    found = {"stream": streamed(view, seconds)}
    found["killed"] = killed(view, connection)
    found["stream again"] = streamed(view, seconds)
    view.stop()
    window.close()
    tidy(place)
    return found


def conversation(chats: Any) -> int:
    """WORDS words of Markdown, as questions and answers."""
    chat, parent, words = chats.new("Cranes", FOLDER), None, 0
    while words < WORDS:
        asked = chats.add(chat, "user", "And what about the next part of it?", parent)
        parent = chats.add(chat, "assistant", ANSWER * 2, asked.id, model=FOLDER).id
        words += 2 * len(ANSWER.split()) + 8
    return chat


def settled(seconds: float):
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


def streamed(view: Any, seconds: float) -> dict[str, Any]:
    """An answer of so many seconds; it goes on when this returns."""
    probe = Probe()
    assert view.talk.ask("Go on.")
    turn(settled(seconds))
    return probe.stop() | {"characters": sum(len(each.text) for each in view.talk.running.values())}


def killed(view: Any, connection: Any) -> dict[str, Any]:
    """The engine dies in the middle of the answer, and another takes its place."""
    probe, dead = Probe(), connection.stats.pid
    os.kill(dead, signal.SIGKILL)
    turn(lambda: not view.talk.running)
    turn(lambda: connection.stats is not None and connection.stats.pid != dead)
    turn(settled(0.5))
    return probe.stop() | {"state": view.talk.turns[-1].state}


if __name__ == "__main__":
    sys.exit(main())

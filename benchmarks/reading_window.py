"""Whether the window ever stands still while a long PDF is read in the engine's process.

    python -m benchmarks.reading_window [--pages 200] [--seconds 60]

Offscreen, with the real engine process and the built-in reader: a PDF of so many pages, each the page of the demo, is
opened in the Pictures view and read for so many seconds; meanwhile its pages are turned. Prints JSON with the gaps of a
10 ms timer, as benchmarks.window does, and exits with 1 where the clock saw one above 50 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from benchmarks.window import LIMIT, Probe, turn

PICTURE = Path(__file__).parents[1] / "crane_app" / "assets" / "demo" / "page.png"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to read, at most")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crane-", ignore_cleanup_errors=True) as home:
        for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
            os.environ[name] = home
        os.environ["XDG_RUNTIME_DIR"] = home
        found = measured(document(Path(home), args.pages), args.seconds)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    print(json.dumps({"machine": machine, "limit_ms": LIMIT, "gaps": {"reading": found}}, indent=1))
    return int(found["wall"]["max_ms"] > LIMIT)


def document(folder: Path, pages: int) -> Path:
    """A PDF whose pages all show the picture."""
    from PIL import Image

    path = folder / "long.pdf"
    with Image.open(PICTURE) as picture:
        page = picture.convert("RGB")
    page.save(path, save_all=True, append_images=[page] * (pages - 1))
    return path


def measured(path: Path, seconds: float) -> dict[str, Any]:
    from PySide6.QtCore import QSettings
    from PySide6.QtGui import QIcon
    from PySide6.QtWidgets import QApplication

    from crane_app.library.chats import Chats
    from crane_app.ui import theme, views
    from crane_app.ui.connection import Connection
    from crane_app.ui.models.shelf import Shelf
    from crane_app.ui.preferences import Preferences
    from crane_app.ui.window import Window

    app = QApplication.instance() or QApplication([])
    theme.install(app)
    connection, preferences = Connection(), Preferences(path.with_name("settings.json"))
    makers = views.makers(connection, Chats.in_memory(), preferences, Shelf(preferences), QIcon())
    settings = QSettings(str(path.with_name("window.ini")), QSettings.Format.IniFormat)
    window = Window(settings, connection, preferences, makers)
    window.resize(1180, 760)
    window.show()
    connection.start()
    view = window.show_view("pictures")
    turn(lambda: connection.state == "ready")
    for _ in views.imported():  # as the app does when it has started
        pass
    window.make_ahead()
    turn(lambda: len(window.made()) == len(views.NAMES))
    probe, until = Probe(), time.monotonic() + seconds
    view.read([path])
    entry = view.queue.entries[0]
    turned = time.monotonic()

    def over() -> bool:
        nonlocal turned
        if time.monotonic() - turned > 1:
            turned = time.monotonic()
            view.turn(1)
        return time.monotonic() > until or len(entry.texts) == entry.count > 0

    turn(over)
    found = probe.stop() | {"pages": entry.count, "read": len(entry.texts)}
    window.close()
    return found


if __name__ == "__main__":
    sys.exit(main())

"""Pictures of every view in use, in both schemes, into docs/screens: VIEW-SCHEME.png.

    python tools/screenshots.py [--scale 2] [--text-size 100] [--out FOLDER] [VIEW...]

What is seen is made up (tests/ui/scenes.py): no model, no engine, no microphone; only the picture is really read. Works
offscreen, and with QT_QPA_PLATFORM=xcb on the display that DISPLAY names.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SIZE = (1280, 800)
SETTLE_MS = 1500  # until all of it is painted, code in its colours too
LONGEST_MS, STEP_MS = 60_000, 100
SCREEN = """{"screens": [{"name": "screen", "x": 0, "y": 0, "width": 4000, "height": 2800, "logicalDpi": 96,
             "logicalBaseDpi": 96, "dpr": 1}]}"""
# A view to the scene of tests/ui/scenes.py that shows it best.
SHOWN = {
    "chat": "chat, in use",
    "pictures": "pictures, in use",
    "dictate": "dictate, in use",
    "read_aloud": "read aloud, speaking",
    "models": "models, in use",
    "server": "server, on",
    "settings": "settings",
}


def main() -> None:
    """Take the pictures that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("views", nargs="*", metavar="VIEW", help=f"of {', '.join(SHOWN)}; all if none is named")
    parser.add_argument("--scale", type=int, default=1, choices=(1, 2), help="pixels of the picture for one of Qt's")
    parser.add_argument("--text-size", type=int, default=100, help="percent of the system's")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screens", help="folder for the pictures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        live_in(Path(home), args.scale)
        take(args.views or list(SHOWN), args.text_size, args.out, Path(home))


def live_in(home: Path, scale: int) -> None:
    """Nothing of this user is read or changed; the offscreen screen is as large as is needed."""
    os.environ["HOME"] = str(home)
    for name in ("CONFIG", "DATA", "CACHE", "STATE"):
        os.environ[f"XDG_{name}_HOME"] = str(home / name.lower())
    os.environ["QT_SCALE_FACTOR"] = str(scale)
    if "QT_QPA_PLATFORM" not in os.environ:
        screen = home / "screen.json"
        screen.write_text(SCREEN)
        os.environ["QT_QPA_PLATFORM"] = f"offscreen:configfile={screen}"
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "ui")]


def take(views: list[str], text_size: int, out: Path, home: Path) -> None:
    """One picture for each view and scheme."""
    from PySide6.QtGui import QFont
    from PySide6.QtWidgets import QApplication

    app = QApplication(["screenshots"])
    if family := best_family():
        font = QFont(app.font())
        font.setFamily(family)
        app.setFont(font)

    from crane_app.ui import app as crane
    from crane_app.ui import theme

    crane._introduce(app)
    theme.set_text_size(text_size)
    out.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        theme.set_scheme(scheme)
        for view in views:
            path = out / f"{view}-{scheme}.png"
            picture_of(SHOWN[view], home / f"{view}-{scheme}").save(str(path))
            print(path, flush=True)


def picture_of(name: str, folder: Path):
    """The window with a scene in it, as QPixmap."""
    from scenes import SCENES, Stage, settled

    scene = SCENES[name]
    stage = Stage(folder, reader=bundled_reader()) if scene.view == "pictures" else Stage(folder)
    folder.mkdir()
    scene.before(stage)
    window = stage.open(scene.view)
    window.resize(*SIZE)
    window.show()
    if scene.view == "pictures":
        read_demo(stage)
    else:
        scene.then(stage)
        wait_for(lambda: settled(stage))
    rest(SETTLE_MS)
    picture = window.grab()
    stage.rest()
    window.close()
    window.deleteLater()
    rest(50)
    stage.chats.close()
    return picture


def bundled_reader():
    """The reader of the app itself, in this process, keeping nothing."""
    from crane_app.ui.pictures.sheets import PageReader

    class Bundled(PageReader):
        def let(self, _pages: int) -> None:
            """Nothing is held here."""

    return Bundled()


def read_demo(stage) -> None:
    """The picture that `crane demo` reads."""
    view = stage.view("pictures")
    view.read([ROOT / "crane_app" / "assets" / "demo" / "page.png"])
    wait_for(lambda: view.queue.reading is None)


def rest(milliseconds: int) -> None:
    """Let the window live so long. QTest.qWait would keep other threads, which colour code, from running."""
    from PySide6.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def wait_for(done) -> None:
    """Let the window live until this is so."""

    for _ in range(LONGEST_MS // STEP_MS):
        if done():
            return
        rest(STEP_MS)
    raise SystemExit("What should be seen did not come in time.")


def best_family() -> str:
    """A typeface as people have it, where the machine that takes the pictures has one; "" for its own choice."""
    from PySide6.QtGui import QFontDatabase

    there = set(QFontDatabase.families())
    wanted = ("Inter", "Cantarell", "Noto Sans", "Ubuntu", "Open Sans", "Noto Sans CJK SC")
    return next((family for family in wanted if family in there), "")


if __name__ == "__main__":
    main()

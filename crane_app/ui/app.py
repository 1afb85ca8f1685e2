"""Starts the window. Whether there is a screen to show it on can be asked without touching Qt."""

import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crane_app.errors import Unsupported
from crane_app.ui import libraries

NAME = "Crane"
ICON = Path(__file__).parents[1] / "assets" / "icon.svg"
# How long a page that is being read may keep the program from ending.
GRACE_S = 5.0
# Platforms of Qt that need no screen; someone who sets QT_QPA_PLATFORM knows.
SCREENLESS = ("offscreen", "minimal", "vnc", "linuxfb", "eglfs", "vkkhrdisplay")


def display_available() -> bool:
    """Is there a screen a window can be shown on? Neither imports Qt nor risks the process."""
    return not display_problem()


def display_problem() -> str:
    """Why no window can be shown here, as a sentence; "" when one can."""
    if not sys.platform.startswith("linux") or _platform_wanted() in SCREENLESS:
        return ""
    wayland, display = os.environ.get("WAYLAND_DISPLAY"), os.environ.get("DISPLAY")
    if (wayland and _wayland_answers(wayland)) or (display and libraries.x11_answers()):
        return ""
    if not wayland and not display:
        return "There is no screen here: neither DISPLAY nor WAYLAND_DISPLAY is set."
    return f"The display {wayland or display} does not answer, or does not let this user in."


def run(paths: Sequence[str] = ()) -> int:
    """Show the window, open `paths` in it, and return when it is closed: the exit status."""
    _require_screen()
    from PySide6.QtCore import QSettings
    from PySide6.QtWidgets import QApplication

    from crane_app.ui import theme
    from crane_app.ui.window import Window
    from crane_app.ui.worker import stop_all

    app = QApplication.instance() or QApplication([NAME])
    _introduce(app)
    settings = QSettings(str(settings_path()), QSettings.Format.IniFormat)
    theme.install(app)
    theme.set_scheme(_valid_scheme(settings.value("scheme")))
    window = Window(settings)
    window.show()
    window.pictures.read([Path(path).expanduser().absolute() for path in paths])
    opener = _opener(window.pictures.read)
    app.installEventFilter(opener)
    with _interruptible(app):
        status = app.exec()
    app.removeEventFilter(opener)
    if not stop_all(GRACE_S):
        # Ending the interpreter under a thread that is inside a native call would crash.
        sys.stdout and sys.stdout.flush()
        os._exit(status)
    return status


def settings_path() -> Path:
    """The window's own file: its place on the screen and its looks."""
    from platformdirs import user_config_path

    return user_config_path("crane", appauthor=False) / "window.ini"


def _require_screen() -> None:
    if problem := display_problem():
        raise Unsupported(problem)
    if sys.platform.startswith("linux"):
        libraries.require(_platforms_likely())
    try:
        from PySide6 import QtSvg, QtWidgets  # noqa: F401
    except ImportError as error:
        raise Unsupported(f"The window cannot start, Qt does not load: {error}.") from error


def _platform_wanted() -> str:
    return os.environ.get("QT_QPA_PLATFORM", "").split(":")[0].split(";")[0]


def _platforms_likely() -> tuple[str, ...]:
    """Which of Qt's platforms must find its libraries; with both displays set, one of the two is enough."""
    wanted = _platform_wanted()
    if wanted:
        return (wanted,)
    names = {"WAYLAND_DISPLAY": "wayland", "DISPLAY": "xcb"}
    return tuple(name for variable, name in names.items() if os.environ.get(variable))


def _wayland_answers(name: str) -> bool:
    path = Path(os.environ.get("XDG_RUNTIME_DIR", "")) / name
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(1.0)
        try:
            door.connect(str(path))
        except OSError:
            return False
    return True


def _valid_scheme(value: object) -> str:
    return value if value in ("light", "dark") else "system"


def _introduce(app) -> None:
    from PySide6.QtGui import QIcon

    app.setApplicationName(NAME)
    app.setApplicationDisplayName(NAME)
    app.setDesktopFileName("crane")
    app.setWindowIcon(QIcon(str(ICON)))


def _opener(read):
    """Files that macOS hands over: dropped on the Dock icon, or "Open with"."""
    from PySide6.QtCore import QEvent, QObject

    class Opener(QObject):
        def eventFilter(self, watched, event) -> bool:
            if event.type() == QEvent.Type.FileOpen and event.file():
                read([Path(event.file())])
                return True
            return False

    return Opener()


@contextmanager
def _interruptible(app) -> Iterator[None]:
    """Ctrl-C and a polite kill close the window, so that its place is kept."""
    from PySide6.QtCore import QSocketNotifier

    def leave(*_signal: object) -> None:
        app.closeAllWindows()
        app.quit()

    # Python handles a signal only between its own instructions: the socket wakes Qt's loop for it.
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    bell = QSocketNotifier(ours.fileno(), QSocketNotifier.Type.Read)
    bell.activated.connect(lambda *_: ours.recv(64))
    wakeup = signal.set_wakeup_fd(theirs.fileno())
    before = {name: signal.signal(name, leave) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
        signal.set_wakeup_fd(wakeup)
        bell.setEnabled(False)
        ours.close()
        theirs.close()

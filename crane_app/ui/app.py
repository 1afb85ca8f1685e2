"""Starts the window. Whether there is a screen to show it on can be asked without touching Qt."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crane_app.errors import CraneError, Unsupported
from crane_app.ui import libraries

NAME = "Crane"
ICON = Path(__file__).parents[1] / "assets" / "icon.svg"
# How long what is under way may keep the program from ending, and the rest of the end beside it.
GRACE_S, SLACK_S = 4.0, 1.0
KEPT_S = 30 * 86400  # that a deleted conversation can still be brought back from the file
# Platforms of Qt that need no screen; someone who sets QT_QPA_PLATFORM knows.
SCREENLESS = ("offscreen", "minimal", "vnc", "linuxfb", "eglfs", "vkkhrdisplay")


_marks: dict[str, float] = {"": time.perf_counter()}


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
    """Show the window, open `paths` in it, and return when it is closed: the exit status.

    Where this user's window is open already, it gets them and comes forward.
    """
    _require_screen()
    from PySide6.QtWidgets import QApplication

    from crane_app.ui import faults
    from crane_app.ui.instance import only_one

    faults.keep_log()
    mark("modules")
    app = QApplication.instance() or QApplication([NAME])
    _introduce(app)
    mark("qt")
    files = [Path(path).expanduser().absolute() for path in paths]
    with only_one(files) as door:
        return _run(app, door, files) if door is not None else 0


def settings_path() -> Path:
    """The window's own file: its place on the screen."""
    from platformdirs import user_config_path

    return user_config_path("crane", appauthor=False) / "window.ini"


def mark(phase: str) -> None:
    """A phase of the start is over."""
    _marks[phase] = time.perf_counter()


def marks() -> dict[str, float]:
    """Seconds that each phase of the start took; with CRANE_DEBUG=1 they are printed when the window can be used."""
    times = list(_marks.values())
    return {name: now - before for name, before, now in zip(list(_marks)[1:], times, times[1:], strict=False)}


def _run(app, door, files: list[Path]) -> int:
    from PySide6.QtCore import QTimer

    from crane_app.ui.faults import Faults
    from crane_app.ui.garbage import collected_here
    from crane_app.ui.worker import stop_all

    faults = Faults()
    with faults.caught(), collected_here():
        shared = _Shared()
        window = _window(app, shared)
        faults.told.connect(window.say)
        door.asked.connect(lambda asked: (window.come_forward(), window.open(asked)))
        window.closing.connect(_watch_the_end)
        window.closing.connect(shared.preferences.flush)  # first, whatever may hold up the rest
        if not files:
            _welcome(window, shared.preferences)
        window.show()
        mark("shown")
        QTimer.singleShot(0, window, lambda: _usable(window, shared, files))
        opener = _opener(window.open)
        app.installEventFilter(opener)
        with _interruptible(app):
            status = app.exec()
        app.removeEventFilter(opener)
        shared.preferences.flush()
        still = not stop_all(GRACE_S)
        if not still:
            shared.chats.close()
    if still:
        # Ending the interpreter under a thread that is inside a native call would crash.
        _leave(status)
    return status


class _Shared:
    """What the views share. Nothing here waits for anything but two small files."""

    def __init__(self) -> None:
        from crane_app.pipelines.readiness import Readiness
        from crane_app.ui import theme
        from crane_app.ui.connection import Connection
        from crane_app.ui.models.shelf import Shelf
        from crane_app.ui.preferences import Preferences

        self.preferences = Preferences()
        get = self.preferences.get
        self.readiness = Readiness(lambda: bool(get("keep-ready")) and self.chats.kept, lambda: get("ready-size") << 20)
        theme.set_text_size(self.preferences.get("text-size"))
        theme.set_scheme(self.preferences.get("appearance"))
        self.preferences.changed.connect(self._changed)
        mark("settings")
        self.chats, self.notice = _chats(self.preferences.get("keep-history"))
        mark("history")
        self.connection = Connection()
        self.shelf = Shelf(self.preferences)

    def _changed(self, name: str) -> None:
        from crane_app.ui import theme
        from crane_app.ui.worker import Worker

        if name == "appearance":
            theme.set_scheme(self.preferences.get(name))
        elif name == "text-size":
            theme.set_text_size(self.preferences.get(name))
        elif name == "keep-ready" and not self.readiness.wanted:
            Worker(_unready(self.readiness)).start()


def _chats(kept: bool):
    """The conversations, and a sentence if they cannot be kept."""
    from crane_app.library.chats import Chats, chats_path

    if not kept:
        return Chats.in_memory(), ""
    try:
        chats = Chats.open(chats_path())
        chats.hurry()
        return chats, ""
    except CraneError as error:
        return Chats.in_memory(), str(error)


def _window(app, shared: _Shared):
    from PySide6.QtCore import QSettings

    from crane_app.ui import views
    from crane_app.ui.models.picker import ModelPicker
    from crane_app.ui.window import Window

    settings = QSettings(str(settings_path()), QSettings.Format.IniFormat)
    given = shared.connection, shared.chats, shared.preferences, shared.shelf, app.windowIcon(), shared.readiness
    makers = views.makers(*given)

    def picker(window: Window) -> ModelPicker:
        made = ModelPicker(shared.connection, shared.preferences, shared.shelf)
        made.said.connect(window.say)
        made.wanted.connect(lambda: window.show_view("models"))
        talk = getattr(window.view("chat"), "talk", None)
        if talk is not None:
            talk.waiting.connect(lambda _turn, percent: made.show_loading(percent or None))
            talk.ended.connect(lambda _turn: made.show_loading(None))
        return made

    return Window(settings, shared.connection, shared.preferences, makers, {"chat": picker})


def _welcome(window, preferences) -> None:
    """The introduction, once: never in the way of a file, and not again where it was left half-way."""
    from crane_app.ui import views

    if not preferences.get("welcomed"):
        preferences.set("welcomed", True)
        window.show_view(views.WELCOME)


def _usable(window, shared: _Shared, files: list[Path]) -> None:
    """The window is painted and takes what is typed; now the rest, the engine first."""
    from crane_app.ui import views
    from crane_app.ui.contacts import Contacts
    from crane_app.ui.worker import Worker

    mark("usable")
    if os.environ.get("CRANE_DEBUG") == "1":
        told = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in marks().items())
        print(f"The window can be used: {told}", file=sys.stderr, flush=True)
    shared.connection.start()
    window.status.follow(Contacts(shared.preferences))
    if shared.preferences.get("serve-at-start"):
        window.view("server").start_with_the_app()
    shared.shelf.rescan()
    Worker(_tidied(shared.chats, shared.readiness)).start()
    window.open(files)
    shared.preferences.problem.connect(window.say)
    if notice := " ".join(filter(None, (shared.preferences.notice, shared.notice))):
        window.say(notice)
    ready = Worker(views.imported())
    ready.returned.connect(lambda _: window.make_ahead())
    ready.start()


def _tidied(chats, readiness) -> Iterator[None]:
    """What a program that died was writing is marked; what was deleted long ago goes for good."""
    if chats.writable:
        chats.settle()
        chats.purge(KEPT_S)
    readiness.keep_only([row.id for row in chats.chats(sys.maxsize)])
    return
    yield


def _unready(readiness) -> Iterator[None]:
    """Nothing is to be kept ready any more."""
    readiness.keep_only(())
    return
    yield


def _watch_the_end() -> None:
    """The window is closing: whatever holds that up, the program ends."""
    limit = threading.Timer(GRACE_S + SLACK_S, _leave, (1,))
    limit.daemon = True
    limit.start()


def _leave(status: int) -> None:
    sys.stdout.flush()
    os._exit(status)


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


def _introduce(app) -> None:
    from PySide6.QtGui import QIcon

    from crane_app.ui import theme

    app.setApplicationName(NAME)
    app.setApplicationDisplayName(NAME)
    app.setDesktopFileName("crane")
    app.setWindowIcon(QIcon(str(ICON)))
    theme.install(app)


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

"""A window on a screen that is not there."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from fakes import FakeConnection, FakePreferences, FakeServers, FakeShelf
from PySide6.QtCore import QEvent, QSettings
from PySide6.QtGui import QIcon

from crane_app.library.chats import Chats
from crane_app.ui import theme, views
from crane_app.ui.app import ICON
from crane_app.ui.garbage import collected_here
from crane_app.ui.window import Broken, Window
from crane_app.ui.worker import stop_all

# Qt takes the name of this file for one in the system's letters, which the folder of the tests may have others than.
SCREEN = Path(tempfile.mkdtemp(prefix="crane-screen-"), "screen.json")
shutil.copy(Path(__file__).with_name("screen.json"), SCREEN)
atexit.register(shutil.rmtree, SCREEN.parent, ignore_errors=True)
os.environ["QT_QPA_PLATFORM"] = f"offscreen:configfile={SCREEN}"
HERE = Path(__file__).parent
SCREENLESS = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints")


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("gui")
            item.add_marker(SCREENLESS)


@pytest.fixture(scope="session", autouse=True)
def dressed(qapp):
    theme.install(qapp)
    with collected_here():
        yield
    qapp.clipboard().clear()  # mime data made in Python must not outlive the interpreter


@pytest.fixture(autouse=True)
def light(qapp):
    # Without a loop of events the windows of earlier tests would live on, and be dressed again at every change.
    qapp.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    theme.set_scheme("light")


@pytest.fixture(autouse=True)
def awake(monkeypatch):
    """Why the computer was to stay awake, and whether it still is; the system itself is left alone."""
    held = {}

    class Held:
        def __init__(self, why):
            self.why = why
            held[why] = True

        def release(self):
            held[self.why] = False

    monkeypatch.setattr("crane_app.platform.wakefulness._hold", lambda why, _system: Held(why))
    return held


@pytest.fixture
def servers():
    """Servers that do what a test tells them to; none is left."""
    made = FakeServers()
    yield made
    made.let()
    assert stop_all(10)


@pytest.fixture
def reader():
    from fake_reader import FakeReader

    fake = FakeReader()
    yield fake
    fake.let(1000)
    assert stop_all(10)


@pytest.fixture
def settings(tmp_path):
    return QSettings(str(tmp_path / "window.ini"), QSettings.Format.IniFormat)


@pytest.fixture
def connection():
    made = FakeConnection()
    yield made
    made.close()
    assert stop_all(10)


@pytest.fixture
def preferences():
    return FakePreferences()


@pytest.fixture
def shelf():
    return FakeShelf()


@pytest.fixture
def chats():
    made = Chats.in_memory()
    yield made
    assert stop_all(10)
    made.close()


@pytest.fixture
def makers(connection, chats, preferences, shelf, reader):
    """All views, over fakes."""

    def pictures():
        from crane_app.ui.pictures.view import PicturesView

        return PicturesView(reader)

    made = views.makers(connection, chats, preferences, shelf, QIcon(str(ICON)))
    return made | {"pictures": pictures}


@pytest.fixture
def window(qtbot, makers, connection, preferences, settings):
    """Opens with the pictures; the other views are made when they are shown."""
    settings.setValue("view", "pictures")
    made = Window(settings, connection, preferences, makers)
    qtbot.addWidget(made)
    made.show()
    with qtbot.waitActive(made):
        made.activateWindow()
    return made


@pytest.fixture
def view(window):
    """The pictures."""
    return window.view("pictures")


@pytest.fixture
def stage(tmp_path):
    """All views over fakes, for the scenes of scenes.py."""
    from scenes import Stage

    made = Stage(tmp_path)
    yield made
    made.rest()
    made.chats.close()


@pytest.fixture
def enter(qtbot, stage):
    """Opens the window with a scene in it, and waits until nothing moves."""
    from scenes import SCENES, settled

    def entered(name: str, width: int = 1180, height: int = 760) -> Window:
        scene = SCENES[name]
        scene.before(stage)
        made = stage.open(scene.view)
        # What a worker still had to tell would come to widgets that are gone.
        qtbot.addWidget(made, before_close_func=lambda _window: stage.rest())
        made.resize(width, height)
        made.show()
        with qtbot.waitActive(made):
            made.activateWindow()
        assert not isinstance(stage.view(scene.view), Broken), "it could not be made; the log says why"
        scene.then(stage)
        qtbot.waitUntil(lambda: settled(stage))
        qtbot.wait(60)  # what comes to the view from there is painted
        return made

    return entered

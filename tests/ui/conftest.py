"""A window on a screen that is not there."""

import os
from pathlib import Path

os.environ["QT_QPA_PLATFORM"] = "offscreen"

import pytest
from fake_reader import FakeReader
from PySide6.QtCore import QSettings

from crane_app.ui import theme
from crane_app.ui.pictures import PicturesView
from crane_app.ui.window import Window
from crane_app.ui.worker import stop_all

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
    yield
    qapp.clipboard().clear()  # mime data made in Python must not outlive the interpreter


@pytest.fixture(autouse=True)
def light():
    theme.set_scheme("light")


@pytest.fixture
def reader():
    fake = FakeReader()
    yield fake
    fake.let(1000)
    assert stop_all(10)


@pytest.fixture
def settings(tmp_path):
    return QSettings(str(tmp_path / "window.ini"), QSettings.Format.IniFormat)


@pytest.fixture
def window(qtbot, reader, settings):
    made = Window(settings, PicturesView(reader))
    qtbot.addWidget(made)
    made.show()
    with qtbot.waitActive(made):
        made.activateWindow()
    return made


@pytest.fixture
def view(window):
    return window.pictures

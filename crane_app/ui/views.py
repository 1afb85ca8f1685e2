"""Which views there are, in their order, and how each is made: late, since each brings modules of its own."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import QCoreApplication, QMimeData
from PySide6.QtGui import QIcon

from crane_app.ui.view import View

NAMES = ("chat", "pictures", "dictate", "read_aloud", "models", "server", "settings")
BELOW = ("models", "server", "settings")  # those that stand at the bottom of the sidebar
WELCOME = "welcome"  # shown at the first start and from the Help menu, and never in the sidebar
# Who is asked first what to do with a file that the view in sight has no use for; pictures take any.
OPENERS = ("dictate", "chat", "pictures", "read_aloud")

Makers = dict[str, Callable[[], View]]


def title(name: str) -> str:
    """The view's name for people, with its mnemonic."""
    say = QCoreApplication.translate
    return {
        "chat": say("Views", "&Chat"),
        "pictures": say("Views", "&Pictures"),
        "dictate": say("Views", "&Dictate"),
        "read_aloud": say("Views", "&Read aloud"),
        "models": say("Views", "&Models"),
        "server": say("Views", "Ser&ver"),
        "settings": say("Views", "&Settings"),
        WELCOME: say("Views", "&Welcome"),
    }[name]


def openers(data: QMimeData) -> tuple[str, ...]:
    """The views in the order in which they are asked about this: folders go to the models if they hold one."""
    folders = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
    has_model = any((path / "config.json").is_file() or path.suffix.lower() == ".gguf" for path in folders)
    return ("models", *OPENERS) if has_model else (*OPENERS, "models")


def imported() -> Iterator[None]:
    """Bring the modules of all views, on a worker's thread: together they take longer than a frame."""
    for name in NAMES:
        importlib.import_module(f"crane_app.ui.{name}.view")
    return
    yield


def makers(connection: Any, chats: Any, preferences: Any, shelf: Any, icon: QIcon, readiness: Any = None) -> Makers:
    """How to make each view, over what they share."""

    def chat() -> View:
        from crane_app.ui.chat.view import ChatView

        return ChatView(connection, chats, preferences, shelf, readiness)

    def pictures() -> View:
        from crane_app.ui.pictures.view import PicturesView

        return PicturesView(icon=icon, connection=connection)

    def dictate() -> View:
        from crane_app.ui.dictate.view import DictateView

        return DictateView(connection, preferences, shelf=shelf)

    def read_aloud() -> View:
        from crane_app.ui.read_aloud.view import ReadAloudView

        return ReadAloudView(preferences)

    def models() -> View:
        from crane_app.ui.models.view import ModelsView

        return ModelsView(connection, preferences, shelf)

    def server() -> View:
        from crane_app.ui.server.view import ServerView

        return ServerView(preferences, shelf)

    def settings() -> View:
        from crane_app.ui.settings.view import SettingsView

        return SettingsView(preferences, readiness, connection)

    def welcome() -> View:
        from crane_app.ui.welcome.view import WelcomeView

        return WelcomeView(preferences, shelf, icon)

    every = (chat, pictures, dictate, read_aloud, models, server, settings)
    return dict(zip(NAMES, every, strict=True)) | {WELCOME: welcome}

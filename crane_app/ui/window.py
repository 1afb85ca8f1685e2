"""The main window: the frame around the views. What they do is theirs; this shows one, and feeds it what is dropped."""

import gc
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtCore import QByteArray, QEvent, QMimeData, QSettings, QSize, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QAction, QActionGroup, QGuiApplication, QKeySequence
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMainWindow, QMenu, QSplitter, QStackedWidget, QVBoxLayout, QWidget

from crane_app.ui import theme, views
from crane_app.ui.menus import Menus, choices
from crane_app.ui.models.residents import Residents
from crane_app.ui.sidebar import Sidebar, mark_chosen
from crane_app.ui.status import Status
from crane_app.ui.toolbar import Toolbar
from crane_app.ui.view import View
from crane_app.ui.worker import sentence

log = logging.getLogger(__name__)

SMALLEST, USUAL = (840, 500), (1180, 760)  # of what is within the frame; of the window
IN_SIGHT = 48  # pixels of the window's top that must be on some screen, to take hold of it
BREATH_MS = 30  # between two views that are made ahead


class Window(QMainWindow):
    """Remembers its place in `settings`; `makers` (ui.views.makers) make each view when it is first wanted.

    extras: what a view has beside its name in the toolbar, by the view's name.
    """

    closing = Signal()

    def __init__(
        self,
        settings: QSettings,
        connection: Any,
        preferences: Any,
        makers: views.Makers,
        extras: dict[str, Callable[["Window"], QWidget]] | None = None,
    ):
        super().__init__()
        self._settings, self._makers, self._extra_makers = settings, makers, extras or {}
        self.connection, self.preferences = connection, preferences
        self._views: dict[str, View] = {}
        self._extras: dict[str, QWidget] = {}
        self._titles: dict[str, str] = {}
        self.current = ""
        self.setAcceptDrops(True)
        self.menus = Menus(self)
        self._make_actions()
        self._make_frame()
        self._make_menus()
        self._make_veil()
        self._restore()

    # Views

    def view(self, name: str) -> View:
        """The view of that name, made now if it has not been shown yet."""
        if name not in self._views:
            made = self._made(name)
            self._views[name] = made
            self.stack.addWidget(made)
            made.said.connect(self.say)
            made.titled.connect(partial(self._titled, name))
            made.sent.connect(self._send)
            self._restore_view(name, made)
        return self._views[name]

    def show_view(self, name: str) -> View:
        """Bring it into sight, with the focus where a person begins."""
        view = self.view(name)
        if name != self.current:
            self.current = name
            self.stack.setCurrentWidget(view)
            for each, action in self.go_actions.items():
                action.setChecked(each == name)
            mark_chosen(list(self.go_actions.values()), list(self.go_actions))
            extra = self._extra(name)
            self.toolbar.show_view(views.title(name).replace("&", ""), view, extra)
            if extra is not None:
                QWidget.setTabOrder(self.sidebar.buttons()[-1], extra)
            self.menus.offer(view)
            self._titled(name, self._titles.get(name, ""))
        view.enter()
        return view

    def made(self) -> dict[str, View]:
        """The views that exist."""
        return dict(self._views)

    def make_ahead(self) -> None:
        """Make the views that nobody has wanted yet, one at a time while nothing else is to be done."""
        missing = next((name for name in self._makers if name not in self._views and name in self.go_actions), None)
        if missing is not None:
            self.view(missing)
            QTimer.singleShot(BREATH_MS, self, self.make_ahead)
        else:
            gc.freeze()  # what lives as long as the window need not be searched for garbage again and again

    def say(self, news: str) -> None:
        """Short news for the line at the bottom."""
        self.status.say(news)

    def open(self, paths: list[Path]) -> None:
        """Files from outside: to the first view that has a use for them."""
        if not paths:
            return
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
        name, _ = self._taker(data, views.openers(data))
        if not name or not self.show_view(name).take(data):
            self.say(self.tr("{name} is of no use here.").format(name=paths[0].name))

    def come_forward(self) -> None:
        """Into sight and in front of the others."""
        self.setWindowState(self.windowState() & ~Qt.WindowState.WindowMinimized)
        self.show()
        self.raise_()
        self.activateWindow()

    def _made(self, name: str) -> View:
        try:
            return self._makers[name]()
        except Exception as error:
            # One view that cannot be made must not take the other five with it.
            log.exception("The view %s cannot be made", name)
            return Broken(sentence(error))

    def _extra(self, name: str) -> QWidget | None:
        if name in self._extra_makers and name not in self._extras:
            self._extras[name] = self._extra_makers[name](self)
        return self._extras.get(name)

    def _send(self, name: str, what: object) -> None:
        """None is nothing to receive: the view is to come into sight."""
        view = self.show_view(name)
        if what is not None:
            view.receive(what)

    def _titled(self, name: str, words: str) -> None:
        self._titles[name] = words
        if name == self.current:
            # Qt takes [*] in a title for the mark of unsaved changes.
            self.setWindowTitle(f"{words.replace('[*]', '[ * ]')} – Crane" if words else "Crane")

    # How it is built

    def _make_actions(self) -> None:
        command = self.menus.command
        group = QActionGroup(self)
        self.go_actions: dict[str, QAction] = {}
        for number, name in enumerate(views.NAMES, 1):
            keys = [QKeySequence(f"Ctrl+{number}")]
            action = command(f"go_{name}", views.title(name), partial(self.show_view, name), keys)
            action.setCheckable(True)
            group.addAction(action)
            self.go_actions[name] = action
        mark_chosen(list(self.go_actions.values()), list(self.go_actions))
        fold = partial(self._fold, None)
        self.fold_action = command("sidebar", self.tr("Fold the &sidebar"), fold, [QKeySequence("Ctrl+B")])

    def _make_frame(self) -> None:
        from crane_app.ui.icons import icon

        self.fold_action.setIcon(icon("sidebar", "muted"))
        above = [self.go_actions[name] for name in views.NAMES if name not in views.BELOW]
        below = [self.go_actions[name] for name in views.BELOW]
        brand = self.windowIcon()
        self.sidebar = Sidebar(brand, above, below, self.fold_action)
        self.toolbar = Toolbar(self.connection)
        self.stack = QStackedWidget()
        content = QVBoxLayout()
        content.setContentsMargins(0, 0, 0, 0)
        content.setSpacing(0)
        content.addWidget(self.toolbar)
        content.addWidget(self.stack, 1)
        ground = Ground()
        row = QHBoxLayout(ground)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self.sidebar)
        row.addLayout(content, 1)
        self.setCentralWidget(ground)
        self.status = Status(self.connection)
        self.status.restart_wanted.connect(self.connection.restart)
        self.setStatusBar(self.status)
        Residents.of(self.connection, self.preferences).said.connect(self.say)

    def _make_menus(self) -> None:
        from crane_app.ui.about import Help

        command, role = self.menus.command, QAction.MenuRole
        self.help = Help(self)
        settings = partial(self.show_view, "settings")
        keys = [QKeySequence("Ctrl+,")]
        preferences = command("preferences", self.tr("&Settings…"), settings, keys, role.PreferencesRole)
        self.menus.extend("file", [preferences, None])
        self._look = QMenu(self.tr("&Appearance"), self)
        words = {"system": self.tr("As the &system"), "light": self.tr("&Light"), "dark": self.tr("&Dark")}
        self.schemes = choices(self, self._look, words, theme.scheme(), partial(self.preferences.set, "appearance"))
        self.menus.extend("view", [self.fold_action, self._look.menuAction()])
        self.menus.go.addActions(list(self.go_actions.values()))
        self.menus.help.addActions(self.help.actions())
        self.preferences.changed.connect(self._preference_changed)
        self.menus.offer(None)

    def _make_veil(self) -> None:
        self.veil = QLabel(self)
        self.veil.setProperty("look", "veil")
        self.veil.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.veil.setWordWrap(True)
        self.veil.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.veil.hide()

    def _preference_changed(self, name: str) -> None:
        if name == "appearance":
            for action in self.schemes.actions():
                action.setChecked(action.data() == self.preferences.get("appearance"))

    def _fold(self, folded: bool | None = None) -> None:
        self.sidebar.fold(not self.sidebar.folded if folded is None else folded)
        words = self.tr("Unfold the &sidebar") if self.sidebar.folded else self.tr("Fold the &sidebar")
        self.fold_action.setText(words)

    # What it remembers

    def _restore(self) -> None:
        if not self.restoreGeometry(self._kept("geometry")):
            self.resize(*USUAL)
        self._bring_into_sight()
        self._fold(self._settings.value("folded") in (True, "true"))
        name = self._settings.value("view")
        self.show_view(name if name in self.go_actions else next(iter(self._makers)))

    def _restore_view(self, name: str, view: View) -> None:
        if hasattr(view, "folder"):
            view.folder = str(self._settings.value(f"{name}/folder") or "")
        for number, splitter in enumerate(view.findChildren(QSplitter)):
            splitter.restoreState(self._kept(f"{name}/panes{number}"))

    def _bring_into_sight(self) -> None:
        """A screen may have gone since the last time."""
        top = self.geometry()
        top.setHeight(IN_SIGHT)
        seen = [screen.availableGeometry().intersected(top) for screen in QGuiApplication.screens()]
        if not any(part.width() >= IN_SIGHT and part.height() >= IN_SIGHT // 2 for part in seen):
            free = QGuiApplication.primaryScreen().availableGeometry()
            self.resize(self.size().boundedTo(free.size()).expandedTo(self.minimumSize()))
            self.move(free.center() - self.rect().center())

    def _kept(self, key: str) -> QByteArray:
        value = self._settings.value(key)
        return value if isinstance(value, QByteArray) else QByteArray()

    def _keep(self) -> None:
        keep = self._settings.setValue
        keep("geometry", self.saveGeometry())
        keep("folded", self.sidebar.folded)
        keep("view", self.current)
        for name, view in self._views.items():
            if hasattr(view, "folder"):
                keep(f"{name}/folder", view.folder)
            for number, splitter in enumerate(view.findChildren(QSplitter)):
                keep(f"{name}/panes{number}", splitter.saveState())
        self._settings.sync()

    # Whether it is in sight

    def showEvent(self, event: QEvent) -> None:
        super().showEvent(event)
        self.connection.attend(not self.isMinimized())

    def hideEvent(self, event: QEvent) -> None:
        super().hideEvent(event)
        self.connection.attend(False)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.WindowStateChange:
            self.connection.attend(self.isVisible() and not self.isMinimized())

    def closeEvent(self, event: QEvent) -> None:
        self.closing.emit()
        self._keep()
        for name, view in self._views.items():
            try:
                view.leave()
            except Exception:
                log.exception("The view %s did not leave well", name)  # the others must leave all the same
        self._keep()
        self.connection.close()
        super().closeEvent(event)

    # What is dropped on it

    def _taker(self, data: QMimeData, order: tuple[str, ...]) -> tuple[str, str]:
        """The first view that has a use for this, and what it offers."""
        for name in order:
            if name in self._makers and (offer := self.view(name).offer(data)):
                return name, offer
        return "", ""

    def dragEnterEvent(self, event: QEvent) -> None:
        name, offer = self._taker(event.mimeData(), (self.current, *views.openers(event.mimeData())))
        if not offer:
            return
        event.acceptProposedAction()
        elsewhere = self.tr("{view}: {offer}").format(view=views.title(name).replace("&", ""), offer=offer)
        self.veil.setText(offer if name == self.current else elsewhere)
        place = self.stack.geometry()
        place.moveTo(self.stack.mapTo(self, place.topLeft() - place.topLeft()))
        self.veil.setGeometry(place.adjusted(*[theme.SPACE, theme.SPACE, -theme.SPACE, -theme.SPACE]))
        self.veil.raise_()
        self.veil.show()

    def dragLeaveEvent(self, event: QEvent) -> None:
        self.veil.hide()

    def dropEvent(self, event: QEvent) -> None:
        self.veil.hide()
        data = event.mimeData()
        name, _ = self._taker(data, (self.current, *views.openers(data)))
        event.acceptProposedAction()
        if name and self.show_view(name).take(data):
            self.activateWindow()


class Ground(QWidget):
    """Never smaller than a view needs to be of use, and never than its words need."""

    def minimumSizeHint(self) -> QSize:
        return super().minimumSizeHint().expandedTo(QSize(*SMALLEST))


class Broken(View):
    """Stands where a view should be that could not be made."""

    def __init__(self, why: str):
        super().__init__()
        from crane_app.ui.parts import Words

        words = Words(self.tr("What went wrong"))
        words.setText(why)
        words.setAlignment(Qt.AlignmentFlag.AlignCenter)
        column = QVBoxLayout(self)
        column.setContentsMargins(*[5 * theme.SPACE] * 4)
        column.addStretch()
        column.addWidget(words)
        column.addStretch()

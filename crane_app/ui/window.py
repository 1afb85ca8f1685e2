"""The main window: menus, the status line, the window as a drop target; the views do the rest."""

from PySide6.QtCore import QByteArray, QEvent, QSettings, Qt
from PySide6.QtGui import QAction, QActionGroup, QKeySequence
from PySide6.QtWidgets import QLabel, QMainWindow, QMenu

from crane_app.ui import theme
from crane_app.ui.pictures import PicturesView

NEWS_MS = 4000


class Window(QMainWindow):
    """The frame around the views; remembers its place in `settings`."""

    def __init__(self, settings: QSettings, pictures: PicturesView | None = None):
        super().__init__()
        self._settings = settings
        self.pictures = pictures or PicturesView(icon=self.windowIcon())
        self.setCentralWidget(self.pictures)
        self.setAcceptDrops(True)
        self._title("")
        self._make_status()
        self._make_menus()
        self._make_veil()
        self._restore()

    def _make_status(self) -> None:
        self.promise = QLabel(self.tr("Nothing leaves this machine"))
        self.statusBar().setSizeGripEnabled(False)
        self.statusBar().addPermanentWidget(self.promise)
        self.pictures.said.connect(lambda news: self.statusBar().showMessage(news, NEWS_MS))
        self.pictures.titled.connect(self._title)

    def _make_menus(self) -> None:
        view, keys = self.pictures, QKeySequence.StandardKey
        file = self.menuBar().addMenu(self.tr("&File"))
        file.addActions([view.open_action, view.stop_action])
        file.addSeparator()
        self._command(file, self.tr("&Close window"), self.close, keys.Close)
        leave = self._command(file, self.tr("&Quit"), self.close, QKeySequence("Ctrl+Q"))
        leave.setMenuRole(QAction.MenuRole.QuitRole)
        edit = self.menuBar().addMenu(self.tr("&Edit"))
        edit.addActions([view.copy_action, view.copy_text_action, view.copy_markdown_action])
        edit.addSeparator()
        edit.addAction(view.paste_action)
        self._command(edit, self.tr("Select &all"), view.text.selectAll, keys.SelectAll)
        look = self.menuBar().addMenu(self.tr("&View"))
        look.addActions([view.zoom_in_action, view.zoom_out_action, view.fit_action])
        look.addSeparator()
        look.addActions([view.previous_action, view.next_action])
        look.addSeparator()
        self._make_schemes(look.addMenu(self.tr("&Appearance")))

    def _command(self, menu: QMenu, text: str, does, keys) -> QAction:
        action = menu.addAction(text)
        action.setShortcut(keys)
        action.triggered.connect(lambda _checked=False: does())
        return action

    def _make_schemes(self, menu: QMenu) -> None:
        self.schemes = QActionGroup(self)
        names = {"system": self.tr("As the &system"), "light": self.tr("&Light"), "dark": self.tr("&Dark")}
        for scheme, text in names.items():
            action = menu.addAction(text)
            action.setCheckable(True)
            action.setData(scheme)
            action.setChecked(scheme == theme.scheme())
            self.schemes.addAction(action)
        self.schemes.triggered.connect(self._choose_scheme)

    def _choose_scheme(self, action: QAction) -> None:
        theme.set_scheme(action.data())
        self._settings.setValue("scheme", action.data())

    def _make_veil(self) -> None:
        self.veil = QLabel(self)
        self.veil.setProperty("look", "veil")
        self.veil.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.veil.setFont(theme.scaled_font(1.7, bold=True))
        self.veil.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.veil.hide()

    def _title(self, name: str) -> None:
        # Qt takes [*] in a title for the mark of unsaved changes.
        self.setWindowTitle(f"{name.replace('[*]', '[ * ]')} – Crane" if name else "Crane")

    def _restore(self) -> None:
        self.pictures.folder = str(self._settings.value("folder") or "")
        if not self.restoreGeometry(self._kept("geometry")):
            self.resize(self.pictures.sizeHint())
        self.pictures.splitter.restoreState(self._kept("panes"))

    def _kept(self, key: str) -> QByteArray:
        value = self._settings.value(key)
        return value if isinstance(value, QByteArray) else QByteArray()

    def closeEvent(self, event) -> None:
        self.pictures.stop()
        self._settings.setValue("geometry", self.saveGeometry())
        self._settings.setValue("panes", self.pictures.splitter.saveState())
        self._settings.setValue("folder", self.pictures.folder)
        self._settings.sync()
        super().closeEvent(event)

    def dragEnterEvent(self, event) -> None:
        offer = self.pictures.offer(event.mimeData())
        if not offer:
            return
        event.acceptProposedAction()
        self.veil.setText(offer)
        self.veil.setGeometry(self.centralWidget().geometry().adjusted(*[8, 8, -8, -8]))
        self.veil.raise_()
        self.veil.show()

    def dragLeaveEvent(self, event: QEvent) -> None:
        self.veil.hide()

    def dropEvent(self, event) -> None:
        self.veil.hide()
        event.acceptProposedAction()
        if self.pictures.take(event.mimeData()):
            self.activateWindow()

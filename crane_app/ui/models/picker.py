"""The model in use, as a button of the toolbar: its name, how it is, and a menu of the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QAction, QColor, QIcon, QPainter, QPixmap
from PySide6.QtWidgets import QFileDialog, QMenu, QToolButton

from crane_app.library import fit
from crane_app.library.models import OnDisk, import_folder, name_of
from crane_app.ui import theme
from crane_app.ui.models.loads import Loads
from crane_app.ui.models.shelf import folders, keep_folders
from crane_app.ui.parts import plain_tip
from crane_app.ui.worker import Worker, sentence

NAME_LETTERS, MENU_LETTERS = 26, 44  # of a name, before it is shortened in the middle
DOT = 8  # pixels


class ModelPicker(QToolButton):
    """Shows and sets the preference "model", a folder. Loading is told to it, or is that of loads.Loads."""

    chosen = Signal(str)  # a folder
    wanted = Signal()  # a person wants to see more models
    said = Signal(str)  # a sentence about a folder that is of no use

    def __init__(self, connection: Any, preferences: Any, shelf: Any):
        super().__init__()
        self._connection, self._preferences, self._shelf = connection, preferences, shelf
        self._loads = Loads.of(connection, preferences)
        self._memory = fit.memory()
        self._percent: int | None = None
        self._dialog: QFileDialog | None = None
        self._importing: Worker | None = None
        self._look: tuple[str, str] = ("", "")
        self.setObjectName("model")
        self.setProperty("look", "flat picker")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(self.tr("Model"))
        self.setIconSize(QSize(DOT + 4, DOT + 4))
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        menu.aboutToShow.connect(self._fill)
        self.setMenu(menu)
        connection.changed.connect(self.refresh)
        self._loads.changed.connect(lambda _folder: self.refresh())
        preferences.changed.connect(lambda _name: self.refresh())
        shelf.changed.connect(self.refresh)
        self.refresh()

    def show_loading(self, percent: int | None) -> None:
        """The model is being loaded by somebody else, so far; None: no longer."""
        self._percent = percent
        self.refresh()

    def choose(self, folder: Path | str) -> None:
        """Use the model in this folder from now on."""
        self._preferences.set("model", str(folder))
        self.chosen.emit(str(folder))
        self.refresh()

    def choose_folder(self) -> None:
        """Ask for a folder; the model in it is used, its neighbours are remembered."""
        if self._dialog is None:
            self._dialog = QFileDialog(self, self.tr("Choose the folder of a model"))
            self._dialog.setFileMode(QFileDialog.FileMode.Directory)
            self._dialog.fileSelected.connect(self.take)
            self._dialog.finished.connect(self._forget_dialog)
        self._dialog.open()

    def take(self, name: str) -> None:
        """A folder with one model or several; one alone is used at once."""
        self._importing = Worker(_chat_models(Path(name)))
        self._importing.returned.connect(self._took)
        self._importing.failed.connect(lambda error: self.said.emit(sentence(error)))
        self._importing.start()

    # What is seen

    def state(self) -> str:
        """ "none", "absent", "loading", "ready" or "problem"."""
        folder = self._folder()
        if not folder:
            return "none"
        if self._loads.card(folder) is not None:
            return "ready"
        if self._loading() is not None:
            return "loading"
        return "problem" if self._problem() else "absent"

    def refresh(self) -> None:
        state, folder = self.state(), self._folder()
        words, role = {
            "none": (self.tr("Choose a model"), "muted"),
            "absent": (self.tr("not loaded"), "muted"),
            "loading": (self.tr("loading {percent} %").format(percent=self._loading()), "warning"),
            "ready": (self.tr("ready"), "good"),
            "problem": (self.tr("problem"), "danger"),
        }[state]
        name = self._name() if folder else ""
        width = NAME_LETTERS * self.fontMetrics().averageCharWidth()
        short = self.fontMetrics().elidedText(name, Qt.TextElideMode.ElideMiddle, width)
        text = self.tr("{name} · {state}").format(name=short, state=words) if folder else words
        if (text, role) != self._look:
            self._look = (text, role)
            self.setText(text.replace("&", "&&"))
            self.setIcon(_dot(getattr(theme.colours(), role), self.devicePixelRatioF()))
        self.setAccessibleDescription(f"{name}, {words}" if folder else words)
        self.setToolTip(plain_tip("\n".join(filter(None, (name, folder, self._problem())))))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange) and hasattr(self, "_look"):
            self._look = ("", "")
            self.refresh()

    def _fill(self) -> None:
        menu = self.menu()
        menu.clear()
        chat = [entry for entry in self._shelf.entries if entry.job == "chat" and not entry.partial]
        for entry in chat:
            menu.addAction(self._row(entry, menu))
        if not chat:
            none = menu.addAction(self.tr("There is no chat model on this computer yet"))
            none.setEnabled(False)
        menu.addSeparator()
        for name, text, does in (
            ("choose_folder", self.tr("Choose a folder…"), self.choose_folder),
            ("more_models", self.tr("More models…"), self.wanted.emit),
        ):
            action = menu.addAction(text)
            action.setObjectName(name)
            action.triggered.connect(does)

    def _row(self, entry: OnDisk, menu: QMenu) -> QAction:
        letters = MENU_LETTERS * self.fontMetrics().averageCharWidth()
        name = self.fontMetrics().elidedText(entry.name, Qt.TextElideMode.ElideMiddle, letters)
        words = " ".join(name.split()).replace("&", "&&")
        action = QAction(f"{words}\t{fit.human(entry.nbytes)} · {self._fits(entry)}", menu)
        action.setCheckable(True)
        action.setChecked(str(entry.folder) == self._folder())
        action.setEnabled(not entry.problem)
        action.setToolTip(plain_tip(entry.problem or str(entry.folder)))
        action.setData(str(entry.folder))
        action.triggered.connect(lambda: self.choose(entry.folder))
        return action

    def _fits(self, entry: OnDisk) -> str:
        if entry.problem:
            return self.tr("cannot be loaded")
        return {
            "well": self.tr("fits well"),
            "tight": self.tr("fits tightly"),
            "no": self.tr("too large"),
            "unknown": self.tr("size unknown"),
        }[self._loads.verdict(entry, self._memory).fit]

    # Small steps

    def _folder(self) -> str:
        return str(self._preferences.get("model") or "")

    def _entry(self) -> OnDisk | None:
        return next((entry for entry in self._shelf.entries if str(entry.folder) == self._folder()), None)

    def _name(self) -> str:
        entry = self._entry()
        return entry.name if entry is not None else name_of(Path(self._folder()))

    def _loading(self) -> int | None:
        mine = self._loads.percent(self._folder())
        return self._percent if mine is None else mine

    def _problem(self) -> str:
        entry = self._entry()
        return self._loads.error(self._folder()) or (entry.problem if entry is not None else "")

    def _took(self, came: tuple[Path, list[OnDisk]]) -> None:
        folder, models = came
        keep_folders(self._preferences, [*folders(self._preferences), folder])
        if len(models) == 1:
            self.choose(models[0].folder)
        else:
            words = self.tr("{count} chat models are in '{name}'. Choose one in the list of models.")
            self.said.emit(words.format(count=len(models), name=folder.name))

    def _forget_dialog(self) -> None:
        self._dialog.deleteLater()
        self._dialog = None


def _chat_models(folder: Path) -> Iterator[Any]:
    from crane_app.library.models import below

    whole = import_folder(folder)
    return whole, [entry for entry in below(whole) if entry.job == "chat" and not entry.problem]
    yield


def _dot(colour: str, scale: float) -> QIcon:
    side = DOT + 4
    drawn = QPixmap(QSize(side, side) * scale)
    drawn.setDevicePixelRatio(scale)
    drawn.fill(Qt.GlobalColor.transparent)
    painter = QPainter(drawn)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(colour))
    painter.drawEllipse(QRectF(2, 2, DOT, DOT))
    painter.end()
    return QIcon(drawn)

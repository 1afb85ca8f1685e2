"""The Help menu: keyboard shortcuts, diagnostics, licences, and what this is."""

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, QSize, Qt
from PySide6.QtGui import QAction, QGuiApplication, QKeySequence
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QLabel, QMainWindow, QPlainTextEdit, QVBoxLayout, QWidget

from crane_app.errors import CraneError
from crane_app.ui import views
from crane_app.ui.parts import Words
from crane_app.ui.shortcuts import ShortcutSheet, commands_of
from crane_app.ui.theme import SPACE, unit
from crane_app.ui.worker import Worker, sentence
from crane_app.version import VERSION

ROOT = Path(__file__).parents[2]
DOCTOR_S = 120  # it loads every library that is there
OWN = "crane-app"  # the name of the package in its metadata


class Help(QObject):
    """The commands of the Help menu of `window` (ui.window.Window)."""

    def __init__(self, window: QMainWindow):
        super().__init__(window)
        self._window = window
        self._examining: Worker | None = None
        self._dialog: QDialog | None = None
        command, tr = window.menus.command, self.tr
        sheet_keys = [QKeySequence("F1"), QKeySequence("Ctrl+/")]
        self.shortcuts_action = command("shortcuts", tr("&Keyboard shortcuts"), self.show_shortcuts, sheet_keys)
        self.shortcuts_action.setMenuRole(QAction.MenuRole.NoRole)
        self.diagnostics_action = command("diagnostics", tr("Copy &diagnostics"), self.copy_diagnostics)
        welcome = partial(window.show_view, views.WELCOME)
        self.welcome_action = command("welcome", tr("&Welcome to Crane"), welcome)
        self.licences_action = command("licences", tr("&Licences"), self.show_licences)
        self.about_action = command("about", tr("&About Crane"), self.show_about, role=QAction.MenuRole.AboutRole)

    def actions(self) -> list[QAction]:
        first = [self.welcome_action, self.shortcuts_action, self.diagnostics_action]
        return [*first, self.licences_action, self.about_action]

    def show_shortcuts(self) -> None:
        own = self._window.findChildren(QAction, options=Qt.FindChildOption.FindDirectChildrenOnly)
        areas = {self.tr("Everywhere"): [action for action in own if action.text()]}
        for name in views.NAMES:
            if commands := commands_of(self._window.view(name)):
                areas[views.title(name).replace("&", "")] = commands
        self._show(ShortcutSheet(areas, self._window))

    def copy_diagnostics(self) -> None:
        """What `crane doctor` says, on the clipboard; it takes a few seconds."""
        if self._examining is not None:
            return
        self._window.say(self.tr("Looking at this machine…"))
        self._examining = Worker(_doctor())
        self._examining.returned.connect(self._copy)
        self._examining.failed.connect(lambda error: self._window.say(sentence(error)))
        self._examining.ended.connect(self._examined)
        self._examining.start()

    def show_licences(self) -> None:
        self._show(Licences(self._window))

    def show_about(self) -> None:
        self._show(About(self._window))

    def _copy(self, told: str) -> None:
        QGuiApplication.clipboard().setText(told)
        self._window.say(self.tr("Copied the diagnostics."))

    def _examined(self) -> None:
        self._examining = None

    def _show(self, dialog: QDialog) -> None:
        """One dialog at a time; a second click brings the same one forward."""
        if self._dialog is not None and type(self._dialog) is type(dialog):
            dialog.deleteLater()
            self._dialog.activateWindow()
            return
        if self._dialog is not None:
            self._dialog.close()
        self._dialog = dialog
        dialog.finished.connect(self._closed)
        dialog.open()

    def _closed(self) -> None:
        self._dialog = None


class About(QDialog):
    """What this is, and which."""

    def __init__(self, parent: QMainWindow):
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(self.tr("About Crane"))
        picture, name = QLabel(), QLabel("Crane")
        side = 5 * unit()
        picture.setPixmap(parent.windowIcon().pixmap(QSize(side, side), self.devicePixelRatioF()))
        name.setProperty("look", "title")
        version = QLabel(self.tr("Version {version}").format(version=VERSION))
        version.setProperty("look", "muted")
        what = Words(self.tr("What this is"))
        what.setText(self.tr("Chat, pictures, dictation and reading aloud, all on this machine. Nothing leaves it."))
        for label in (picture, name, version, what):
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        _dialog(self, (picture, name, version, what))
        self.setFixedWidth(24 * unit())


class Licences(QDialog):
    """Crane's own, and of what it stands on."""

    def __init__(self, parent: QWidget):
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(self.tr("Licences"))
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setTabChangesFocus(True)
        self.text.setAccessibleName(self.tr("Licences"))
        self.text.setPlaceholderText(self.tr("Looking…"))
        _dialog(self, (self.text,))
        self.resize(38 * unit(), 30 * unit())
        self._looking = Worker(_licences())
        self._looking.returned.connect(self.text.setPlainText)
        self._looking.failed.connect(lambda error: self.text.setPlainText(sentence(error)))
        self._looking.start()
        self.finished.connect(self._looking.cancel)


def _dialog(dialog: QDialog, parts: tuple[QWidget, ...]) -> None:
    """The parts below each other, and a button that closes."""
    box = QDialogButtonBox()
    close = box.addButton(dialog.tr("Close"), QDialogButtonBox.ButtonRole.RejectRole)
    close.setAccessibleName(dialog.tr("Close"))
    box.rejected.connect(dialog.reject)
    column = QVBoxLayout(dialog)
    column.setContentsMargins(*[3 * SPACE] * 4)
    column.setSpacing(SPACE)
    for part in parts:
        column.addWidget(part)
    column.addSpacing(SPACE)
    column.addWidget(box)


def _doctor() -> Iterator[str]:
    """The words of `crane doctor`, from a process of its own: it loads tensor libraries, the window must not."""
    frozen = getattr(sys, "frozen", False)
    command = [sys.executable, "doctor"] if frozen else [sys.executable, "-m", "crane_app", "doctor"]
    try:
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DOCTOR_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CraneError("The diagnostics did not come. Run `crane doctor` in a terminal.") from error
    return f"crane {VERSION}\n{told.stdout}{told.stderr}"
    yield


def _licences() -> Iterator[str]:
    own = ROOT / "LICENSE"
    text = own.read_text("utf-8") if own.exists() else f"Crane {VERSION}: MIT"
    rows = sorted(f"{name} {version}: {licence}" for name, version, licence in _packages())
    return "\n".join([text.rstrip(), "", *rows])
    yield


def _packages() -> list[tuple[str, str, str]]:
    """Name, version and licence of every installed package that Crane needs, or that these need in turn."""
    import importlib.metadata

    found: dict[str, tuple[str, str, str]] = {}
    wanted = [OWN]
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        about = package.metadata
        kinds = [each.rsplit("::", 1)[-1].strip() for each in about.get_all("Classifier", []) if "License" in each]
        licence = about.get("License-Expression") or ", ".join(kinds) or (about.get("License") or "").split("\n")[0]
        found[name] = (about["Name"], package.version, licence or "see its own files")
        needs = [need for need in package.requires or [] if "extra ==" not in need]
        wanted += [re.split(r"[^a-z0-9-]", need.lower().replace("_", "-"), maxsplit=1)[0] for need in needs]
    return [found[name] for name in sorted(found) if name != OWN]

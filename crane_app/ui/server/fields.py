"""What the server's page sets that the settings page has no field for: which model, and the key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from crane_app.pipelines.serving import new_key
from crane_app.settings import TABLE, Setting
from crane_app.ui.flow import Flow
from crane_app.ui.settings.fields import Field
from crane_app.ui.theme import SPACE

# The rows of the table as this page shows them; the settings page, which has no place for them, does not.
MODEL = replace(
    TABLE["served-model"],
    title="Model",
    sentence="It answers programs that name no other. Those that are loaded in this window can be named too.",
)
WHERE = replace(
    TABLE["host"],
    kind="choice",
    title="Who can use it",
    sentence="The whole network means every computer that reaches this one, so that needs a key.",
    choices=("127.0.0.1", "0.0.0.0"),
    words=("This computer only", "The whole network"),
)
PORT = replace(TABLE["port"], title="Port", sentence="A number that no other program on this computer uses; 0: any.")
KEY = replace(
    TABLE["api-key"],
    title="Key",
    sentence="What other programs must send to be let in. It is kept in your settings, which only you can read.",
    unset="None: every program on this computer is let in",
)
START = TABLE["serve-at-start"]


class ModelField(Field):
    """One of the models on the shelf that can chat; the first entry is whichever the chat uses."""

    def __init__(self, shelf: Any, preferences: Any):
        self._shelf, self._preferences = shelf, preferences
        self._shown: str | None = None
        super().__init__(MODEL)
        shelf.changed.connect(self._fill)
        preferences.changed.connect(lambda name: self._fill() if name == "model" else None)
        self._fill()

    def make(self) -> QWidget:
        box = QComboBox()
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        box.setMinimumContentsLength(8)
        box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        box.activated.connect(lambda _index: self.edited.emit(box.currentData()))
        self.lay(box)
        return box

    def show_value(self, value: object) -> None:
        self._shown = str(value) if value else None
        self._fill()

    def _fill(self) -> None:
        entries = servable(self._shelf)
        usual = chosen(self._shelf, self._preferences, None)
        words = self.tr("As the chat: {name}").format(name=usual[1]) if usual[1] else self.tr("None yet")
        self.control.clear()
        self.control.addItem(words, None)
        for entry in entries:
            self.control.addItem(entry.name, str(entry.folder))
        if self._shown and self.control.findData(self._shown) < 0:
            self.control.addItem(Path(self._shown).name, self._shown)
        self.control.setCurrentIndex(max(0, self.control.findData(self._shown)))


class KeyField(Field):
    """The key, hidden until it is asked for: made, shown, copied, taken away. toggled: shown, or hidden again."""

    wide = resets = True
    toggled = Signal()
    copied = Signal(str)

    def __init__(self, setting: Setting = KEY):
        super().__init__(setting)
        self.show_value("")

    @property
    def is_shown(self) -> bool:
        return self.control.echoMode() is QLineEdit.EchoMode.Normal

    def make(self) -> QWidget:
        line = Line()
        line.setReadOnly(True)
        line.setEchoMode(QLineEdit.EchoMode.Password)
        line.setPlaceholderText(self.tr("None: every program on this computer is let in"))
        self.make_button = self.button("make_key", self.tr("Make a key"), lambda: self.edited.emit(new_key()))
        self.show_button = self.button("show_key", self.tr("Show"), self._toggle)
        self.copy_button = self.button("copy_key", self.tr("Copy"), self._copy)
        self.remove_button = self.button("remove_key", self.tr("Remove"), lambda: self.edited.emit(""))
        buttons = Flow(SPACE)
        for each in (self.make_button, self.show_button, self.copy_button, self.remove_button):
            buttons.addWidget(each)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        field = QHBoxLayout()
        field.addWidget(line)
        column.addLayout(field)
        column.addLayout(buttons)
        return line

    def show_value(self, value: object) -> None:
        text = str(value or "")
        if not text:
            self._echo(False)
        if self.control.text() != text:
            self.control.setText(text)
            self.control.setCursorPosition(0)
        _say(self.make_button, self.tr("Make another") if text else self.tr("Make a key"))
        for each in (self.show_button, self.copy_button, self.remove_button):
            each.setVisible(bool(text))

    def _toggle(self) -> None:
        self._echo(not self.is_shown)
        self.toggled.emit()

    def _echo(self, shown: bool) -> None:
        modes = QLineEdit.EchoMode
        self.control.setEchoMode(modes.Normal if shown else modes.Password)
        _say(self.show_button, self.tr("Hide") if shown else self.tr("Show"))

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.control.text())
        self.copied.emit(self.tr("Copied the key."))


class Line(QLineEdit):
    """A field that need not show all of its text."""

    def minimumSizeHint(self) -> QSize:
        return QSize(1, super().minimumSizeHint().height())


def servable(shelf: Any) -> list[Any]:
    """What is on the disk, whole, and can chat."""
    return [entry for entry in shelf.entries if entry.job == "chat" and not entry.problem]


def chosen(shelf: Any, preferences: Any, named: str | None) -> tuple[str, str]:
    """Folder and name of the model that is served: the named one, else the chat's, else the first there is."""
    folder, entries = named or preferences.get("model"), servable(shelf)
    known = next((entry for entry in entries if str(entry.folder) == folder), None)
    if known is None and not folder and entries:
        known = entries[0]
    if known is not None:
        return str(known.folder), known.name
    return (str(folder), Path(folder).expanduser().name) if folder else ("", "")


def _say(button: Any, words: str) -> None:
    """Another name on a button, to eyes and to screen readers."""
    action = button.defaultAction()
    if action.text() != words:
        action.setText(words)
        action.setIconText(words)
        before = button.accessibleName().rpartition(": ")[0]
        button.setAccessibleName(f"{before}: {words}" if before else words)

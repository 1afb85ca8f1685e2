"""What a setting is changed with: a field for each kind, all alike to the row that holds them.

A field shows a value and tells of a new one when a person has finished with it; it knows no preferences.
"""

import os
from collections.abc import Callable

from PySide6.QtCore import QCoreApplication, QEvent, QObject, Qt, QTimer, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPlainTextEdit,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from crane_app.settings import Setting
from crane_app.ui.flow import Flow
from crane_app.ui.parts import button, plain_tip
from crane_app.ui.theme import SPACE

PAUSE_MS = 600  # without a key, after which a text counts as written


def said(text: str) -> str:
    """A text of the settings' table in the language of the window."""
    return QCoreApplication.translate("Settings", text) if text else ""


class Field(QWidget):
    """edited carries a new value, refused why there is none. control: has the focus and the name.

    wide: it takes a line of its own; resets: it has its own way back to the default.
    """

    edited = Signal(object)
    refused = Signal(str)
    wide = resets = False

    def __init__(self, setting: Setting):
        super().__init__()
        self.setting = setting
        self.control: QWidget = self.make()
        self.control.setAccessibleName(said(setting.title))
        self.control.setAccessibleDescription(said(setting.sentence))
        self.control.setObjectName(setting.name)
        self.control.installEventFilter(self)

    def make(self) -> QWidget:
        """Build the field's widgets; the one that is named."""
        raise NotImplementedError

    def show_value(self, value: object) -> None:
        """Show it, and tell nothing."""
        raise NotImplementedError

    def finish(self) -> None:
        """Tell what a person has not quite finished."""

    def lay(self, *widgets: QWidget) -> None:
        """Put them side by side; the first one grows."""
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE)
        for number, widget in enumerate(widgets):
            row.addWidget(widget, 0 if number else 1)

    def button(self, name: str, text: str, does: Callable[[], None]) -> QToolButton:
        """A button that says to screen readers which setting it is about."""
        action = QAction(text, self)
        action.setObjectName(name)
        action.triggered.connect(lambda _checked=False: does())
        made = button(action)
        made.setAccessibleName(f"{said(self.setting.title)}: {text.rstrip('…')}")
        return made

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """The wheel scrolls the page over what has not the focus."""
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return super().eventFilter(watched, event)


class Choice(Field):
    """One of a few."""

    def make(self) -> QWidget:
        setting = self.setting
        box = QComboBox()
        if setting.default is None:
            box.addItem(said(setting.unset), None)
        for choice, words in zip(setting.choices, setting.words, strict=True):
            if words:
                box.addItem(said(words), choice)
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        box.activated.connect(lambda _index: self.edited.emit(box.currentData()))
        self.lay(box)
        return box

    def show_value(self, value: object) -> None:
        index = self.control.findData(value)
        if index < 0:  # the file or a variable says what the page does not offer
            self.control.addItem(str(value), value)
            index = self.control.count() - 1
        self.control.setCurrentIndex(index)


class Number(Field):
    """A number of a range; below the lowest it is the default that nobody set."""

    def make(self) -> QWidget:
        setting = self.setting
        whole = setting.kind == "whole"
        box = QSpinBox() if whole else QDoubleSpinBox()
        step = int(setting.step) if whole else setting.step
        self._below = int(setting.low) - 1 if whole else setting.low - step
        low, high = (int(setting.low), int(setting.high)) if whole else (setting.low, setting.high)
        box.setRange(self._below if setting.default is None else low, high)
        box.setSingleStep(step)
        box.setSpecialValueText(said(setting.unset))
        box.setSuffix(f" {setting.unit}" if setting.unit else "")
        box.lineEdit().setTextMargins(SPACE, 0, SPACE, 0)  # a style sheet's padding does not reach it
        box.setKeyboardTracking(False)
        box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        box.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.UpDownArrows)
        box.valueChanged.connect(self._tell)
        self.lay(box)
        return box

    def show_value(self, value: object) -> None:
        self.control.blockSignals(True)
        self.control.setValue(self._below if value is None else value)
        self.control.blockSignals(False)

    def _tell(self, value: float) -> None:
        unset = self.setting.default is None and value == self.control.minimum()
        self.edited.emit(None if unset else value if self.setting.kind == "whole" else round(value, 6))


class YesNo(Field):
    def make(self) -> QWidget:
        box = QCheckBox(self.tr("On"))
        box.toggled.connect(self.edited.emit)
        self.lay(box)
        return box

    def show_value(self, value: object) -> None:
        self.control.blockSignals(True)
        self.control.setChecked(bool(value))
        self.control.blockSignals(False)


class Line(Field):
    """A short text."""

    def make(self) -> QWidget:
        line = QLineEdit()
        line.setPlaceholderText(said(self.setting.unset))
        line.editingFinished.connect(lambda: self.tell(line.text()))
        self._shown: object = None
        self.arrange(line)
        return line

    def arrange(self, line: QLineEdit) -> None:
        self.lay(line)

    def show_value(self, value: object) -> None:
        self._shown = value
        if self.control.text() != (value or ""):
            self.control.setText(str(value or ""))

    def tell(self, text: str) -> None:
        value = text.strip() or self.setting.default
        if value != self._shown:
            self.edited.emit(value)


class FolderDialog(QObject):
    """Asks for a folder; one dialog at a time."""

    chosen = Signal(str)

    def __init__(self, parent: QWidget, title: str):
        super().__init__(parent)
        self._title = title
        self._dialog: QFileDialog | None = None

    def open(self, start: str = "") -> None:
        if self._dialog is None:
            self._dialog = QFileDialog(self.parent(), self._title, start)
            self._dialog.setFileMode(QFileDialog.FileMode.Directory)
            self._dialog.setOption(QFileDialog.Option.ShowDirsOnly)
            self._dialog.fileSelected.connect(self.chosen)
            self._dialog.finished.connect(self._forget)
        self._dialog.open()

    def _forget(self) -> None:
        self._dialog.deleteLater()
        self._dialog = None


class Folder(Line):
    """A folder, written or chosen."""

    wide = True

    def arrange(self, line: QLineEdit) -> None:
        self.dialog = FolderDialog(self, self.tr("Choose a folder"))
        self.dialog.chosen.connect(self.tell)
        self.lay(line, self.button("choose", self.tr("Choose…"), lambda: self.dialog.open(line.text())))


class Folders(Field):
    """A list of folders, as PATH lists them."""

    wide = True

    def make(self) -> QWidget:
        self.dialog = FolderDialog(self, self.tr("Add a folder"))
        self.dialog.chosen.connect(self.add)
        self._list = QListWidget()
        self._list.setProperty("look", "field")
        self._list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self._list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._list.currentRowChanged.connect(lambda row: self._remove.setEnabled(row >= 0))
        self._remove = self.button("remove", self.tr("Take off the list"), self._take_off)
        buttons = Flow(SPACE)
        buttons.addWidget(self.button("add", self.tr("Add a folder…"), self.dialog.open))
        buttons.addWidget(self._remove)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addWidget(self._list)
        column.addLayout(buttons)
        return self._list

    def show_value(self, value: object) -> None:
        names = [name for name in str(value or "").split(os.pathsep) if name]
        self._list.clear()
        for name in names:
            QListWidgetItem(name, self._list).setToolTip(plain_tip(name))
        self._remove.setEnabled(False)
        self._remove.setVisible(bool(names))
        self._list.setVisible(bool(names))
        self._list.setFixedHeight(min(len(names), 5) * max(self._list.sizeHintForRow(0), 1) + 2 * SPACE)

    def add(self, folder: str) -> None:
        if os.pathsep in folder:
            told = self.tr("A folder with '{sign}' in its name cannot be listed. Rename it; add it again.")
            self.refused.emit(told.format(sign=os.pathsep))
        else:
            self._tell([*self._names(), folder])

    def _names(self) -> list[str]:
        return [self._list.item(row).text() for row in range(self._list.count())]

    def _take_off(self) -> None:
        row = self._list.currentRow()
        self._tell([name for number, name in enumerate(self._names()) if number != row])

    def _tell(self, names: list[str]) -> None:
        self.edited.emit(os.pathsep.join(dict.fromkeys(names)))


class Paragraph(Field):
    """A text of several lines."""

    wide = True

    def make(self) -> QWidget:
        text = QPlainTextEdit()
        text.setProperty("look", "field")
        text.setPlaceholderText(said(self.setting.unset))
        text.setTabChangesFocus(True)
        text.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        text.setFixedHeight(5 * self.fontMetrics().lineSpacing() + 2 * SPACE)
        self._shown = ""
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(PAUSE_MS)
        self._pause.timeout.connect(self.finish)
        text.textChanged.connect(self._pause.start)
        self.lay(text)
        return text

    def show_value(self, value: object) -> None:
        self._shown = str(value or "")
        if self.control.toPlainText() != self._shown:
            self.control.setPlainText(self._shown)
        self._pause.stop()

    def finish(self) -> None:
        """Tell what was written up to now, if it was not told yet."""
        self._pause.stop()
        if self.control.toPlainText() != self._shown:
            self._shown = self.control.toPlainText()
            self.edited.emit(self._shown)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.FocusOut, QEvent.Type.Hide):
            self.finish()
        return super().eventFilter(watched, event)


FIELDS: dict[str, type[Field]] = {
    "text": Line,
    "paragraph": Paragraph,
    "choice": Choice,
    "whole": Number,
    "number": Number,
    "yes-no": YesNo,
    "folder": Folder,
    "folders": Folders,
}

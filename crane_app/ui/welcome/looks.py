"""The third step: the looks, and the keys that are used most. What is set here is set in Settings too."""

from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QFrame, QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from crane_app import settings
from crane_app.ui.parts import Words
from crane_app.ui.settings.row import Row
from crane_app.ui.theme import SPACE

SHOWN = ("appearance", "text-size", "send-key")


class KeysAndLooks(QWidget):
    """A few settings, and below them keys."""

    def __init__(self, preferences: Any):
        super().__init__()
        self.setAccessibleName(self.tr("Looks and keys"))
        title, words = Words(self.tr("Title")), Words(self.tr("Where to find them again"))
        title.setText(self.accessibleName())
        title.setProperty("look", "title")
        words.setText(self.tr("Change them at any time in Settings."))
        words.setProperty("look", "muted")
        self.rows = {name: Row(settings.TABLE[name], preferences) for name in SHOWN}
        preferences.changed.connect(self._changed)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addWidget(title)
        column.addWidget(words)
        column.addSpacing(SPACE)
        column.addWidget(self._panel(list(self.rows.values())))
        heading = Words(self.tr("Heading"))
        heading.setText(self.tr("Keys"))
        heading.setProperty("look", "heading")
        column.addSpacing(SPACE)
        column.addWidget(heading)
        column.addWidget(self._make_keys())
        column.addStretch()

    def _panel(self, rows: list[Row]) -> QFrame:
        panel = QFrame()
        panel.setProperty("look", "panel")
        column = QVBoxLayout(panel)
        column.setContentsMargins(*[2 * SPACE] * 4)
        column.setSpacing(3 * SPACE)
        for row in rows:
            column.addWidget(row)
        return panel

    def _make_keys(self) -> QFrame:
        panel = QFrame()
        panel.setProperty("look", "panel")
        grid = QGridLayout(panel)
        grid.setContentsMargins(*[2 * SPACE] * 4)
        grid.setHorizontalSpacing(2 * SPACE)
        grid.setVerticalSpacing(SPACE)
        for line, (keys, what) in enumerate(
            (
                ("Ctrl+1", self.tr("The chat; the next numbers show the other views.")),
                ("Ctrl+N", self.tr("A new conversation.")),
                ("F9", self.tr("Hold to dictate, in the dictation view.")),
                ("Esc", self.tr("Stop what is under way.")),
                ("Ctrl+/", self.tr("All keys there are.")),
            )
        ):
            name = QLabel(QKeySequence(keys).toString(QKeySequence.SequenceFormat.NativeText))
            name.setProperty("look", "chip")
            name.setAlignment(Qt.AlignmentFlag.AlignCenter)
            name.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
            words = Words(name.text())
            words.setText(what)
            grid.addWidget(name, line, 0)
            grid.addWidget(words, line, 1, Qt.AlignmentFlag.AlignVCenter)
        grid.setColumnStretch(1, 1)
        return panel

    def _changed(self, name: str) -> None:
        if name in self.rows:
            self.rows[name].refresh()

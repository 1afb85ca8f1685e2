"""One setting on the settings page: its name, what it does, the field, the way back to the default."""

from typing import Any

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QBoxLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from crane_app.errors import BadInput
from crane_app.settings import Setting
from crane_app.ui.icons import icon
from crane_app.ui.parts import Words, button, gap
from crane_app.ui.settings.fields import FIELDS, Field, said
from crane_app.ui.theme import SPACE

COLUMN = 30  # letters of average width in a field beside the words
BESIDE = 68  # letters that a row must have room for to show its field beside the words


class Row(QWidget):
    """Follows `preferences` and changes them. field: in place of the usual one of the setting's kind."""

    def __init__(self, setting: Setting, preferences: Any, field: Field | None = None):
        super().__init__()
        self.setting, self._preferences = setting, preferences
        self.title = QLabel(said(setting.title))
        self.title.setProperty("look", "strong")
        self.title.setWordWrap(True)
        self.sentence = Words(self.tr("What it does"))
        self.sentence.setProperty("look", "muted")
        self.sentence.setText(said(setting.sentence))
        self.note = Words(self.tr("Note"))
        self.note.setProperty("look", "small warning")
        self.field: Field = field or FIELDS[setting.kind](setting)
        self.title.setBuddy(self.field.control)
        self.field.edited.connect(self._edited)
        self.field.refused.connect(self._tell)
        self.reset = self._make_reset()
        self._arrange()
        self._fit()
        self.refresh()

    def refresh(self) -> None:
        """Show the value that holds, and whether it can be changed here."""
        name = self.setting.name
        overruled = self._preferences.overruled(name)
        self.field.show_value(self._preferences.get(name))
        self.field.setEnabled(not overruled)
        self.reset.setVisible(not overruled and not self.field.resets and not self._preferences.is_default(name))
        self._tell(overruled)

    def matches(self, words: list[str]) -> bool:
        """Whether all of the words, in lower case, occur in what the row says."""
        setting = self.setting
        texts = (setting.name, setting.title, setting.sentence, setting.group, *setting.words)
        said_here = " ".join(map(said, texts)).casefold()
        return all(word in said_here for word in words)

    def resizeEvent(self, event) -> None:
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and hasattr(self, "_row"):
            self._fit()

    def _edited(self, value: object) -> None:
        try:
            self._preferences.set(self.setting.name, value)
        except BadInput as error:
            self.refresh()
            self._tell(str(error))
        else:
            self.refresh()

    def _tell(self, words: str) -> None:
        self.note.setText(words)
        self.note.setVisible(bool(words))

    def _make_reset(self) -> QWidget:
        action = QAction(icon("reset", "muted"), self.tr("Back to the default"), self)
        action.setObjectName("reset")
        action.triggered.connect(lambda _checked=False: self._reset())
        made = button(action, look="flat small", shows="icon")
        made.setAccessibleName(f"{said(self.setting.title)}: {self.tr('Back to the default')}")
        return gap(made)

    def _reset(self) -> None:
        self._preferences.reset(self.setting.name)
        self.refresh()
        self.field.control.setFocus()

    def _arrange(self) -> None:
        words = QVBoxLayout()
        words.setSpacing(SPACE // 2)
        for label in (self.title, self.sentence, self.note):
            words.addWidget(label)
        words.addStretch()
        head = QHBoxLayout()
        head.setSpacing(SPACE)
        head.addLayout(words, 1)
        head.addWidget(self.reset, 0, Qt.AlignmentFlag.AlignTop)
        self._row = QBoxLayout(QBoxLayout.Direction.LeftToRight, self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(SPACE)
        self._row.addLayout(head, 1)
        self._row.addWidget(self.field)

    def _fit(self) -> None:
        """The field beside the words, all fields in one column, or below them where there is no room."""
        letter = self.fontMetrics().averageCharWidth()
        beside = not self.field.wide and self.width() >= BESIDE * letter
        directions = QBoxLayout.Direction
        self._row.setDirection(directions.LeftToRight if beside else directions.TopToBottom)
        if not self.field.wide:
            self._row.setAlignment(self.field, Qt.AlignmentFlag.AlignVCenter if beside else Qt.AlignmentFlag.AlignLeft)
            self.field.setFixedWidth(max(COLUMN * letter, self.field.minimumSizeHint().width()))

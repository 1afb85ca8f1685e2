"""The text of what was said: certain words, and after them those that may still change."""

from collections.abc import Iterable
from typing import Any

from PySide6.QtGui import QColor, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QTextEdit, QVBoxLayout, QWidget

from crane_app.ui import theme
from crane_app.ui.flow import Flow
from crane_app.ui.theme import SPACE


class SaidPane(QTextEdit):
    """Stretches of speech: one after another in a paragraph, or with `times` each on a line of its own."""

    def __init__(self):
        super().__init__()
        self.setReadOnly(True)
        self.setAcceptDrops(False)
        self.setTabChangesFocus(True)
        self.setAccessibleName(self.tr("What was said"))
        self.segments: list[Any] = []
        self.times = False
        self._certain = 0  # letters before the guess

    def show_segments(self, segments: Iterable[Any] = (), times: bool = False) -> None:
        """These instead of whatever was shown. Each has start, end (seconds) and text."""
        self.segments, self.times = [], times
        self.clear()
        self._certain = 0
        for segment in segments:
            self.add(segment)

    def add(self, segment: Any) -> None:
        """Certain words, in the place of the guess."""
        self.segments.append(segment)
        self._write(self._joined(segment))

    def guess(self, text: str, settled: int) -> None:
        """Words that may change, but for the first `settled` letters, in the place of the last guess."""
        certain = self._certain
        before = " " if certain and text else ""
        self._write(before + text[:settled])
        self._insert(text[settled:], theme.colours().muted)
        self._certain = certain

    def words(self) -> str:
        """All certain words, as they would be written in a message."""
        from crane_app.pipelines.transcript import as_text

        if self.times:
            return as_text(self.segments)
        return " ".join(segment.text for segment in self.segments if segment.text)

    def selected(self) -> str:
        return self.textCursor().selection().toPlainText()

    def _joined(self, segment: Any) -> str:
        from crane_app.pipelines.transcript import as_text

        if self.times:
            return as_text([segment], times=True)
        return (" " if self._certain and segment.text else "") + segment.text

    def _write(self, text: str) -> None:
        """Certain text at the end, without the guess."""
        cursor = self.textCursor()
        cursor.setPosition(self._certain)
        cursor.movePosition(QTextCursor.MoveOperation.End, QTextCursor.MoveMode.KeepAnchor)
        cursor.removeSelectedText()
        self._insert(text)
        self._certain = self.document().characterCount() - 1

    def _insert(self, text: str, colour: str = "") -> None:
        """At the end; what a person has selected stays selected, and the end stays in sight if it was."""
        bar = self.verticalScrollBar()
        following = bar.value() >= bar.maximum() - 4
        looks = QTextCharFormat()
        if colour:
            looks.setForeground(QColor(colour))
        cursor = QTextCursor(self.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.insertText(text, looks)
        if following:
            bar.setValue(bar.maximum())


class SaidSide(QWidget):
    """The pane, and below it what can be done with its text."""

    def __init__(self, pane: SaidPane, buttons: Iterable[QWidget]):
        super().__init__()
        below = Flow(SPACE // 2)
        for each in buttons:
            below.addWidget(each)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addWidget(pane, 1)
        column.addLayout(below)

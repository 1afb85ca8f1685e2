"""One message of a conversation on the screen, and the question in its bubble.

Knows no history: what a person asks of it are signals that carry its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QAction, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPlainTextEdit, QToolButton, QVBoxLayout, QWidget

from crane_app.pipelines.thoughts import spoken
from crane_app.ui.chat.composer import sends
from crane_app.ui.icons import icon
from crane_app.ui.parts import ElidedLabel, Words, button
from crane_app.ui.theme import SPACE

if TYPE_CHECKING:
    from crane_app.library.chats import Turn

FOLDED = 1200  # characters of a question; of a longer one the beginning is shown until it is unfolded
FOLDED_LINES = 16
MOST_WORDS = 10_000  # characters that a label lays out without being noticed; a field takes more
SIGN = QSize(16, 16)


class Message(QFrame):
    """What both kinds share: focus, versions, a row of buttons, and heights for the transcript."""

    grew = Signal()
    copied = Signal(object, str)  # the turn, and "text", "markdown" or "command"
    switched = Signal(object, int)
    removed = Signal(object)

    def __init__(self, turn: Turn):
        super().__init__()
        self.turn = turn
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(SPACE // 2)
        self.buttons = QWidget()
        self._row = QHBoxLayout(self.buttons)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(2)

    def height_for(self, width: int) -> int:
        return (
            self.layout().totalHeightForWidth(width) if self.layout().hasHeightForWidth() else self.sizeHint().height()
        )

    def text(self) -> str:
        """The message as it is copied: without thoughts."""
        return spoken(self.turn.text)

    def sign(self, name: str, text: str, does, drawing: str) -> QToolButton:
        """A small button in the row below."""
        action = QAction(icon(drawing, "muted"), text, self)
        action.setObjectName(name)
        action.triggered.connect(lambda _checked=False: does())
        made = button(action, look="flat small")
        made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonIconOnly)
        made.setIconSize(SIGN)
        self._row.addWidget(made)
        return made

    def make_versions(self) -> None:
        """'‹ 2 / 3 ›', where there is more than one."""
        self._versions = QWidget()
        row = QHBoxLayout(self._versions)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        self._older = self._turner("left", self.tr("Version before"), -1)
        self._newer = self._turner("right", self.tr("Version after"), 1)
        self._version = QLabel()
        self._version.setProperty("look", "muted")
        self._version.setAccessibleName(self.tr("Version shown"))
        for each in (self._older, self._version, self._newer):
            row.addWidget(each)
        self._row.addWidget(self._versions)

    def _turner(self, drawing: str, text: str, step: int) -> QToolButton:
        action = QAction(icon(drawing, "muted"), text, self)
        action.setObjectName("older" if step < 0 else "newer")
        action.triggered.connect(lambda _checked=False: self.switched.emit(self.turn, step))
        made = button(action, look="flat small")
        made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonIconOnly)
        made.setIconSize(SIGN)
        return made

    def show_versions(self, usable: bool) -> None:
        turn = self.turn
        self._versions.setVisible(turn.versions > 1)
        self._version.setText(f"{turn.version} / {turn.versions}")
        self._older.defaultAction().setEnabled(usable and turn.version > 1)
        self._newer.defaultAction().setEnabled(usable and turn.version < turn.versions)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.LayoutRequest:
            self.grew.emit()
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copied.emit(self.turn, "text")
        else:
            super().keyPressEvent(event)


class EditField(QPlainTextEdit):
    """The words of a question while they are edited; the keys are those of the field where it was written."""

    entered = Signal()
    left = Signal()

    def __init__(self, text: str, return_sends: bool):
        super().__init__(text)
        self._return_sends = return_sends
        self.setTabChangesFocus(True)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if sends(event, self._return_sends):
            if not event.isAutoRepeat():
                self.entered.emit()
        elif event.key() == Qt.Key.Key_Escape:
            self.left.emit()
        else:
            super().keyPressEvent(event)


class Question(Message):
    """What a person asked: plain text as it was typed, at the right; `edited` carries the turn and the new words."""

    edited = Signal(object, str)
    editing = Signal(bool)  # a field has come for the words, or has gone with nothing asked
    return_sends = True  # or Ctrl+Return alone

    def __init__(self, turn: Turn):
        super().__init__(turn)
        self._editor: EditField | None = None
        self._handed = ""  # what was asked anew from the editor
        self.setAccessibleName(self.tr("You: {text}").format(text=turn.text[:200]))
        self.bubble = QFrame()
        self.bubble.setProperty("look", "bubble")
        inside = QVBoxLayout(self.bubble)
        inside.setContentsMargins(2 * SPACE, SPACE + 2, 2 * SPACE, SPACE + 2)
        inside.setSpacing(SPACE // 2)
        self.words = Words(self.tr("Your message"))
        self.words.setProperty("look", "lead")
        inside.addWidget(self.words)
        for attachment in turn.attachments:
            inside.addWidget(self._file(attachment))
        self.more = QToolButton()
        self.more.setProperty("look", "flat small")
        self.more.clicked.connect(self._unfold)
        inside.addWidget(self.more)
        self._folded = len(turn.text) > FOLDED or turn.text.count("\n") > FOLDED_LINES
        self._show_words()
        hold = QHBoxLayout()
        hold.addStretch(1)
        hold.addWidget(self.bubble, 5)
        self.column.addLayout(hold)
        self._row.addStretch()
        self.sign("copy_question", self.tr("Copy the message"), lambda: self.copied.emit(self.turn, "text"), "copy")
        self._edit = self.sign("edit_question", self.tr("Edit the message"), self.begin_edit, "edit")
        self.make_versions()
        self.column.addWidget(self.buttons)
        self.set_busy(False)

    def set_busy(self, busy: bool) -> None:
        self._edit.defaultAction().setEnabled(not busy)
        self.show_versions(not busy)

    def unfinished(self) -> str | None:
        """What stands in the editor and has not been asked; None where nothing was changed."""
        text = self._editor.toPlainText() if self._editor is not None else self.turn.text
        return None if text in (self.turn.text, self._handed) else text

    def begin_edit(self, text: str | None = None) -> None:
        """Put the words into a field; Return asks them anew, Esc leaves them. text: what stood there before."""
        if self._editor is not None:
            return
        self._editor = EditField(self.turn.text if text is None else text, self.return_sends)
        self._editor.setAccessibleName(self.tr("Your message, to be edited"))
        self._editor.entered.connect(self._ask)
        self._editor.left.connect(self.end_edit)
        lines = min(12, max(3, self.turn.text.count("\n") + 1 + len(self.turn.text) // 60))
        self._editor.setFixedHeight(lines * self._editor.fontMetrics().lineSpacing() + 2 * SPACE)
        self._asking = QWidget()
        row = QHBoxLayout(self._asking)
        row.setContentsMargins(0, 0, 0, 0)
        row.addStretch()
        cancel, ask = QAction(self.tr("Cancel"), self._asking), QAction(self.tr("Ask again"), self._asking)
        cancel.setObjectName("cancel_edit")
        ask.setObjectName("ask_again")
        cancel.triggered.connect(lambda _checked=False: self.end_edit())
        ask.triggered.connect(lambda _checked=False: self._ask())
        row.addWidget(button(cancel))
        row.addWidget(button(ask, look="primary"))
        self.column.insertWidget(1, self._editor)
        self.column.insertWidget(2, self._asking)
        self.bubble.hide()
        self.buttons.hide()
        self._editor.moveCursor(self._editor.textCursor().MoveOperation.End)
        self.grew.emit()
        if text is None:
            self._editor.setFocus()
            self.editing.emit(True)

    def end_edit(self) -> None:
        if self._editor is None:
            return
        for each in (self._editor, self._asking):
            each.hide()
            each.deleteLater()
        self._editor = None
        self.bubble.show()
        self.buttons.show()
        self.setFocus()
        self.grew.emit()
        self.editing.emit(False)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape and self._editor is not None:
            self.end_edit()
        else:
            super().keyPressEvent(event)

    def _ask(self) -> None:
        if self._editor is not None and self._editor.toPlainText().strip():
            self._handed = self._editor.toPlainText()
            self.edited.emit(self.turn, self._editor.toPlainText().strip("\n"))

    def _file(self, attachment) -> QWidget:
        label = ElidedLabel(self.tr("Attached file"))
        label.setProperty("look", "muted")
        lines = len(attachment.text.splitlines())
        label.setText(self.tr("{name}, {lines} lines").format(name=attachment.name, lines=lines))
        return label

    def _show_words(self) -> None:
        text = self.turn.text
        if self._folded:
            text = "\n".join(text[:FOLDED].splitlines()[:FOLDED_LINES]).rstrip() + " …"
        self.words.setText(text)
        self.words.setVisible(bool(text))
        self._hug(text)
        self.more.setVisible(self._folded)
        self.more.setText(self.tr("Show all"))
        self.more.setAccessibleName(self.tr("Show all of the message"))

    def _hug(self, text: str) -> None:
        """No wider than the longest line, nor than what stands beside it."""
        self.words.ensurePolished()
        letters = self.words.fontMetrics()
        longest = max((letters.horizontalAdvance(line[:200]) for line in text.splitlines()), default=0)
        beside = 0 if not (self._folded or self.turn.attachments) else 240
        self.bubble.setMaximumWidth(max(longest, beside) + 4 * SPACE + 8)

    def _unfold(self) -> None:
        """All of it: as words where a label can take them, else in a field that scrolls."""
        self._folded = False
        if len(self.turn.text) <= MOST_WORDS:
            self._show_words()
        else:
            self.words.hide()
            self.more.hide()
            self.bubble.setMaximumWidth(self.maximumWidth())
            field = QPlainTextEdit()
            field.setReadOnly(True)
            field.setAccessibleName(self.tr("Your message"))
            field.setPlainText(self.turn.text)
            field.setFixedHeight(20 * field.fontMetrics().lineSpacing())
            self.bubble.layout().insertWidget(0, field)
        self.grew.emit()

"""Small widgets that more than one view uses."""

import html

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QAction, QKeyEvent, QPainter
from PySide6.QtWidgets import (
    QBoxLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QStyleOptionToolButton,
    QToolButton,
    QWidget,
)

from crane_app.ui.icons import icon
from crane_app.ui.theme import SPACE, unit

GAP = "\u2002"  # between an icon and words; style sheets know none


def plain_tip(text: str) -> str:
    """A tooltip that shows `text` as it is: Qt would take a file named `<b>` for markup."""
    return f"<span>{html.escape(text)}</span>" if text else ""


class Button(QToolButton):
    """A button whose icon is as large as its letters ask for."""

    def __init__(self):
        super().__init__()
        self._measure()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._measure()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and not event.isAutoRepeat():
            self.click()  # as Space does everywhere
        else:
            super().keyPressEvent(event)

    def initStyleOption(self, option: QStyleOptionToolButton) -> None:
        super().initStyleOption(option)
        if option.toolButtonStyle is Qt.ToolButtonStyle.ToolButtonTextBesideIcon:
            option.text = GAP + option.text  # there is room: a button is two spaces wider than its words

    def _measure(self) -> None:
        side = round(1.15 * unit())
        if self.iconSize().width() != side:
            self.setIconSize(QSize(side, side))


def button(action: QAction, look: str = "", shows: str = "") -> QToolButton:
    """A button for an action: its state, its name for screen readers, its shortcut in the tooltip.

    shows: "icon" for the action's icon alone, else a sign instead of its words; "" for icon, if it has one, and words.
    """
    made = Button()
    made.setProperty("look", look)
    # Tab reaches it; a click leaves the focus, and what is being written, where it is.
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.setDefaultAction(action)
    made.setObjectName(action.objectName())
    beside = Qt.ToolButtonStyle.ToolButtonIconOnly if shows == "icon" else Qt.ToolButtonStyle.ToolButtonTextBesideIcon
    made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly if action.icon().isNull() else beside)
    words = action.text().replace("&", "")
    action.setIconText(words if shows == "icon" else shows or words)
    name = words.rstrip("…")
    made.setAccessibleName(name)
    keys = action.shortcut().toString(action.shortcut().SequenceFormat.NativeText)
    action.setToolTip(plain_tip(f"{name} ({keys})" if keys else name))
    return made


class EscapeField(QLineEdit):
    """One line of text that tells of Esc by `left`, before any command that has the same key."""

    left = Signal()

    def wants_escape(self) -> bool:
        return True

    def event(self, event: QEvent) -> bool:
        ours = event.type() in (QEvent.Type.ShortcutOverride, QEvent.Type.KeyPress)
        if ours and event.key() == Qt.Key.Key_Escape and self.wants_escape():
            event.accept()
            if event.type() == QEvent.Type.KeyPress:
                self.left.emit()
            return True
        return super().event(event)


class SearchField(EscapeField):
    """To look for something; Esc empties it, and does what it else does where there is nothing to empty."""

    def __init__(self, words: str):
        super().__init__()
        self.setPlaceholderText(words)
        self.setAccessibleName(words)
        self.setClearButtonEnabled(True)
        self.addAction(icon("search", "muted"), QLineEdit.ActionPosition.LeadingPosition)
        self.left.connect(self.clear)

    def wants_escape(self) -> bool:
        return bool(self.text())


class ElidedLabel(QLabel):
    """One line of plain text that is shortened in the middle when there is no room."""

    def __init__(self, name: str):
        super().__init__()
        self.setAccessibleName(name)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def setText(self, text: str) -> None:
        super().setText(" ".join(text.split()))
        self.setToolTip(plain_tip(text))

    def minimumSizeHint(self) -> QSize:
        return QSize(4 * self.fontMetrics().averageCharWidth(), super().minimumSizeHint().height())

    def shown(self) -> str:
        """The text as it fits."""
        room = self.contentsRect().width()
        return self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideMiddle, room)

    def paintEvent(self, event) -> None:
        painter = QPainter(self)
        self.style().drawItemText(
            painter,
            self.contentsRect(),
            int(self.alignment()),
            self.palette(),
            self.isEnabled(),
            self.shown(),
            self.foregroundRole(),
        )


class Words(QLabel):
    """Plain sentences that wrap and always have the height they need; layouts alone do not see to that."""

    def __init__(self, name: str):
        super().__init__()
        self.setAccessibleName(name)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def setText(self, text: str) -> None:
        super().setText(text)
        self._make_room()

    def resizeEvent(self, event) -> None:
        super().resizeEvent(event)
        self._make_room()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._make_room()

    def _make_room(self) -> None:
        self.setMinimumHeight(0)  # a label's height for a width is never less than its minimum
        self.setMinimumHeight(max(0, self.heightForWidth(self.width())))


class Notice(QFrame):
    """A sentence about what went wrong and a button for what to do; in place, never a dialog."""

    retried = Signal()

    def __init__(self, retry: str, other: QAction | None = None):
        """other: what may help where trying again does not."""
        super().__init__()
        self.setProperty("look", "notice")
        self._icon = QLabel()
        self._words = Words(self.tr("What went wrong"))
        self._retry = QAction(retry, self)
        self._retry.setObjectName("retry")
        self._retry.triggered.connect(self.retried)
        self._button = button(self._retry)
        row = QHBoxLayout(self)
        row.setContentsMargins(SPACE, SPACE, SPACE, SPACE)
        row.setSpacing(SPACE)
        row.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self._words, 1)
        self._other = None if other is None else button(other)
        if self._other is not None:
            row.addWidget(self._other, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self._button, 0, Qt.AlignmentFlag.AlignTop)
        self._draw()
        self.hide()

    def tell(self, words: str, retry: str = "", other: bool = False) -> None:
        """Show the sentence, or nothing for ""; retry: another name for the button; other: show the other one too."""
        if self._other is not None:
            self._other.setVisible(other)
        if retry and retry != self._retry.text():
            self._retry.setText(retry)
            self._retry.setIconText(retry)
            self._button.setAccessibleName(retry)
        self._words.setText(words)
        self.setVisible(bool(words))

    def words(self) -> str:
        return self._words.text()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange:
            self._draw()

    def _draw(self) -> None:
        self._icon.setPixmap(icon("warning", "danger").pixmap(QSize(unit(), unit()), self.devicePixelRatioF()))


def empty(column: QBoxLayout) -> None:
    """Take all widgets out, to be set anew.

    With takeAt the old items would live until Python lets go of them, and a widget tells its first item alone that it
    has grown.
    """
    while column.count():
        column.removeWidget(column.itemAt(0).widget())


def gap(widget: QWidget) -> QWidget:
    """Keep a widget's room while it is hidden, so that nothing jumps."""
    policy = widget.sizePolicy()
    policy.setRetainSizeWhenHidden(True)
    widget.setSizePolicy(policy)
    return widget

"""The names of the views, down the left side; folded, their icons alone."""

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QAction, QIcon
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout

from crane_app.ui.icons import icon
from crane_app.ui.parts import button
from crane_app.ui.theme import SPACE, unit

WIDE = 200  # pixels, or what the names need
LINE = 1  # at its edge
Style = Qt.ToolButtonStyle


class Sidebar(QFrame):
    """A button for each action of `views`; those of `below` stand at the bottom. Its own action folds it."""

    folded_changed = Signal(bool)

    def __init__(self, brand: QIcon, views: list[QAction], below: list[QAction], fold: QAction):
        super().__init__()
        self.setProperty("look", "sidebar")
        self.setAccessibleName(self.tr("Views"))
        self.folded = False
        self._brand = brand
        self._mark, self._name = QLabel(), QLabel("Crane")
        self._name.setProperty("look", "heading")
        self._buttons = [button(action, look="view") for action in (*views, *below)]
        self._fold = button(fold, look="view", shows="icon")
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE, 2 * SPACE, SPACE, SPACE)
        column.setSpacing(SPACE // 2)
        column.addLayout(self._make_head())
        column.addSpacing(SPACE)
        for made in self._buttons:
            if made is self._buttons[len(views)]:
                column.addStretch()
            made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            column.addWidget(made)
        column.addWidget(self._fold)
        self._arrange()

    def _make_head(self) -> QHBoxLayout:
        head = QHBoxLayout()
        head.setContentsMargins(SPACE // 2, 0, 0, 0)
        head.setSpacing(SPACE)
        head.addWidget(self._mark)
        head.addWidget(self._name, 1)
        return head

    def fold(self, folded: bool) -> None:
        """Icons alone, or with their names."""
        if folded != self.folded:
            self.folded = folded
            self._arrange()
            self.folded_changed.emit(folded)

    def buttons(self) -> list[QToolButton]:
        return [*self._buttons, self._fold]

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._arrange()

    def _arrange(self) -> None:
        self._name.setVisible(not self.folded)
        for made in self._buttons:
            made.setToolButtonStyle(Style.ToolButtonIconOnly if self.folded else Style.ToolButtonTextBesideIcon)
        side = round(1.7 * unit())
        self._mark.setPixmap(self._brand.pixmap(QSize(side, side), self.devicePixelRatioF()))
        words = max(made.sizeHint().width() for made in self._buttons)
        room = words + 2 * SPACE + LINE
        self.setFixedWidth(room if self.folded else max(room, WIDE))


def mark_chosen(actions: list[QAction], names: list[str]) -> None:
    """Draw the icon of the checked action in the accent, those of the others in grey."""
    for action, name in zip(actions, names, strict=True):
        action.setIcon(icon(name, "accent" if action.isChecked() else "muted"))

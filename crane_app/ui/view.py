"""What the window asks of a view: one of the jobs, filling the space beside the sidebar."""

from PySide6.QtCore import QMimeData, Signal
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QWidget

Commands = list[QAction | None]  # None: a line between two groups


class View(QWidget):
    """A view shows; a pipeline thinks. Its actions work while it is in sight.

    computes: what it does is done by the loaded models, so the window tells what computes.
    """

    computes = False

    said = Signal(str)  # short news for the status line
    titled = Signal(str)  # the name of what is shown, for the window's title
    sent = Signal(str, object)  # something for another view: its name and what it takes

    def commands(self) -> dict[str, Commands]:
        """What the menus offer while this view is in sight: by "file", "edit", "view"."""
        return {}

    def offer(self, data: QMimeData) -> str:
        """What dropping this here would do, or "" when it is of no use."""
        return ""

    def take(self, data: QMimeData) -> bool:
        """Use what was dropped; False when it is of no use."""
        return False

    def receive(self, what: object) -> None:
        """Something that another view sent."""

    def enter(self) -> None:
        """It came into sight: put the focus where a person begins."""

    def leave(self) -> None:
        """The window closes: stop what is under way, keep what must be kept."""

    def action(self, name: str, text: str, does, keys=None, icon: str = "", role: str = "text") -> QAction:
        """An action of this view; `keys` work while it is in sight. icon: in assets/icons, drawn in colour `role`."""
        from crane_app.ui.icons import icon as drawn

        made = QAction(text, self)
        made.setObjectName(name)
        made.triggered.connect(lambda _checked=False: does())
        if keys is not None:
            made.setShortcut(QKeySequence(keys))
        if icon:
            made.setIcon(drawn(icon, role))
        self.addAction(made)
        return made

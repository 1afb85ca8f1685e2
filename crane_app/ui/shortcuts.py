"""Every command with its keys, by area, to be searched. Read off the actions themselves."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QDialog, QHeaderView, QLineEdit, QTreeWidget, QTreeWidgetItem, QVBoxLayout, QWidget

from crane_app.ui.theme import SPACE, unit
from crane_app.ui.view import View

Areas = dict[str, list[QAction]]


class ShortcutSheet(QDialog):
    """A list of areas and their commands; typing leaves those that match."""

    def __init__(self, areas: Areas, parent: QWidget | None = None):
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(self.tr("Keyboard shortcuts"))
        self.search = QLineEdit()
        self.search.setPlaceholderText(self.tr("Search commands and keys"))
        self.search.setAccessibleName(self.tr("Search commands and keys"))
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._filter)
        self.list = QTreeWidget()
        self.list.setAccessibleName(self.tr("Commands and their keys"))
        self.list.setColumnCount(2)
        self.list.setHeaderLabels([self.tr("Command"), self.tr("Keys")])
        self.list.header().setStretchLastSection(False)
        self.list.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.list.header().setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.list.setRootIsDecorated(False)
        self.list.setIndentation(2 * SPACE)
        self._fill(areas)
        column = QVBoxLayout(self)
        column.setContentsMargins(*[2 * SPACE] * 4)
        column.setSpacing(SPACE)
        column.addWidget(self.search)
        column.addWidget(self.list, 1)
        self.resize(34 * unit(), 32 * unit())

    def shown(self) -> list[tuple[str, str, str]]:
        """Area, command and keys of every row in sight."""
        tops = [self.list.topLevelItem(row) for row in range(self.list.topLevelItemCount())]
        rows = [(top, top.child(row)) for top in tops for row in range(top.childCount())]
        return [(top.text(0), row.text(0), row.text(1)) for top, row in rows if not row.isHidden()]

    def _fill(self, areas: Areas) -> None:
        for area, actions in areas.items():
            top = QTreeWidgetItem(self.list, [area])
            top.setFlags(Qt.ItemFlag.ItemIsEnabled)
            font = top.font(0)
            font.setBold(True)
            top.setFont(0, font)
            for action in actions:
                QTreeWidgetItem(top, [words(action), keys_of(action)])
        self.list.expandAll()

    def _filter(self, wanted: str) -> None:
        wanted = wanted.casefold().strip()
        for number in range(self.list.topLevelItemCount()):
            top = self.list.topLevelItem(number)
            for row in (top.child(index) for index in range(top.childCount())):
                row.setHidden(wanted not in f"{top.text(0)} {row.text(0)} {row.text(1)}".casefold())
            top.setHidden(all(top.child(index).isHidden() for index in range(top.childCount())))


def words(action: QAction) -> str:
    return action.text().replace("&", "").rstrip("…")


def keys_of(action: QAction) -> str:
    """Its keys as this system writes them."""
    return ", ".join(keys.toString(QKeySequence.SequenceFormat.NativeText) for keys in action.shortcuts())


def commands_of(view: View) -> list[QAction]:
    """What the view offers in the menus, then its other actions that have keys."""
    offered = [action for group in view.commands().values() for action in group if action is not None]
    others = [action for action in view.findChildren(QAction) if action.shortcuts() and action.text()]
    return list(dict.fromkeys([*offered, *others]))

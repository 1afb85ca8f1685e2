"""The menus: what the window offers always, and between it what the view in sight offers."""

from collections.abc import Callable
from functools import partial

from PySide6.QtCore import QEvent, QObject
from PySide6.QtGui import QAction, QActionGroup, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QApplication, QMainWindow, QMenu, QMenuBar, QWidget

from crane_app.ui.view import Commands, View

Keys = QKeySequence.StandardKey
Does = Callable[[], object]


class Menus(QObject):
    """File, Edit, View, Go and Help of `window`; the first three begin with what the view in sight offers."""

    def __init__(self, window: QMainWindow):
        super().__init__(window)
        self._window = window
        self._field: QWidget | None = None  # where a person last wrote or selected
        bar, tr = window.menuBar(), self.tr
        self.file, self.edit, self.view = (bar.addMenu(words) for words in (tr("&File"), tr("&Edit"), tr("&View")))
        self.go, self.help = bar.addMenu(tr("&Go")), bar.addMenu(tr("&Help"))
        self._standard = {
            "file": self._file_commands(),
            "edit": self._edit_commands(),
            "view": [],
        }
        for menu in (self.file, self.edit, self.view):
            # Commands change their words, such as Play and Pause.
            menu.aboutToShow.connect(partial(give_mnemonics, menu))
        QApplication.instance().focusChanged.connect(self._focus_changed)

    def command(self, name: str, text: str, does: Does, keys=None, role=QAction.MenuRole.NoRole) -> QAction:
        """An action of the window."""
        made = QAction(text, self._window)
        made.setObjectName(name)
        made.setMenuRole(role)
        if keys is not None:
            made.setShortcuts(keys if isinstance(keys, list) else QKeySequence.keyBindings(keys)[:1])
        made.triggered.connect(lambda _checked=False: does())
        return made

    def offer(self, view: View | None) -> None:
        """Fill the menus for this view."""
        offered = view.commands() if view is not None else {}
        taken = {keys.toString() for action in offered_actions(offered) for keys in action.shortcuts()}
        for name, menu in (("file", self.file), ("edit", self.edit), ("view", self.view)):
            _empty(menu)
            self._fill(menu, offered.get(name, []))
            own = [each for each in self._standard[name] if not self._given_way(each, taken)]
            if offered.get(name):
                menu.addSeparator()
            self._fill(menu, own)
            give_mnemonics(menu)

    def extend(self, name: str, commands: Commands) -> None:
        """More that the window always offers in one of the first three menus."""
        self._standard[name] = [*commands, *self._standard[name]]

    def _fill(self, menu: QMenu, commands: Commands) -> None:
        for action in commands:
            menu.addSeparator() if action is None else menu.addAction(action)

    def _given_way(self, action: QAction | None, taken: set[str]) -> bool:
        """A command of the view with the same keys stands for the window's own."""
        if action is None:
            return False
        gives_way = any(keys.toString() in taken for keys in action.shortcuts())
        action.setEnabled(not gives_way)
        action.setVisible(not gives_way)
        return gives_way

    def _file_commands(self) -> Commands:
        quit_role = QAction.MenuRole.QuitRole
        return [
            self.command("close_window", self.tr("Close &window"), self._window.close, [QKeySequence("Ctrl+W")]),
            self.command("quit", self.tr("&Quit"), self._window.close, [QKeySequence("Ctrl+Q")], quit_role),
        ]

    def _edit_commands(self) -> Commands:
        def pass_on(keys: Keys) -> Does:
            return lambda: self._press(keys)

        words = (
            ("undo", self.tr("&Undo"), Keys.Undo),
            ("redo", self.tr("&Redo"), Keys.Redo),
            None,
            ("cut", self.tr("Cu&t"), Keys.Cut),
            ("copy_field", self.tr("&Copy"), Keys.Copy),
            ("paste_field", self.tr("&Paste"), Keys.Paste),
            ("select_all", self.tr("Select &all"), Keys.SelectAll),
        )
        return [each and self.command(each[0], each[1], pass_on(each[2]), each[2]) for each in words]

    def _press(self, keys: Keys) -> None:
        """The keys, pressed where a person last was: every field knows for itself what they mean.

        Given to the field itself: one that has no use for them must not make Qt look for a shortcut, which is ours.
        """
        bound = QKeySequence.keyBindings(keys)
        if self._field is not None and bound:
            pressed = bound[0][0]
            for kind in (QEvent.Type.KeyPress, QEvent.Type.KeyRelease):
                self._field.event(QKeyEvent(kind, pressed.key(), pressed.keyboardModifiers()))

    def _focus_changed(self, _before: QWidget | None, now: QWidget | None) -> None:
        if now is not None and now.window() is self._window and not isinstance(now, QMenuBar | QMenu):
            if self._field is not None:
                self._field.destroyed.disconnect(self._forget)
            self._field = now
            now.destroyed.connect(self._forget)

    def _forget(self) -> None:
        self._field = None


def choices(parent: QObject, menu: QMenu, words: dict[str, str], chosen: str, choose: Callable[[str], None]):
    """A group of entries of which one is chosen."""
    group = QActionGroup(parent)
    for value, text in words.items():
        action = menu.addAction(text)
        action.setCheckable(True)
        action.setData(value)
        action.setChecked(value == chosen)
        group.addAction(action)
    group.triggered.connect(lambda action: choose(action.data()))
    return group


def offered_actions(offered: dict[str, Commands]) -> list[QAction]:
    return [action for commands in offered.values() for action in commands if action is not None]


def _empty(menu: QMenu) -> None:
    """Without QMenu.clear(), which would take actions with it that others still have."""
    for action in menu.actions():
        menu.removeAction(action)
        if action.isSeparator():
            action.deleteLater()


def give_mnemonics(menu: QMenu) -> None:
    """A letter of its own for every entry: the one it asks for if that is free, else another of its letters."""
    taken: set[str] = set()
    entries = [action for action in menu.actions() if not action.isSeparator()]
    for action in sorted(entries, key=lambda each: len(each.text())):  # the shortest have the fewest to choose from
        text = action.text()
        plain = text.replace("&", "")
        asked = text.split("&", 1)[1][:1] if "&" in text else ""
        initials = [word[0] for word in plain.split()]
        letter = next((c for c in (asked, *initials, *plain) if c.isalnum() and c.lower() not in taken), "")
        if letter:
            taken.add(letter.lower())
        if letter.lower() != asked.lower() or not asked:
            action.setText(plain.replace(letter, f"&{letter}", 1) if letter else plain)

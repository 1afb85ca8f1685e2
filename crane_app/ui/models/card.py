"""One model on this computer, as a card: what it is, whether it fits, and what can be done with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from PySide6.QtCore import QLocale, QSize, Qt, Signal
from PySide6.QtGui import QAction, QGuiApplication
from PySide6.QtWidgets import QCheckBox, QFrame, QHBoxLayout, QMenu, QProgressBar, QToolButton, QVBoxLayout, QWidget

from crane_app.library import fit
from crane_app.library.models import OnDisk, others_in
from crane_app.ui.icons import icon
from crane_app.ui.models.loads import Loads
from crane_app.ui.models.residents import Residents
from crane_app.ui.parts import ElidedLabel, Words, button
from crane_app.ui.theme import SPACE

DEVICES = {"cpu": "CPU", "cuda": "CUDA", "metal": "Metal"}
FIT_LOOKS = {"well": "small good", "tight": "small warning", "no": "small danger", "unknown": "small muted"}


def dress(widget: QWidget, look: str) -> None:
    """Give a widget that is on the screen another look."""
    if widget.property("look") != look:
        widget.setProperty("look", look)
        widget.style().unpolish(widget)
        widget.style().polish(widget)


def named(made: QToolButton, words: str, name: str) -> QToolButton:
    """A button that says to screen readers what it is about: `words` with {name}."""
    made.setAccessibleName(words.format(name=name))
    return made


def in_tab_order(widgets: Iterable[QWidget]) -> None:
    """Let the Tab key go through these, and within each through what it holds, in this order."""
    held = ([each, *each.findChildren(QWidget)] for each in widgets)
    tab = Qt.FocusPolicy.TabFocus
    inside = (each for family in held for each in family if each.window() is family[0].window())  # a popup is not
    stops = [each for each in inside if each.focusPolicy() & tab]
    for before, after in itertools.pairwise(stops):
        QWidget.setTabOrder(before, after)


def take_turns(buttons: dict[str, QToolButton], shown: dict[str, bool]) -> None:
    """Show these buttons and hide the others; the keyboard's focus goes from one that goes to one that comes."""
    held = any(made.hasFocus() for made in buttons.values())
    for name, made in sorted(buttons.items(), key=lambda item: not shown[item[0]]):
        made.setVisible(shown[name])
        made.defaultAction().setEnabled(shown[name])
        if held and shown[name]:
            made.setFocus()
            held = False


def acting(parent: QWidget, name: str, text: str, does: Callable[[], object]) -> QAction:
    """An action of a card."""
    made = QAction(text, parent)
    made.setObjectName(name)
    made.triggered.connect(lambda _checked=False: does())
    return made


class Question(QWidget):
    """Asks in place before something is lost: a sentence, yes and no."""

    def __init__(self, yes: str, no: str, does: Callable[[], None]):
        super().__init__()
        self.words = Words(self.tr("Question"))
        self.yes = acting(self, "yes", yes, lambda: (self.hide(), does()))
        self.no = acting(self, "no", no, self.hide)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, SPACE, 0, 0)
        row.setSpacing(SPACE)
        row.addWidget(self.words, 1)
        self.first = button(self.yes, look="danger")
        row.addWidget(self.first)
        row.addWidget(button(self.no))
        self.hide()

    def ask(self, words: str) -> None:
        self.words.setText(words)
        self.show()
        self.first.setFocus()


class ModelCard(QFrame):
    """`entry` on the disk; asks its view to do what concerns more than the card."""

    used = Signal(object)  # use it for chat
    shown = Signal(object)  # show its folder
    forgotten = Signal(object)  # take its folder off the list
    discarded = Signal(object)  # move it to the trash
    doubted = Signal(object)  # read it against its checksums
    said = Signal(str)

    def __init__(self, entry: OnDisk, loads: Loads, residents: Residents, memory: int, listed: bool):
        """memory: bytes this computer has. listed: its folder was named by hand and can be taken off the list."""
        super().__init__()
        self.entry, self._loads, self._residents = entry, loads, residents
        self._memory, self._listed = memory, listed
        self._checked: int | None = None  # percent of its files; None: they are not being read
        self.setProperty("look", "panel")
        self.setAccessibleName(entry.name)
        self._make_actions()
        self._make_widgets()
        self.refresh()

    def _make_actions(self) -> None:
        tr, folder = self.tr, self.entry.folder
        self.load = acting(self, "load", tr("Load"), lambda: self._loads.load(folder))
        self.unload = acting(self, "unload", tr("Unload"), lambda: self._loads.unload(folder))
        self.cancel = acting(self, "cancel", tr("Cancel"), lambda: self._loads.cancel(folder))
        self.use = acting(self, "use", tr("Use for chat"), lambda: self.used.emit(self.entry))
        self.show_folder = acting(self, "show_folder", tr("Show folder"), lambda: self.shown.emit(self.entry))
        self.copy_path = acting(self, "copy_path", tr("Copy path"), self._copy)
        self.verify = acting(self, "verify", tr("Check the files"), lambda: self.doubted.emit(self.entry))
        self.forget = acting(self, "forget", tr("Take off the list"), lambda: self.forgotten.emit(self.entry))
        self.discard = acting(self, "discard", tr("Move to the trash…"), self._ask)

    def _make_widgets(self) -> None:
        self.name = ElidedLabel(self.tr("Name of the model"))
        self.name.setProperty("look", "strong")
        self.name.setText(self.entry.name)
        self.facts = Words(self.tr("About the model"))
        self.facts.setProperty("look", "muted")
        self.facts.setText(self._facts())
        self.fits = Words(self.tr("Memory it needs"))
        self.state = Words(self.tr("State of the model"))
        self.place = ElidedLabel(self.tr("Folder of the model"))
        self.place.setProperty("look", "small muted")
        self.place.setText(str(self.entry.folder))
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setRange(0, 100)
        self.progress.setAccessibleName(self.tr("Progress with {name}").format(name=self.entry.name))
        column = QVBoxLayout(self)
        column.setContentsMargins(*[2 * SPACE] * 4)
        column.setSpacing(SPACE // 2)
        column.addLayout(self._top())
        self.question = Question(self.tr("Move to the trash"), self.tr("Keep"), lambda: self.discarded.emit(self.entry))
        self.stays = self._make_stays()
        for each in (self.facts, self.fits, self.state, self.progress, self.stays, self.place, self.question):
            column.addWidget(each)
        column.setAlignment(self.stays, Qt.AlignmentFlag.AlignLeading)

    def _top(self) -> QHBoxLayout:
        tr, name = self.tr, self.entry.name
        self.buttons = {
            "load": named(button(self.load), tr("Load {name}"), name),
            "unload": named(button(self.unload), tr("Unload {name}"), name),
            "cancel": named(button(self.cancel), tr("Stop loading {name}"), name),
        }
        menu = QMenu(self)
        for action in (self.use, self.show_folder, self.copy_path, self.verify):
            menu.addAction(action)
        menu.addSeparator()
        menu.addAction(self.forget)
        menu.addAction(self.discard)
        self.more = QToolButton()
        self.more.setObjectName("more")
        self.more.setProperty("look", "flat")
        self.more.setIcon(icon("more"))
        self.more.setMenu(menu)
        self.more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.more.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.more.setToolTip(tr("More"))
        named(self.more, tr("More about {name}"), name)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.name, 1)
        for each in (*self.buttons.values(), self.more):
            row.addWidget(each)
        return row

    def _make_stays(self) -> QCheckBox:
        made = QCheckBox(self.tr("Keep in memory"))
        made.setObjectName("stays")
        made.setAccessibleName(self.tr("Keep {name} in memory").format(name=self.entry.name))
        made.setToolTip(self.tr("It stays until you unload it, even when other models need room"))
        made.clicked.connect(self._keep)
        return made

    def show_checked(self, percent: int | None) -> None:
        """How much of its files has been checked; None: it is over."""
        self._checked = percent
        self.refresh()

    def refresh(self) -> None:
        """As its loading stands."""
        entry, folder = self.entry, self.entry.folder
        card, percent, busy = self._loads.card(folder), self._loads.percent(folder), self._loads.busy(folder)
        runs = not entry.problem
        shown = {
            "load": card is None and percent is None and runs and entry.job == "chat",
            "unload": card is not None,
            "cancel": percent is not None,
        }
        take_turns(self.buttons, shown)
        for name in ("load", "unload"):
            self.buttons[name].defaultAction().setEnabled(shown[name] and not busy)
        self.progress.setVisible(percent is not None or self._checked is not None)
        self.progress.setValue(percent or self._checked or 0)
        self.verify.setVisible(entry.source == "hub")
        self.verify.setEnabled(self._checked is None)
        self.use.setVisible(entry.job == "chat" and runs)
        self.forget.setVisible(self._listed)
        self.discard.setVisible(not (self._listed and entry.problem and not entry.nbytes))
        self.discard.setEnabled(card is None and not busy and self._checked is None)
        kept = self._residents.kept(folder, card)
        if self.stays.hasFocus() and card is None and not kept:
            self.more.setFocus()
        self.stays.setVisible(card is not None or kept)
        self.stays.setChecked(kept)
        verdict = self._loads.verdict(entry, self._memory)
        self.fits.setText(verdict.sentence)
        self.fits.setVisible(bool(entry.nbytes) and runs and card is None)
        dress(self.fits, FIT_LOOKS[verdict.fit])
        words, look = self._state(card, percent, busy)
        dress(self.state, look)
        self.state.setText(words)
        self.state.setVisible(bool(words))

    def _state(self, card, percent: int | None, busy: bool) -> tuple[str, str]:
        if percent is not None:
            return self.tr("Loading, {percent} %").format(percent=percent), "small muted"
        if self._checked is not None:
            return self.tr("Checking the files, {percent} %").format(percent=self._checked), "small muted"
        if card is not None:
            return self.tr("Giving its memory back…") if busy else self._held(card), "small good"
        problem = self._loads.error(self.entry.folder) or self.entry.problem
        return (problem, "small danger") if problem else (self._use(), "small muted")

    def _held(self, card) -> str:
        held = self._residents.holding(card)
        rows = held.rows_nbytes if held is not None else 0
        where = self.tr("In memory: {size} on {device}, {dtype}.")
        if rows:
            where = self.tr("In memory: {size} on {device}, {dtype}; {rows} of conversations.")
        device = DEVICES.get(card.device, card.device)
        return where.format(size=fit.human(card.nbytes), device=device, dtype=card.numbers, rows=fit.human(rows))

    def _use(self) -> str:
        """What it is good for here, where that is not plain."""
        return {
            "pictures": self.tr("Crane keeps it, and cannot read pictures with it yet: the built-in reader does that."),
            "dictate": self.tr("Dictate uses it."),
            "read_aloud": self.tr("Crane keeps it, and cannot speak with it yet: the system's voice does that."),
        }.get(self.entry.job, self.entry.remark)

    def _facts(self) -> str:
        entry = self.entry
        told = entry.context and entry.job == "chat"
        tokens = self.tr("{count} tokens of context").format(count=QLocale().toString(entry.context)) if told else ""
        size = fit.human(entry.nbytes) if entry.nbytes else ""
        every = (entry.architecture, size, tokens, entry.dtype, entry.licence)
        return " · ".join(filter(None, every)) or self.tr("Nothing is known about it.")

    def _keep(self, on: bool) -> None:
        self._residents.keep(self.entry.folder, self._loads.card(self.entry.folder), on)

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(str(self.entry.folder))
        self.said.emit(self.tr("Copied the path of {name}.").format(name=self.entry.name))

    def _ask(self) -> None:
        words = self.tr("Move {name} ({size}) to the trash?").format(
            name=self.entry.name, size=fit.human(self.entry.nbytes)
        )
        if others := others_in(self.entry):
            more = self.tr("The folder holds {count} other files or folders; they go with it.")
            words += " " + more.format(count=others)
        if self.entry.source == "hub":
            words += " " + self.tr("Other programs that use the Hugging Face cache lose it too.")
        self.question.ask(words)

    def sizeHint(self) -> QSize:
        return QSize(40 * SPACE, super().sizeHint().height())

"""The top of the page: whether the server is on, with the switch; where it is; what it is doing; what went wrong."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from crane_app.pipelines.serving import Served
from crane_app.ui.flow import Flow
from crane_app.ui.icons import icon
from crane_app.ui.parts import Notice, Words, button
from crane_app.ui.switch import Switch
from crane_app.ui.theme import SPACE


class StateCard(QFrame):
    """Shows pipelines.serving.Served. switched: on or off is asked for; remedied: what the notice's button offers.

    restarted: what was changed since it was started is to count; hurried: it is to end at once; model_wanted: there is
    none; copied: words for the status line.
    """

    switched = Signal(bool)
    remedied = Signal()
    restarted, hurried, model_wanted = Signal(), Signal(), Signal()
    copied = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("look", "panel")
        self.setAccessibleName(self.tr("The server"))
        self._url = ""
        self.title = QLabel()
        self.title.setProperty("look", "title")
        self.title.setWordWrap(True)
        self.sentence = Words(self.tr("State of the server"))
        self.sentence.setProperty("look", "muted")
        self.switch = Switch(self.tr("Server"))
        self.switch.clicked.connect(self.switched)
        self.figures = Figures()
        self.notice = Notice(self.tr("Start again"))
        self.notice.retried.connect(self.remedied)
        self.stale = Offer(
            self.tr("It was started with other settings. They count after a restart."),
            self.tr("Restart"),
            "restart_server",
        )
        self.stale.taken.connect(self.restarted)
        self.hurry = Offer(self.tr("Those who wait for an answer get it first."), self.tr("End now"), "end_server")
        self.hurry.taken.connect(self.hurried)
        self.need = Offer(
            self.tr("It needs a model that can chat. Such a model is fetched once, then works offline."),
            self.tr("Get a model"),
            "get_model",
            "primary small",
        )
        self.need.taken.connect(self.model_wanted)
        words = QVBoxLayout()
        words.setSpacing(SPACE // 2)
        words.addWidget(self.title)
        words.addWidget(self.sentence)
        head = QHBoxLayout()
        head.setSpacing(2 * SPACE)
        head.addLayout(words, 1)
        head.addWidget(self.switch, 0, Qt.AlignmentFlag.AlignTop)
        column = QVBoxLayout(self)
        column.setContentsMargins(*[3 * SPACE] * 4)
        column.setSpacing(2 * SPACE)
        column.addLayout(head)
        column.addLayout(self._make_doing())
        for each in (self.need, self.stale, self.hurry, self.notice):
            column.addWidget(each)

    def _make_doing(self) -> QHBoxLayout:
        """What it does, and its address to be taken along."""
        action = QAction(icon("copy"), self.tr("Copy the address"), self)
        action.setObjectName("copy_url")
        action.triggered.connect(lambda _checked=False: self._copy())
        self._copier = button(action, look="small")
        row = QHBoxLayout()
        row.setSpacing(2 * SPACE)
        row.addWidget(self.figures, 1)
        row.addWidget(self._copier, 0, Qt.AlignmentFlag.AlignBottom)
        return row

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self._url)
        self.copied.emit(self.tr("Copied the address."))

    def show_state(self, now: Served, stale: bool, name: str) -> None:
        """stale: it was started with other settings than those of now; name: of its model, "" if there is none."""
        self.title.setText(self._title(now))
        self.sentence.setText(self._sentence(now, name))
        self.switch.setChecked(now.state in ("starting", "on"))
        self._url = now.url
        for each in (self.figures, self._copier):
            each.setVisible(now.state in ("on", "ending") and bool(now.url))
        self.figures.show_figures(now)
        self.stale.setVisible(stale and now.state in ("starting", "on"))
        self.need.setVisible(not name and not now.sentence)
        self.hurry.setVisible(now.state == "ending")
        self.notice.tell(now.sentence, self._remedy(now))

    def _title(self, now: Served) -> str:
        return {
            "off": self.tr("The server is off"),
            "starting": self.tr("The server is starting"),
            "on": self.tr("The server is on"),
            "ending": self.tr("The server is ending"),
            "failed": self.tr("The server is off"),
        }[now.state]

    def _sentence(self, now: Served, name: str) -> str:
        if now.state == "starting":
            return self.tr("Loading {name}. A large model takes a while.").format(name=name)
        if now.state == "ending":
            return self.tr("What is under way comes to its end; nothing new is taken.")
        if now.state == "on":
            names = ", ".join(now.models) or name
            return self.tr("At {url}, with {names}. It ends when this window closes.").format(url=now.url, names=names)
        return self.tr(
            "Switch it on, and other programs on this computer can use your models as they would an online service."
        )

    def _remedy(self, now: Served) -> str:
        """What the button beside the sentence offers."""
        if now.fault == "port" and now.free_port:
            return self.tr("Use port {port}").format(port=now.free_port)
        if now.fault == "key":
            return self.tr("Make a key and start")
        if now.fault == "model":
            return self.tr("Go to Models")
        return self.tr("Start again") if now.state == "failed" else self.tr("Close")


class Offer(QFrame):
    """A sentence, and a button that is about it."""

    taken = Signal()

    def __init__(self, sentence: str, does: str, name: str, look: str = "small"):
        super().__init__()
        self.setProperty("look", "chip")
        words = Words(does)
        words.setText(sentence)
        action = QAction(does, self)
        action.setObjectName(name)
        action.triggered.connect(lambda _checked=False: self.taken.emit())
        row = QHBoxLayout(self)
        row.setContentsMargins(2 * SPACE, SPACE, SPACE, SPACE)
        row.setSpacing(SPACE)
        row.addWidget(words, 1)
        row.addWidget(button(action, look=look))


class Figures(QWidget):
    """What it does now and has done: numbers with a word below each."""

    def __init__(self) -> None:
        super().__init__()
        line = Flow(4 * SPACE)
        self.setLayout(line)
        self.active = self._figure(line, self.tr("Under way"))
        self.waiting = self._figure(line, self.tr("Waiting"))
        self.answered = self._figure(line, self.tr("Answered"))

    def show_figures(self, now: Served) -> None:
        for label, number in ((self.active, now.active), (self.waiting, now.waiting), (self.answered, now.answered)):
            label.setText(f"{number:,}")

    def _figure(self, line: Flow, words: str) -> QLabel:
        made = QWidget()
        number, name = QLabel("0"), QLabel(words)
        number.setProperty("look", "title")
        number.setAccessibleName(words)
        name.setProperty("look", "small muted")
        column = QVBoxLayout(made)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(number)
        column.addWidget(name)
        line.addWidget(made)
        return number

"""The first step: what Crane does, and where it does it."""

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from crane_app.ui.icons import icon
from crane_app.ui.parts import Words
from crane_app.ui.theme import SPACE, unit


class Jobs(QWidget):
    """A greeting, the four jobs, and the promise."""

    def __init__(self, brand: QIcon):
        super().__init__()
        self.setAccessibleName(self.tr("What Crane does"))
        self._brand = brand
        self._signs: dict[str, QLabel] = {}
        self._mark = QLabel()
        title, lead = Words(self.tr("Title")), Words(self.tr("What this is"))
        title.setText(self.tr("Welcome to Crane"))
        title.setProperty("look", "title")
        lead.setText(self.tr("Four jobs for the models on your own computer."))
        lead.setProperty("look", "lead muted")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addStretch(2)
        for each in (self._mark, title, lead):
            each.setAlignment(Qt.AlignmentFlag.AlignCenter)
            column.addWidget(each)
        column.addSpacing(2 * SPACE)
        column.addLayout(self._make_jobs())
        column.addSpacing(2 * SPACE)
        column.addWidget(self._make_promise())
        column.addStretch(3)
        self._draw()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.FontChange):
            self._draw()

    def _make_jobs(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(2 * SPACE)
        grid.setVerticalSpacing(SPACE)
        for place, (sign, name, what) in enumerate(
            (
                ("chat", self.tr("Chat"), self.tr("Ask, have texts written, talk about a file.")),
                ("pictures", self.tr("Pictures"), self.tr("Turn photos, scans and PDFs into text and tables.")),
                ("dictate", self.tr("Dictate"), self.tr("Hold a key and speak; the words are written down.")),
                ("read_aloud", self.tr("Read aloud"), self.tr("Listen to any text, at the speed you like.")),
            )
        ):
            grid.addWidget(self._make_job(sign, name, what), place // 2, place % 2)
        for column in (0, 1):
            grid.setColumnStretch(column, 1)
        return grid

    def _make_job(self, sign: str, name: str, what: str) -> QFrame:
        panel = QFrame()
        panel.setProperty("look", "panel")
        self._signs[sign] = QLabel()
        title, words = Words(name), Words(self.tr("About {name}").format(name=name))
        title.setText(name)
        title.setProperty("look", "strong")
        words.setText(what)
        words.setProperty("look", "muted")
        text = QVBoxLayout()
        text.setSpacing(SPACE // 2)
        text.addWidget(title)
        text.addWidget(words)
        text.addStretch()
        row = QHBoxLayout(panel)
        row.setContentsMargins(*[2 * SPACE] * 4)
        row.setSpacing(2 * SPACE)
        row.addWidget(self._signs[sign], 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(text, 1)
        return panel

    def _make_promise(self) -> QWidget:
        self._signs["lock"] = QLabel()
        words = Words(self.tr("What leaves this computer"))
        words.setText(
            self.tr("Nothing leaves this computer. Only models are fetched, and only those that you ask for.")
        )
        made = QWidget()
        row = QHBoxLayout(made)
        row.setContentsMargins(2 * SPACE, 0, 2 * SPACE, 0)
        row.setSpacing(2 * SPACE)
        row.addWidget(self._signs["lock"], 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(words, 1)
        return made

    def _draw(self) -> None:
        ratio, side = self.devicePixelRatioF(), round(1.4 * unit())
        self._mark.setPixmap(self._brand.pixmap(QSize(3 * side, 3 * side), ratio))
        for name, label in self._signs.items():
            label.setPixmap(icon(name, "accent").pixmap(QSize(side, side), ratio))

"""The three panes of the view of pictures: the documents, a page, its text; and the line below them."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from crane_app.ui.parts import ElidedLabel, button
from crane_app.ui.pictures.canvas import Canvas
from crane_app.ui.pictures.file_list import FileList
from crane_app.ui.pictures.queue import Queue
from crane_app.ui.pictures.text import TextPane
from crane_app.ui.theme import SPACE, unit

Actions = dict[str, QAction]


class FilesPane(QWidget):
    """The documents, how many are done, and what can be done about all of them."""

    def __init__(self, queue: Queue, actions: Actions):
        super().__init__()
        self.list = FileList(queue)
        self.counts = ElidedLabel(self.tr("Documents read"))
        self.counts.setProperty("look", "muted")
        self._again = button(actions["again"])
        head = _row(self.counts, button(actions["clear"], look="flat small", shows="icon"))
        _column(self, head, self.list, self._again)

    def tell(self, counts: str) -> None:
        self.counts.setText(counts)
        self._again.setVisible(self._again.defaultAction().isEnabled())


class Picker(QComboBox):
    """One of the documents, where the list has no room."""

    def __init__(self, queue: Queue):
        super().__init__()
        self.setModel(queue)
        self.setAccessibleName(self.tr("Document in view"))
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(4)
        self.hide()


class PagePane(QWidget):
    """A page, and how it is turned and enlarged."""

    def __init__(self, actions: Actions):
        super().__init__()
        self.canvas = Canvas()
        self.canvas.setAccessibleName(self.tr("Picture of the page"))
        self.label = QLabel()
        self.label.setAccessibleName(self.tr("Page in view"))
        self.label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        flat = {name: button(actions[name], look="flat small", shows="icon") for name in PAGE_ACTIONS}
        self._pager = QWidget()
        _column(self._pager, _row(None, flat["previous"], self.label, flat["next"], None))
        head = _row(None, flat["zoom_out"], flat["zoom_in"], flat["fit"], flat["fit_width"])
        _column(self, head, self.canvas, self._pager)

    def tell(self, page: int, count: int) -> None:
        """Page `page` of `count` is in view."""
        self.label.setText(self.tr("{page} of {count}").format(page=page, count=count))
        self._pager.setVisible(count > 1)


class WordsPane(QWidget):
    """The text of a page, and how it is arranged. `mode_chosen` tells one of picture_actions.MODES."""

    mode_chosen = Signal(str)

    def __init__(self, modes: dict[str, str]):
        super().__init__()
        self.text = TextPane()
        self.text.setAccessibleName(self.tr("Text of the page"))
        self.modes = QComboBox()
        self.modes.setAccessibleName(self.tr("How the text is arranged"))
        for mode, words in modes.items():
            self.modes.addItem(words.replace("&", ""), mode)
        self.modes.activated.connect(lambda place: self.mode_chosen.emit(self.modes.itemData(place)))
        _column(self, _row(None, self.modes), self.text)

    def show_mode(self, mode: str) -> None:
        self.modes.setCurrentIndex(self.modes.findData(mode))


class ProgressLine(QWidget):
    """How far the reading is, and how to hold or end it."""

    def __init__(self, actions: Actions):
        super().__init__()
        self.label = ElidedLabel(self.tr("Progress"))
        self.label.setProperty("look", "muted")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName(self.tr("Pages read"))
        self.bar.setFixedWidth(20 * SPACE)
        self._buttons = [button(actions[name], look="flat small") for name in ("pause", "resume", "stop")]
        line = _row(self.label, self.bar, *self._buttons)
        _column(self, line)
        # As high with the buttons as without them, so that nothing jumps.
        self.setMinimumHeight(max(each.sizeHint().height() for each in self._buttons))

    def tell(self, words: str, done: int, count: int, under_way: bool) -> None:
        """`done` of `count` pages, 0 where that is not known yet."""
        self.label.setText(words)
        self.bar.setVisible(under_way)
        self.bar.setRange(0, count if count > 1 else 0)
        self.bar.setValue(done)
        for each in self._buttons:
            each.setVisible(each.defaultAction().isEnabled())


PAGE_ACTIONS = ("previous", "next", "zoom_out", "zoom_in", "fit", "fit_width")


def _row(*parts: QWidget | None) -> QHBoxLayout:
    """Side by side, as high in every pane; None takes the room that is left."""
    row = QHBoxLayout()
    row.addStrut(unit() + 2 * SPACE)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(SPACE // 2)
    for part in parts:
        row.addStretch() if part is None else row.addWidget(part)
    return row


def _column(pane: QWidget, *parts: QWidget | QHBoxLayout) -> None:
    column = QVBoxLayout(pane)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(SPACE)
    for part in parts:
        column.addLayout(part) if isinstance(part, QHBoxLayout) else column.addWidget(part)

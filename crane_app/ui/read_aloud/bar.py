"""Below the text that is read aloud: the buttons that play it, how far it is, and voice, speed and volume."""

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QEvent, QSignalBlocker, QSize, Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QScrollArea,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from crane_app.ui.flow import Flow
from crane_app.ui.parts import ElidedLabel, button
from crane_app.ui.theme import SPACE

VOICE_LETTERS = 20  # how many the field shows at least
TRACK_LETTERS = 14  # the length of a slider


class Lines(QWidget):
    """Widgets set in as many lines as they need, with room for all of these."""

    def __init__(self, spacing: int, *widgets: QWidget):
        super().__init__()
        flow = Flow(spacing)
        self.setLayout(flow)
        for widget in widgets:
            flow.addWidget(widget)

    def event(self, event: QEvent) -> bool:
        done = super().event(event)
        if event.type() in (QEvent.Type.Resize, QEvent.Type.LayoutRequest):
            need = self.layout().heightForWidth(self.width())
            if need != self.minimumHeight():
                self.setMinimumHeight(need)
        return done


class Beside:
    """For a widget that is at least as high as another, `beside`, in whose line it stands."""

    beside: QWidget

    def sizeHint(self) -> QSize:
        return super().sizeHint().expandedTo(QSize(0, self.beside.sizeHint().height()))


class Tick(Beside, QCheckBox):
    """A box to tick."""

    def __init__(self, name: str, beside: QWidget):
        self.beside = beside
        super().__init__(name)


class State(Beside, ElidedLabel):
    """What is going on, in a line."""

    def __init__(self, name: str, beside: QWidget):
        self.beside = beside
        super().__init__(name)
        self.setProperty("look", "muted")


class Dial(Beside, QWidget):
    """A slider with its name and its value in words, told in steps."""

    moved = Signal(int)

    def __init__(self, name: str, low: int, high: int, page: int, shown: Callable[[int], str], beside: QWidget):
        self._shown, self.beside = shown, beside
        super().__init__()
        label = QLabel(name)
        label.setProperty("look", "muted")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName(name)
        self.slider.setRange(low, high)
        self.slider.setSingleStep(1)
        self.slider.setPageStep(page)
        self.slider.setFixedWidth(TRACK_LETTERS * self.fontMetrics().averageCharWidth())
        label.setBuddy(self.slider)
        self.value = QLabel()
        self.value.setAccessibleName(name)
        self.value.setMinimumWidth(self.fontMetrics().horizontalAdvance(shown(high) + " "))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE)
        for widget in (label, self.slider, self.value):
            row.addWidget(widget)
        self.slider.valueChanged.connect(self._tell)
        self._tell(self.slider.value())

    def show_value(self, value: int) -> None:
        """Without telling `moved`."""
        with QSignalBlocker(self.slider):
            self.slider.setValue(value)
        self._name(self.slider.value())

    def _tell(self, value: int) -> None:
        self._name(value)
        self.moved.emit(value)

    def _name(self, value: int) -> None:
        self.value.setText(self._shown(value))
        self.slider.setAccessibleDescription(self._shown(value))


class VoiceChoice(QWidget):
    """The voices that there are, and first the one that suits the text."""

    chosen = Signal(str)  # its id, "" for the first

    def __init__(self):
        super().__init__()
        label = QLabel(self.tr("Voice"))
        label.setProperty("look", "muted")
        self.box = QComboBox()
        self.box.setAccessibleName(self.tr("Voice"))
        self.box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.box.setMinimumContentsLength(VOICE_LETTERS)
        self.box.addItem(self.tr("By the text's language"), "")
        label.setBuddy(self.box)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE)
        row.addWidget(label)
        row.addWidget(self.box)
        self.box.activated.connect(lambda index: self.chosen.emit(self.box.itemData(index)))
        self._voices: tuple[Any, ...] = ()

    def offer(self, voices: tuple[Any, ...], wish: str) -> None:
        """These voices; `wish` is chosen."""
        self._voices = voices
        while self.box.count() > 1:
            self.box.removeItem(1)
        for voice in voices:
            self.box.addItem(voice.name, voice.id)
            self.box.setItemData(self.box.count() - 1, voice.language, Qt.ItemDataRole.ToolTipRole)
        self.choose(wish)

    def choose(self, wish: str) -> None:
        """An id, name or language; what is not here is shown as it was written."""
        named = next(
            (each.id for each in self._voices if wish.lower() in (each.id, each.name.lower(), each.language)), wish
        )
        index = self.box.findData(named)
        if index < 0:
            self.box.addItem(named, named)
            index = self.box.count() - 1
        self.box.setCurrentIndex(index)


class Bar(QWidget):
    """previous, play, next, stop: actions of the view."""

    def __init__(self, previous: QAction, play: QAction, following: QAction, stop: QAction):
        super().__init__()
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setAccessibleName(self.tr("How far it is"))
        self.play_button = button(play, look="primary")
        row = QWidget()
        buttons = QHBoxLayout(row)
        buttons.setContentsMargins(0, 0, SPACE, 0)
        buttons.setSpacing(SPACE)
        buttons.addWidget(button(previous, look="flat", shows="icon"))
        buttons.addWidget(self.play_button)
        buttons.addWidget(button(following, look="flat", shows="icon"))
        buttons.addWidget(button(stop, look="flat", shows="icon"))
        self.state = State(self.tr("What is going on"), row)
        self.voice = VoiceChoice()
        tr, voice = self.tr, self.voice
        self.speed = Dial(tr("Speed"), 10, 60, 5, lambda step: tr("{times}×").format(times=f"{step / 20:.2f}"), voice)
        self.volume = Dial(tr("Volume"), 0, 20, 4, lambda step: tr("{share} %").format(share=5 * step), voice)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addWidget(self.progress)
        column.addWidget(Lines(SPACE, row, self.state))
        column.addWidget(Lines(3 * SPACE, self.voice, self.speed, self.volume))


def scrolled(page: QWidget, name: str) -> QScrollArea:
    """The page, which scrolls where letters are large and the window is small."""
    area = QScrollArea()
    area.setWidget(page)
    area.setWidgetResizable(True)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setAccessibleName(name)
    return area

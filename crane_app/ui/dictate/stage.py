"""The upper part of the dictation view: the button that is held, the state in large letters, loudness, microphone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QVBoxLayout,
)

from crane_app.ui.dictate.level import LevelBar, TalkButton
from crane_app.ui.dictate.take_rows import clock
from crane_app.ui.parts import ElidedLabel, Words
from crane_app.ui.theme import SPACE
from crane_app.ui.worker import Worker, sentence


class MicrophoneChoice(QComboBox):
    """The microphones that are there; "" stands for the system's choice."""

    wanted = Signal(str)  # a person chose this one
    problem = Signal(str)  # why there is none, or "" when there is

    def __init__(self, look: Any = None):
        """look: lists library devices, fresh; a stand-in for platform.microphone.devices in tests."""
        super().__init__()
        self._look = look or _devices
        self._looking: Worker | None = None
        self._chosen = ""
        self.setAccessibleName(self.tr("Microphone"))
        self.setToolTip(self.tr("Microphone"))
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.activated.connect(lambda row: self._take(self.itemData(row)))

    def choose(self, name: str) -> None:
        """Show this one as chosen."""
        self._chosen = name
        row = self.findData(name)
        if row < 0:
            self.addItem(self.tr("{name} (not connected)").format(name=name), name)
            row = self.count() - 1
        self.setCurrentIndex(row)

    def rescan(self) -> None:
        """Look which are there, on a thread; a second look while one is under way is the same look."""
        if self._looking is None:
            self._looking = Worker(_found(self._look))
            self._looking.returned.connect(self._show)
            self._looking.failed.connect(self._failed)
            self._looking.start()

    def paintEvent(self, event) -> None:
        """As usual, but a name without enough room ends in dots."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        room = self.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, self
        )
        option.currentText = self.fontMetrics().elidedText(
            option.currentText, Qt.TextElideMode.ElideRight, room.width() - 2
        )
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def _show(self, found: list[Any]) -> None:
        self._looking = None
        default = next((device.name for device in found if device.default), "")
        self.clear()
        self.addItem(self.tr("{name} (system default)").format(name=default or self.tr("None")), "")
        for device in found:
            self.addItem(device.name, device.name)
        self.choose(self._chosen)
        self.problem.emit("" if found else self.tr("There is no microphone. Connect one and try again."))

    def _failed(self, error: Exception) -> None:
        self._looking = None
        self.problem.emit(sentence(error))

    def _take(self, name: str) -> None:
        self._chosen = name
        self.wanted.emit(name)


class TalkStage(QFrame):
    """Shows what it is told; the view decides what that is."""

    def __init__(self, choice: MicrophoneChoice, key: QKeySequence):
        """key: the one that is held to speak."""
        super().__init__()
        self._key = key.toString(QKeySequence.SequenceFormat.NativeText)
        self.setProperty("look", "panel")
        self.talk = TalkButton()
        self.title = QLabel()
        self.title.setProperty("look", "title")
        self.title.setAccessibleName(self.tr("State"))
        self.hint = Words(self.tr("What to do"))
        self.hint.setProperty("look", "muted")
        self.level = LevelBar()
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setAccessibleName(self.tr("How much is written"))
        self.choice = choice
        self.model = ElidedLabel(self.tr("Speech model"))
        self.model.setProperty("look", "small muted")
        words = QVBoxLayout()
        words.setSpacing(SPACE // 2)
        words.addWidget(self.title)
        words.addWidget(self.hint)
        words.addSpacing(SPACE // 2)
        words.addLayout(self._bars())
        words.addSpacing(SPACE // 2)
        below = QHBoxLayout()
        below.setSpacing(SPACE)
        below.addWidget(self.choice, 3)
        below.addWidget(self.model, 2)
        words.addLayout(below)
        row = QHBoxLayout(self)
        row.setContentsMargins(2 * SPACE, 2 * SPACE, 2 * SPACE, 2 * SPACE)
        row.setSpacing(2 * SPACE)
        row.addWidget(self.talk, 0, Qt.AlignmentFlag.AlignVCenter)
        row.addLayout(words, 1)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def _bars(self) -> QHBoxLayout:
        """Loudness, or in the same place how far writing is."""
        row = QHBoxLayout()
        row.addStrut(self.level.sizeHint().height())  # whichever is shown, nothing jumps
        row.addWidget(self.level, 1)
        row.addWidget(self.progress, 1)
        return row

    def tell(self, state: str, seconds: int, percent: int | None, loading: int | None) -> None:
        """state: ready, problem, held, latched or writing. percent: of what is written; loading: of the model."""
        tr = self.tr
        titles = {
            "ready": tr("Ready"),
            "problem": tr("Not ready"),
            "held": tr("Listening {time}").format(time=clock(seconds)),
            "latched": tr("Listening {time}").format(time=clock(seconds)),
            "writing": tr("Writing…"),
        }
        ready = tr("Hold the button or {key} and speak. A click keeps listening.")
        hints = {
            "ready": ready,
            "problem": ready,
            "held": tr("Release to finish. Esc discards it."),
            "latched": tr("Press {key} or the button again to finish. Esc discards it."),
            "writing": tr("Esc stops it."),
        }
        hint = hints[state].format(key=self._key)
        if loading is not None:
            hint = tr("The speech model is being loaded: {percent} %.").format(percent=loading)
        self.title.setText(titles[state])
        self.hint.setText(hint)
        self.talk.setAccessibleName(tr("Finish speaking") if state in ("held", "latched") else tr("Hold to speak"))
        self._write(percent if percent is not None or state != "writing" else -1)

    def listen(self, listening: bool) -> None:
        self.talk.listen(listening)
        if not listening:
            self.level.clear()

    def hear(self, decibels: float) -> None:
        self.talk.tell(decibels)
        self.level.tell(decibels)

    def _write(self, percent: int | None) -> None:
        """How far writing is: a share, -1 while nobody knows, None when nothing is written."""
        self.level.setVisible(percent is None)
        self.progress.setVisible(percent is not None)
        if percent is not None:
            self.progress.setRange(0, 100 if percent >= 0 else 0)
            self.progress.setValue(max(percent, 0))


def _devices() -> list[Any]:
    from crane_app.platform.microphone import devices

    return devices(fresh=True)


def _found(look: Any) -> Iterator[Any]:
    return look()
    yield

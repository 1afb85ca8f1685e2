"""How the conversation in view is answered: what the model is told first, and how its words are drawn.

A value that nobody set is the model's own, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QLocale, Qt, QTimer, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QDoubleSpinBox,
    QFrame,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QScrollArea,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from crane_app.ui.parts import Words, button
from crane_app.ui.theme import SPACE, scaled_font

SEED = 2**53  # as exact as JSON can be trusted with


@dataclass(frozen=True)
class Knob:
    """A number of engine.request.Asked. step 0: a whole number."""

    name: str
    low: float
    high: float
    step: float = 0.0


KNOBS = (
    Knob("temperature", 0.0, 2.0, 0.05),
    Knob("top_p", 0.0, 1.0, 0.01),
    Knob("top_k", 0, 1000),
    Knob("min_p", 0.0, 1.0, 0.01),
    Knob("repetition_penalty", 0.5, 2.0, 0.01),
    Knob("max_tokens", 1, 1_000_000),
)


class Inspector(QScrollArea):
    """`told` carries the system text, `chosen` the options, each a moment after the last change."""

    told = Signal(str)
    chosen = Signal(object)

    def __init__(self):
        super().__init__()
        self._quiet = False
        self._given: dict[str, Any] = {}
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setProperty("look", "side")
        self.setAccessibleName(self.tr("How it is answered"))
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._make_fields()
        self._arrange()
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(250)
        self._soon.timeout.connect(self._tell)

    def show_values(self, system: str, options: Mapping[str, Any]) -> None:
        """What holds for the conversation in view; emits nothing."""
        self._soon.stop()
        self._quiet, self._given = True, dict(options)
        self.system.setPlainText(system)
        for knob in KNOBS:
            box, value = self.boxes[knob.name], options.get(knob.name)
            box.setValue(box.minimum() if value is None else value)
        seed = options.get("seed")
        self.seed.setText("" if seed is None else str(seed))
        think = options.get("think")
        self.think.setCurrentIndex({None: 0, True: 1, False: 2}.get(think, 0))
        self._quiet = False

    def tell(self) -> None:
        """Say now what was changed a moment ago, if anything was."""
        if self._soon.isActive():
            self._soon.stop()
            self._tell()

    def options(self) -> dict[str, Any]:
        """Only what was set; what has no field here, and what a field cannot show in full, stays as it was given."""
        shown = {knob.name for knob in KNOBS} | {"seed", "think"}
        found = {name: value for name, value in self._given.items() if name not in shown}
        for knob in KNOBS:
            box, given = self.boxes[knob.name], self._given.get(knob.name)
            if box.value() != box.minimum():
                same = given is not None and abs(given - box.value()) < (knob.step or 1) / 2
                found[knob.name] = given if same else round(box.value(), 4)
        if self.seed.text().isdecimal():
            found["seed"] = min(int(self.seed.text()), SEED)
        if self.think.currentIndex():
            found["think"] = self.think.currentIndex() == 1
        return found

    def reset(self) -> None:
        """Everything as the model has it; the system text stays."""
        self.show_values(self.system.toPlainText(), {})
        self._changed()

    def _tell(self) -> None:
        self.told.emit(self.system.toPlainText())
        self.chosen.emit(self.options())

    def _make_fields(self) -> None:
        self.system = QPlainTextEdit()
        self.system.setTabChangesFocus(True)
        self.system.setPlaceholderText(self.tr("For example: Answer in one paragraph."))
        self.system.setFixedHeight(6 * self.system.fontMetrics().lineSpacing() + 2 * SPACE)
        self.system.textChanged.connect(self._changed)
        self.boxes = {knob.name: self._box(knob) for knob in KNOBS}
        self.seed = QLineEdit()
        self.seed.setPlaceholderText(self.tr("Another each time"))
        self.seed.setMaxLength(16)
        self.seed.textChanged.connect(self._changed)
        self.think = QComboBox()
        self.think.addItems([self.tr("As the model does"), self.tr("Think first"), self.tr("Do not think")])
        self.think.currentIndexChanged.connect(self._changed)
        self._reset = QAction(self.tr("Reset the drawing"), self)
        self._reset.setObjectName("reset_options")
        self._reset.triggered.connect(lambda _checked=False: self.reset())

    def _box(self, knob: Knob) -> QAbstractSpinBox:
        """A number whose lowest step means 'the model's own'."""
        box = QDoubleSpinBox() if knob.step else QSpinBox()
        step = knob.step or 1
        if knob.step:
            box.setDecimals(2)
        box.setRange(knob.low - step, knob.high)
        box.setSingleStep(step)
        box.setSpecialValueText(self.tr("The model's own"))
        box.setValue(box.minimum())
        box.setLocale(QLocale())
        box.lineEdit().setTextMargins(SPACE, 0, SPACE, 0)
        box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # the wheel scrolls the panel until a field has the focus
        box.valueChanged.connect(self._changed)
        box.installEventFilter(self)
        return box

    def _arrange(self) -> None:
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(2 * SPACE, 2 * SPACE, 2 * SPACE, 2 * SPACE)
        column.setSpacing(SPACE // 2)
        self._row(column, self.tr("What the model is told first"), self.system)
        column.addSpacing(SPACE)
        self._row(column, self.tr("Thinking"), self.think)
        names = {
            "temperature": (self.tr("Temperature"), self.tr("Higher is freer; 0 takes the likeliest word.")),
            "top_p": (self.tr("Top p"), self.tr("Draws among the likeliest of this mass.")),
            "top_k": (self.tr("Top k"), self.tr("Draws among so many; 0 is all.")),
            "min_p": (self.tr("Min p"), self.tr("Drops what is less likely than this share of the best.")),
            "repetition_penalty": (self.tr("Repetition penalty"), self.tr("Above 1 repeats less.")),
            "max_tokens": (self.tr("Longest answer, in tokens"), ""),
        }
        for name, (title, hint) in names.items():
            self._row(column, title, self.boxes[name], hint)
        self._row(column, self.tr("Seed"), self.seed, self.tr("The same seed makes the same answer."))
        column.addSpacing(SPACE)
        column.addWidget(button(self._reset), 0, Qt.AlignmentFlag.AlignLeft)
        column.addStretch()
        self.setWidget(inside)

    def _row(self, column: QVBoxLayout, title: str, field: QWidget, hint: str = "") -> None:
        label = QLabel(title)
        label.setFont(scaled_font(0.95, bold=True))
        label.setBuddy(field)
        label.setWordWrap(True)
        field.setAccessibleName(title)
        column.addSpacing(SPACE // 2)
        column.addWidget(label)
        if hint:
            words = Words(title)
            words.setProperty("look", "muted")
            words.setText(hint)
            column.addWidget(words)
            field.setAccessibleDescription(hint)
        column.addWidget(field)

    def _changed(self) -> None:
        if not self._quiet:
            self._soon.start()

    def eventFilter(self, watched, event) -> bool:
        if event.type() == event.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return super().eventFilter(watched, event)

"""The column of messages: scrolled, laid out where it is seen, steady under the reader's eyes.

A message is a widget with `height_for(width)` and a signal `grew`. Only messages near the sight are shown; of the
others a height is remembered, or guessed until a slice (ui/slices.py) has measured it.
"""

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from PySide6.QtCore import QEvent, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QAbstractScrollArea, QApplication, QFrame, QToolButton, QWidget

from crane_app.ui import tab_order
from crane_app.ui.icons import icon
from crane_app.ui.markdown.view import MarkdownView
from crane_app.ui.slices import slices
from crane_app.ui.theme import SPACE

GAP = 2 * SPACE
SIDE = 2 * SPACE  # least room beside the column
GUESS = 120  # pixels of a message that was never measured
CLOSE = 8  # pixels from the end that count as being at it
FASTEST = 60  # pixels that dragging scrolls at once
ROUNDS = 6  # of measuring what has come into sight by measuring


class Transcript(QAbstractScrollArea):
    """Messages below each other. earlier: the reader came near the top, where older ones could be added."""

    WIDEST = 760

    earlier = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.viewport().setAutoFillBackground(False)
        self._widgets: list[Any] = []
        self._heights: dict[Any, int] = {}
        self._tops: list[int] = []
        self._unmeasured: set[Any] = set()
        self._shown: set[Any] = set()
        self._at_end = True
        self._anchor: tuple[Any, Any, int] | None = None  # a message, what in it is at the top, and how far below
        self._arranging = self._again = False
        self._bar = self.verticalScrollBar()
        self._bar.setSingleStep(24)
        self._bar.valueChanged.connect(self._scrolled)
        self.jump = self._jump_button()
        self.leaving: Callable[[bool], bool] | None = None  # where Tab goes on from its ends, if it is part of a view

    def widgets(self) -> tuple[Any, ...]:
        return tuple(self._widgets)

    def add(self, widget: Any) -> None:
        self.insert(len(self._widgets), widget)

    def insert(self, index: int, widget: Any) -> None:
        """Put a message before the one at `index`; what is being read stays where it is."""
        widget.setParent(self.viewport())
        widget.hide()
        widget.grew.connect(self._grown(widget))
        self._widgets.insert(index, widget)
        self._heights[widget] = GUESS
        self._unmeasured.add(widget)
        self._arrange()

    def remove(self, widget: Any) -> None:
        """Take a message out and destroy it."""
        self._widgets.remove(widget)
        self._discard(widget)
        self._arrange()

    def clear(self) -> None:
        """Destroy all messages."""
        gone, self._widgets = self._widgets, []
        self._at_end, self._anchor = True, None
        for widget in gone:
            self._discard(widget)
        self._arrange()

    def reveal(self, widget: Any) -> None:
        """Scroll as little as brings a message into sight; of a tall one, its beginning."""
        top = self._tops[self._widgets.index(widget)]
        bottom = top + self._heights[widget]
        room, value = self.viewport().height(), self._bar.value()
        if top < value or bottom - top > room:
            self._bar.setValue(top - GAP)
        elif bottom > value + room:
            self._bar.setValue(bottom - room + GAP)

    def to_end(self) -> None:
        """Go to the latest, and stay with it."""
        self._at_end = True
        self._arrange()

    def follow_pointer(self, y: int) -> None:
        """Scroll on while something is selected by dragging above or below the sight; y: on the screen."""
        place = self.viewport().mapFromGlobal(QPoint(0, y)).y()
        beyond = min(place, 0) + max(place - self.viewport().height(), 0)
        if beyond:
            self._bar.setValue(self._bar.value() + max(-FASTEST, min(FASTEST, beyond)))

    def is_at_end(self) -> bool:
        return self._at_end

    def _discard(self, widget: Any) -> None:
        # Hiding what has the focus moves it, and what it moves to would be revealed in a half-changed column.
        if _is_in(widget, QApplication.focusWidget()):
            QApplication.focusWidget().clearFocus()
        for kept in (self._unmeasured, self._shown):
            kept.discard(widget)
        self._heights.pop(widget)
        if self._anchor and self._anchor[0] is widget:
            self._anchor = None
        widget.hide()
        widget.setParent(None)
        widget.deleteLater()

    def _grown(self, widget: Any):
        def grown(*_: object) -> None:
            if widget in self._heights:
                self._unmeasured.add(widget)
                self._arrange()

        return grown

    # Layout

    def column(self) -> QRect:
        """Where messages stand, in the viewport: left and width count."""
        room = self.viewport().width()
        width = max(1, min(self.WIDEST, room - 2 * SIDE))
        return QRect((room - width) // 2, 0, width, 0)

    def _arrange(self) -> None:
        """Measure what is near the sight, keep the reader's place, and put the messages where they belong."""
        if self._arranging:
            self._again = True
            return
        self._arranging = True
        try:
            for _ in range(ROUNDS):
                self._again = False
                self._find_tops()
                self._keep_place()
                if not self._measure_near() and not self._again:
                    break
            self._put()
        finally:
            self._arranging = False
        if self._unmeasured:
            slices().ask(self, "heights", self._measure_one)

    def _find_tops(self) -> None:
        steps = (self._heights[widget] + GAP for widget in self._widgets)
        ends = list(accumulate(steps, initial=GAP))
        self._tops = ends[:-1]
        self._bar.setRange(0, max(0, ends[-1] - self.viewport().height()))
        self._bar.setPageStep(self.viewport().height())

    def _keep_place(self) -> None:
        if self._at_end or self._anchor is None:
            value = self._bar.maximum() if self._at_end else self._bar.value()
        else:
            widget, inner, below = self._anchor
            value = self._tops[self._widgets.index(widget)] + _height_of(widget, inner) + below
        self._bar.setValue(value)

    def _near(self) -> range:
        """The messages in sight, and a screen before and after."""
        room, value = self.viewport().height(), self._bar.value()
        first = max(0, bisect_right(self._tops, value - room) - 1)
        return range(first, bisect_right(self._tops, value + 2 * room))

    def _measure_near(self) -> bool:
        """Whether a height changed."""
        width = self.column().width()
        changed = False
        for index in self._near():
            widget = self._widgets[index]
            if widget in self._unmeasured:
                self._unmeasured.discard(widget)
                height = widget.height_for(width)
                changed |= height != self._heights[widget]
                self._heights[widget] = height
        return changed

    def _measure_one(self) -> int:
        """A step of measuring what is out of sight; what it cost."""
        widget = next(iter(self._unmeasured), None)
        if widget is None:
            return 0
        self._unmeasured.discard(widget)
        height = widget.height_for(self.column().width())
        if height != self._heights[widget]:
            self._heights[widget] = height
            self._arrange()
        return 200

    def _put(self) -> None:
        column, value = self.column(), self._bar.value()
        near = {self._widgets[index]: self._tops[index] for index in self._near()}
        for widget in self._shown - set(near):
            if widget is not None and not widget.isAncestorOf(QApplication.focusWidget() or self):
                widget.hide()
                self._shown.discard(widget)
        for widget, top in near.items():
            widget.setGeometry(column.left(), top - value, column.width(), self._heights[widget])
            if widget not in self._shown:
                widget.show()
                self._shown.add(widget)
        for widget in self._shown - set(near):
            widget.move(column.left(), self._tops[self._widgets.index(widget)] - value)
        self.jump.setVisible(not self._at_end and self._bar.maximum() > 0)

    def _scrolled(self, value: int) -> None:
        if self._arranging:
            return
        self._at_end = value >= self._bar.maximum() - CLOSE
        self._remember()
        self._arrange()
        if value < self.viewport().height() // 2 and self._widgets:
            self.earlier.emit()

    def _remember(self) -> None:
        """What stands at the top of the sight."""
        self._anchor = None
        if self._widgets:
            value = self._bar.value()
            index = max(0, bisect_right(self._tops, value) - 1)
            widget = self._widgets[index]
            inner = _inner_anchor(widget, value - self._tops[index])
            self._anchor = (widget, inner, value - self._tops[index] - _height_of(widget, inner))

    def resizeEvent(self, event) -> None:
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self._unmeasured.update(self._widgets)
        self._arrange()
        self._put_button()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange) and hasattr(self, "_bar"):
            self._unmeasured.update(self._widgets)
            self._arrange()

    # The button

    def _jump_button(self) -> QToolButton:
        made = QToolButton(self)
        made.setProperty("look", "round")
        made.setIcon(icon("down"))
        made.setIconSize(QSize(18, 18))
        made.setAccessibleName(self.tr("Jump to the latest"))
        made.setToolTip(self.tr("Jump to the latest"))
        made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        made.clicked.connect(lambda _checked=False: self.to_end())
        made.hide()
        return made

    def _put_button(self) -> None:
        side = 36
        place = QPoint((self.viewport().width() - side) // 2, self.height() - side - GAP)
        self.jump.setGeometry(QRect(place, QSize(side, side)))
        self.jump.raise_()

    # The keyboard

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Tab goes through the messages as they stand, whenever they came, and shows where it is."""
        focused = QApplication.focusWidget()
        index = next((i for i, each in enumerate(self._widgets) if _is_in(each, focused)), None)
        if index is None:
            return super().focusNextPrevChild(forward)
        chain = tab_order.stops_in(self._widgets[index])
        place = chain.index(focused) + (1 if forward else -1) if focused in chain else -1
        if not 0 <= place < len(chain):
            index += 1 if forward else -1
            if not 0 <= index < len(self._widgets):
                return self._leave(forward)
            self.reveal(self._widgets[index])
            self._widgets[index].show()
            chain = tab_order.stops_in(self._widgets[index])
            place = 0 if forward else len(chain) - 1
        if not chain:
            return False
        tab_order.give_focus(chain[place], forward)
        return True

    def _leave(self, forward: bool) -> bool:
        """To what stops the keyboard next, outside; on the way to the button that jumps, if it is there."""
        if forward and self.jump.isVisible():
            tab_order.give_focus(self.jump, forward)
            return True
        return self.leaving(forward) if self.leaving is not None else tab_order.leave(self, forward)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Home:
            self._bar.setValue(0)
        elif event.key() == Qt.Key.Key_End:
            self.to_end()
        else:
            super().keyPressEvent(event)


def _is_in(message: QWidget, widget: QWidget | None) -> bool:
    return widget is not None and (message is widget or message.isAncestorOf(widget))


def _text_in(widget: Any, y: int) -> Any:
    """The Markdown at a height of a message, which knows its places by more than their height."""
    views = [widget, *widget.findChildren(MarkdownView)]
    for view in views:
        if isinstance(view, MarkdownView):
            top = view.mapTo(widget, QPoint(0, 0)).y() if view is not widget else 0
            if top <= y < top + view.height():
                return view
    return None


def _inner_anchor(widget: Any, y: int) -> Any:
    view = _text_in(widget, y)
    if view is None:
        return None
    top = view.mapTo(widget, QPoint(0, 0)).y() if view is not widget else 0
    return view, view.anchor_at(y - top)


def _height_of(widget: Any, inner: Any) -> int:
    if inner is None:
        return 0
    view, anchor = inner
    top = view.mapTo(widget, QPoint(0, 0)).y() if view is not widget else 0
    return top + view.y_of(anchor)

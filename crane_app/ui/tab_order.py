"""Tab in reading order where widgets come and go: Qt's own order is that in which they were made.

Qt's chain of focus is never walked from Python: PySide then owns what it met, and takes it along when a neighbour dies.
"""

from collections.abc import Sequence

from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QApplication, QWidget

LINE = 12  # pixels; what differs by less in height stands on one line


def step(view: QWidget, sections: Sequence[QWidget], forward: bool) -> bool:
    """Move the focus to the next stop within the view, or out of it after the last; False if it is not in the view.

    sections: parts of the view in reading order.
    """
    order = stops(view, sections)
    here = QApplication.focusWidget()
    if here not in order:
        return False
    at = order.index(here) + (1 if forward else -1)
    if 0 <= at < len(order):
        give_focus(order[at], forward)
        return True
    return leave(view, forward)


def leave(view: QWidget, forward: bool) -> bool:
    """To the first stop outside the view, going on from it in the order in which the window was built."""
    every = [view.window(), *view.window().findChildren(QWidget)]
    at = every.index(view)
    around = every[at + 1 :] + every[:at] if forward else every[:at][::-1] + every[at + 1 :][::-1]
    target = next((each for each in around if takes_focus(each) and not view.isAncestorOf(each)), None)
    if target is not None:
        give_focus(target, forward)
    return target is not None


def stops(view: QWidget, sections: Sequence[QWidget]) -> list[QWidget]:
    """What Tab reaches in these sections of the view, in their order, in each from the top down."""
    return [each for section in sections for each in stops_in(section) if each is not view]


def stops_in(section: QWidget) -> list[QWidget]:
    """What Tab reaches in a part, itself included, from the top down."""

    def place(each: QWidget) -> tuple[int, int]:
        corner = each.mapTo(section, QPoint(0, 0)) if each is not section else QPoint(0, 0)
        return (corner.y() + each.height() // 2 if each is not section else -1) // LINE, corner.x()

    return sorted(filter(takes_focus, [section, *section.findChildren(QWidget)]), key=place)


def takes_focus(widget: QWidget) -> bool:
    """Whether Tab may stop here."""
    usable = widget.isVisible() and widget.isEnabled() and not widget.size().isEmpty()
    return usable and bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus) and widget.focusProxy() is None


def give_focus(widget: QWidget, forward: bool) -> None:
    widget.setFocus(Qt.FocusReason.TabFocusReason if forward else Qt.FocusReason.BacktabFocusReason)

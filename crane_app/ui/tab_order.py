"""Tab in reading order where widgets come and go: Qt's own order is that in which they were made."""

from collections.abc import Iterator, Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QWidget


def step(view: QWidget, sections: Sequence[QWidget], forward: bool) -> bool:
    """Move the focus to the next stop within the view, or out of it after the last; False if it is not in the view.

    sections: parts of the view in reading order; within one, Qt's own order holds.
    """
    order = stops(view, sections)
    here = QApplication.focusWidget()
    if here not in order:
        return False
    at = order.index(here) + (1 if forward else -1)
    target = order[at] if 0 <= at < len(order) else _beyond(view, forward)
    if target is not None:
        target.setFocus(Qt.FocusReason.TabFocusReason if forward else Qt.FocusReason.BacktabFocusReason)
    return target is not None


def stops(view: QWidget, sections: Sequence[QWidget]) -> list[QWidget]:
    """What Tab reaches in the view, section by section."""
    places = {section: number for number, section in enumerate(sections)}
    found: list[tuple[int, QWidget]] = []
    for widget in _ring(view, True):
        if takes_focus(widget) and view.isAncestorOf(widget):
            section = widget
            while section is not view and section not in places:
                section = section.parentWidget()
            found.append((places.get(section, len(places)), widget))
    return [widget for _, widget in sorted(found, key=lambda each: each[0])]


def takes_focus(widget: QWidget) -> bool:
    """Whether Tab may stop here."""
    usable = widget.isVisible() and widget.isEnabled() and not widget.size().isEmpty()
    return usable and bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus) and widget.focusProxy() is None


def _beyond(view: QWidget, forward: bool) -> QWidget | None:
    """The first stop outside the view, going on from it."""
    outside = (each for each in _ring(view, forward) if not view.isAncestorOf(each) and each is not view)
    return next(filter(takes_focus, outside), None)


def _ring(start: QWidget, forward: bool) -> Iterator[QWidget]:
    """All widgets of the window, once, from `start` on."""
    yield start
    widget = start.nextInFocusChain() if forward else start.previousInFocusChain()
    while widget is not start:
        yield widget
        widget = widget.nextInFocusChain() if forward else widget.previousInFocusChain()

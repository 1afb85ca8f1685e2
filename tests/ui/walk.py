"""Goes over everything that can be seen in a window, as eyes, hands and screen readers do."""

import itertools
from collections import Counter

from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtGui import QAccessible, QImage
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractScrollArea,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QMainWindow,
    QProgressBar,
    QScrollBar,
    QTextEdit,
    QToolButton,
    QWidget,
)

from crane_app.ui import theme

CONTROLS = (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QProgressBar,
    QTextEdit,
)
LETTERS, SIGN = 4.5, 3.0  # contrast that WCAG 2.2 asks of text, and of what is to be known by its form
INNER = (QAbstractSpinBox, QComboBox)  # what has a field of its own inside, which is not a control for people


def controls(window: QWidget) -> list[QWidget]:
    """Every control in sight, but for the inner parts of others."""
    return [each for each in window.findChildren(QWidget) if _is_control(each) and each.isVisible()]


def nameless(window: QWidget) -> list[str]:
    """Controls that tell a screen reader neither what they are called nor what they are."""
    found = []
    for widget in controls(window):
        seen = QAccessible.queryAccessibleInterface(widget)
        name = seen.text(QAccessible.Text.Name) if seen else ""
        vague = (QAccessible.Role.NoRole, QAccessible.Role.Client)  # what Qt says of a scrolled picture
        if not name.strip() or (seen.role() in vague and not isinstance(widget, QAbstractScrollArea)):
            found.append(told(widget))
    return found


def stops(window: QWidget) -> list[QWidget]:
    """What Tab should reach."""
    return [
        each
        for each in window.findChildren(QWidget)
        if each.isVisible() and each.isEnabled() and each.focusPolicy() & Qt.FocusPolicy.TabFocus
        if each.focusProxy() is None and not isinstance(each.parent(), INNER) and not each.size().isEmpty()
    ]


def backwards(window: QMainWindow, route: list[QWidget]) -> list[str]:
    """Steps of the route that go against reading order: up within a column, or back within a line."""
    found = []
    for here, there in itertools.pairwise(route):
        a, b = place(window, here), place(window, there)
        up = b.bottom() <= a.top() and b.left() < a.right()
        same_line = b.top() < a.bottom() and a.top() < b.bottom()
        back = same_line and b.right() <= a.left()
        if up or back:
            found.append(f"{told(here)} {a.getRect()} -> {told(there)} {b.getRect()}")
    return found


def clipped(window: QWidget) -> list[str]:
    """Words that have less room than they need."""
    found = []
    for widget in window.findChildren(QAbstractButton) + window.findChildren(QLabel) + window.findChildren(QComboBox):
        text = widget.currentText() if isinstance(widget, QComboBox) else widget.text()
        if not widget.isVisible() or not text or hasattr(widget, "shown") or _is_sign(widget):
            continue
        need = widget.minimumSizeHint() if isinstance(widget, QComboBox) else widget.sizeHint()
        wraps = isinstance(widget, QLabel) and widget.wordWrap()
        high = widget.heightForWidth(widget.width()) if wraps else need.height()
        # A pixel, where a share of the width was rounded down, is no letter.
        if (not wraps and widget.width() + 1 < need.width()) or widget.height() < high:
            found.append(f"{told(widget)} {text!r}: {widget.size().toTuple()} for {need.width()} x {high}")
    return found


def overlapping(window: QWidget) -> list[str]:
    """Texts and buttons of one parent that cover each other."""
    found = []
    for parent in window.findChildren(QWidget):
        inside = [c for c in parent.children() if isinstance(c, QAbstractButton | QLabel) and c.isVisible()]
        for number, one in enumerate(inside):
            for other in inside[number + 1 :]:
                if one.geometry().intersects(other.geometry()) and not one.mask() and parent.layout() is not None:
                    found.append(f"{told(one)} and {told(other)}")
    return found


def faint(window: QMainWindow) -> list[str]:
    """Letters and signs that stand out too little from their ground, by the pixels of a picture of the window."""
    image = window.grab().toImage()
    found = []
    for widget in window.findChildren(QWidget):
        text, least = (widget.accessibleName(), SIGN) if _is_sign(widget) else (text_of(widget), LETTERS)
        if not text or not widget.isVisible() or not widget.isEnabled():
            continue
        area = seen_part(window, widget, _letters(widget))
        if area.width() < 8 or area.height() < max(6, 0.8 * _letters(widget).height()):
            continue  # what is scrolled half out of sight shows half a sign
        ratio = contrast_in(image, area)
        if ratio < least:
            found.append(f"{told(widget)} {text!r}: {ratio:.2f}")
    return found


def contrast_in(image: QImage, area: QRect) -> float:
    """Of the ground, which is the commonest colour, and what differs from it most."""
    scale = image.devicePixelRatio()
    left, top = round(area.left() * scale), round(area.top() * scale)
    part = image.copy(left, top, round(area.width() * scale), round(area.height() * scale))
    part = part.convertToFormat(QImage.Format.Format_RGB32)
    colours = Counter(part.pixel(x, y) & 0xFFFFFF for y in range(part.height()) for x in range(part.width()))
    ground = f"#{colours.most_common(1)[0][0]:06x}"
    return max(theme.contrast(ground, f"#{colour:06x}") for colour in colours)


def text_of(widget: QWidget) -> str:
    """The words on a label, a button or a field."""
    if isinstance(widget, QLabel | QAbstractButton):
        return widget.text().strip()
    if isinstance(widget, QLineEdit):
        return (widget.text() or widget.placeholderText()).strip()
    return widget.currentText().strip() if isinstance(widget, QComboBox) else ""


def seen_part(window: QMainWindow, widget: QWidget, area: QRect) -> QRect:
    """That part of an area of the widget that no scrolled region cuts off, in the window."""
    part, above = QRect(widget.mapTo(window, area.topLeft()), area.size()), widget.parentWidget()
    while above is not None and above is not window:
        part = part.intersected(QRect(above.mapTo(window, QPoint(0, 0)), above.size()))
        above = above.parentWidget()
    return part


def place(window: QMainWindow, widget: QWidget) -> QRect:
    return QRect(widget.mapTo(window, QPoint(0, 0)), widget.size())


def told(widget: QWidget) -> str:
    """A widget in a message of a test."""
    name = widget.accessibleName() or widget.objectName()
    parents, above = [], widget.parentWidget()
    while above is not None and len(parents) < 3:
        parents.append(type(above).__name__)
        above = above.parentWidget()
    return f"{type(widget).__name__}({name}) in {' < '.join(parents)}"


def _is_control(widget: QWidget) -> bool:
    if isinstance(widget, QScrollBar) or isinstance(widget.parent(), INNER):
        return False
    if widget.objectName().startswith("qt_") or isinstance(widget.parent(), QLineEdit):
        return False  # parts of Qt's own
    focusable = isinstance(widget, QAbstractScrollArea) and widget.focusPolicy() & Qt.FocusPolicy.TabFocus
    return isinstance(widget, CONTROLS) or bool(focusable)


def _is_sign(widget: QWidget) -> bool:
    """A button that shows an icon alone."""
    if not isinstance(widget, QAbstractButton) or widget.icon().isNull():
        return False
    icon_only = isinstance(widget, QToolButton) and widget.toolButtonStyle() is Qt.ToolButtonStyle.ToolButtonIconOnly
    return icon_only or not widget.text()


def _letters(widget: QWidget) -> QRect:
    """Where the words are, without the border and, in a button, the icon."""
    area = widget.rect().adjusted(3, 3, -3, -3)
    beside = isinstance(widget, QAbstractButton) and not widget.icon().isNull() and not _is_sign(widget)
    return area.adjusted(widget.iconSize().width() + 10, 0, 0, 0) if beside else area

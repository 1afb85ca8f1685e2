"""Reading a message: selecting across its passages, copying, following links, by mouse and keyboard.

Knows nothing of how its passages came to be; ui/markdown/view.py puts them there.
"""

from typing import Any

from PySide6.QtCore import QEvent, QPointF, QRect, QRectF, Qt, QTimer, Signal
from PySide6.QtGui import QContextMenuEvent, QCursor, QGuiApplication, QHelpEvent, QKeyEvent, QKeySequence, QPainter
from PySide6.QtWidgets import QMenu, QToolTip, QWidget

from crane_app.media.markdown import shown_address
from crane_app.ui.markdown import links
from crane_app.ui.markdown.prose import fit_to_copy
from crane_app.ui.markdown.selection import Place, Selection
from crane_app.ui.parts import plain_tip

DRAG = 40  # milliseconds


class Reading(QWidget):
    """Passages below each other that can be read and copied, not changed."""

    pointed = Signal(str)  # the address of the link under the pointer or with the focus, "" for none

    def __init__(self, name: str):
        super().__init__()
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setCursor(Qt.CursorShape.IBeamCursor)
        self._pieces: list[Any] = []
        self._tops: list[float] = []
        self.selection = Selection(self._pieces)
        self._pressed: Place | None = None
        self._pointed = ""
        self._focused = -1  # the link with the focus, of all links
        self._clicks = 0
        self._drag = QTimer(self)  # goes on scrolling while the pointer is held outside of the sight
        self._drag.setInterval(DRAG)
        self._drag.timeout.connect(self._drag_on)

    # Places

    def place_at(self, point: QPointF) -> Place:
        """The place in the text nearest to a point of the widget."""
        if not self._pieces:
            return (0, 0)
        index = self._index_at(point.y())
        return index, self._pieces[index].hit(point - QPointF(0, self._tops[index]))

    def link_at(self, point: QPointF) -> str:
        if not self._pieces:
            return ""
        index = self._index_at(point.y())
        return self._pieces[index].link_at(point - QPointF(0, self._tops[index]))

    def links(self) -> list[tuple[int, int, int, str]]:
        """All links: the passage, from where to where in its text, and the address."""
        return [(i, *link) for i, piece in enumerate(self._pieces) for link in piece.links]

    def copied(self) -> str:
        """The selection as plain text."""
        return self.selection.copied()

    # Painting

    def _paint_piece(self, painter: QPainter, index: int, area: QRect) -> None:
        top = self._tops[index]
        painter.save()
        painter.translate(0, top)
        piece = self._pieces[index]
        marked = None
        if self.hasFocus() and 0 <= self._focused < len(found := self.links()):
            at, start, end, _ = found[self._focused]
            marked = (start, end) if at == index else None
        piece.paint(painter, QRectF(area).translated(0, -top), self.selection.within(index), marked)
        painter.restore()

    # The mouse

    def mousePressEvent(self, event) -> None:
        if event.button() != Qt.MouseButton.LeftButton:
            return
        self.setFocus(Qt.FocusReason.MouseFocusReason)
        place = self.place_at(event.position())
        self._focused = -1
        self._clicks = self._clicks + 1 if self._clicks == 2 else 1
        self._pressed = place
        if event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self._pressed = self.selection.start
        self._choose(self._pressed, place)
        if self._clicks == 3:
            self._choose_unit(place, "line_at")

    def mouseDoubleClickEvent(self, event) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._clicks = 2
            self._choose_unit(self.place_at(event.position()), "word_at")
            self._pressed = None

    def mouseMoveEvent(self, event) -> None:
        if event.buttons() & Qt.MouseButton.LeftButton and self._pressed is not None:
            self._choose(self._pressed, self.place_at(event.position()))
            self._drag.start()
            return
        self._point(self.link_at(event.position()))

    def mouseReleaseEvent(self, event) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self._pressed is not None:
            self._pressed = None
            address = self.link_at(event.position())
            if address and self.selection.is_empty():
                links.follow(address)

    def _drag_on(self) -> None:
        if self._pressed is None:
            self._drag.stop()
            return
        around = self.parentWidget()
        while around is not None and not hasattr(around, "follow_pointer"):
            around = around.parentWidget()
        if around is not None:
            around.follow_pointer(QCursor.pos().y())
            self._choose(self._pressed, self.place_at(QPointF(self.mapFromGlobal(QCursor.pos()))))

    def leaveEvent(self, event) -> None:
        super().leaveEvent(event)
        self._point("")

    def _point(self, address: str) -> None:
        if address != self._pointed:
            self._pointed = address
            self.setCursor(Qt.CursorShape.PointingHandCursor if address else Qt.CursorShape.IBeamCursor)
            self.pointed.emit(shown_address(address))

    def _choose(self, start: Place, end: Place) -> None:
        self.selection.set(start, end)
        self.update()

    def _choose_unit(self, place: Place, unit: str) -> None:
        start, end = getattr(self._pieces[place[0]], unit)(place[1]) if self._pieces else (0, 0)
        self._choose((place[0], start), (place[0], end))

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            address = self.link_at(QPointF(event.pos()))
            QToolTip.showText(event.globalPos(), plain_tip(shown_address(address)) if address else "", self)
            return True
        taken = event.type() == QEvent.Type.ShortcutOverride and (
            (event.matches(QKeySequence.StandardKey.Copy) and not self.selection.is_empty())
            or event.matches(QKeySequence.StandardKey.SelectAll)
        )
        if taken:
            event.accept()
            return True
        return super().event(event)

    # The keyboard

    def keyPressEvent(self, event: QKeyEvent) -> None:
        steps = {Qt.Key.Key_Right: 1, Qt.Key.Key_Left: -1}
        shift = event.modifiers() & Qt.KeyboardModifier.ShiftModifier
        if event.matches(QKeySequence.StandardKey.Copy) and not self.selection.is_empty():
            self.copy()
        elif event.matches(QKeySequence.StandardKey.SelectAll):
            self.selection.all()
            self.update()
        elif event.key() in steps and shift and self._pieces:
            self.selection.step(steps[event.key()])
            self.update()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self._focused >= 0:
            links.follow(self.links()[self._focused][3])
        else:
            super().keyPressEvent(event)

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Tab goes through the links, then on."""
        count = len(self.links())
        next_one = self._focused + (1 if forward else -1)
        if self._focused < 0:
            next_one = 0 if forward else -1
        if 0 <= next_one < count and self.hasFocus():
            self._focused = next_one
            self.pointed.emit(shown_address(self.links()[next_one][3]))
            self.update()
            return True
        self._focused = -1
        return super().focusNextPrevChild(forward)

    def focusOutEvent(self, event) -> None:
        super().focusOutEvent(event)
        self.update()

    # Copying

    def copy(self) -> None:
        QGuiApplication.clipboard().setText(self.selection.copied())

    def copy_markdown(self) -> None:
        QGuiApplication.clipboard().setText(fit_to_copy(self.text()))

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        address = self.link_at(QPointF(event.pos()))
        menu = self.menu(address)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(event.globalPos())

    def menu(self, address: str = "") -> QMenu:
        """What can be done with the text; address: of a link that it is asked for at, or ""."""
        menu = QMenu(self)
        copy = menu.addAction(self.tr("&Copy"), self.copy)
        copy.setEnabled(not self.selection.is_empty())
        menu.addAction(self.tr("Copy as &Markdown"), self.copy_markdown)
        if address:
            menu.addAction(
                self.tr("Copy &link address"), lambda: QGuiApplication.clipboard().setText(shown_address(address))
            )
        return menu

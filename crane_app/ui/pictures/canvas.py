"""The picture of one page with a box over each region; zoom and pan. Lengths are page pixels."""

from collections.abc import Sequence
from typing import Literal

from PySide6.QtCore import QEvent, QPoint, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QImage, QPainter, QPen, QPolygonF
from PySide6.QtWidgets import QApplication, QGraphicsItem, QGraphicsPolygonItem, QGraphicsScene, QGraphicsView

from crane_app.ui import theme

STEP = 1.25
LARGEST = 8.0
# A small picture is not blown up further than this to fill the window.
LARGEST_FIT = 2.0
MARGIN = 8


class Box(QGraphicsPolygonItem):
    """The outline of a region."""

    def __init__(self, index: int, corners: Sequence[tuple[float, float]], canvas: "Canvas"):
        super().__init__(QPolygonF([QPointF(x, y) for x, y in corners]))
        self.index, self.canvas = index, canvas
        self.setAcceptHoverEvents(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def hoverEnterEvent(self, event) -> None:
        self.canvas.pointed.emit(self.index)

    def hoverLeaveEvent(self, event) -> None:
        self.canvas.pointed.emit(-1)

    def dress(self, pointed: bool, chosen: bool) -> None:
        """Faint at rest, so that the page stays readable."""
        edge = QColor(theme.LIGHT.accent)  # pages are mostly white paper, in the dark theme too
        fill = QColor(edge)
        edge.setAlpha(255 if chosen else 200 if pointed else 90)
        fill.setAlpha(60 if pointed else 40 if chosen else 12)
        pen = QPen(edge, 2.0 if chosen or pointed else 1.0)
        pen.setCosmetic(True)
        self.setPen(pen)
        self.setBrush(fill)


class Paper(QGraphicsItem):
    """A page, painted from the smallest of its pictures that has enough pixels: quick, and smooth when far away."""

    def __init__(self):
        super().__init__()
        self.pictures: Sequence[QImage] = ()
        self.width = self.height = 0

    def show(self, pictures: Sequence[QImage], width: int, height: int) -> None:
        """A page of `width` x `height`; pictures: from large to small."""
        self.prepareGeometryChange()
        self.pictures, self.width, self.height = pictures, width, height
        self.update()

    def boundingRect(self) -> QRectF:
        return QRectF(0, 0, self.width, self.height)

    def paint(self, painter: QPainter, option, widget=None) -> None:
        if not self.pictures:
            return
        needed = 0.99 * self.width * painter.deviceTransform().m11()
        enough = [picture for picture in self.pictures if picture.width() >= needed]
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(self.boundingRect(), (enough or self.pictures[:1])[-1])


class Canvas(QGraphicsView):
    """Shows one page; regions are told by their index on the page, -1 for none. `turned`: pages to go on, or back."""

    pointed = Signal(int)
    chosen = Signal(int)
    turned = Signal(int)

    def __init__(self):
        super().__init__()
        self.setScene(QGraphicsScene(self))
        self._paper = Paper()
        self.scene().addItem(self._paper)
        self._boxes: list[Box] = []
        self._pointed = self._chosen = -1
        self._pressed = QPoint()
        self.fitted: Literal["page", "width", ""] = "page"
        self.setRenderHint(QPainter.RenderHint.Antialiasing)
        self.setDragMode(QGraphicsView.DragMode.ScrollHandDrag)
        self.setTransformationAnchor(QGraphicsView.ViewportAnchor.AnchorUnderMouse)
        self.setAcceptDrops(False)  # the whole window takes drops
        self.viewport().grabGesture(Qt.GestureType.PinchGesture)

    def show_picture(self, pictures: Sequence[QImage], width: int, height: int) -> None:
        """A page of `width` x `height`, drawn from pictures of any size, from large to small."""
        self.clear()
        self._paper.show(pictures, width, height)
        self.setSceneRect(-MARGIN, -MARGIN, width + 2 * MARGIN, height + 2 * MARGIN)
        self._fit_again()
        self.verticalScrollBar().setValue(self.verticalScrollBar().minimum())

    def show_boxes(self, boxes: Sequence[Sequence[tuple[float, float]]]) -> None:
        self._drop_boxes()
        for index, corners in enumerate(boxes):
            box = Box(index, corners, self)
            self.scene().addItem(box)
            self._boxes.append(box)
        self._dress()

    def clear(self) -> None:
        self._drop_boxes()
        self._paper.show((), self._paper.width, self._paper.height)

    def point(self, index: int) -> None:
        self._pointed = index
        self._dress()

    def choose(self, index: int) -> None:
        """Mark a region and bring it into sight."""
        self._chosen = index
        self._dress()
        if 0 <= index < len(self._boxes):
            self.ensureVisible(self._boxes[index], 24, 24)

    def boxes(self) -> list[Box]:
        return list(self._boxes)

    def filled(self) -> bool:
        """Whether a page is shown."""
        return bool(self._paper.pictures)

    def zoom(self) -> float:
        return self.transform().m11()

    def zoom_in(self) -> None:
        self._zoom_to(self.zoom() * STEP)

    def zoom_out(self) -> None:
        self._zoom_to(self.zoom() / STEP)

    def fit(self) -> None:
        """The whole page, and again whenever the window changes its size."""
        self.fitted = "page"
        self._fit_again()

    def fit_width(self) -> None:
        """The page as wide as there is room, and again whenever the window changes its size."""
        self.fitted = "width"
        self._fit_again()

    def _fit_again(self) -> None:
        page, room, policy = self.sceneRect(), self.maximumViewportSize(), Qt.ScrollBarPolicy
        # A bar that comes and goes would change the room that the page is fitted to.
        self.setHorizontalScrollBarPolicy(policy.ScrollBarAlwaysOff if self.fitted else policy.ScrollBarAsNeeded)
        if not self.fitted or not self.filled():
            return
        scale = min(room.width() / page.width(), room.height() / page.height())
        if self.fitted == "width":
            narrowed = room.width() - self.verticalScrollBar().sizeHint().width()
            scale = max(scale, narrowed / page.width())
        self._set_zoom(min(scale, LARGEST_FIT))

    def _zoom_to(self, scale: float) -> None:
        if self.filled():
            self.fitted = ""
            self._fit_again()
            smallest = min(0.1, self.zoom())
            self._set_zoom(min(max(scale, smallest), LARGEST))

    def _set_zoom(self, scale: float) -> None:
        self.scale(scale / self.zoom(), scale / self.zoom())

    def _dress(self) -> None:
        for box in self._boxes:
            box.dress(box.index == self._pointed, box.index == self._chosen)

    def _drop_boxes(self) -> None:
        for box in self._boxes:
            self.scene().removeItem(box)
        self._boxes = []
        self._pointed = self._chosen = -1

    def resizeEvent(self, event) -> None:
        super().resizeEvent(event)
        self._fit_again()

    def mousePressEvent(self, event) -> None:
        super().mousePressEvent(event)
        self._pressed = event.position().toPoint()

    def mouseReleaseEvent(self, event) -> None:
        """A press that went nowhere chooses the box there; any other has moved the page."""
        super().mouseReleaseEvent(event)
        where = event.position().toPoint()
        box = self.itemAt(where)
        near = (where - self._pressed).manhattanLength() < QApplication.startDragDistance()
        if near and isinstance(box, Box) and event.button() == Qt.MouseButton.LeftButton:
            self.chosen.emit(box.index)

    def keyPressEvent(self, event) -> None:
        keys = Qt.Key
        does = {
            keys.Key_Plus: self.zoom_in,
            keys.Key_Minus: self.zoom_out,
            keys.Key_0: self.fit,
            keys.Key_W: self.fit_width,
        }.get(event.key())
        pages = {keys.Key_PageDown: 1, keys.Key_PageUp: -1}.get(event.key(), 0)
        bar = self.verticalScrollBar()
        if does is not None:
            does()
        elif pages and bar.value() == (bar.maximum() if pages > 0 else bar.minimum()):
            self.turned.emit(pages)
        else:
            super().keyPressEvent(event)

    def wheelEvent(self, event) -> None:
        if not event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            super().wheelEvent(event)
            return
        self._zoom_to(self.zoom() * STEP ** (event.angleDelta().y() / 120))
        event.accept()

    def viewportEvent(self, event) -> bool:
        if event.type() == QEvent.Type.NativeGesture:
            if event.gestureType() == Qt.NativeGestureType.ZoomNativeGesture:
                self._zoom_to(self.zoom() * (1 + event.value()))
                return True
        elif event.type() == QEvent.Type.Gesture:
            pinch = event.gesture(Qt.GestureType.PinchGesture)
            if pinch is not None:
                self._zoom_to(self.zoom() * pinch.scaleFactor())
                return True
        elif event.type() == QEvent.Type.Leave:
            self.pointed.emit(-1)
        return super().viewportEvent(event)

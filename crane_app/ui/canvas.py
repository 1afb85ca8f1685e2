"""The picture of one page with a box over each region; zoom and pan. Lengths are page pixels."""

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QPointF, Qt, Signal
from PySide6.QtGui import QColor, QImage, QPainter, QPen, QPixmap, QPolygonF
from PySide6.QtWidgets import QGraphicsPolygonItem, QGraphicsScene, QGraphicsView

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

    def mousePressEvent(self, event) -> None:
        event.accept()
        self.canvas.chosen.emit(self.index)

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


class Canvas(QGraphicsView):
    """Shows one page; regions are told by their index on the page, -1 for none."""

    pointed = Signal(int)
    chosen = Signal(int)

    def __init__(self):
        super().__init__()
        self.setScene(QGraphicsScene(self))
        self._picture = self.scene().addPixmap(QPixmap())
        self._picture.setTransformationMode(Qt.TransformationMode.SmoothTransformation)
        self._picture.setShapeMode(self._picture.ShapeMode.BoundingRectShape)
        self._boxes: list[Box] = []
        self._pointed = self._chosen = -1
        self.fitted = True
        self.setRenderHint(QPainter.RenderHint.Antialiasing)
        self.setDragMode(QGraphicsView.DragMode.ScrollHandDrag)
        self.setTransformationAnchor(QGraphicsView.ViewportAnchor.AnchorUnderMouse)
        self.setAcceptDrops(False)  # the whole window takes drops

    def show_picture(self, picture: QImage, width: int, height: int) -> None:
        """A page of `width` x `height`, drawn from a picture of any size."""
        self.clear()
        pixmap = QPixmap.fromImage(picture)
        self._picture.setPixmap(pixmap)
        self._picture.setScale(width / max(1, pixmap.width()))
        self.setSceneRect(-MARGIN, -MARGIN, width + 2 * MARGIN, height + 2 * MARGIN)
        if self.fitted:
            self.fit()

    def show_boxes(self, boxes: Sequence[Sequence[tuple[float, float]]]) -> None:
        self._drop_boxes()
        for index, corners in enumerate(boxes):
            box = Box(index, corners, self)
            self.scene().addItem(box)
            self._boxes.append(box)
        self._dress()

    def clear(self) -> None:
        self._drop_boxes()
        self._picture.setPixmap(QPixmap())

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

    def zoom(self) -> float:
        return self.transform().m11()

    def zoom_in(self) -> None:
        self._zoom_to(self.zoom() * STEP)

    def zoom_out(self) -> None:
        self._zoom_to(self.zoom() / STEP)

    def fit(self) -> None:
        """The whole page, and again whenever the window changes its size."""
        self.fitted = True
        page, room = self.sceneRect(), self.maximumViewportSize()
        if self._picture.pixmap().isNull():
            return
        scale = min(room.width() / page.width(), room.height() / page.height(), LARGEST_FIT)
        self._set_zoom(scale)

    def _zoom_to(self, scale: float) -> None:
        if not self._picture.pixmap().isNull():
            self.fitted = False
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
        if self.fitted:
            self.fit()

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
        elif event.type() == QEvent.Type.Leave:
            self.pointed.emit(-1)
        return super().viewportEvent(event)

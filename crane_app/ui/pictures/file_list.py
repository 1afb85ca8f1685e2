"""The list of documents: the name of each, how far it is, and a sign for how it went."""

from PySide6.QtCore import QModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QColor, QPainter
from PySide6.QtWidgets import QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from crane_app.ui import theme
from crane_app.ui.icons import icon
from crane_app.ui.pictures.queue import Entry, Queue, State
from crane_app.ui.theme import SPACE

SIGNS = {  # icon and colour
    State.WAITING: ("more", "muted"),
    State.READING: ("play", "accent"),
    State.DONE: ("check", "good"),
    State.STOPPED: ("stop", "muted"),
    State.FAILED: ("warning", "danger"),
}
BAR = 3  # pixels


class FileList(QListView):
    """A view of a Queue; thousands of rows are as smooth as ten."""

    def __init__(self, queue: Queue):
        super().__init__()
        self.setModel(queue)
        self.setItemDelegate(Row(queue))
        self.setAccessibleName(self.tr("Documents"))
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setUniformItemSizes(True)
        self.setAcceptDrops(False)  # the whole window takes drops

    def minimumSizeHint(self) -> QSize:
        return QSize(17 * self.fontMetrics().averageCharWidth(), 3 * self.fontMetrics().height())


class Row(QStyledItemDelegate):
    """Draws an entry: its sign, its name, and below how it stands."""

    def __init__(self, queue: Queue):
        super().__init__(queue)
        self._queue = queue

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        return QSize(0, 2 * option.fontMetrics.height() + 2 * SPACE)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        entry = index.data(Queue.ENTRY)
        option.widget.style().drawPrimitive(
            QStyle.PrimitiveElement.PE_PanelItemViewItem, option, painter, option.widget
        )
        inner, side = option.rect.adjusted(SPACE, SPACE, -SPACE, -SPACE), theme.unit()
        sign, role = SIGNS[entry.state]
        place = QRect(inner.left(), inner.top(), side, option.fontMetrics.height())
        icon(sign, role).paint(painter, QStyle.visualRect(option.direction, inner, place))
        words = QStyle.visualRect(option.direction, inner, inner.adjusted(side + SPACE, 0, 0, 0))
        painter.save()
        self._write(painter, option, words, Qt.AlignmentFlag.AlignTop, index.data(), "text")
        role = "danger" if entry.state is State.FAILED else "muted"
        self._write(painter, option, words, Qt.AlignmentFlag.AlignBottom, self._queue.state_word(entry), role)
        self._draw_progress(painter, entry, option, words)
        painter.restore()

    def _write(self, painter: QPainter, option, room: QRect, at: Qt.AlignmentFlag, text: str, role: str) -> None:
        painter.setPen(QColor(getattr(theme.colours(), role)))
        shown = option.fontMetrics.elidedText(text, Qt.TextElideMode.ElideMiddle, room.width())
        painter.drawText(room, QStyle.visualAlignment(option.direction, at | Qt.AlignmentFlag.AlignLeft), shown)

    def _draw_progress(self, painter: QPainter, entry: Entry, option, words: QRect) -> None:
        if entry.state is State.READING and entry.count > 1:
            groove = QRect(words.left(), words.bottom() + 4, words.width(), BAR)
            done = QRect(groove.topLeft(), QSize(groove.width() * len(entry.texts) // entry.count, BAR))
            painter.fillRect(groove, QColor(theme.colours().line))
            painter.fillRect(QStyle.visualRect(option.direction, groove, done), QColor(theme.colours().accent))

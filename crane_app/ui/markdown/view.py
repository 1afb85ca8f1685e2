"""A message in Markdown that may still be arriving: finished blocks stay as they are, only the end is made anew.

`append` is cheap however often it is called: the text is shown at most thirty times a second, in slices of a few
milliseconds (ui/slices.py). The view has no scroll bar of its own; `grew` tells that its height changed.
"""

from bisect import bisect_right
from collections import deque
from math import ceil

from PySide6.QtCore import QEvent, QRect, QSize, QTimer, Signal
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QSizePolicy

from crane_app.media.blocks import Block, Splitter
from crane_app.media.markdown import closed
from crane_app.ui import theme
from crane_app.ui.markdown.code import Code
from crane_app.ui.markdown.passage import Passage
from crane_app.ui.markdown.prose import BELOW_FRAME, BELOW_HEADING, LOOSE_ITEM, letters
from crane_app.ui.markdown.reading import Reading
from crane_app.ui.markdown.selection import between
from crane_app.ui.markdown.table import Table
from crane_app.ui.slices import slices

REFRESH = 33  # milliseconds
BODY = 1.1  # times the system's font, as every text that is read
PORTION = 4000  # characters that are split at once
TOLD = 10_000  # characters that a screen reader is given at once
USUAL = 600  # pixels; the width to reckon with before the first layout

Piece = Passage | Code


class MarkdownView(Reading):
    """Shows what `append` and `set_text` bring; `finish` says that nothing more will come."""

    grew = Signal()

    def __init__(self, name: str):
        super().__init__(name)
        self._tops: list[float] = []
        self._total = 0
        self._grown = False  # a painting found that the heights are other than reckoned
        self._fitted = -1  # the width that is laid out for
        self._take_looks()
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REFRESH)
        self._timer.timeout.connect(self._work)
        self._forget()

    # The text

    def append(self, text: str) -> None:
        """More text, as it arrives."""
        if text:
            self._source.append(text)
            self._unread.append(text)
            self._settled = False
            if not self._timer.isActive():
                self._timer.start()

    def finish(self) -> None:
        """Nothing more will come: what is open is closed."""
        self._settle()

    def set_text(self, text: str) -> None:
        """Show this instead of what there was; more may be appended."""
        self._clear()
        if text:
            self._source.append(text)
            self._unread.append(text)
        self._settle()

    def text(self) -> str:
        """The Markdown as it came."""
        return "".join(self._source)

    def plain(self) -> str:
        """What can be read, without marks."""
        text, before = "", None
        for piece in self._pieces:
            if not piece.blank:
                text += ("" if before is None else between(before, piece)) + piece.copied((0, piece.length()))
                before = piece
        return text

    def beginning(self) -> str:
        """What a screen reader is told of the text, in words."""
        told: list[str] = []
        for piece in self._pieces:
            told.append(piece.copied((0, piece.length())))
            if sum(map(len, told)) > TOLD:
                break
        return "\n".join(told)[:TOLD]

    def busy(self) -> bool:
        """Whether something that came is not in sight yet."""
        return self._timer.isActive() or slices().waiting(self, "text") or slices().waiting(self, "shape")

    def _forget(self) -> None:
        self._splitter = Splitter()
        self._source: list[str] = []
        self._unread: deque[str] = deque()  # not split yet
        self._found: deque[Block] = deque()  # split and not shown yet
        self._done = 0  # pieces that are finished; those after them are the tail
        self._open: Code | None = None  # the code that goes on
        self._base = 0  # its length when the block under way began
        self._tail_due = False
        self._settled = True
        self._seen: list[Piece] = []  # painted and not awake yet

    def _clear(self) -> None:
        self._cut_off(0)
        self._forget()
        self._place(0)

    def _settle(self) -> None:
        self._settled = self._tail_due = True
        self._timer.stop()
        self._work()

    def _work(self) -> None:
        slices().ask(self, "text", self._read_on)

    def _read_on(self) -> int:
        """A step of showing what came; what it cost."""
        if self._found:
            return self._show(self._found.popleft(), finished=True)
        if self._unread:
            text = self._unread.popleft()
            if len(text) > PORTION:
                self._unread.appendleft(text[PORTION:])
            self._found.extend(self._splitter.push(text[:PORTION]))
            self._tail_due = True
            return 1 + len(text[:PORTION]) // 8
        if self._tail_due:
            return self._show_tail()
        return 0

    def _show_tail(self) -> int:
        self._tail_due = False
        blocks = self._splitter.tail(final=self._settled)
        kept = bool(blocks) and self._continues(blocks[0])
        self._cut_off(self._done + (kept and self._open is not None and self._pieces.index(self._open) >= self._done))
        if blocks and blocks[-1].kind == "prose" and not self._settled:
            blocks[-1] = closed(blocks[-1])
        cost = 1 + sum(self._show(block, finished=False) for block in blocks)
        if not blocks:
            self._place(self._done)
        if self._settled:
            self.setAccessibleDescription(self.beginning())
        return cost

    def _continues(self, block: Block) -> bool:
        return block.kind == "code" and self._open is not None

    def _show(self, block: Block, finished: bool) -> int:
        """Add a block at the end, or to the code that it goes on with."""
        if finished:
            kept = self._continues(block) and self._pieces.index(self._open) >= self._done
            self._cut_off(self._done + kept)
        if block.kind == "code":
            self._show_code(block, finished)
        else:
            self._pieces.append(self._passage(block))
        self._pieces[-1].looks = self._looks
        if finished:
            self._done = len(self._pieces)
        self._place(len(self._pieces) - 1)
        return len(block.source) + 40 * block.source.count("|") + 40

    def _passage(self, block: Block) -> Passage:
        if block.kind != "table":
            return Passage(block, self._letters)
        before = self._pieces[-1] if self._pieces else None
        leader = before if isinstance(before, Table) and not block.begins else None
        return Table(self, block, self._letters, leader)

    def _show_code(self, block: Block, finished: bool) -> None:
        code = self._open
        if code is None:
            code = self._open = Code(self, block, self._letters)
            self._pieces.append(code)
            self._base = 0
        code.language = block.language
        code.append(block.text[code.length() - self._base :])
        if finished:
            self._base = code.length()
            self._open = None if block.ends else code
        if block.ends if finished else self._settled:
            code.close()

    def _cut_off(self, count: int) -> None:
        """Drop the pieces from `count` on."""
        for piece in self._pieces[count:]:
            piece.drop()
            if piece is self._open:
                self._open = None
        del self._pieces[count:]

    # Where it is

    def height_for(self, width: int) -> int:
        """Pixels; where much is still to be laid out, a guess that `grew` will correct."""
        if width > 0 and width != self._fitted:
            self._fitted = width
            self._fit_what_is_seen()
            self._place(0, quietly=True)
        return self._total

    def heightForWidth(self, width: int) -> int:
        return self.height_for(width)

    def sizeHint(self) -> QSize:
        return QSize(max(self._fitted, 1), self._total)

    def minimumSizeHint(self) -> QSize:
        return QSize(8 * self.fontMetrics().averageCharWidth(), 0)

    def resizeEvent(self, event) -> None:
        super().resizeEvent(event)
        before = self._total
        if self.height_for(self.width()) != before:
            self._tell()

    def _tell(self) -> None:
        self.updateGeometry()
        self.grew.emit()

    def anchor_at(self, y: float) -> tuple[int, float]:
        """What stands at a height, told so that it holds when the layout changes: a piece, and how far in it."""
        index = self._index_at(y)
        piece = self._pieces[index] if self._pieces else None
        return index, (y - self._tops[index]) / max(1.0, piece.height) if piece else 0.0

    def y_of(self, anchor: tuple[int, float]) -> int:
        index, part = anchor
        if not self._pieces:
            return 0
        index = min(index, len(self._pieces) - 1)
        return round(self._tops[index] + part * self._pieces[index].height)

    def _index_at(self, y: float) -> int:
        return max(0, bisect_right(self._tops, y) - 1)

    def _place(self, first: int, quietly: bool = False) -> None:
        """Put the pieces from `first` on below each other."""
        width = self._fitted if self._fitted > 0 else USUAL
        first = max(0, min(first, len(self._tops)))
        del self._tops[first:]
        bottom = self._tops[-1] + self._pieces[first - 1].height if self._tops else 0.0
        changed = int(bottom)
        for index in range(first, len(self._pieces)):
            piece = self._pieces[index]
            if isinstance(piece, Code) or index == len(self._pieces) - 1:
                piece.fit(width)
            top = bottom + (self._gap(self._pieces[index - 1], piece) if index else 0)
            self._tops.append(top)
            piece.place(top)
            bottom = top + piece.height
        total = ceil(bottom)
        if total != self._total:
            self._total = total
            if not quietly:
                slices().tell(self, self._tell)
        self.update(0, changed, self.width(), max(self.height(), total) - changed)

    def _gap(self, before: Piece, piece: Piece) -> float:
        if piece.blank:
            return 0.0
        em = self._em
        if before.listed and piece.listed and piece.begins:
            return round(LOOSE_ITEM * em)
        if before.framed and piece.begins:
            return max(piece.above, round(BELOW_FRAME * em))
        return min(piece.above, round(BELOW_HEADING * em)) if before.headed else piece.above

    def _fit_what_is_seen(self) -> None:
        """Lay out what is in sight now, and the rest in slices."""
        seen = self.visibleRegion().boundingRect()
        rest = False
        for index, piece in enumerate(self._pieces):
            if isinstance(piece, Code) or self._is_within(index, seen):
                piece.fit(self._fitted)
            elif piece.width != self._fitted:
                piece.guess(self._fitted)
                rest = True
        if rest:
            slices().ask(self, "shape", self._shape_on)

    def _is_within(self, index: int, area: QRect) -> bool:
        top = self._tops[index]
        return not area.isEmpty() and top <= area.bottom() and top + self._pieces[index].height >= area.top()

    def _shape_on(self) -> int:
        """A step of dressing and laying out what is not as it should be; what it cost."""
        if self._grown:
            self._grown = False
            self._place(0)
            return 100
        for index, piece in enumerate(self._pieces):
            if not self._dress(piece) and piece.width == self._fitted:
                continue
            piece.fit(self._fitted if self._fitted > 0 else USUAL)
            self._place(index + 1)
            return 40 + piece.length()
        return 0

    # How it looks

    def _take_looks(self) -> bool:
        """Take the theme's colours and letters of now; whether they changed."""
        before = getattr(self, "_looks", None)
        self._letters = theme.scaled_font(BODY)
        self._em = letters(self._letters)
        self._looks = (theme.colours(), self._letters.key())
        return self._looks != before

    def _dress(self, piece: Piece) -> bool:
        """Give a piece the looks of now; whether it had others."""
        if piece.looks == self._looks:
            return False
        piece.dress(self._letters)
        piece.looks = self._looks
        return True

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if hasattr(self, "_looks") and self._take_looks():
            slices().ask(self, "shape", self._shape_on)
            self.update()

    def paintEvent(self, event) -> None:
        area = event.rect()
        painter = QPainter(self)
        index = self._index_at(area.top())
        grown = False
        while index < len(self._pieces) and self._tops[index] <= area.bottom():
            piece = self._pieces[index]
            self._dress(piece)
            before = piece.height
            grown |= piece.fit(self._fitted if self._fitted > 0 else USUAL) != before
            self._paint_piece(painter, index, area)
            if piece.asleep:
                self._seen.append(piece)
            index += 1
        painter.end()
        # A painting must not move or make what is painted.
        if grown:
            self._grown = True
            slices().ask(self, "shape", self._shape_on)
        if self._seen:
            slices().ask(self, "controls", self._wake_one)

    def _wake_one(self) -> int:
        """A step of making what can be clicked, where it is seen; what it cost."""
        if not self._seen:
            return 0
        piece = self._seen.pop(0)
        if piece.asleep and piece in self._pieces:
            piece.wake()
        return 1000

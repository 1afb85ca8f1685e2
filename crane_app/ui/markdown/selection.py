"""What is selected in a message, across all its passages."""

from collections.abc import Sequence
from typing import Any

from crane_app.ui.markdown.passage import Range

Place = tuple[int, int]  # a passage, and where in its text


class Selection:
    """From the place where it began to the place where it is now; nothing where both are the same."""

    def __init__(self, pieces: Sequence[Any]):
        self._pieces = pieces
        self.start: Place = (0, 0)
        self.end: Place = (0, 0)

    def set(self, start: Place, end: Place) -> None:
        self.start, self.end = start, end

    def is_empty(self) -> bool:
        return self.start == self.end

    def all(self) -> None:
        last = len(self._pieces) - 1
        self.set((0, 0), (last, self._pieces[last].length()) if last >= 0 else (0, 0))

    def within(self, index: int) -> Range | None:
        """What is selected of a passage."""
        low, high = sorted((self.start, self.end))
        if low == high or not low[0] <= index <= high[0]:
            return None
        length = self._pieces[index].length()
        start = low[1] if index == low[0] else 0
        return min(start, length), min(high[1], length) if index == high[0] else length

    def copied(self) -> str:
        """The plain text of it."""
        text, before = "", None
        for index, piece in enumerate(self._pieces):
            part = self.within(index)
            if part is None or piece.blank:
                continue
            if before is not None:
                text += between(before, piece)
            text += piece.copied(part)
            before = piece
        return text

    def step(self, by: int) -> None:
        """Move its end by one place, over the border of a passage where need be."""
        index = min(self.end[0], len(self._pieces) - 1)
        place = min(self.end[1], self._pieces[index].length())
        there = self._pieces[index].moved(place, by)
        if there != place:
            self.end = (index, there)
        elif 0 <= index + by < len(self._pieces):
            index += by
            self.end = (index, 0 if by > 0 else self._pieces[index].length())


def between(before: Any, piece: Any) -> str:
    """What stands between two passages in plain text."""
    if not piece.begins:
        return piece.seam
    return "\n" if before.listed and piece.listed else "\n\n"

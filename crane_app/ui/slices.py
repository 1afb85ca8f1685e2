"""Work that belongs to the GUI thread but would take too long at once, done in slices between its events.

One queue for the whole window: however many messages have work to do, a turn of the event loop does one slice.
"""

import time
from collections.abc import Callable

import shiboken6
from PySide6.QtCore import QObject, QTimer
from PySide6.QtWidgets import QWidget

Step = Callable[[], int]  # does a little; what it cost, 0 when there is nothing more to do

SECONDS = 0.008  # of a slice
MOST = 8000  # of what steps say they cost, in a slice: characters, more for what is dearer


class Slices(QObject):
    """Runs the steps of each owner until they say 0; owners in sight come first.

    done: what the steps of the last slice cost, for tests.
    """

    def __init__(self) -> None:
        super().__init__()
        self._steps: dict[tuple[QWidget, str], Step] = {}
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self.turn)
        self.done = 0
        self._turning = False
        self._after: dict[QWidget, Callable[[], None]] = {}

    def ask(self, owner: QWidget, what: str, step: Step) -> None:
        """Have `step` run until it returns 0; asking again for the same changes nothing."""
        self._steps.setdefault((owner, what), step)
        if not self._timer.isActive():
            self._timer.start()

    def waiting(self, owner: QWidget, what: str) -> bool:
        return (owner, what) in self._steps

    def drop(self, owner: QWidget, what: str) -> None:
        self._steps.pop((owner, what), None)

    def tell(self, owner: QWidget, call: Callable[[], None]) -> None:
        """Call it once when the slice under way is over, or at once where none is."""
        if self._turning:
            self._after[owner] = call
        else:
            call()

    def turn(self) -> None:
        """One slice."""
        self._turning = True
        try:
            self._work()
        finally:
            self._turning = False
        after, self._after = self._after, {}
        for owner, call in after.items():
            if shiboken6.isValid(owner):
                call()
        if not self._steps:
            self._timer.stop()

    def _work(self) -> None:
        until, self.done = time.perf_counter() + SECONDS, 0
        hidden = {owner for owner in {owner for owner, _ in self._steps} if _is_out_of_sight(owner)}
        for key in sorted(self._steps, key=lambda key: key[0] in hidden):
            cost = 1
            while cost and (step := self._steps.get(key)) is not None:
                cost = step() if shiboken6.isValid(key[0]) else 0
                self.done += cost
                if not cost:
                    self._steps.pop(key, None)
                if time.perf_counter() > until or self.done >= MOST:
                    return


def _is_out_of_sight(owner: QWidget) -> bool:
    return not shiboken6.isValid(owner) or not owner.isVisible() or owner.visibleRegion().isEmpty()


_shared: Slices | None = None


def slices() -> Slices:
    """The window's one queue."""
    global _shared
    if _shared is None or not shiboken6.isValid(_shared):
        _shared = Slices()
    return _shared

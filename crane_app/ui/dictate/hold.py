"""Push to talk: held, it ends with the release; pressed shortly, it goes on until the next press."""

import time
from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, Qt, Signal

HOLD_S = 0.35  # a shorter press is a click


class Hold(QObject):
    """What `down` and `up` of a key or a button mean. on: between began and ended; latched: no release will end it."""

    began = Signal()
    ended = Signal()
    latch = Signal()  # it goes on without being held

    def __init__(self, now: Callable[[], float] = time.monotonic):
        super().__init__()
        self._now = now
        self._since = 0.0
        self._down = False
        self.on = self.latched = False

    def down(self) -> None:
        if self._down:
            return
        self._down = True
        if self.latched:
            self.end()
        elif not self.on:
            self.on, self._since = True, self._now()
            self.began.emit()

    def up(self) -> None:
        held, self._down = self._down, False
        if not held or not self.on or self.latched:
            return
        if self._now() - self._since < HOLD_S:
            self.latched = True
            self.latch.emit()
        else:
            self.end()

    def toggle(self) -> None:
        """As two short presses would."""
        if self.on:
            self.end()
        else:
            self.on = self.latched = True
            self.began.emit()
            self.latch.emit()

    def let_go(self) -> None:
        """The release will never be seen: the window lost the keyboard. What is latched goes on."""
        held, self._down = self._down, False
        if held and self.on and not self.latched:
            self.end()

    def end(self) -> None:
        """End it, if it is on."""
        if self.on:
            self.on = self.latched = False
            self.ended.emit()

    def forget(self) -> None:
        """Off, without telling: it ended for another reason."""
        self.on = self.latched = False


class HoldKey(QObject):
    """A key that is held to speak, anywhere in a window where nothing else has a use for it."""

    def __init__(self, hold: Hold, key: Qt.Key):
        super().__init__()
        self._hold, self._key = hold, key
        self._window: QObject | None = None

    def watch(self, window: QObject | None) -> None:
        """Listen to this window from now on; None: to none."""
        if self._window is not None:
            self._window.removeEventFilter(self)
        self._window = window
        if window is not None:
            window.installEventFilter(self)

    def eventFilter(self, watched, event) -> bool:
        if event.type() == QEvent.Type.WindowDeactivate:
            self._hold.let_go()
        if event.type() not in (QEvent.Type.KeyPress, QEvent.Type.KeyRelease) or event.key() != self._key:
            return False
        if not event.isAutoRepeat():
            self._hold.down() if event.type() == QEvent.Type.KeyPress else self._hold.up()
        return True

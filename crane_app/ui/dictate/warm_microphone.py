"""The microphone between two takes: open for a little longer, so that the next one begins at once and whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from PySide6.QtCore import QObject, QTimer

from crane_app.ui.worker import Worker

WARM_MS = 30_000


class WarmMicrophone(QObject):
    """Makes microphones by their names; `make` stands in for platform.microphone.Microphone in tests."""

    def __init__(self, make: Callable[[str], Any] | None = None):
        super().__init__()
        self._make = make or _microphone
        self._name, self._open = "", None
        self._closing: Worker | None = None
        self._cools = QTimer(self, singleShot=True, interval=WARM_MS)
        self._cools.timeout.connect(self.close)

    def get(self, name: str) -> Any:
        """The microphone of that name, the open one if it is the same."""
        self._cools.stop()
        if self._open is None or name != self._name:
            self.close()
            self._name, self._open = name, self._make(name)
        return self._open

    def rest(self) -> None:
        """A take is over; another may follow."""
        self._cools.start()

    def close(self) -> None:
        """Let the device go, on a thread: some drivers take their time."""
        self._cools.stop()
        before, self._open = self._open, None
        if before is not None:
            self._closing = Worker(_closed(before), after=self._closing)
            self._closing.start()


def _microphone(name: str) -> Any:
    from crane_app.platform.microphone import Microphone

    return Microphone(name)


def _closed(microphone: Any) -> Iterator[None]:
    microphone.close()
    return
    yield

"""The engine as the window sees it: connected in the background, looked at now and then, started again when it dies.

What is asked of it before it is up waits on its own thread; the window never does.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from crane_app.errors import Cancelled, CraneError
from crane_app.ui.worker import Worker, sentence

log = logging.getLogger(__name__)

LOOK_MS, BUSY_LOOK_MS = 2000, 500
UNSEEN_LOOK_MS = 60_000  # while nobody sees what is told, and nothing is under way
STALLED_S = 10.0  # silent for longer: the window says what the engine is doing, and offers to end it
Steps = Callable[[Any], Generator[Any, None, Any] | Iterator[Any]]


@dataclass(frozen=True)
class Look:
    """The engine at one moment."""

    cards: tuple[Any, ...]
    stats: Any


class Connection(QObject):
    """state: "starting", "ready", "busy", "stalled", "lost" or "failed"; sentence: what to tell about it, or "".

    cards: the loaded models; stats: engine.request.Stats of the last look, None before the first.
    """

    changed = Signal()

    def __init__(self, connect: Callable[[], Any] | None = None):
        super().__init__()
        self.state, self.sentence = "starting", ""
        self.cards: tuple[Any, ...] = ()
        self.stats: Any = None
        self._connect = connect or _connect
        self._engine: Any = None
        self._error: Exception | None = None
        self._answered = threading.Event()
        self._closed = False
        self._starting: Worker | None = None
        self._looking: Worker | None = None
        self._running = 0
        self._seen_by_someone = True
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.look)

    # What views use

    def start(self) -> None:
        """Begin to connect, on a thread; once."""
        if self._starting is None and not self._closed:
            self._starting = Worker(self._connecting())
            self._starting.returned.connect(lambda _: self.look())
            self._starting.failed.connect(self._failed)
            self._starting.start()

    def run(self, steps: Steps, after: Worker | None = None) -> Worker:
        """`steps(engine)` on a thread of its own, once there is an engine and `after` is over; already started."""
        worker = Worker(self._with_engine(steps), after)
        self._running += 1
        worker.ended.connect(self._one_less)
        worker.start()
        if self._engine is not None:
            self.look()
        return worker

    def restart(self) -> None:
        """End an engine that does not answer or has failed to start; the next call starts another."""
        if self._error is not None:
            self._error, self._starting = None, None
            self._answered.clear()
            self._tell("starting", "")
            self.start()
        elif self.state == "lost":
            self.look()  # it has gone: what has its number now is another program
        elif self._engine is not None:
            with suppress(OSError, AttributeError):
                os.kill(self._engine.peer.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            self._tell("starting", "")
            self._timer.start(BUSY_LOOK_MS)

    def close(self) -> None:
        """Leave the engine to its other clients. What runs here ends; later calls fail."""
        self._closed = True
        self._timer.stop()
        self._error = self._error or Cancelled(self.tr("The window was closed."))
        self._answered.set()
        if self._engine is not None:
            self._engine.close(drain=False)

    def attend(self, seen: bool) -> None:
        """Whether anyone sees what is told: in a hidden or minimised window there is hardly anything to do."""
        came_back = seen and not self._seen_by_someone
        self._seen_by_someone = seen
        if came_back:
            self.look()

    # Looking

    def look(self) -> None:
        """Ask how it is, unless a question is under way; it is asked again later by itself."""
        if self._closed or self._engine is None:
            return
        silent = self._engine.silent_s
        if self._looking is not None:
            if silent > STALLED_S:
                self._tell("stalled", self._stalled(silent))
            self._timer.start(BUSY_LOOK_MS)
            return
        self._looking = Worker(_look(self._engine))
        self._looking.returned.connect(self._seen)
        self._looking.failed.connect(self._lost)
        self._looking.start()
        self._timer.start(BUSY_LOOK_MS)

    def _seen(self, look: Look) -> None:
        self._looking = None
        same = (self.cards, self.stats) == (look.cards, look.stats)
        self.cards, self.stats = look.cards, look.stats
        busy = bool(look.stats.running or look.stats.waiting)
        self._tell("busy" if busy else "ready", "", same)
        self._timer.start(BUSY_LOOK_MS if busy or self._running else self._pause())

    def _lost(self, error: Exception) -> None:
        self._looking = None
        self.cards, self.stats = (), None
        self._tell("lost", sentence(error))
        self._timer.start(self._pause())

    def _pause(self) -> int:
        """Milliseconds until the next look when nothing is under way."""
        return LOOK_MS if self._seen_by_someone else UNSEEN_LOOK_MS

    def _failed(self, error: Exception) -> None:
        self._tell("failed", sentence(error))

    def _stalled(self, silent: float) -> str:
        said = self.tr("The engine has been silent for {seconds} seconds; it was {phase}.")
        return said.format(seconds=round(silent), phase=self._engine.phase)

    def _tell(self, state: str, said: str, same: bool = False) -> None:
        if same and (state, said) == (self.state, self.sentence):
            return
        self.state, self.sentence = state, said
        self.changed.emit()

    # On threads

    def _connecting(self) -> Iterator[Any]:
        """Connects; its end is told by `returned`, its error to all who wait."""
        try:
            engine = self._connect()
        except Exception as error:
            self._error = error if isinstance(error, CraneError) else CraneError(sentence(error))
            self._answered.set()
            raise
        self._engine = engine
        self._answered.set()
        if self._closed:
            engine.close(drain=False)
        return
        yield

    def _with_engine(self, steps: Steps) -> Iterator[Any]:
        self._answered.wait()
        if self._error is not None:
            raise self._error
        return (yield from steps(self._engine))

    def _one_less(self) -> None:
        self._running -= 1
        self.look()


def _look(engine: Any) -> Iterator[Look]:
    cards = tuple(engine.models())
    return Look(cards, engine.stats())
    yield


def _connect() -> Any:
    """The engine that this user's programs share, started if it is not there."""
    from crane_app.engine.process.client import connect

    return connect()

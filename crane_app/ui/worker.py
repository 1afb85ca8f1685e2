"""The one bridge from a generator to Qt: it runs elsewhere, its news arrives as signals.

Signals come in the thread that made the Worker, in order, and never after `cancel()`. A step that is already
under way cannot be interrupted: the generator is closed at its next yield. Knows nothing of what is read.
"""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Generator
from typing import Any

from PySide6.QtCore import QCoreApplication, QObject, Qt, Signal

from crane_app.errors import CraneError

log = logging.getLogger(__name__)

# A worker stays here until its thread has gone, so that Qt's side is never destroyed under a running thread.
_running: set["Worker"] = set()


class Worker(QObject):
    """Runs `steps` on its own thread, once the thread of the worker `after` is over."""

    yielded = Signal(object)
    returned = Signal(object)
    failed = Signal(Exception)
    ended = Signal()  # its thread has gone; comes always, also after `cancel()`
    _posted = Signal(str, object)

    def __init__(self, steps: Generator[Any, None, Any], after: "Worker | None" = None):
        super().__init__()
        self._steps: Generator[Any, None, Any] | None = steps
        self._after = after
        self._cancelled = False
        # A daemon: a step that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._posted.connect(self._deliver, Qt.ConnectionType.QueuedConnection)

    def start(self) -> None:
        _running.add(self)
        self._thread.start()

    def cancel(self) -> None:
        """No signal from now on; the generator is closed at its next yield."""
        self._cancelled = True

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the thread; False when it is still running after `seconds`."""
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def whereabouts(self) -> str:
        """The calls its thread is in, the innermost last; nothing when it has ended."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""

    def _run(self) -> None:
        try:
            if self._after is not None:
                self._after.wait()
            self._drive(self._steps)
        except BaseException as error:
            if not isinstance(error, CraneError):
                log.error("A worker failed", exc_info=error)
            self._posted.emit("failed", error)
        finally:
            self._after = self._steps = None
            self._posted.emit("ended", None)

    def _drive(self, steps: Generator[Any, None, Any]) -> None:
        while not self._cancelled:
            try:
                value = next(steps)
            except StopIteration as stop:
                self._posted.emit("returned", stop.value)
                return
            self._posted.emit("yielded", value)
        steps.close()

    def _deliver(self, news: str, value: object) -> None:
        if news == "ended":
            self._thread.join()  # past its last statement: its reference to this object goes first
            _running.discard(self)
            self.ended.emit()
        elif not self._cancelled:
            getattr(self, news).emit(value)


def sentence(error: BaseException) -> str:
    """What to show for an error: our own speak for themselves, of others only the log has the details."""
    if isinstance(error, CraneError) and str(error):
        return str(error)
    return QCoreApplication.translate(
        "Worker", "Something unexpected went wrong ({kind}). Try again; the log has the details."
    ).format(kind=type(error).__name__)


def stop_all(seconds: float) -> bool:
    """Cancel every worker and wait at most `seconds` for them; False when one still runs; the log has where."""
    workers = list(_running)
    for worker in workers:
        worker.cancel()
    deadline = time.monotonic() + seconds
    still = [worker for worker in workers if not worker.wait(max(0.0, deadline - time.monotonic()))]
    for worker in still:
        log.warning("A worker does not end. It is here:\n%s", worker.whereabouts())
    return not still

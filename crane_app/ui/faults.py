"""What goes wrong where nobody catches it: to the log, and as a sentence to whoever listens. Nothing dies silently."""

import contextlib
import logging
import logging.handlers
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import platformdirs
from PySide6.QtCore import QObject, QtMsgType, Signal, qInstallMessageHandler

from crane_app.ui.worker import sentence

log = logging.getLogger(__name__)

LIMIT, KEPT = 2_000_000, 1  # bytes of a log file; older ones
FORM = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
LEVELS = {
    QtMsgType.QtDebugMsg: logging.DEBUG,
    QtMsgType.QtInfoMsg: logging.INFO,
    QtMsgType.QtWarningMsg: logging.WARNING,
    QtMsgType.QtCriticalMsg: logging.ERROR,
    QtMsgType.QtFatalMsg: logging.CRITICAL,
}


class Faults(QObject):
    """`told` carries a sentence for every exception that nobody caught, in the thread of this object."""

    told = Signal(str)

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """While this holds, exceptions of slots and threads and the messages of Qt come here."""
        before = sys.excepthook, threading.excepthook, qInstallMessageHandler(_from_qt)
        sys.excepthook, threading.excepthook = self._from_slot, self._from_thread
        try:
            yield
        finally:
            sys.excepthook, threading.excepthook = before[:2]
            qInstallMessageHandler(before[2])

    def _from_slot(self, kind, error, trace) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        log.error("An exception that nobody caught", exc_info=(kind, error, trace))
        self.told.emit(sentence(error))

    def _from_thread(self, args) -> None:
        if args.exc_type is not SystemExit:
            self._from_slot(args.exc_type, args.exc_value, args.exc_traceback)


def log_path() -> Path:
    """Where the window writes what it has to tell."""
    return Path(platformdirs.user_log_dir("crane", appauthor=False), "window.log")


def keep_log() -> None:
    """Warnings and errors into the log file, and to the terminal if there is one."""
    give_streams()
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    with contextlib.suppress(OSError):  # a full or read-only disk must not keep the window from opening
        path = log_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.handlers.RotatingFileHandler(path, "a", LIMIT, KEPT, "utf-8", delay=True))
    logging.basicConfig(level=logging.WARNING, format=FORM, handlers=handlers, force=True)


def give_streams() -> None:
    """In a windowed build stdout and stderr are None, and whatever prints would fail."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (open to the end)


def _from_qt(kind: QtMsgType, _context, message: str) -> None:
    logging.getLogger("qt").log(LEVELS[kind], message)

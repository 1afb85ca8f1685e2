"""The engine's log: everything the process prints, also from native libraries, in a file that never grows for ever."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import sys
from pathlib import Path

import platformdirs

LIMIT, KEPT = 5_000_000, 3  # bytes of a file, files
FORM = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


def log_path() -> Path:
    """Where this user's engines write."""
    return Path(platformdirs.user_log_dir("crane", appauthor=False), "engine.log")


def capture(path: Path) -> None:
    """Send file descriptors 1 and 2 and all logging to `path`, take standard input away, and note crashes there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _turn(path)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    # In a windowed .exe these are None, and what prints would fail.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    faulthandler.enable(sys.stderr)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=FORM, force=True)


def rotate(path: Path) -> None:
    """Begin a new file if this one is full, or if another engine has begun one."""
    with contextlib.suppress(OSError):
        mine, there = os.fstat(1), path.stat() if path.exists() else None
        if there is None or mine.st_size > LIMIT or mine.st_ino != there.st_ino:
            _turn(path)


def tail(path: Path, lines: int = 12) -> str:
    """The end of the log, for a sentence that must say why."""
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 4000, 0))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return "(there is no log)"
    return "\n".join(text.strip().splitlines()[-lines:]) or "(the log is empty)"


def open_log(path: Path) -> int:
    """A descriptor that appends to the log; the file is only this user's to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _turn(path: Path) -> None:
    if path.exists() and path.stat().st_size > LIMIT:
        for number in reversed(range(1, KEPT)):
            older = path.with_name(f"{path.name}.{number}")
            newer = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
            # On Windows a file that is open cannot be renamed; it then goes on growing until the next start.
            with contextlib.suppress(OSError):
                newer.replace(older)
    fd = open_log(path)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    if fd > 2:
        os.close(fd)

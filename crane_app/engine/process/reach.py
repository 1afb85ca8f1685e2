"""From nothing to a connection with an engine of this version: the one that runs, or a new one."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crane_app.engine.process import logbook, tied
from crane_app.engine.process.link import Gone, Link, Peer, Refused, Silent, greet_engine
from crane_app.engine.process.place import Place
from crane_app.engine.process.protocol import ProtocolError
from crane_app.errors import CraneError, Unsupported
from crane_app.version import VERSION

log = logging.getLogger(__name__)
GREETING = 30.0  # seconds: an engine that imports or loads holds its Python for a while
DETACHED = 0x0200 | 0x08000000 if sys.platform == "win32" else 0  # CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW
READY = 60.0  # seconds from start to the first greeting


class Absent(Exception):
    """No engine is at this place."""


@dataclass(frozen=True)
class Start:
    """How engines are started. command: without the flags that say where; linger: seconds without clients."""

    command: tuple[str, ...]
    linger: float = 10.0
    version: str = VERSION
    log: Path | None = None


class Child:
    """An engine's process that we started. One thread starts it and waits for its end, and lives as long as it does."""

    def __init__(self, command: Sequence[str], is_tied: bool, book: Path):
        self._command, self._tied, self._book = command, is_tied, book
        self._process: subprocess.Popen[bytes] | None = None
        self._error: OSError | None = None
        self._started, self._ended = threading.Event(), threading.Event()
        threading.Thread(target=self._live, name="crane-child", daemon=True).start()
        self._started.wait()
        if self._error is not None:
            raise CraneError(f"The engine could not be started: {self._error}.") from self._error

    def _live(self) -> None:
        try:
            output = logbook.open_log(self._book)
            try:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE if self._tied else subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment(),
                    start_new_session=True,  # out of the terminal's reach: Ctrl-C ends an answer and not the engine
                    creationflags=DETACHED,
                )
            finally:
                os.close(output)
        except OSError as error:
            self._error = error
            self._started.set()
            return
        job = tied.bind(self._process) if self._tied else None
        self._started.set()
        self._process.wait()
        self._ended.set()
        del job  # held until here: on Windows its end is the engine's
        if self._process.stdin is not None:
            self._process.stdin.close()

    def status(self, seconds: float = 0.0) -> int | None:
        """The exit status, waited for; None while it runs."""
        self._ended.wait(seconds)
        return self._process.returncode if self._process is not None else None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
        self._ended.wait(5.0)


def attach(place: Place, version: str = VERSION) -> tuple[Link, Peer]:
    """A connection with the engine at `place`. Absent if there is none; Unsupported for one of another version."""
    try:
        sock, key = place.call(GREETING)
    except (OSError, ValueError) as error:
        raise Absent from error
    link = Link(sock)
    try:
        peer = greet_engine(link, key, version)
    except Silent as error:
        link.close()
        raise CraneError(f"The engine at {place.folder} does not answer. End it, or use --new-engine.") from error
    except Gone as error:
        link.close()
        raise Absent from error
    except (Refused, ProtocolError):
        link.close()
        raise
    if peer.version != version:
        link.close()
        raise Unsupported(
            f"The engine that runs (process {peer.pid}) is Crane {peer.version}, this is {version}. "
            "Close the other Crane and try again, or use --new-engine."
        )
    link.patience(None)
    return link, peer


def reach(place: Place, how: Start, start: bool = True) -> tuple[Link, Peer, Child | None]:
    """Attach to the engine at `place`, or start it there; the process if it was started."""
    if found := _attached(place, how):
        return (*found, None)
    if not start:
        raise CraneError("No engine is running.")
    place.open()
    with place.lock("start", READY) as held:
        if found := _attached(place, how):  # someone else was starting it meanwhile
            return (*found, None)
        if not held:
            raise CraneError(f"Another program has been starting the engine for {READY:.0f} seconds. Try again.")
        place.sweep()
        return _started(place, how, is_tied=False)


def reach_new(shared: Place, how: Start) -> tuple[Link, Peer, Child | None]:
    """Start an engine for this program alone."""
    shared.open()
    with shared.lock("start", READY):
        shared.sweep()
        place = shared.own()
        place.open()
        return _started(place, how, is_tied=True)


def tidy(place: Place) -> None:
    """Clear what dead engines left, unless one is being started."""
    with contextlib.suppress(OSError), place.lock("start", 0) as held:
        if held:
            place.sweep()


def _attached(place: Place, how: Start) -> tuple[Link, Peer] | None:
    """None if there is no engine. A key may be read just before a new engine writes its own: tried twice."""
    if place.port and not place.taken():
        return None
    try:
        return attach(place, how.version)
    except Absent:
        return None
    except Refused:
        time.sleep(0.2)
    with contextlib.suppress(Absent):
        return attach(place, how.version)
    return None


def _started(place: Place, how: Start, is_tied: bool) -> tuple[Link, Peer, Child | None]:
    book = how.log or logbook.log_path()
    flags = ["--socket", str(place.address), "--linger", str(how.linger), "--log", str(book)]
    child = Child([*how.command, *flags, *(["--tied"] if is_tied else [])], is_tied, book)
    until = time.monotonic() + READY
    while time.monotonic() < until:
        gone = child.status() is not None
        if found := _attached(place, how):
            return (*found, None if gone else child)
        if gone:
            raise CraneError(
                f"The engine did not start (exit status {child.status()}). The end of its log, {book}:\n"
                + logbook.tail(book)
            )
        time.sleep(0.01)
    child.kill()
    raise CraneError(
        f"The engine was not ready within {READY:.0f} seconds and was ended. The end of its log, {book}:\n"
        + logbook.tail(book)
    )


def own_command() -> tuple[str, ...]:
    """How this Crane starts its engine: -P, so that no file of the current folder stands in for a module."""
    if getattr(sys, "frozen", False):
        return (sys.executable, "--engine")
    return (sys.executable, "-P", "-m", "crane_app.engine.process.child")


def environment() -> dict[str, str]:
    """For a process of ours; it says where this package lies, since -P takes away the folder it may be found in."""
    root = Path(__file__).parents[3]
    if getattr(sys, "frozen", False):
        return dict(os.environ)
    if root.name.endswith("-packages"):  # installed: found anyway, and must not come before the standard library
        return dict(os.environ)
    paths = [str(root), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(filter(None, paths)))}

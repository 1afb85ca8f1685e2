"""The engine's process: the main thread is the device thread, the others see to the clients.

Started by a client as `python -P -m crane_app.engine.process.child --socket PATH`, or by the packed app's `--engine`.
It ends when its last client has been gone for `--linger` seconds; a tied one ends with the program that started it.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from crane_app import settings
from crane_app.engine.interface import EngineLike
from crane_app.engine.process import logbook, tied
from crane_app.engine.process.link import Gone, Link, Peer, Refused, greet_client
from crane_app.engine.process.place import Place
from crane_app.engine.process.protocol import ProtocolError
from crane_app.engine.process.visitor import Visitor
from crane_app.version import VERSION

log = logging.getLogger(__name__)

BEAT, DRAIN, GREETING = (
    2.0,
    5.0,
    10.0,
)  # seconds: between beats, for ending after SIGTERM, for a client to say who it is
FIRST = 30.0  # seconds in which the first client must come
BUSY = 3  # exit status: another engine is here already


class Served(EngineLike, Protocol):
    """An engine whose loop is given a thread."""

    def run(self) -> None:
        """Work on this thread until `close`."""


class Host:
    """An engine and its clients."""

    def __init__(self, engine: Served, place: Place, linger: float, version: str, book: Path | None):
        self.engine, self.place, self.linger, self.book = engine, place, linger, book
        self.me = Peer(os.getpid(), version, secrets.token_hex(8))
        self._visitors: set[Visitor] = set()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._changed, self._done, self._stopping = threading.Event(), threading.Event(), threading.Event()
        self._until = time.monotonic() + max(linger, FIRST)  # when to end if nobody is here
        self._listener, self._key = place.listen()

    def run(self) -> None:
        """Serve clients until the engine's loop ends, which runs on this thread."""
        for work in (self._accept, self._watch, self._beat):
            threading.Thread(target=work, name=f"crane{work.__name__}", daemon=True).start()
        log.info("engine %s of Crane %s at %s", self.me.boot, self.me.version, self.place.address)
        try:
            self.engine.run()
        finally:
            self._done.set()
            self._stopping.set()
            for visitor in list(self._visitors):
                visitor.finish("The engine has ended.", 1.0)
            self.place.clear()
            self._listener.close()

    def stop(self, drain: bool, seconds: float) -> None:
        """End: after what is running, but within `seconds`. Returns at once; from any thread."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        threading.Thread(target=self._stop, args=(drain, seconds), daemon=True).start()

    def _stop(self, drain: bool, seconds: float) -> None:
        threading.Thread(target=self.engine.close, args=(drain,), daemon=True).start()
        if drain and not self._done.wait(seconds):
            threading.Thread(target=self.engine.close, args=(False,), daemon=True).start()
        if not self._done.wait(2.0):
            log.warning("the engine's thread does not end; the process does")
            _vanish(self.place)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._receive, args=(sock,), name="crane-read", daemon=True).start()

    def _receive(self, sock: socket.socket) -> None:
        """One connection, from the greeting to its end."""
        link = Link(sock)
        try:
            if self._stopping.is_set():
                raise Gone("the engine is ending")
            link.patience(GREETING)
            peer = greet_client(link, self._key, self.me)
            link.patience(None)
        except (Gone, Refused, ProtocolError) as error:
            log.warning("a connection was refused: %s", error)
            link.close()
            return
        visitor = Visitor(link, peer, self.engine, next(self._numbers))
        with self._lock:
            self._visitors.add(visitor)
        log.info("client %d is process %d", visitor.number, peer.pid)
        try:
            visitor.serve()
        finally:
            with self._lock:
                self._visitors.discard(visitor)
                self._until = time.monotonic() + self.linger
            self._changed.set()

    def _watch(self) -> None:
        """End when nobody is left, hang up on who does not read, keep the log short."""
        while not self._stopping.is_set():
            self._changed.wait(min(1.0, max(self._until - time.monotonic(), 0.0)) if not self._visitors else 1.0)
            self._changed.clear()
            for visitor in list(self._visitors):
                visitor.check()
            if self.book is not None:
                logbook.rotate(self.book)
            with self._lock:
                if not self._visitors and time.monotonic() >= self._until:
                    log.info("the last client has gone")
                    self.stop(drain=False, seconds=0)

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            try:
                phase = self.engine.stats().phase
            except Exception:
                log.exception("the engine cannot say what it does")
                continue
            for visitor in list(self._visitors):
                visitor.beat(phase)


def serve(engine: Served, place: Place, linger: float = 10.0, version: str = VERSION, book: Path | None = None) -> None:
    """Serve clients at `place`, whose engine.lock is held, until nobody is left or SIGTERM; on the main thread.

    book: the log that descriptors 1 and 2 go to, to be kept short.
    """
    host = Host(engine, place, linger, version, book)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program in front
    _on_terminate(host)
    host.run()


def _on_terminate(host: Host) -> None:
    """First SIGTERM: end within DRAIN seconds; second: now. A thread hears it: the main one may be in native code."""
    heard, rung = socket.socketpair()
    rung.setblocking(False)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.set_wakeup_fd(rung.detach(), warn_on_full_buffer=False)

    def listen() -> None:
        for count in itertools.count(1):
            while heard.recv(1)[0] != signal.SIGTERM:
                pass
            log.info("asked to end (%d)", count)
            _vanish(host.place) if count > 1 else host.stop(drain=True, seconds=DRAIN)

    threading.Thread(target=listen, name="crane-signals", daemon=True).start()


def _engine() -> Served:
    from crane_app.engine.engine import Engine
    from crane_app.library.store import Store

    limit, reuse, idle = (settings.now(name) for name in ("gpu-memory-limit", "prefix-reuse", "idle-unload"))
    return Engine(
        start=False,
        store=Store(limit=lambda: settings.now("ready-size") << 20),
        memory_limit=limit or "",
        reuse=reuse or "all",
        threads=settings.now("threads"),
        idle_s=idle * 60 or None,
    )


def main(argv: Sequence[str] | None = None, make: Callable[[], Served] = _engine, version: str = VERSION) -> int:
    """Run an engine made by `make` as this process. Status: 0 ended, 1 failed (see the log), 3 one is here already."""
    args = _parser().parse_args(argv)
    lifeline = os.dup(0) if args.tied else -1
    logbook.capture(args.log)
    place = Place(args.socket.parent, args.socket.suffix == ".port")
    place.open()
    os.chdir(place.folder)  # the folder it was started in is not ours to hold
    with place.lock("engine", 10.0) as held:
        if not held:
            log.info("another engine is at %s", place.folder)
            return BUSY
        if args.tied:
            tied.follow(lifeline, lambda: _vanish(place))
        try:
            serve(make(), place, 0.0 if args.tied else args.linger, version, args.log)
        except BaseException:
            log.exception("the engine failed")
            place.clear()
            return 1
    return 0


def _vanish(place: Place) -> None:
    """End now, whatever is running."""
    place.clear()
    os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crane --engine", description="The engine's process.")
    parser.add_argument("--socket", type=Path, required=True, help="Address to listen at")
    parser.add_argument("--linger", type=float, default=10.0, help="Seconds to stay without a client")
    parser.add_argument("--tied", action="store_true", help="End with the program at the other end of standard input")
    parser.add_argument("--log", type=Path, default=logbook.log_path(), help="File for everything printed")
    return parser


def leave(status: int) -> None:
    """Leave without waiting for threads of libraries that do not end."""
    logging.shutdown()
    late = threading.Timer(DRAIN, os._exit, (status,))
    late.daemon = True
    late.start()
    sys.exit(status)


if __name__ == "__main__":
    leave(main())

"""One connection, seen from a client: who waits for what, until the engine or the client ends it."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any

from crane_app.engine.process.link import Gone, Link, Peer
from crane_app.engine.process.protocol import ANSWERS, Frame, Message, ProtocolError, encode
from crane_app.engine.request import End, Event, Stream, error_of
from crane_app.errors import CraneError

log = logging.getLogger(__name__)
CREDIT = 1 << 20  # bytes read by the stream's reader after which the engine hears of it


class Ended(Exception):
    """The session was over before this could be said, or answered."""


class RemoteStream(Stream):
    """A stream that an engine process fills.

    doing, what: its purpose, as in 'answering with' and a model's name; said: the message that asks for it, until the
    engine has taken it; noticed: called with each event that comes from the engine, before the reader has it.
    """

    def __init__(self, id: str, doing: str, what: str, noticed: Callable[[RemoteStream, Event], object]):
        super().__init__(id, self._ask_to_end)
        self.doing, self.what, self.noticed = doing, what, noticed
        self.session: Session | None = None
        self.said: tuple[str, dict[str, Any]] | None = None
        self.repeated = self.over = self._unwanted = False
        self._guard = threading.Lock()
        self._sizes: deque[int] = deque()
        self._unsaid = self._number = 0

    def deliver(self, event: Event, nbytes: int = 0) -> None:
        """From any thread; only the first End counts."""
        with self._guard:
            if not self.over:
                self.over = isinstance(event, End)
                self._sizes.append(nbytes)
                self.put(event)

    def get(self, timeout: float | None = None) -> Event:
        event = super().get(timeout)
        self._unsaid += self._sizes.popleft()
        if self._unsaid >= CREDIT and not self.over and self.session is not None:
            self.session.tell("credit", self._number, nbytes=self._unsaid)
            self._unsaid = 0
        return event

    def sent(self, session: Session, number: int) -> bool:
        """It is under way as `number`; False if it was cancelled before."""
        with self._guard:
            self.session, self._number = session, number
            return not self.over

    def recall(self) -> bool:
        """It was never under way and may be sent once more; False if nobody wants it any longer."""
        with self._guard:
            self.session, self.repeated, wanted = None, True, not self._unwanted
        if not wanted:
            self.deliver(End("cancelled"))
        return wanted

    def _ask_to_end(self) -> None:
        with self._guard:
            self._unwanted, session = True, self.session
        if session is None:
            self.deliver(End("cancelled"))
        else:
            session.tell("cancel", self._number)


class Session:
    """Streams and calls over one link. `ended` is called once, with the streams that were under way."""

    def __init__(self, link: Link, peer: Peer, ended: Callable[[Session, list[RemoteStream]], None]):
        self.link, self.peer, self._ended = link, peer, ended
        self.phase, self.heard = "idle", time.monotonic()
        self.alive = True
        self.settled = threading.Event()  # it is not alive, and `ended` has been told
        self.farewell: str | None = None  # what the engine said before it closed the connection; empty: we close it
        self._numbers = itertools.count(1)
        self._streams: dict[int, RemoteStream] = {}
        self._calls: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._empty = threading.Condition(self._lock)
        self._outbox: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read)]
        for thread in self._threads:
            thread.start()

    def begin(self, kind: str, stream: RemoteStream, **said: Any) -> None:
        """Send what `stream` is for. Ended if the engine has gone; BadInput if it cannot travel."""
        number = next(self._numbers)
        frame = encode(kind, number, **said)
        with self._lock:
            if not self.alive:
                raise Ended
            if not stream.sent(self, number):
                return
            self._streams[number] = stream
            self._outbox.put(frame)

    def call(self, kind: str, seconds: float, **said: Any) -> Any:
        """The engine's answer. Its error is raised here; Ended if it dies, CraneError if it takes over `seconds`."""
        number, answer = next(self._numbers), Future[Any]()
        frame = encode(kind, number, **said)
        with self._lock:
            if not self.alive:
                raise Ended
            self._calls[number] = answer
            self._outbox.put(frame)
        try:
            return answer.result(seconds)
        except NotYet:
            raise CraneError(
                f"The engine has not answered for {seconds:.0f} seconds; it was last heard of {self.silent_s:.0f} "
                f"seconds ago ({self.phase}). Try again later."
            ) from None
        finally:
            with self._lock:
                self._calls.pop(number, None)

    def tell(self, kind: str, number: int, **said: Any) -> None:
        """Say something that has no answer, after what was said before."""
        with self._lock:
            self._outbox.put(encode(kind, number, **said))

    @property
    def silent_s(self) -> float:
        """Seconds since the engine last said anything."""
        return time.monotonic() - self.heard

    def drain(self, seconds: float) -> None:
        """Wait until no stream is under way, but not longer."""
        with self._empty:
            self._empty.wait_for(lambda: not self._streams, seconds)

    def close(self) -> None:
        """End it from our side: what is under way is cancelled."""
        self.farewell = ""
        self._outbox.put(None)
        self._threads[0].join(1.0)
        self.link.hang_up()
        if threading.current_thread() is not self._threads[1]:
            self._threads[1].join(5.0)

    def _write(self) -> None:
        try:
            while (frame := self._outbox.get()) is not None:
                self.link.write([frame])
        except Gone:
            pass
        self.link.hang_up()

    def _read(self) -> None:
        try:
            while True:
                self._take(self.link.read(ANSWERS))
        except Gone:
            pass
        except ProtocolError:
            log.exception("the engine said something strange; it is taken for dead")
        finally:
            self._finish()

    def _take(self, message: Message) -> None:
        self.heard = time.monotonic()
        kind, number, said = message.kind, message.id, message.fields
        if kind == "beat":
            self.phase = said["phase"]
        elif kind == "closing":
            self.farewell = said["sentence"]
        elif kind in ("reply", "failed"):
            with self._lock:
                answer = self._calls.pop(number, None)
            if answer is not None and kind == "reply":
                answer.set_result(said["value"])
            elif answer is not None:
                answer.set_exception(error_of(said["end"]))
        else:
            self._advance(number, said.get("event"), message.nbytes)

    def _advance(self, number: int, event: Event | None, nbytes: int) -> None:
        """An event of a stream, or None: the engine has taken it."""
        with self._empty:
            stream = self._streams.get(number)
            if isinstance(event, End):
                self._streams.pop(number, None)
                self._empty.notify_all()
        if stream is not None and event is None:
            stream.said = None
        elif stream is not None and event is not None:
            stream.noticed(stream, event)
            stream.deliver(event, nbytes)

    def _finish(self) -> None:
        with self._empty:
            self.alive = False
            streams, calls = list(self._streams.values()), list(self._calls.values())
            self._streams.clear()
            self._calls.clear()
            self._empty.notify_all()
        self._outbox.put(None)
        self._threads[0].join(5.0)
        self.link.close()
        try:
            self._ended(self, streams)
        finally:
            self.settled.set()
            for answer in calls:
                answer.set_exception(Ended())

"""One client, seen from the engine: what it asks, and the way of its streams' events to it.

A thread reads, a thread writes, and a thread follows each stream, so that the engine's own thread only ever puts events
into a Stream. What a client does not take waits here, within limits: a stream has a window of bytes that its reader has
not taken, all streams of a client together a backlog.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from crane_app.engine.interface import EngineLike
from crane_app.engine.process.link import Gone, Link, Peer
from crane_app.engine.process.protocol import ASKS, Frame, Message, ProtocolError, encode
from crane_app.engine.request import End, Stream, failed
from crane_app.errors import BadInput, Cancelled, CraneError

log = logging.getLogger(__name__)

WINDOW = 4 << 20  # bytes of a stream on their way or unread at the client
BACKLOG = 256 << 20  # bytes of all streams of a client that wait here
PATIENCE = 30.0  # seconds that a client may leave its socket unread
STREAMS, CALLS = 1024, 64  # of one client, at once
BATCH = 1 << 18  # bytes that are gathered for one write
ENDLESS = 1 << 62


@dataclass
class Flow:
    """One stream on its way. room: bytes that its client would still take; cut: the rest is dropped."""

    id: int
    stream: Stream
    room: int
    waiting: deque[tuple[Frame, bool]] = field(default_factory=deque)  # with True for the last
    nbytes: int = 0
    ready: bool = False  # in the writer's round
    cut: bool = False


class Visitor:
    """Serves one client after the greeting. Several threads; `_change` guards the flows and what is to be written."""

    def __init__(self, link: Link, peer: Peer, engine: EngineLike, number: int):
        self.link, self.peer, self.engine, self.number = link, peer, engine, number
        self._change = threading.Condition()
        self._control: deque[Frame] = deque()
        self._round: deque[Flow] = deque()
        self._flows: dict[int, Flow] = {}
        self._calls = threading.Semaphore(CALLS)
        self._waiting = 0  # bytes in all flows
        self._gone = self._finishing = False
        self._writer = threading.Thread(target=self._write, name=f"crane-write-{number}", daemon=True)

    def serve(self) -> None:
        """Read and obey until the client has gone; then end what it left."""
        self._writer.start()
        try:
            while True:
                self._obey(self.link.read(ASKS))
        except Gone:
            log.info("client %d (process %d) has gone", self.number, self.peer.pid)
        except ProtocolError as error:
            log.warning("client %d (process %d) is cut off: %s", self.number, self.peer.pid, error)
        finally:
            self._leave()

    def beat(self, phase: str) -> None:
        """Tell the client what the engine does, unless it does not listen."""
        if len(self._control) < 100:
            self._say(encode("beat", phase=phase))

    def check(self) -> None:
        """Hang up on a client that has left its socket unread for PATIENCE seconds."""
        since = self.link.busy_since
        if since is not None and time.monotonic() - since > PATIENCE:
            log.warning("client %d (process %d) does not read; its requests are cancelled", self.number, self.peer.pid)
            self.link.hang_up()

    def finish(self, sentence: str, seconds: float) -> None:
        """The engine has ended: let what was said reach the client, then hang up."""
        self._say(encode("closing", sentence=sentence))
        with self._change:
            for flow in list(self._flows.values()):
                self._widen(flow, ENDLESS)
            self._change.wait_for(lambda: self._gone or not self._flows, seconds)
            self._finishing = True
            self._change.notify_all()
        self._writer.join(seconds)
        self.link.hang_up()

    # What the client asks

    def _obey(self, message: Message) -> None:
        kind, id, said = message.kind, message.id, message.fields
        if kind in ("submit", "open", "load"):
            self._start(kind, id, said)
        elif kind == "cancel":
            with self._change:
                flow = self._flows.get(id)
                if flow is not None:
                    self._widen(flow, ENDLESS)  # who has cancelled may read no more, and is still owed the End
            if flow is not None:
                flow.stream.cancel()
        elif kind == "credit":
            with self._change:
                flow = self._flows.get(id)
                if flow is not None:
                    self._widen(flow, min(said["nbytes"], WINDOW - flow.room))
        elif self._calls.acquire(blocking=False):
            threading.Thread(target=self._call, args=(kind, id, said), daemon=True).start()
        else:
            self._say(encode("failed", id, end=failed(CraneError(f"More than {CALLS} questions at once."))))

    def _start(self, kind: str, id: int, said: dict[str, Any]) -> None:
        with self._change:
            if id in self._flows:
                raise ProtocolError(f"The client uses the number {id} twice.")
            full = len(self._flows) >= STREAMS
        try:
            if full:
                raise CraneError(f"A program may have {STREAMS} requests under way at once. Wait for some to end.")
            stream = self._begin(kind, id, said)
        except Exception as error:
            if not isinstance(error, CraneError):
                log.exception("%s failed", kind)
            self._say(encode("event", id, event=failed(error)))
            return
        flow = Flow(id, stream, WINDOW)
        with self._change:
            self._flows[id] = flow
        self._say(encode("taken", id))
        threading.Thread(target=self._follow, args=(flow,), name=f"crane-stream-{id}", daemon=True).start()

    def _begin(self, kind: str, id: int, said: dict[str, Any]) -> Stream:
        """Clients choose ids without knowing of each other, so the engine hears one that no other client can send."""
        if kind == "submit":
            return self.engine.submit(replace(said["request"], id=f"{self.number}-{id}"))
        if kind == "open":
            return self.engine.open(replace(said["job"], id=f"{self.number}-{id}"))
        return self.engine.load(**said)

    def _call(self, kind: str, id: int, said: dict[str, Any]) -> None:
        """kind: one of protocol's questions, each of which is a method of the engine."""
        try:
            self._say(encode("reply", id, value=getattr(self.engine, kind)(**said)))
        except Exception as error:
            if not isinstance(error, CraneError):
                log.exception("%s failed", kind)
            self._say(encode("failed", id, end=failed(error)))
        finally:
            self._calls.release()

    # The events' way out

    def _follow(self, flow: Flow) -> None:
        """Everything a stream gives, until its End."""
        last = False
        while not last:
            event = flow.stream.get()
            last = isinstance(event, End)
            if not flow.cut:
                self._push(flow, event, last)

    def _push(self, flow: Flow, event: Any, last: bool) -> None:
        try:
            frame = encode("event", flow.id, event=event)
        except BadInput as error:
            self._cut(flow, error)
            return
        fattest = None
        with self._change:
            if self._gone:
                flow.cut = True
                return
            self._append(flow, frame, last)
            if self._waiting > BACKLOG:
                fattest = max(self._flows.values(), key=lambda flow: flow.nbytes)
        if fattest is not None:
            size = f"{BACKLOG / 1e6:.0f} MB"
            self._cut(fattest, Cancelled(f"This was stopped because nobody took what it gave: {size} were waiting."))

    def _cut(self, flow: Flow, error: CraneError) -> None:
        """Cancel it, drop what waits, and say why instead."""
        frame = encode("event", flow.id, event=failed(error))
        with self._change:
            if flow.cut:
                return
            flow.cut = True
            self._waiting -= flow.nbytes
            flow.waiting.clear()
            flow.nbytes = 0
            self._append(flow, frame, True)
        flow.stream.cancel()

    def _append(self, flow: Flow, frame: Frame, last: bool) -> None:
        flow.waiting.append((frame, last))
        flow.nbytes += frame.nbytes
        self._waiting += frame.nbytes
        self._widen(flow, 0)

    def _widen(self, flow: Flow, nbytes: int) -> None:
        """More room; a flow with room and something waiting joins the writer's round."""
        flow.room += max(nbytes, 0)
        if flow.room > 0 and flow.waiting and not flow.ready:
            flow.ready = True
            self._round.append(flow)
            self._change.notify_all()

    def _say(self, frame: Frame) -> None:
        with self._change:
            self._control.append(frame)
            self._change.notify_all()

    def _write(self) -> None:
        try:
            while frames := self._next():
                self.link.write(frames)
        except Gone:
            pass
        finally:
            self.link.hang_up()

    def _next(self) -> list[Frame]:
        """What to write now: what is no event first, then a frame of each flow in turn. Empty: nothing any more."""
        with self._change:
            self._change.wait_for(lambda: self._gone or self._control or self._round or self._finishing)
            if self._gone:
                return []
            frames, nbytes = list(self._control), 0
            self._control.clear()
            while self._round and nbytes < BATCH:
                flow = self._round.popleft()
                frames.append(self._pop(flow))
                nbytes += frames[-1].nbytes
            return frames

    def _pop(self, flow: Flow) -> Frame:
        """The flow's next frame; it goes to the end of the round if it has more. A flow in the round has one."""
        flow.ready = False
        frame, last = flow.waiting.popleft()
        flow.room -= frame.nbytes
        flow.nbytes -= frame.nbytes
        self._waiting -= frame.nbytes
        if last:
            self._forget(flow)
        self._widen(flow, 0)
        return frame

    def _forget(self, flow: Flow) -> None:
        self._flows.pop(flow.id, None)
        self._change.notify_all()

    def _leave(self) -> None:
        with self._change:
            self._gone = True
            flows = list(self._flows.values())
            self._flows.clear()
            self._change.notify_all()
        for flow in flows:
            flow.stream.cancel()
        self.link.hang_up()
        self._writer.join()
        self.link.close()

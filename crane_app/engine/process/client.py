"""The engine over a socket: the same methods, from a process that loads no model and no tensor library.

Attaches to the user's engine or starts it; when that dies, every stream ends with a sentence, and the next call starts
another. What was loaded is loaded again when a request names it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crane_app.engine.beside import here
from crane_app.engine.process.crashes import Crash, Ledger
from crane_app.engine.process.link import Peer
from crane_app.engine.process.place import Place, shared_place
from crane_app.engine.process.reach import Child, Start, own_command, reach, reach_new, tidy
from crane_app.engine.process.session import Ended, RemoteStream, Session
from crane_app.engine.request import End, Event, Job, ModelCard, Part, Request, Stats, Stream, failed
from crane_app.errors import Cancelled, CraneError, DeviceLost

log = logging.getLogger(__name__)

QUICK, SLOW, DRAIN = 10.0, 60.0, 30.0  # seconds: for a look, for giving memory back, for what is under way at the end
SETTLING = 5.0  # seconds for what must be said of a death before a new engine is sought
FIRST_PAUSE, LONGEST_PAUSE, CALM = 0.1, 5.0, 60.0  # seconds: before the second restart within CALM; before any
ANEW = "Try again; the engine starts anew."
LOST = f"The engine stopped before it took this, so nothing was done. {ANEW}"
LOADING, ANSWERING, WORKING = "loading", "answering with", "working with"


@dataclass(frozen=True)
class Known:
    """A model that was loaded: how, in which engine, and what was wished for it."""

    folder: str
    choices: dict[str, Any]
    boot: str
    wishes: dict[str, dict[str, Any]] = field(default_factory=dict)


def connect(
    new_engine: bool = False, start: bool = True, place: Place | None = None, how: Start | None = None
) -> Client:
    """The engine of this user: the running one, else a new one if `start`; with `new_engine` one for us alone.

    Raises CraneError with the end of the engine's log if it does not start, Unsupported if it is of another version.
    """
    return Client(place or shared_place(), how or Start(own_command()), start, new_engine)


class Client:
    """See interface.EngineLike; made by `connect`."""

    def __init__(self, place: Place, how: Start, start: bool, new_engine: bool):
        self._place, self._how, self._start, self._new = place, how, start, new_engine
        self._connecting, self._reloading = threading.Lock(), threading.Lock()
        self._known: dict[str, Known] = {}
        self._ledger = Ledger()
        self._deaths: list[float] = []
        self._child: Child | None = None
        self._closed = self.attached = False
        self.last_crash: Crash | None = None
        self._session = self._reach()

    # What a client says

    def submit(self, request: Request) -> Stream:
        stream = RemoteStream(request.id or _fresh(), ANSWERING, request.model, self._notice)
        return self._send(stream, "submit", {"request": request})

    def open(self, job: Job) -> Stream:
        stream = RemoteStream(job.id or _fresh(), WORKING, job.model or "", self._notice)
        return self._send(stream, "open", {"job": job})

    def embed(
        self, model: str, texts: Sequence[str | Sequence[int]], pooling: str = "last", normalise: bool = True
    ) -> Stream:
        options = {"pooling": pooling, "normalise": normalise}
        return self.open(Job("embed", [x if isinstance(x, str) else list(x) for x in texts], options, model))

    def score(self, model: str, text: str | Sequence[int], top: int = 0) -> Stream:
        return self.open(Job("score", text if isinstance(text, str) else list(text), {"top": top}, model))

    def load(
        self,
        folder: str,
        name: str | None = None,
        backend: str | None = None,
        device: str = "auto",
        dtype: str | None = None,
        quantize: str | None = None,
        exact: bool = False,
        kv_cache: str = "auto",
        draft: str | None = None,
    ) -> Stream:
        path = Path(folder).expanduser()
        said: dict[str, Any] = {"name": name, "backend": backend, "device": device, "dtype": dtype}
        said |= {"quantize": quantize, "exact": exact, "kv_cache": kv_cache, "draft": draft}
        stream = self._loading(str(path.absolute()) if path.exists() else folder, said)
        return self._send(stream, "load", {"folder": stream.what, **said})

    def unload(self, name: str) -> None:
        known, session = self._known.pop(name, None), self._session
        if known is None or (session.alive and known.boot == session.peer.boot):
            with contextlib.suppress(Ended):  # an engine that has died has given it back
                self._reached().call("unload", SLOW, name=name)

    def pin(self, name: str, on: bool = True) -> None:
        self._wish("pin", name, {"on": on})

    def keep(self, name: str, seconds: float | None) -> None:
        self._wish("keep", name, {"seconds": seconds})

    def models(self) -> list[ModelCard]:
        cards: list[ModelCard] = self._look("models")
        return cards

    def stats(self) -> Stats:
        stats: Stats = self._look("stats")
        return replace(stats, held=(*stats.held, *here()))

    def flush(self) -> None:
        with contextlib.suppress(Ended):
            self._reached().call("flush", SLOW)

    def close(self, drain: bool = True) -> None:
        """Leave: a shared engine goes on for its other clients. With `drain` waits for our streams, at most DRAIN."""
        if self._closed:
            return
        self._closed = True
        if drain:
            self._session.drain(DRAIN)
        self._session.close()
        if self._new and self._child is not None and self._child.status(5.0) is None:
            self._child.kill()
        tidy(self._place)

    def forget(self, model: str) -> bool:
        """Let a model, by name or folder, be loaded again after it was set aside; False if it was not."""
        return self._ledger.forget(self._folder(model))

    # How the engine is

    @property
    def phase(self) -> str:
        """What the engine was doing when it was last heard of."""
        return self._session.phase

    @property
    def silent_s(self) -> float:
        """Seconds since it was last heard of. Ten are no death: say what it is doing, and offer to end it."""
        return self._session.silent_s

    @property
    def peer(self) -> Peer:
        """The engine's process and version."""
        return self._session.peer

    # Sending, with a new engine if there is none any more

    def _send(self, stream: RemoteStream, kind: str, said: dict[str, Any]) -> Stream:
        """At once if the engine is there and has the model; else from a thread that sees to both."""
        stream.said = (kind, said)
        session, known = self._session, self._known.get(stream.what)
        try:
            if session.alive and not self._closed and (known is None or known.boot == session.peer.boot):
                self._begin(session, stream)
                return stream
        except Ended:
            pass
        except CraneError as error:
            stream.deliver(failed(error))
            return stream
        self._revive_soon(stream)
        return stream

    def _revive_soon(self, stream: RemoteStream) -> None:
        threading.Thread(target=self._revive, args=(stream,), name="crane-revive", daemon=True).start()

    def _revive(self, stream: RemoteStream) -> None:
        """A new engine if there is none, with the stream's model in it; then send it."""
        try:
            session = self._reached()
            if stream.doing != LOADING:
                self._reload(session, stream.what)
            self._begin(session, stream)
        except Ended:
            stream.deliver(failed(DeviceLost(LOST)))
        except Exception as error:
            stream.deliver(failed(error))

    def _begin(self, session: Session, stream: RemoteStream) -> None:
        if stream.doing == LOADING:
            self._ledger.check(stream.what)
        if stream.said is not None:
            kind, said = stream.said
            session.begin(kind, stream, **said)

    def _look(self, kind: str) -> Any:
        """Ask what can be asked twice."""
        for _ in range(2):
            with contextlib.suppress(Ended):
                return self._reached().call(kind, QUICK)
        raise DeviceLost(LOST)

    def _loading(self, folder: str, choices: dict[str, Any]) -> RemoteStream:
        """A stream that remembers the model when its card comes."""

        def notice(stream: RemoteStream, event: Event) -> None:
            self._notice(stream, event)
            if isinstance(event, Part) and isinstance(event.value, ModelCard) and stream.session is not None:
                name = event.value.name
                before = self._known.get(name)
                wishes = before.wishes if before is not None else {}
                self._known[name] = Known(folder, {**choices, "name": name}, stream.session.peer.boot, wishes)

        return RemoteStream(_fresh(), LOADING, folder, notice)

    def _notice(self, stream: RemoteStream, event: Event) -> None:
        if isinstance(event, End) and event.reason != "cancelled":
            self._ledger.survived(stream.doing, self._folder(stream.what))

    def _reload(self, session: Session, model: str) -> None:
        """Load a model that an earlier engine had."""
        with self._reloading:
            known = self._known.get(model)
            if known is None or known.boot == session.peer.boot:
                return
            stream = self._loading(known.folder, known.choices)
            stream.said = ("load", {"folder": known.folder, **known.choices})
            self._begin(session, stream)
            for _ in stream:
                pass
            for kind, wish in known.wishes.items():
                session.call(kind, QUICK, name=model, **wish)

    def _wish(self, kind: str, name: str, wish: dict[str, Any]) -> None:
        """Ask for it, and once more of the next engine that loads the model again."""
        self._reached().call(kind, QUICK, name=name, **wish)
        if known := self._known.get(name):
            known.wishes[kind] = wish

    # Connecting

    def _reached(self) -> Session:
        """The session, a new one if the engine has gone: tried once."""
        with self._connecting:
            if self._closed:
                raise Cancelled("The connection to the engine was closed.")
            if not self._session.alive:
                self._session.settled.wait(SETTLING)
                self._pause()
                self._session = self._reach()
            if self._closed:
                self._session.close()
            return self._session

    def _reach(self) -> Session:
        if self._new:
            link, peer, self._child = reach_new(self._place, self._how)
        else:
            link, peer, self._child = reach(self._place, self._how, self._start)
        self.attached = self._child is None
        return Session(link, peer, self._over)

    def _pause(self) -> None:
        """Longer with each death of late, so that a machine in trouble is left some air."""
        now = time.monotonic()
        self._deaths = [when for when in self._deaths if now - when < CALM]
        if len(self._deaths) > 1:
            pause = min(FIRST_PAUSE * 2 ** (len(self._deaths) - 2), LONGEST_PAUSE)
            time.sleep(max(self._deaths[-1] + pause - now, 0.0))

    # Deaths

    def _over(self, session: Session, streams: list[RemoteStream]) -> None:
        """The session has ended: say so to every stream, and remember why."""
        if session.farewell is not None:
            for stream in streams:
                stream.deliver(failed(Cancelled(session.farewell)) if session.farewell else End("cancelled"))
            return
        self._deaths.append(time.monotonic())
        lost, begun = [s for s in streams if s.said is not None], [s for s in streams if s.said is None]
        blamed = self._blamed(begun)
        self.last_crash = Crash(
            pid=session.peer.pid,
            phase=", ".join(" ".join(one) for one in sorted(blamed)) or session.phase,
            status=self._child.status(0.5) if self._child is not None else None,
            lost=tuple(stream.id for stream in lost),
            interrupted=tuple(stream.id for stream in begun),
        )
        log.info("the engine died: %s", self.last_crash)
        for doing, folder in blamed:
            self._ledger.died(doing, folder)
        for stream in lost:
            self._repeat(stream)
        for stream in begun:
            kept = "" if stream.doing == LOADING else " What came so far is kept."
            doing = f"{stream.doing} {stream.what}".strip()
            sentence = f"The engine stopped while it was {doing}{self.last_crash.cause}.{kept} {ANEW}"
            stream.deliver(failed(DeviceLost(sentence)))

    def _repeat(self, stream: RemoteStream) -> None:
        """Nothing was done for it yet, so the next engine gets it; but only once, lest it was what killed this one."""
        if stream.repeated:
            stream.deliver(failed(DeviceLost(LOST)))
        elif stream.recall():
            self._revive_soon(stream)

    def _blamed(self, streams: list[RemoteStream]) -> set[tuple[str, str]]:
        """Who loads is suspected first. Nobody else is, where work without a model was under way."""
        loading, modelless = [s for s in streams if s.doing == LOADING], any(not s.what for s in streams)
        suspects = loading or ([] if modelless else streams)
        return {(stream.doing, self._folder(stream.what)) for stream in suspects}

    def _folder(self, model: str) -> str:
        """Of a model that was loaded here by its name; anything else stands for itself."""
        known = self._known.get(model)
        return known.folder if known is not None else model


def _fresh() -> str:
    return uuid.uuid4().hex[:12]

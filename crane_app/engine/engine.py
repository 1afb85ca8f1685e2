"""The engine: one loop on one thread that owns every tensor; several models, requests and jobs at once.

Each turn serves one model's scheduler for a step or one job for a breath (about 50 ms), whoever is most urgent by lane
and age. Host work (tokenising, templates) runs on a small pool; its result comes back as a command.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from crane_app.engine.jobs import KINDS, Activity, loading_job
from crane_app.engine.models import Shelf, Shelved
from crane_app.engine.prepare import prepare
from crane_app.engine.request import LANES, Job, ModelCard, Request, Stats, Stream, failed
from crane_app.engine.sequence import Sequence
from crane_app.engine.tracking import Tracked
from crane_app.errors import Cancelled, CraneError, ModelNotFound

log = logging.getLogger(__name__)
Command = Callable[[], None]
QUEUE = 1024  # requests and jobs under way at once; more are refused


@dataclass
class Counters:
    """What has been done since the start."""

    started: float = field(default_factory=time.monotonic)
    steps: int = 0
    tokens: int = 0


class Engine:
    """See interface.EngineLike. With `start` it runs on a thread of its own, else the caller gives it one by `run`."""

    def __init__(self, start: bool = True, workers: int = 2):
        self.phase = "idle"
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._tracked: dict[str, Tracked] = {}
        self._activities: list[Activity] = []
        self._timed: list[Tracked] = []
        self._preparing = 0  # requests on the pool
        self._shelf = Shelf()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="crane-host")
        self._counters = Counters()
        self._closing: bool | None = None  # None: open; True: draining; False: at once
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        if start:
            self._thread = threading.Thread(target=self.run, name="crane-device", daemon=True)
            self._thread.start()

    # Called from any thread

    def submit(self, request: Request) -> Stream:
        tracked = self._track(request.id, request.lane)
        if tracked.ended:
            return tracked.stream
        self._do(lambda: self._count(1))
        self._pool.submit(self._prepare, request, tracked)
        return tracked.stream

    def open(self, job: Job) -> Stream:
        tracked = self._track(job.id, job.lane)
        if not tracked.ended:
            self._do(lambda: self._start(tracked, lambda: KINDS[job.kind](self._shelf, job), job.kind))
        return tracked.stream

    def load(
        self,
        folder: str,
        name: str | None = None,
        backend: str | None = None,
        device: str = "auto",
        dtype: str | None = None,
    ) -> Stream:
        tracked = self._track("", "chat")
        if not tracked.ended:
            job = loading_job(self._shelf, folder, name, backend, device, dtype)
            self._do(lambda: self._start(tracked, lambda: job, f"loading {folder}"))
        return tracked.stream

    def unload(self, name: str) -> None:
        self._ask(lambda: self._unload(name))

    def models(self) -> list[ModelCard]:
        return self._shelf.cards()

    def stats(self) -> Stats:
        counters, rows = self._counters, self._shelf.rows()
        return Stats(
            phase=self.phase,
            running=rows.running,
            waiting=rows.waiting,
            models=len(self._shelf.cards()),
            weights_nbytes=sum(card.nbytes for card in self._shelf.cards()),
            cache_nbytes=rows.cache_nbytes,
            steps=counters.steps + rows.steps,
            tokens=counters.tokens + rows.tokens,
            uptime_s=time.monotonic() - counters.started,
            pid=os.getpid(),
        )

    def flush(self) -> None:
        """Nothing is kept for reuse yet but the libraries' own spare memory."""
        self._ask(self._shelf.trim)

    def close(self, drain: bool = True) -> None:
        if self._thread is None:
            self._closing = False
            self._end_all(Cancelled())
            self._ended.set()
        self._do(lambda: self._close(drain))
        if threading.current_thread() is not self._thread:
            self._ended.wait()

    # On the device thread

    def run(self) -> None:
        """The loop, until `close`."""
        try:
            self._thread = threading.current_thread()
            while self._closing is None or (self._closing and self._working()):
                self._obey()
                self._turn()
        except BaseException as error:
            log.exception("the device thread failed")
            self._end_all(error)
            raise
        finally:
            self._end_all(Cancelled("The engine was closed."))
            self._shelf.clear()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._ended.set()

    def _obey(self) -> None:
        """Run everything asked meanwhile; with nothing to do, wait for something."""
        idle = self._closing is None and not self._working()
        try:
            command = self._commands.get(block=idle)
            while True:
                try:
                    command()
                except Exception:
                    log.exception("a command failed")
                command = self._commands.get_nowait()
        except queue.Empty:
            pass

    def _working(self) -> bool:
        return bool(self._activities or self._preparing) or any(s.scheduler.busy for s in self._shelf)

    def _turn(self) -> None:
        """One step of one model, or one breath of one job."""
        now = time.monotonic()
        if self._timed:
            for tracked in [t for t in self._timed if t.overdue(now)]:
                tracked.cancel()
            self._timed = [t for t in self._timed if not t.ended]
        candidates: list[tuple[float, Any]] = [(s.scheduler.urgency(now), s) for s in self._shelf if s.scheduler.busy]
        candidates += [(a.urgency(now), a) for a in self._activities]
        if not candidates:
            return
        chosen = min(candidates, key=lambda pair: pair[0])[1]
        if isinstance(chosen, Activity):
            self._breathe(chosen)
        else:
            self.phase = f"generating with {chosen.card.name}"
            chosen.scheduler.step(now)
        if not self._working():
            self.phase = "idle"

    def _breathe(self, activity: Activity) -> None:
        self.phase = activity.doing
        if not activity.breathe():
            self._activities.remove(activity)

    def _start(self, tracked: Tracked, make: Callable[[], Iterator[Any]], doing: str) -> None:
        if tracked.ended:
            return
        try:
            activity = Activity(tracked, make(), doing)
        except Exception as error:
            tracked.end(failed(_unknown(error)))
        else:
            tracked.on_cancel = activity.stop
            self._activities.append(activity)

    def _prepare(self, request: Request, tracked: Tracked) -> None:
        """On the pool: the prompt as tokens, everything resolved; then on to the scheduler."""
        try:
            shelved = self._shelf.get(request.model)
            sequences = prepare(request, shelved, tracked)
        except BaseException as error:
            tracked.end(failed(error))
            self._do(lambda: self._count(-1))
            return
        self._do(lambda: self._admit(shelved, sequences, tracked))

    def _admit(self, shelved: Shelved, sequences: list[Sequence], tracked: Tracked) -> None:
        self._count(-1)
        tracked.admitted = time.monotonic()
        if tracked.deadline is not None:
            self._timed.append(tracked)
        if self._shelf.find(shelved.card.name) is not shelved:
            tracked.end(failed(ModelNotFound(f"The model '{shelved.card.name}' was unloaded.")))
        else:
            shelved.add(sequences, tracked)

    def _count(self, more: int) -> None:
        self._preparing += more

    def _unload(self, name: str) -> None:
        shelved = self._shelf.get(name)
        shelved.end_all()
        self._counters.steps += shelved.scheduler.steps
        self._counters.tokens += shelved.scheduler.tokens
        self._shelf.remove(name)

    def _close(self, drain: bool) -> None:
        self._closing = drain and self._closing is not False

    def _end_all(self, error: BaseException) -> None:
        for activity in self._activities:
            activity.stop()
        self._activities.clear()
        for shelved in self._shelf:
            shelved.end_all(None if isinstance(error, Cancelled) else error)
        for tracked in list(self._tracked.values()):
            tracked.cancel() if isinstance(error, Cancelled) else tracked.end(failed(error))

    # Between the two

    def _do(self, command: Command) -> None:
        self._commands.put(command)

    def _ask(self, command: Command, timeout: float = 60.0) -> None:
        """Run a command on the device thread and wait for it; its error is raised here."""
        if threading.current_thread() is self._thread or self._ended.is_set():
            command()
            return
        done, errors = threading.Event(), []

        def run() -> None:
            try:
                command()
            except BaseException as error:
                errors.append(error)
            done.set()

        self._do(run)
        if not done.wait(timeout):
            raise CraneError(f"The engine is busy ({self.phase}) and did not answer within {timeout:.0f} seconds.")
        if errors:
            raise errors[0]

    def _track(self, id: str, lane: str) -> Tracked:
        """A stream for something new; it has ended already where the engine cannot take it."""
        id = id or f"r{next(self._ids)}"
        tracked = Tracked(id, self._do, lambda: self._tracked.pop(id, None))
        with self._lock:
            if self._closing is not None or self._ended.is_set():
                refused = "The engine is closing. Start it again and send the request once more."
            elif id in self._tracked:
                tracked.forget = lambda: None
                refused = f"A request with the id {id} is under way already."
            elif lane not in LANES:
                refused = f"There is no lane '{lane}'. Use one of: {', '.join(LANES)}."
            elif len(self._tracked) >= QUEUE:
                refused = f"The engine has {QUEUE} requests under way and takes no more. Try again in a moment."
            else:
                self._tracked[id] = tracked
                return tracked
        tracked.end(failed(CraneError(refused)))
        return tracked


def _unknown(error: Exception) -> Exception:
    """A job kind that nobody defined, as a sentence."""
    return CraneError(f"The engine knows no job of the kind {error}.") if isinstance(error, KeyError) else error

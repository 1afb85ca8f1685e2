"""The engine: one loop on one thread that owns every tensor; several models, requests and jobs at once.

Each turn serves one model's scheduler for a step or one job for a breath (about 50 ms), whoever is most urgent by lane
and by how long it has not been served. Host work (tokenising, templates) runs on a small pool; its result comes back as
a command.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Many
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from crane_app.backends import cores
from crane_app.engine.jobs import HOSTED, KINDS, LONG, OF_KINDS, Activity, loading_job, on_device, recalled
from crane_app.engine.loading import How
from crane_app.engine.memory import Memory
from crane_app.engine.models import Shelf, Shelved
from crane_app.engine.planner import Clock, Planner
from crane_app.engine.prefixes import Reuse
from crane_app.engine.prepare import prepare
from crane_app.engine.reading import READER
from crane_app.engine.request import Job, ModelCard, Request, Stats, Stream, failed
from crane_app.engine.sequence import Sequence
from crane_app.engine.storing import Writer
from crane_app.engine.tracking import Tracked, refusal
from crane_app.errors import Cancelled, CraneError, ModelNotFound, Unsupported
from crane_app.library.store import Store

log = logging.getLogger(__name__)
Command = Callable[[], None]
TURN = 0.1  # seconds without the device that are worth one lane, between models and jobs
CLOSING = "The engine is closing. Start it again and send the request once more."


class Engine:
    """See interface.EngineLike. With `start` it runs on a thread of its own, else the caller gives it one by `run`.

    memory_limit: of weights and rows together, as memory.parse takes it; "" for the device's own. reuse: which
    beginnings of prompts are kept. threads: of the processor, 0 for one for each fast core, None for what
    a library takes. store: where what is computed for an owner is kept as well; None: nowhere. idle_s: seconds
    without work after which a model goes, None for never; by `clock`.
    """

    def __init__(
        self,
        start: bool = True,
        workers: int = 2,
        memory_limit: str = "",
        reuse: Reuse = "all",
        threads: int | None = None,
        store: Store | None = None,
        idle_s: float | None = None,
        clock: Clock = time.monotonic,
    ):
        self.phase = "idle"
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._tracked: dict[str, Tracked] = {}  # from submission to the End
        self._activities: list[Activity] = []
        self._timed: list[Tracked] = []
        self._due = math.inf  # when the first of them may end
        writer = None if store is None else Writer(store, lambda: self._do(lambda: None))
        self._shelf = Shelf(Memory(memory_limit), reuse, Planner(idle_s, clock), writer)
        self._shelf.at_work = lambda name: any(t.model in (name, "") for t in list(self._tracked.values()))
        self._shelf.reader.room = lambda nbytes: self._ask(lambda: self._shelf.room_beside(READER, nbytes))
        self._threads = threads or 0
        if threads is not None:
            cores.use(threads)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="crane-host")
        self._held = ThreadPoolExecutor(workers, thread_name_prefix="crane-held")  # requests with a grammar
        self._long = ThreadPoolExecutor(1, thread_name_prefix="crane-long")
        self._started = time.monotonic()
        self._closing: bool | None = None  # None: open; True: draining; False: at once
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._own: threading.Thread | None = None
        if start:
            self._thread = self._own = threading.Thread(target=self.run, name="crane-device", daemon=True)
            self._thread.start()

    # Called from any thread

    def submit(self, request: Request) -> Stream:
        tracked = self._track(request.id, request.lane, request.deadline, request.model)
        self._host_request(request, tracked)
        return tracked.stream

    def open(self, job: Job) -> Stream:
        tracked = self._track(job.id, job.lane, None, OF_KINDS.get(job.kind, job.model))
        if job.kind not in KINDS:
            tracked.end(failed(Unsupported(f"There is no job '{job.kind}'. There are: {', '.join(KINDS)}.")))
        elif job.kind in HOSTED:
            pool = self._long if job.kind in LONG else self._pool
            self._host(pool, tracked, lambda: self._run_hosted(job, tracked))
        else:
            make = partial(on_device, self._shelf, job)
            self._do(lambda: self._start(tracked, make, job.kind, job.lane, job.model))
        return tracked.stream

    def embed(self, model: str, texts: Many[str | Many[int]], pooling: str = "last", normalise: bool = True) -> Stream:
        options = {"pooling": pooling, "normalise": normalise}
        return self.open(Job("embed", [x if isinstance(x, str) else list(x) for x in texts], options, model))

    def score(self, model: str, text: str | Many[int], top: int = 0) -> Stream:
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
        tracked = self._track("", "chat")
        how = How(backend, device, dtype, quantize, exact, kv_cache, draft)
        make = partial(loading_job, self._shelf, folder, name, how)
        self._do(lambda: self._start(tracked, make, f"loading {folder}"))
        return tracked.stream

    def unload(self, name: str) -> None:
        self._ask(lambda: self._unload(name))

    def pin(self, name: str, on: bool = True) -> None:
        self._ask(lambda: self._shelf.pin(name, on))

    def keep(self, name: str, seconds: float | None) -> None:
        self._ask(lambda: self._shelf.keep(name, seconds))

    def models(self) -> list[ModelCard]:
        return self._shelf.cards()

    def stats(self) -> Stats:
        uptime, pid = time.monotonic() - self._started, os.getpid()
        return Stats(phase=self.phase, uptime_s=uptime, pid=pid, threads=self._threads, **self._shelf.counted())

    def flush(self) -> None:
        self._ask(self._shelf.trim)

    def close(self, drain: bool = True) -> None:
        with self._lock:
            self._closing = drain and self._closing is not False
        if self._thread is None:
            self._finish(Cancelled())
        self._do(lambda: None)
        if threading.current_thread() is not self._thread:
            self._ended.wait()
            if self._own is not None:
                self._own.join()  # a thread that still lets go of tensors while Python exits would abort it

    # On the device thread

    def run(self) -> None:
        """The loop, until `close`."""
        self._thread = threading.current_thread()
        ending: BaseException = Cancelled()
        try:
            served = False
            while self._closing is None or (self._closing and (self._tracked or self._shelf.owes)):
                self._obey(wait=not served)
                served = self._turn()
        except BaseException as error:
            log.exception("the device thread failed")
            ending = error
            raise
        finally:
            self._finish(ending)

    def _obey(self, wait: bool) -> None:
        """Run everything asked meanwhile; with `wait`, at least one thing, unless a deadline passes before."""
        until = min(self._due - time.monotonic(), self._shelf.due - self._shelf.planner.clock())
        seconds = max(until, 0.0) if until < math.inf else None
        try:
            command = self._commands.get(wait, seconds)
            while True:
                try:
                    command()
                except Exception:
                    log.exception("a command failed")
                command = self._commands.get_nowait()
        except queue.Empty:
            pass

    def _turn(self) -> bool:
        """One step of one model, or one breath of one job; False if nobody wants any."""
        if self._timed and time.monotonic() >= self._due:
            self._expire()
        if self._shelf.planner.clock() >= self._shelf.due:
            self._shelf.rest()
        ready: list[Shelved | Activity] = [s for s in self._shelf if s.scheduler.busy]
        ready += self._activities
        if not ready:
            self.phase = "idle"
            return False
        self._shelf.divide()
        chosen = ready[0] if len(ready) == 1 else min(ready, key=lambda r: r.served + TURN * r.lane)
        if isinstance(chosen, Activity):
            self.phase = chosen.doing
            if not chosen.breathe():
                self._activities.remove(chosen)
        else:
            doing = "generating with" if chosen.scheduler.occupied else "keeping what was computed by"
            self.phase = f"{doing} {chosen.name}"
            chosen.scheduler.step()
            if not chosen.scheduler.busy:
                self._shelf.touch(chosen.name)  # its idle time begins
        chosen.served = time.monotonic()
        return True

    def _expire(self) -> None:
        now = time.monotonic()
        for tracked in self._timed:
            if tracked.due <= now:
                tracked.cancel()
        self._timed = [t for t in self._timed if not t.ended]
        self._due = min((t.due for t in self._timed), default=math.inf)

    def _time(self, tracked: Tracked) -> None:
        self._timed.append(tracked)
        self._due = min(self._due, tracked.due)

    def _start(
        self,
        tracked: Tracked,
        make: Callable[[], Iterator[Any]],
        doing: str,
        lane: str = "chat",
        model: str | None = None,
    ) -> None:
        if tracked.ended:
            return
        try:
            steps = make()
        except Exception as error:
            tracked.end(failed(error))
            return
        activity = Activity(tracked, steps, doing, lane, model)
        tracked.on_cancel = activity.stop
        self._activities.append(activity)

    def _admit(self, shelved: Shelved, sequences: list[Sequence], tracked: Tracked, request: Request) -> None:
        tracked.admitted = time.monotonic()
        if self._shelf.find(shelved.name) is shelved:
            shelved.add(sequences, tracked)
            if request.keep is not None:
                self._shelf.keep(shelved.name, request.keep)
        elif self._shelf.find(shelved.name) or self._shelf.away(shelved.name):  # it was let go meanwhile
            again = partial(self._host_request, request, tracked)
            self._recall(tracked, shelved.name, request.lane, again)
        else:
            tracked.end(failed(ModelNotFound(f"The model '{shelved.name}' was unloaded.")))

    def _unload(self, name: str) -> None:
        for activity in self._activities:
            if activity.model == name:
                activity.tracked.cancel()
        self._shelf.unload(name)

    def _recall(self, tracked: Tracked, model: str, lane: str, then: Command) -> None:
        """Load a model that was let go, then go on with what asked for it."""
        if not tracked.ended:
            steps = recalled(self._shelf, model)
            activity = Activity(tracked, steps, f"loading {model} again", lane, then=then)
            tracked.on_cancel = activity.stop
            self._activities.append(activity)

    def _finish(self, ending: BaseException) -> None:
        """End whatever is left, the one way or the other; nothing is taken any more."""
        self.phase = "closed"  # before anybody hears of it
        with self._lock:
            drain, self._closing = self._closing is True, False
            left = list(self._tracked.values())
        try:
            for tracked in left:
                tracked.cancel() if isinstance(ending, Cancelled) else tracked.end(failed(ending))
            for activity in self._activities:
                activity.stop()
            self._activities.clear()
            self._timed.clear()
            for pool in (self._pool, self._held, self._long):
                pool.shutdown(wait=False, cancel_futures=True)
            for card in self._shelf.cards():
                self._unload(card.name)
            if self._shelf.writer is not None:
                self._shelf.writer.close(drain)
            self._shelf.reader.rest()
            self._obey(wait=False)
        finally:
            self._ended.set()

    # On the pool

    def _host_request(self, request: Request, tracked: Tracked) -> None:
        pool = self._pool if request.asked.grammar is None else self._held
        self._host(pool, tracked, lambda: self._prepare(request, tracked))

    def _prepare(self, request: Request, tracked: Tracked) -> None:
        """The prompt as tokens, everything resolved; then on to the scheduler."""
        if self._shelf.away(request.model):
            again = partial(self._host_request, request, tracked)
            self._do(lambda: self._recall(tracked, request.model, request.lane, again))
            return
        try:
            shelved = self._shelf.get(request.model)
            sequences = prepare(request, shelved, tracked)
        except BaseException as error:
            tracked.end(failed(error))
        else:
            self._do(lambda: self._admit(shelved, sequences, tracked, request))

    def _run_hosted(self, job: Job, tracked: Tracked) -> None:
        """A job that never touches the device; one that is cancelled is left at its next yield."""
        if job.model is not None and self._shelf.away(job.model):
            again = partial(self._host, self._pool, tracked, partial(self._run_hosted, job, tracked))
            self._do(lambda: self._recall(tracked, job.model or "", job.lane, again))
            return
        try:
            activity = Activity(tracked, KINDS[job.kind](self._shelf, job), job.kind)
            while not tracked.ended and activity.breathe():
                pass
        except BaseException as error:
            tracked.end(failed(error))

    # Between them

    def _do(self, command: Command) -> None:
        self._commands.put(command)

    def _host(self, pool: ThreadPoolExecutor, tracked: Tracked, work: Command) -> None:
        if tracked.ended:
            return
        try:
            pool.submit(work)
        except RuntimeError:  # it was shut down meanwhile
            tracked.end(failed(CraneError(CLOSING)))

    def _ask(self, command: Command, timeout: float = 60.0) -> None:
        """Run a command on the device thread and wait for it; its error is raised here."""
        if threading.current_thread() is self._thread:
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
        until = time.monotonic() + timeout
        while not done.wait(0.1):
            if self._ended.is_set() and not done.is_set():
                raise CraneError(CLOSING)
            if time.monotonic() > until:
                raise CraneError(f"The engine is busy ({self.phase}) and did not answer within {timeout:.0f} seconds.")
        if errors:
            raise errors[0]

    def _track(self, id: str, lane: str, deadline: float | None = None, model: str | None = None) -> Tracked:
        """A stream for something new, which may need a model; ended already where the engine cannot take it."""
        with self._lock:
            refused = CLOSING if self._closing is not None else refusal(self._tracked, id, lane, deadline)
            if not refused:
                id = id or next(name for i in self._ids if (name := f"r{i}") not in self._tracked)
            tracked = Tracked(id, self._do, lambda: None if refused else self._forget(id, model), model)
            if not refused:
                self._tracked[id] = tracked
        if refused:
            tracked.end(failed(CraneError(refused)))
        elif deadline is not None:
            tracked.due = tracked.submitted + deadline
            self._do(lambda: self._time(tracked))
        return tracked

    def _forget(self, id: str, model: str | None) -> None:
        self._tracked.pop(id, None)
        if model is not None:
            self._do(lambda: self._shelf.touch(model))
        if self._closing is not None:
            self._do(lambda: None)  # who drains waits for the last one

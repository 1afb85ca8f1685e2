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
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from crane_app.backends import cores
from crane_app.engine.jobs import HOSTED, KINDS, LONG, Activity, loading_job
from crane_app.engine.loading import How
from crane_app.engine.memory import Memory
from crane_app.engine.models import Shelf, Shelved
from crane_app.engine.prefixes import Reuse
from crane_app.engine.prepare import prepare
from crane_app.engine.request import LANES, Job, ModelCard, Request, Stats, Stream, failed
from crane_app.engine.sequence import Sequence
from crane_app.engine.tracking import Tracked
from crane_app.errors import Cancelled, CraneError, ModelNotFound, Unsupported

log = logging.getLogger(__name__)
Command = Callable[[], None]
QUEUE = 1024  # requests and jobs under way at once; more are refused
LONGEST = 10**6  # seconds, of a deadline
TURN = 0.1  # seconds without the device that are worth one lane, between models and jobs
CLOSING = "The engine is closing. Start it again and send the request once more."


@dataclass
class Counters:
    """What has been done since the start, by models that are gone."""

    started: float = field(default_factory=time.monotonic)
    steps: int = 0
    tokens: int = 0


class Engine:
    """See interface.EngineLike. With `start` it runs on a thread of its own, else the caller gives it one by `run`.

    memory_limit: of weights and rows together, as memory.parse takes it; "" for the device's own. reuse: which
    beginnings of prompts are kept. threads: of the processor, 0 for one for each fast core, None for what
    a library takes.
    """

    def __init__(
        self,
        start: bool = True,
        workers: int = 2,
        memory_limit: str = "",
        reuse: Reuse = "all",
        threads: int | None = None,
    ):
        self.phase = "idle"
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._tracked: dict[str, Tracked] = {}  # from submission to the End
        self._activities: list[Activity] = []
        self._timed: list[Tracked] = []
        self._due = math.inf  # when the first of them may end
        self._shelf = Shelf(Memory(memory_limit), reuse)
        self._threads = threads or 0
        if threads is not None:
            cores.use(threads)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="crane-host")
        self._held = ThreadPoolExecutor(workers, thread_name_prefix="crane-held")  # requests with a grammar
        self._long = ThreadPoolExecutor(1, thread_name_prefix="crane-long")
        self._counters = Counters()
        self._closing: bool | None = None  # None: open; True: draining; False: at once
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._own: threading.Thread | None = None
        if start:
            self._thread = self._own = threading.Thread(target=self.run, name="crane-device", daemon=True)
            self._thread.start()

    # Called from any thread

    def submit(self, request: Request) -> Stream:
        tracked = self._track(request.id, request.lane, request.deadline)
        pool = self._pool if request.asked.grammar is None else self._held
        self._host(pool, tracked, lambda: self._prepare(request, tracked))
        return tracked.stream

    def open(self, job: Job) -> Stream:
        tracked = self._track(job.id, job.lane)
        if job.kind not in KINDS:
            tracked.end(failed(Unsupported(f"There is no job '{job.kind}'. There are: {', '.join(KINDS)}.")))
        elif job.kind in HOSTED:
            pool = self._long if job.kind in LONG else self._pool
            self._host(pool, tracked, lambda: self._run_hosted(job, tracked))
        else:
            make = partial(KINDS[job.kind], self._shelf, job)
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
    ) -> Stream:
        tracked = self._track("", "chat")
        how = How(backend, device, dtype, quantize, exact, kv_cache)
        make = partial(loading_job, self._shelf, folder, name, how)
        self._do(lambda: self._start(tracked, make, f"loading {folder}"))
        return tracked.stream

    def unload(self, name: str) -> None:
        self._ask(lambda: self._unload(name))

    def models(self) -> list[ModelCard]:
        return self._shelf.cards()

    def stats(self) -> Stats:
        counters, rows, cards = self._counters, self._shelf.rows(), self._shelf.cards()
        return Stats(
            phase=self.phase,
            running=rows.running,
            waiting=rows.waiting,
            models=len(cards),
            weights_nbytes=sum(card.nbytes for card in cards),
            cache_nbytes=rows.cache_nbytes,
            steps=counters.steps + rows.steps,
            tokens=counters.tokens + rows.tokens,
            uptime_s=time.monotonic() - counters.started,
            pid=os.getpid(),
            memory_limit=self._shelf.memory.asked,
            limit_nbytes=self._shelf.memory.total(),
            prefix_reuse=self._shelf.reuse,
            threads=self._threads,
        )

    def flush(self) -> None:
        self._ask(self._shelf.trim)

    def close(self, drain: bool = True) -> None:
        with self._lock:
            self._closing = drain and self._closing is not False
        if self._thread is None:
            self._finish(Cancelled())
        self._wake()
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
            while self._closing is None or (self._closing and self._tracked):
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
        seconds = max(self._due - time.monotonic(), 0.0) if self._timed else None
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
            self.phase = f"generating with {chosen.card.name}"
            chosen.scheduler.step()
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

    def _admit(self, shelved: Shelved, sequences: list[Sequence], tracked: Tracked) -> None:
        tracked.admitted = time.monotonic()
        if self._shelf.find(shelved.card.name) is not shelved:
            tracked.end(failed(ModelNotFound(f"The model '{shelved.card.name}' was unloaded.")))
        else:
            shelved.add(sequences, tracked)

    def _unload(self, name: str) -> None:
        for activity in self._activities:
            if activity.model == name:
                activity.tracked.cancel()
        steps, tokens = self._shelf.remove(name)
        self._counters.steps += steps
        self._counters.tokens += tokens

    def _finish(self, ending: BaseException) -> None:
        """End whatever is left, the one way or the other; nothing is taken any more."""
        with self._lock:
            self._closing = False
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
            self._obey(wait=False)
        finally:
            self.phase = "closed"
            self._ended.set()

    # On the pool

    def _prepare(self, request: Request, tracked: Tracked) -> None:
        """The prompt as tokens, everything resolved; then on to the scheduler."""
        try:
            shelved = self._shelf.get(request.model)
            sequences = prepare(request, shelved, tracked)
        except BaseException as error:
            tracked.end(failed(error))
        else:
            self._do(lambda: self._admit(shelved, sequences, tracked))

    def _run_hosted(self, job: Job, tracked: Tracked) -> None:
        """A job that never touches the device; one that is cancelled is left at its next yield."""
        try:
            activity = Activity(tracked, KINDS[job.kind](self._shelf, job), job.kind)
            while not tracked.ended and activity.breathe():
                pass
        except BaseException as error:
            tracked.end(failed(error))

    # Between them

    def _do(self, command: Command) -> None:
        self._commands.put(command)

    def _wake(self) -> None:
        self._do(lambda: None)

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

    def _track(self, id: str, lane: str, deadline: float | None = None) -> Tracked:
        """A stream for something new; it has ended already where the engine cannot take it."""
        with self._lock:
            refused = self._refusal(id, lane, deadline)
            if not refused:
                id = id or next(name for i in self._ids if (name := f"r{i}") not in self._tracked)
            tracked = Tracked(id, self._do, lambda: None if refused else self._forget(id))
            if not refused:
                self._tracked[id] = tracked
        if refused:
            tracked.end(failed(CraneError(refused)))
        elif deadline is not None:
            tracked.due = tracked.submitted + deadline
            self._do(lambda: self._time(tracked))
        return tracked

    def _forget(self, id: str) -> None:
        self._tracked.pop(id, None)
        if self._closing is not None:
            self._wake()  # who drains waits for the last one

    def _refusal(self, id: str, lane: str, deadline: float | None) -> str:
        """Why the engine cannot take it; '' if it can."""
        if self._closing is not None:
            return CLOSING
        if id in self._tracked:
            return f"A request with the id {id} is under way already."
        if lane not in LANES:
            return f"There is no lane '{lane}'. Use one of: {', '.join(LANES)}."
        if deadline is not None and not 0 <= deadline <= LONGEST:
            return f"deadline must be a number of seconds from 0 to {LONGEST}, not {deadline!r:.60}."
        if len(self._tracked) >= QUEUE:
            return f"The engine has {QUEUE} requests under way and takes no more. Try again in a moment."
        return ""

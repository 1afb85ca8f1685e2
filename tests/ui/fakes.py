"""An engine, a connection, preferences and a shelf that do what a test tells them to. No model, no process, no disk."""

import math
import queue
import threading
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from crane_app import settings
from crane_app.engine.request import End, Holding, ModelCard, Part, Piece, Progress, Stats, Stream, Usage, failed
from crane_app.errors import Cancelled, ModelNotFound
from crane_app.library.models import OnDisk
from crane_app.pipelines.serving import Served
from crane_app.ui.worker import Worker

GIB = 2**30
PATIENCE_S = 20  # after which a held step gives up, so that no thread outlives its test
ANSWER = "Cranes stand in shallow water, because nothing reaches them there unheard."


def card(name: str = "Qwen3-0.6B", nbytes: int = int(1.4 * GIB), **changes) -> ModelCard:
    """A loaded model as the engine would tell of it."""
    facts = {
        "folder": f"/models/{name}",
        "architecture": "qwen3",
        "backend": "torch",
        "device": "cpu",
        "dtype": "float32",
        "context": 40960,
        "vocabulary": 151936,
        "batched": True,
        "chat": True,
    }
    return ModelCard(name=name, nbytes=nbytes, **(facts | changes))


def holding(card: ModelCard, pinned: bool = False, rows_nbytes: int = 0) -> Holding:
    """What the engine holds of it."""
    job = "speech" if card.hears else "text"
    return Holding(card.name, job, card.device, card.nbytes, rows_nbytes, pinned=pinned)


def stats(**changes) -> Stats:
    """The engine at a glance, idle unless told otherwise."""
    facts = {
        "phase": "idle",
        "running": 0,
        "waiting": 0,
        "models": 0,
        "weights_nbytes": 0,
        "cache_nbytes": 0,
        "steps": 0,
        "tokens": 0,
        "uptime_s": 60.0,
        "pid": 4711,
    }
    return Stats(**(facts | changes))


class FakeReadiness:
    """Keeps conversations ready in memory. size, problem: what it tells; forgotten: which were, None for all."""

    def __init__(self):
        self.size, self.problem = "1.2 GB", ""
        self.wanted = True
        self.forgotten: list[int | None] = []

    def owner(self, chat: int) -> str:
        return f"owner of {chat}"

    def forget(self, chat: int) -> None:
        self.forgotten.append(chat)

    def clear(self) -> None:
        self.forgotten.append(None)
        self.size = "0 MB"

    def told(self) -> tuple[str, str]:
        return self.size, self.problem


class FakeEngine:
    """Answers with `answer` (a text, or request -> text), a word a piece.

    With `held` every piece and every step of a load waits for a `let()`; `refusal` (an error) ends the next one.
    What it was asked stays in `requests`, `jobs`, `loads`; at_once counts what is under way, answering the answers.
    """

    def __init__(self):
        self.answer = ANSWER
        self.held = False
        self.refusal: Exception | None = None
        self.requests, self.jobs, self.loads = [], [], []
        self.cards: dict[str, ModelCard] = {}
        self.stats_now = stats()
        self.at_once = self.answering = self.most_answering = 0
        self.pins: set[str] = set()
        self.kept_for: dict[str, float | None] = {}
        self.closed = False
        self._gate = threading.Semaphore(0)
        self._count = threading.Lock()

    def let(self, steps: int = 1) -> None:
        """Let so many held steps go on."""
        self._gate.release(steps)

    def submit(self, request) -> Stream:
        self.requests.append(request)
        return self._stream(request.id, lambda: self._answer(request))

    def open(self, job) -> Stream:
        self.jobs.append(job)
        return self._stream(job.id, lambda: (Part(value) for value in [self._result(job)]))

    def load(self, folder, name=None, *how) -> Stream:
        self.loads.append(folder)
        return self._stream("load", lambda: self._loading(folder, name))

    def unload(self, name: str) -> None:
        if self.cards.pop(name, None) is None:
            raise ModelNotFound(f"No model is loaded as {name}.")

    def pin(self, name: str, on: bool = True) -> None:
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            raise refusal
        (self.pins.add if on else self.pins.discard)(name)

    def keep(self, name: str, seconds: float | None) -> None:
        self.kept_for[name] = seconds

    def models(self) -> list[ModelCard]:
        return sorted(self.cards.values(), key=lambda each: each.name)

    def stats(self) -> Stats:
        """As told; what is loaded and stays, as it is."""
        beside = [each for each in self.stats_now.held if each.job in ("pictures", "voice")]
        rows = {each.name: each.rows_nbytes for each in self.stats_now.held}
        models = [holding(each, self._stays(each.name), rows.get(each.name, 0)) for each in self.models()]
        return replace(self.stats_now, held=(*models, *beside))

    def _stays(self, name: str) -> bool:
        return name in self.pins or self.kept_for.get(name) == math.inf

    def flush(self) -> None:
        pass

    def close(self, drain: bool = True) -> None:
        self.closed = True
        self.let(10_000)

    def _answer(self, request):
        with self._count:
            self.answering += 1
            self.most_answering = max(self.most_answering, self.answering)
        try:
            yield from self._pieces(request)
        finally:
            with self._count:
                self.answering -= 1

    def _pieces(self, request):
        text = self.answer(request) if callable(self.answer) else self.answer
        for number, word in enumerate(text.split(" ")):
            yield Piece(word if number == 0 else f" {word}", (number,))
        yield Piece("", finish="stop")

    def _loading(self, folder, name):
        for done in range(4):
            yield Progress(done, 4, "Reading weights")
        made = card(name or str(folder).rstrip("/").split("/")[-1], folder=str(folder))
        self.cards[made.name] = made
        yield Part(made)

    def _result(self, job):
        """Tokens are words: enough to count them and to have them back."""
        if job.kind == "tokenize":
            texts = [job.inputs] if isinstance(job.inputs, str) else [str(each.get("content")) for each in job.inputs]
            return list(range(sum(len(text.split()) for text in texts)))
        return ""

    def _stream(self, name: str, events) -> Stream:
        over = threading.Event()
        stream = Stream(name, over.set)
        refusal, self.refusal = self.refusal, None
        run = threading.Thread(target=self._feed, args=(stream, events, over, refusal), daemon=True)
        run.start()
        return stream

    def _feed(self, stream: Stream, events, over: threading.Event, refusal) -> None:
        with self._count:
            self.at_once += 1
        try:
            made, coming = 0, events()
            if refusal is not None:
                raise refusal
            for event in coming:
                self._wait(over)
                if over.is_set():
                    coming.close()
                    break
                made += isinstance(event, Piece) and bool(event.text)
                stream.put(event)
            usage = Usage(prompt_tokens=12, output_tokens=made, first_s=0.1, total_s=0.1 + made / 20)
            stream.put(End("cancelled" if over.is_set() else "stop", usage))
        except Exception as error:
            stream.put(failed(error))
        finally:
            with self._count:
                self.at_once -= 1

    def _wait(self, over: threading.Event) -> None:
        for _ in range(100 * PATIENCE_S):
            if not self.held or self.closed or over.is_set() or self._gate.acquire(timeout=0.01):
                return
        raise TimeoutError("A held step was never let go")


class FakeConnection(QObject):
    """As ui.connection.Connection: `engine` is there at once unless `become("starting")` is told first."""

    changed = Signal()

    def __init__(self, engine: FakeEngine | None = None):
        super().__init__()
        self.engine = engine or FakeEngine()
        self.state, self.sentence = "ready", ""
        self.cards: tuple[ModelCard, ...] = ()
        self.stats: Stats | None = stats()
        self.started = self.restarts = 0
        self.attended: bool | None = None
        self.closed = False
        self._up = threading.Event()
        self._up.set()

    def start(self) -> None:
        self.started += 1

    def restart(self) -> None:
        self.restarts += 1
        self.become("starting", "Starting the engine…")

    def attend(self, seen: bool) -> None:
        self.attended = seen

    def look(self) -> None:
        self.cards, self.stats = tuple(self.engine.models()), self.engine.stats()
        self.changed.emit()

    def close(self) -> None:
        self.closed = True
        self.engine.close()
        self._up.set()

    def run(self, make, after=None) -> Worker:
        """A started worker over `make(engine)`; it waits while the engine is starting, and for the worker `after`."""

        def steps():
            assert self._up.wait(PATIENCE_S)
            if self.closed:
                raise Cancelled("The window was closed.")
            return (yield from make(self.engine))

        worker = Worker(steps(), after)
        worker.start()
        return worker

    def become(self, state: str, sentence: str = "") -> None:
        """Another state, told."""
        self.state, self.sentence = state, sentence
        self._up.clear() if state == "starting" else self._up.set()
        self.changed.emit()

    def show(self, *cards: ModelCard, **numbers) -> None:
        """These models are loaded, with these numbers among the stats; told."""
        self.cards = cards
        self.engine.cards = {each.name: each for each in cards}
        weights = sum(each.nbytes for each in cards)
        self.engine.stats_now = stats(models=len(cards), weights_nbytes=weights, **numbers)
        self.stats = self.engine.stats()
        self.changed.emit()


class FakePreferences(QObject):
    """As ui.preferences.Preferences, without a file; a setting's name with _ for - gives it a value from the start."""

    changed = Signal(str)
    problem = Signal(str)

    def __init__(self, **values):
        super().__init__()
        self.notice, self.path = "", Path("/home/you/.config/crane/settings.json")
        self.values = {name.replace("_", "-"): value for name, value in values.items()}
        self.overruling: dict[str, str] = {}
        self.flushed = 0

    def get(self, name: str):
        return self.values.get(name, settings.TABLE[name].default)

    def set(self, name: str, value) -> None:
        before = self.get(name)
        self.values[name] = settings.checked(settings.TABLE[name], value)
        if self.get(name) != before:
            self.changed.emit(name)

    def reset(self, name: str) -> None:
        self.set(name, settings.TABLE[name].default)

    def is_default(self, name: str) -> bool:
        return self.get(name) == settings.TABLE[name].default

    def overruled(self, name: str) -> str:
        return self.overruling.get(name, "")

    def flush(self) -> None:
        self.flushed += 1


class FakeShelf(QObject):
    """As ui.shelf.Shelf, with what `put` gives it."""

    changed = Signal()

    def __init__(self, *entries):
        super().__init__()
        self.entries = tuple(entries)
        self.scans = 0

    def rescan(self) -> None:
        self.scans += 1
        self.changed.emit()

    def put(self, *entries) -> None:
        self.entries = entries
        self.changed.emit()


def on_disk(name: str = "Qwen3-0.6B", **changes) -> OnDisk:
    """A model on the disk, for chat unless told otherwise."""
    facts = {
        "folder": Path(f"/models/{name}"),
        "job": "chat",
        "architecture": "Qwen3ForCausalLM",
        "nbytes": int(1.4 * GIB),
        "context": 40960,
        "dtype": "bfloat16",
        "licence": "apache-2.0",
        "cache": GIB,
    }
    return OnDisk(name=name, **(facts | changes))


class FakeServer:
    """As pipelines.serving.Server: says what `script` holds, then what `tell` gives it, until it is stopped."""

    script: tuple[Served, ...] = (Served("starting"), Served("on", url="http://127.0.0.1:8080", models=("Qwen3-0.6B",)))
    patient = False  # it needs a second stop, as one with requests under way

    def __init__(self):
        self.plans, self.stops = [], 0
        self._news: queue.Queue[Served | None] = queue.Queue()

    def run(self, plan):
        self.plans.append(plan)
        for now in self.script:
            yield now
            if now.state == "failed":
                return
        while (now := self._news.get(timeout=PATIENCE_S)) is not None:
            yield now
            if now.state == "failed":
                return
        yield Served("off")

    def tell(self, now: Served) -> None:
        self._news.put(now)

    def stop(self) -> None:
        self.stops += 1
        if self.patient and self.stops == 1:
            self.tell(Served("ending", url="http://127.0.0.1:8080", active=1))
        else:
            self._news.put(None)


class FakeServers:
    """Makes them, and keeps those that were made."""

    def __init__(self):
        self.made: list[FakeServer] = []
        self.script, self.patient = FakeServer.script, False

    def __call__(self) -> FakeServer:
        server = FakeServer()
        server.script, server.patient = self.script, self.patient
        self.made.append(server)
        return server

    @property
    def last(self) -> FakeServer:
        return self.made[-1]

    def let(self) -> None:
        for server in self.made:
            server.stop()
            server.stop()

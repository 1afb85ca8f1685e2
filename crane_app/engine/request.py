"""What goes into the engine and what comes out, as plain data: the same on both sides of a socket."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from crane_app.contract import Drawn, Sampling
from crane_app.errors import CraneError

Reason = Literal["stop", "length", "cancelled", "error"]
LANES = ("dictation", "chat", "speech", "pictures", "server")  # who goes first, before age is counted


@dataclass(frozen=True)
class Grammar:
    """What an answer must be.

    kind: what `text` is: a JSON schema, nothing for any JSON object, a regular expression of the whole answer, a JSON
    list of texts to choose from, llama.cpp's GBNF, or llguidance's Lark.
    thought: "open" if the prompt has opened a thought, "free" if the answer may begin with one; the grammar then holds
    after its </think>. field: what the asker calls it, for errors.
    """

    kind: Literal["json_schema", "json_object", "regex", "choice", "ebnf", "lark"]
    text: str = ""
    thought: Literal["none", "open", "free"] = "none"
    field: str = "The grammar"


@dataclass(frozen=True)
class Asked:
    """What a caller asked for; None is 'did not say'. Sampling fields as in contract.Sampling.

    thinking_budget: tokens of a thought, after which it is closed.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None
    seed: int | None = None
    do_sample: bool | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    stop_token_ids: tuple[int, ...] | None = None
    ignore_eos: bool | None = None
    logprobs: int | None = None
    n: int | None = None
    thinking_budget: int | None = None
    grammar: Grammar | None = None


@dataclass(frozen=True)
class Resolved:
    """What will be done: nothing is left open. stop_ids hold the model's own ends unless eos is ignored."""

    sampling: Sampling
    max_tokens: int
    min_tokens: int
    stop: tuple[str, ...]
    stop_ids: frozenset[int]
    logprobs: int
    n: int
    thinking_budget: int | None = None


@dataclass(frozen=True)
class Request:
    """Tokens to be made. Exactly one of tokens, text, messages is given.

    template: variables for the chat template (enable_thinking, tools). endpoint: the row of defaults it falls back on.
    deadline: seconds from submission after which it ends as cancelled.
    owner: on whose behalf what is computed is kept on disk as well, as library.store has it; "" for nowhere.
    salt: only requests of the same salt share what is kept of their prompts, so that none can tell what another asked.
    max_length: tokens of prompt and answer together, where that is less than the model's context.
    keep: seconds without work after which the model may go from now on, inf for never; None: as it is.
    """

    model: str
    tokens: tuple[int, ...] | None = None
    text: str | None = None
    messages: tuple[Mapping[str, Any], ...] | None = None
    template: Mapping[str, Any] = field(default_factory=dict)
    asked: Asked = Asked()
    endpoint: str = "chat"
    lane: str = "chat"
    id: str = ""
    deadline: float | None = None
    max_length: int | None = None
    salt: str = ""
    owner: str = ""
    keep: float | None = None


@dataclass(frozen=True)
class Job:
    """Other work: `kind` names a generator function of the engine; inputs and options are its arguments."""

    kind: str
    inputs: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    lane: str = "chat"
    id: str = ""


@dataclass(slots=True)
class Piece:
    """New output of one choice: text that is certain (may be empty), the tokens behind it, their logprobs if asked.

    matched: the stop text or the id that ended it. With logprobs, raw: the bytes that each token adds to the text, and
    spelled: the bytes of every id that is named, as they are written where nothing is hidden. cached: tokens of the
    prompt that were not computed for this choice.
    """

    text: str
    tokens: tuple[int, ...] = ()
    choice: int = 0
    logprobs: tuple[Drawn, ...] = ()
    finish: Reason | None = None  # set on a choice's last piece
    matched: str | int | None = None
    raw: tuple[bytes, ...] = ()
    spelled: Mapping[int, bytes] = field(default_factory=dict)
    cached: int = 0


@dataclass(frozen=True)
class Progress:
    """How far a load or a job is: done of total, and what it is doing."""

    done: int
    total: int
    doing: str = ""


@dataclass(frozen=True)
class Part:
    """A job's result or an intermediate one: numpy arrays, bytes, text, or plain data."""

    value: Any


@dataclass(frozen=True)
class Usage:
    """Counts and seconds of a request, from submission. cached_tokens: of the prompt, not computed again."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    queued_s: float = 0.0
    first_s: float = 0.0
    total_s: float = 0.0
    seed: int | None = None


@dataclass(frozen=True)
class End:
    """The one terminal event of a stream. kind: the error's class name in crane_app.errors, for `error`."""

    reason: Reason
    usage: Usage = Usage()
    error: str = ""
    kind: str = ""


Event = Piece | Progress | Part | End


@dataclass(frozen=True)
class ModelCard:
    """A loaded model as people see it. nbytes: of the weights on the device. batched False: one request at a time.

    hears: it turns speech into text (the job "transcribe") and makes no tokens otherwise. packed: how most matrices are
    packed, "q4" or "Q4_K", "" if they are not. quantize, exact, kv_cache: as it was asked to be loaded. draft: the
    folder of the draft model that goes ahead of it, None without one.
    """

    name: str
    folder: str
    architecture: str
    backend: str
    device: str
    dtype: str
    context: int
    vocabulary: int
    nbytes: int
    batched: bool
    chat: bool
    eos: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    hears: bool = False
    packed: str = ""
    quantize: str | None = None
    exact: bool = False
    kv_cache: str = "auto"
    draft: str | None = None

    @property
    def numbers(self) -> str:
        """What it computes with, for people: "q4, bfloat16"."""
        return f"{self.packed}, {self.dtype}" if self.packed else self.dtype


@dataclass(frozen=True)
class Holding:
    """Something that is loaded. job: "text", "speech", "pictures", "draft" for a model that goes ahead of another, or
    "voice" for what finds where somebody speaks.

    nbytes: of its weights; rows_nbytes: of its keys and values; idle_s: since it was last of use. keep_s: seconds
    without work after which it goes; None: it stays until its room is needed. busy: with work running or waiting.
    """

    name: str
    job: str
    device: str
    nbytes: int
    rows_nbytes: int = 0
    idle_s: float = 0.0
    keep_s: float | None = None
    pinned: bool = False
    busy: bool = False


@dataclass(frozen=True)
class Parting:
    """What was let go by itself, and how long ago. room: for what; "" after a time without work."""

    name: str
    nbytes: int
    room: str
    ago_s: float


@dataclass(frozen=True)
class Stats:
    """The engine at a glance. phase: what its thread is doing; cache_nbytes: keys and values of all rows.

    memory_limit: as it was asked for, "" for the device's own; limit_nbytes: what weights and rows may take together.
    prefix_reuse: which beginnings are kept. threads: as they were asked for, 0 for one for each fast core. evictions:
    rows that gave way to others while memory was short. store_problem: why nothing is kept on disk at present, as a
    sentence, or "". held: everything loaded. gone: what was let go of late, the last one last. away:
    models that were let go and are loaded again when they are asked for. drafted, accepted: tokens that draft models
    wrote and that were tried, and those of them that were right.
    """

    phase: str
    running: int
    waiting: int
    models: int
    weights_nbytes: int
    cache_nbytes: int
    steps: int
    tokens: int
    uptime_s: float
    pid: int
    memory_limit: str = ""
    limit_nbytes: int = 0
    prefix_reuse: str = "all"
    threads: int = 0
    store_problem: str = ""
    held: tuple[Holding, ...] = ()
    gone: tuple[Parting, ...] = ()
    away: tuple[ModelCard, ...] = ()
    evictions: int = 0
    drafted: int = 0
    accepted: int = 0


class Stream:
    """The events of one request or job, for one reader. Iterating gives all but the End, which is then in `end`.

    An End with reason `error` raises its error from the iteration. One End arrives; what comes after is dropped.
    """

    def __init__(self, id: str, cancel: Callable[[], None]):
        self.id = id
        self.end: End | None = None
        self._cancel = cancel
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._wake: Callable[[], object] | None = None

    def watch(self, wake: Callable[[], object]) -> None:
        """Have `wake` called, from the engine's threads, whenever there is something to get; once at once."""
        self._wake = wake
        wake()

    def put(self, event: Event) -> None:
        """The engine's side; from any thread."""
        if self._closed.is_set():
            return
        if isinstance(event, End):
            self._closed.set()
        self._events.put(event)
        if self._wake is not None:
            self._wake()

    def get(self, timeout: float | None = None) -> Event:
        """The next event, the End included; queue.Empty after `timeout` seconds."""
        event = self._events.get(timeout=timeout)
        if isinstance(event, End):
            self.end = event
        return event

    def __iter__(self) -> Iterator[Any]:
        while self.end is None:
            event = self.get()
            if not isinstance(event, End):
                yield event
        if self.end.reason == "error":
            raise error_of(self.end)

    def cancel(self) -> None:
        """Ask for an end; it comes as End(`cancelled`), unless another came first. From any thread, at any time."""
        self._cancel()

    @property
    def usage(self) -> Usage:
        return self.end.usage if self.end is not None else Usage()


def error_of(end: End) -> CraneError:
    """The error that an End tells of, as its own class."""
    from crane_app import errors

    kind = getattr(errors, end.kind, CraneError)
    return kind(end.error) if isinstance(kind, type) and issubclass(kind, CraneError) else CraneError(end.error)


def failed(error: BaseException, usage: Usage = Usage()) -> End:
    """The End of a request or job that raised."""
    if isinstance(error, CraneError):
        return End("error", usage, str(error), type(error).__name__)
    return End(
        "error",
        usage,
        f"Something went wrong that Crane did not expect ({type(error).__name__}: {error}).",
        "CraneError",
    )

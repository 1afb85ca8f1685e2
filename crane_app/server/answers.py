"""The engine seen from the event loop: its streams awaited, cancelled when nobody wants them, and known by an id."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from crane_app.engine.interface import EngineLike
from crane_app.engine.request import End, Event, Job, Part, Piece, Request, Stream, Usage, error_of
from crane_app.errors import Cancelled
from crane_app.server.gate import Gate
from crane_app.server.keeping import Keeping
from crane_app.server.problems import refused

ABORTED = "The request was aborted."


@dataclass(eq=False)
class Live:
    """A request under way. owner: the number of the key it came with."""

    id: str
    owner: int
    streams: list[Stream] = field(default_factory=list)
    turns: list[asyncio.Future[None]] = field(default_factory=list)  # at the gate
    aborted: bool = False

    def abort(self) -> None:
        self.aborted = True
        for turn in self.turns:
            turn.cancel()
        for stream in self.streams:
            stream.cancel()


@dataclass
class Totals:
    """What has been done since the start; seconds are sums over the finished."""

    started: float = field(default_factory=time.time)
    requests: int = 0
    finished: dict[str, int] = field(default_factory=dict)  # by reason
    prompt_tokens: int = 0
    output_tokens: int = 0
    queued_s: float = 0.0
    first_s: float = 0.0
    total_s: float = 0.0

    def add(self, end: End) -> None:
        usage = end.usage
        self.finished[end.reason] = self.finished.get(end.reason, 0) + 1
        self.prompt_tokens += usage.prompt_tokens
        self.output_tokens += usage.output_tokens
        self.queued_s += usage.queued_s
        self.first_s += usage.first_s
        self.total_s += usage.total_s

    @property
    def done(self) -> int:
        return sum(self.finished.values())


class Answers:
    """Runs requests on an engine, at most so many answers at once. On the loop's thread alone."""

    def __init__(self, engine: EngineLike, seats: int, keeping: Keeping | None = None) -> None:
        self.engine, self.keeping = engine, keeping or Keeping()
        self.gate = Gate(seats)
        self.totals = Totals()
        self._live: dict[str, Live] = {}

    @asynccontextmanager
    async def known(self, id: str, owner: int, prefix: str = "") -> AsyncIterator[Live]:
        """A request under that id, "" for a new one that begins so. Problem 400 if one is under way by it."""
        if id in self._live:
            raise refused("rid", f"A request with the id '{id:.60}' is under way already. Choose another one.")
        live = Live(id or prefix + uuid.uuid4().hex, owner)
        self._live[live.id] = live
        self.totals.requests += 1
        try:
            yield live
        finally:
            del self._live[live.id]

    def abort(self, id: str | None, owner: int) -> int:
        """End the request of that id, or with None all, as far as they are the owner's; how many that were."""
        found = [live for live in self._live.values() if live.owner == owner and id in (None, live.id)]
        for live in found:
            live.abort()
        return len(found)

    async def pieces(self, live: Live, request: Request, ended: list[End] | None = None) -> AsyncGenerator[Piece, None]:
        """What a request gives, when its turn has come; the End goes to `ended`, its error is raised.

        Cancelled if it was aborted. Leaving the iteration cancels it.
        """
        keeping, owner = self.keeping, await self.keeping.owner(live.owner)
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.gate.enter(request.asked.n or 1, live.turns))
            except asyncio.CancelledError:
                if not live.aborted:
                    raise
            if live.aborted:
                raise Cancelled(ABORTED)
            salt = keeping.salt(live.owner)
            stream = self.engine.submit(replace(request, lane="server", salt=salt, owner=owner))
            live.streams.append(stream)
            try:
                async for event in events(stream):
                    if isinstance(event, Piece):
                        yield event
                    elif isinstance(event, End):
                        self.totals.add(event)
                        keeping.heed(self.engine.stats)
                        if ended is not None:
                            ended.append(event)
                        if event.reason == "error":
                            raise _error(event, request)
                        if event.reason == "cancelled":
                            raise Cancelled(ABORTED)
            finally:
                live.streams.remove(stream)
                if stream.end is None:
                    stream.cancel()

    async def part(self, kind: str, inputs: Any, model: str, **options: Any) -> Any:
        """The result of a job."""
        stream = self.engine.open(Job(kind, inputs, options, model, "server"))
        try:
            found = None
            async for event in events(stream):
                if isinstance(event, Part):
                    found = event.value
                elif isinstance(event, End) and event.reason != "stop":
                    raise error_of(event) if event.reason == "error" else Cancelled(ABORTED)
            return found
        finally:
            if stream.end is None:
                stream.cancel()


def _error(end: End, request: Request) -> Exception:
    """What an End tells of; a grammar that is refused names its field."""
    if end.kind == "BadGrammar" and request.asked.grammar is not None:
        return refused(request.asked.grammar.field, end.error)
    return error_of(end)


async def events(stream: Stream) -> AsyncIterator[Event]:
    """All events of a stream, the End too, as they come."""
    loop, more = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everybody who waits
            loop.call_soon_threadsafe(more.set)

    stream.watch(wake)
    while stream.end is None:
        await more.wait()
        more.clear()
        with contextlib.suppress(queue.Empty):
            while stream.end is None:
                yield stream.get(timeout=0)


def summed(ends: list[End]) -> Usage:
    """The usage of several requests as one."""
    return Usage(
        prompt_tokens=sum(end.usage.prompt_tokens for end in ends),
        output_tokens=sum(end.usage.output_tokens for end in ends),
        cached_tokens=sum(end.usage.cached_tokens for end in ends),
        total_s=max((end.usage.total_s for end in ends), default=0.0),
    )

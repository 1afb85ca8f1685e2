"""Answers in the form HTTP wants: JSON at once, or server-sent events as they come; either way a hang-up is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from starlette.responses import Response

from crane_app.server.body import Gone, Receive
from crane_app.server.problems import Problem, problem_of

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Frames = AsyncGenerator[bytes, None]
QUIET = 10.0  # seconds after which a stream without news sends a comment, and a first word is no longer waited for
DONE = b"data: [DONE]\n\n"


def as_json(value: Any) -> bytes:
    """Compact UTF-8; what is no character is a question mark."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")


def reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(as_json(value), status, headers, "application/json")


def event(value: Any, name: str = "") -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + as_json(value) + b"\n\n"


async def until_gone(receive: Receive, work: Coroutine[Any, Any, Any]) -> Any:
    """What `work` returns; it is cancelled, and Gone raised, when the client hangs up before."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Gone
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.wait((task, gone))


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Events(Response):
    """Frames as they come. An error before the first becomes a plain answer; one after it is the last event.

    shape: the body of an error. frame: makes an event of it. lines: newline-delimited JSON instead of events.
    """

    def __init__(
        self,
        frames: Frames,
        shape: Callable[[Problem], Any] = lambda problem: problem.body,
        frame: Callable[[Any], bytes] = event,
        lines: bool = False,
    ) -> None:
        self.frames, self.shape, self.frame, self.lines = frames, shape, frame, lines
        self.background = None
        self._sent = 0.0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        with contextlib.suppress(Gone):
            await until_gone(receive, self._stream(send))

    async def _stream(self, send: Send) -> None:
        async with contextlib.aclosing(self.frames) as frames:
            first = asyncio.ensure_future(anext(frames, b""))
            try:
                await asyncio.wait((first,), timeout=QUIET)
                if first.done() and (error := first.exception()) is not None:
                    await self._plain(send, problem_of(error))
                    return
                await self._head(send)
                await self._body(frames, first, send)
            finally:
                first.cancel()
                await asyncio.wait((first,))

    async def _head(self, send: Send) -> None:
        kind = b"application/x-ndjson" if self.lines else b"text/event-stream; charset=utf-8"
        headers = [(b"content-type", kind), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _body(self, frames: AsyncIterator[bytes], first: asyncio.Future[bytes], send: Send) -> None:
        async def put(data: bytes) -> None:
            self._sent = asyncio.get_running_loop().time()
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})

        alive = None if self.lines else asyncio.ensure_future(self._keep_alive(put))
        try:
            await put(await first)
            async for frame in frames:
                await put(frame)
        except Exception as error:
            await put(self.frame(self.shape(problem_of(error))))
        finally:
            if alive is not None:
                alive.cancel()
                await asyncio.wait((alive,))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _keep_alive(self, put: Callable[[bytes], Awaitable[None]]) -> None:
        """A comment in every silence, so that nobody on the way takes the connection for dead."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(self._sent + QUIET - loop.time(), 0.1))
            if loop.time() - self._sent >= QUIET:
                await put(b": keep-alive\n\n")

    async def _plain(self, send: Send, problem: Problem) -> None:
        """An answer that never became a stream."""
        body = as_json(self.shape(problem))
        headers = {"content-type": "application/json", "content-length": str(len(body)), **problem.headers}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": problem.status, "headers": raw})
        await send({"type": "http.response.body", "body": body, "more_body": False})

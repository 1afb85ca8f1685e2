"""What the endpoints share, what one call of them is, and how they are described."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from crane_app.engine.request import Request
from crane_app.server import body
from crane_app.server.answers import Answers
from crane_app.server.fetching import Web, inside
from crane_app.server.fields import Table, take
from crane_app.server.problems import Problem, refused
from crane_app.server.shelf import NOTHING, Offer, Stock
from crane_app.server.sse import until_gone
from crane_app.server.templates import Templates

LARGE = 1 << 20  # bytes of a body that would hold everybody up while it is parsed


@dataclass(frozen=True)
class Limits:
    """max_length: tokens of prompt and answer together, None for the model's context; the rest as the flags say.

    web: fetches what stands at the addresses that clients name; None where that is not allowed.
    stock: what may be loaded when it is asked for, and when it goes again.
    """

    max_concurrent: int = 16
    decode_tokens_per_seq: int = 16
    max_length: int | None = None
    web: Web | None = None
    stock: Stock = NOTHING


@dataclass(frozen=True)
class Service:
    answers: Answers
    offer: Offer
    limits: Limits
    templates: Templates


@dataclass(frozen=True)
class Call:
    """One request. owner: the number of the key it came with."""

    service: Service
    http: HttpRequest
    endpoint: Endpoint
    owner: int = 0

    async def given(self) -> dict[str, Any]:
        """The body as it was sent."""
        raw = await self.raw()
        return body.parse(raw) if len(raw) < LARGE else await asyncio.to_thread(body.parse, raw)

    async def raw(self) -> bytes:
        return await body.read(self.http.receive, self.http.headers)

    async def fields(self) -> dict[str, Any]:
        """The body's honoured fields."""
        return take(self.endpoint.fields, await self.given())

    def query(self) -> dict[str, Any]:
        """The parameters behind the path."""
        return take(self.endpoint.query, dict(self.http.query_params))

    async def wait(self, work: Awaitable[Any]) -> Any:
        """The result of `work`, which ends when the client hangs up."""

        async def run() -> Any:
            return await work

        return await until_gone(self.http.receive, run())

    async def addressed(self, address: str, param: str) -> bytes:
        """What stands at an address that the field `param` names. Problem 400 or 413."""
        if address[:5].lower() == "data:":
            return inside(address, param)
        if self.service.limits.web is None:
            raise refused(param, f"{param}: this server fetches nothing. Send the data, or see --allow-url-fetch.")
        return await self.service.limits.web.fetch(address, param)

    def request(self, model: str, **more: Any) -> Request:
        """A request to the engine within the server's limits."""
        return Request(model, max_length=self.service.limits.max_length, **more)


@dataclass(frozen=True)
class Endpoint:
    """paths: the first is the documented one, the others do the same. shape: of the body of its errors.

    query: the parameters behind the path. takes: the body's content type. needs: the fields it cannot do without;
    either: those of which it needs exactly one.
    """

    method: str
    paths: tuple[str, ...]
    sentence: str
    run: Callable[[Call], Awaitable[Response]]
    fields: Table = ()
    shape: Callable[[Problem], Any] = lambda problem: problem.body
    query: Table = ()
    takes: str = "application/json"
    needs: tuple[str, ...] = ()
    either: tuple[str, ...] = ()

"""Who may ask, before anything is read: the address a request was sent to, the page it comes from, its key.

Knows no endpoint but those that are open to all.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from crane_app.platform.addresses import LOOPBACK
from crane_app.server.problems import Problem
from crane_app.server.service import Service
from crane_app.server.sse import Send, reply

App = Callable[[MutableMapping[str, Any], Any, Send], Awaitable[None]]
OPEN = ("/health",)  # needs no key: it says no more than that somebody is here
METHODS = "GET, POST, OPTIONS"


@dataclass(frozen=True)
class Access:
    """keys: any of them lets in, none lets in all. origins: of the web pages that may ask, * for all.

    loopback: the server is bound to this machine, so a Host of another name is a page's trick (DNS rebinding).
    """

    keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    loopback: bool = True


class Guard:
    """Lets the application see only what may come in; the key's number goes with it as `crane_owner`."""

    def __init__(self, app: App, access: Access, service: Service) -> None:
        self._app, self._access, self.service = app, access, service

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        path = scope["path"].rstrip("/") or "/"
        allowed = self._shared_with(headers)
        try:
            self._check_address(headers, allowed)
            if scope["method"] == "OPTIONS":
                await _preflight(headers, allowed)(scope, receive, send)
                return
            owner = 0 if path in OPEN else self._owner(headers)
        except Problem as problem:
            answer = reply(problem.body, problem.status, {**problem.headers, **allowed})
            await answer(scope, receive, send)
            return
        inside = {**scope, "path": path, "raw_path": path.encode(), "crane_owner": owner}
        await self._app(inside, receive, _with(send, allowed) if allowed else send)

    def _check_address(self, headers: Headers, allowed: dict[str, str]) -> None:
        host = headers.get("host")
        if self._access.loopback and host is not None and _name(host) not in LOOPBACK:
            raise Problem(
                403,
                f"This server answers to localhost only, not to '{host:.100}'. See crane serve --host.",
                code="host",
            )
        origin = headers.get("origin")
        if origin is not None and not allowed and urlsplit(origin).netloc != host:
            raise Problem(
                403,
                f"Web pages of '{origin:.100}' may not use this server. Start it with --allow-origin.",
                code="origin",
            )

    def _owner(self, headers: Headers) -> int:
        """The number of the key, in constant time for each. Problem 401 if it is none of ours."""
        if not self._access.keys:
            return 0
        scheme, _, said = headers.get("authorization", "").partition(" ")
        given = said.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        same = [hmac.compare_digest(given.encode(), key.encode()) for key in self._access.keys]
        if not any(same):
            what = "The API key is wrong." if given else "An API key is needed."
            raise Problem(401, f"{what} Send it as 'Authorization: Bearer KEY'.", code="invalid_api_key")
        return same.index(True)

    def _shared_with(self, headers: Headers) -> dict[str, str]:
        """The headers that let a page of an allowed origin read the answer."""
        origin = headers.get("origin")
        if origin is None or not ({origin, "*"} & set(self._access.origins)):
            return {}
        return {"access-control-allow-origin": origin, "vary": "Origin"}


def _preflight(headers: Headers, allowed: dict[str, str]) -> Any:
    more = {
        "access-control-allow-methods": METHODS,
        "access-control-allow-headers": headers.get("access-control-request-headers", "authorization, content-type"),
        "access-control-max-age": "600",
    }
    answer = reply(None, 204, {**allowed, **(more if allowed else {"allow": METHODS})})
    answer.body = b""
    return answer


def _with(send: Send, headers: dict[str, str]) -> Send:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *raw]}
        await send(message)

    return sent


def _name(host: str) -> str:
    """'[::1]:8080' -> '::1'."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""

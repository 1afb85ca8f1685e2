"""The application: every endpoint at its paths, behind the guard, with all errors in the body that its clients know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from crane_app.engine.interface import EngineLike
from crane_app.engine.request import ModelCard
from crane_app.server import (
    anthropic,
    chat,
    completions,
    embeddings,
    hearing,
    insight,
    looks,
    ollama,
    openapi,
    responses,
    sglang,
    speaking,
    words,
)
from crane_app.server.answers import Answers
from crane_app.server.body import Gone
from crane_app.server.guard import Access, Guard
from crane_app.server.keeping import Keeping
from crane_app.server.problems import Problem, problem_of
from crane_app.server.service import Call, Endpoint, Limits, Service
from crane_app.server.shelf import Offer
from crane_app.server.sse import reply
from crane_app.server.templates import Templates


async def described(call: Call) -> Response:
    return reply(openapi.document(ENDPOINTS))


ENDPOINTS: tuple[Endpoint, ...] = (
    *chat.ENDPOINTS,
    *completions.ENDPOINTS,
    *responses.ENDPOINTS,
    *embeddings.ENDPOINTS,
    *words.ENDPOINTS,
    *sglang.ENDPOINTS,
    *anthropic.ENDPOINTS,
    *ollama.ENDPOINTS,
    *hearing.ENDPOINTS,
    *speaking.ENDPOINTS,
    *insight.ENDPOINTS,
    *looks.ENDPOINTS,
    Endpoint("GET", ("/openapi.json",), "This list for programs, as OpenAPI 3.1", described),
)


def build(
    engine: EngineLike, own: dict[str, ModelCard], access: Access, limits: Limits, keeping: Keeping | None = None
) -> Guard:
    """An application around an engine; own: the models it was started with, by the names that clients use."""
    answers = Answers(engine, limits.max_concurrent, keeping or Keeping(access.keys))
    service = Service(answers, Offer(answers, own, limits.stock), limits, Templates(answers))
    routes = [Route(path, _served(service, each), methods=[each.method]) for each in ENDPOINTS for path in each.paths]
    app = Starlette(routes=routes, exception_handlers={404: _nowhere, 405: _wrong_method})
    return Guard(app, access, service)


def _served(service: Service, endpoint: Endpoint) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def serve(http: HttpRequest) -> Response:
        try:
            return await endpoint.run(Call(service, http, endpoint, http.scope.get("crane_owner", 0)))
        except Gone:
            return Response(status_code=400)  # nobody reads it
        except Exception as error:
            problem = problem_of(error)
            return reply(endpoint.shape(problem), problem.status, problem.headers)

    return serve


def _nowhere(http: HttpRequest, error: Any) -> Response:
    return reply(Problem(404, f"There is nothing at {http.url.path:.200}. See docs/compatibility.md.").body, 404)


def _wrong_method(http: HttpRequest, error: Any) -> Response:
    problem = Problem(405, f"{http.url.path:.200} does not take {http.method}.")
    return reply(problem.body, 405, dict(error.headers or {}))

"""GET /v1/models, /health, /ready: what there is, and how it is."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response

from crane_app.errors import CraneError
from crane_app.server.problems import Problem
from crane_app.server.service import Call, Endpoint
from crane_app.server.shelf import Offered, Stored
from crane_app.server.sse import reply

PATIENCE = 5.0  # seconds for the engine to say that it is well


async def models(call: Call) -> Response:
    there = await call.service.offer.all()
    data = [described(call, offered) for offered in there]
    data += [_stored(name, each) for name, each in sorted((await call.service.offer.stored()).items())]
    return reply({"object": "list", "data": data})


async def model(call: Call) -> Response:
    name = call.http.path_params["id"]
    stored = await call.service.offer.stored()
    return reply(
        _stored(name, stored[name]) if name in stored else described(call, await call.service.offer.find(name))
    )


def _stored(name: str, stored: Stored) -> dict[str, Any]:
    """A model that is loaded when it is asked for."""
    head = {"id": name, "object": "model", "created": 0, "owned_by": "crane"}
    return {**head, "max_model_len": stored.context, "loaded": False}


def described(call: Call, offered: Offered) -> dict[str, Any]:
    """A model as OpenAI and, in max_model_len, vLLM have it."""
    limit = call.service.limits.max_length
    return {
        "id": offered.name,
        "object": "model",
        "created": offered.since,
        "owned_by": "crane",
        "max_model_len": offered.card.context if limit is None else min(limit, offered.card.context),
    }


async def health(call: Call) -> Response:
    """Whether the engine answers; one that has died is started anew by being asked."""
    try:
        async with asyncio.timeout(PATIENCE):
            phase = (await asyncio.to_thread(call.service.answers.engine.stats)).phase
    except (CraneError, TimeoutError):
        raise Problem(503, "The engine does not answer. It may be loading a model, or starting anew.") from None
    if phase == "closed":
        raise Problem(503, "The engine has ended. Start the server again.")
    return reply({"status": "ok"})


async def ready(call: Call) -> Response:
    """Whether there is a model to answer with."""
    await health(call)
    there = await call.service.offer.all()
    if not there:
        raise Problem(503, "No model is loaded yet.")
    return reply({"status": "ready", "models": [offered.name for offered in there]})


ENDPOINTS = (
    Endpoint("GET", ("/v1/models",), "The models that can be asked", models),
    Endpoint("GET", ("/v1/models/{id:path}",), "One of them", model),
    Endpoint("GET", ("/health",), "Whether the engine answers; needs no key", health),
    Endpoint("GET", ("/ready",), "Whether there is a model to answer with", ready),
)

"""POST /v1/embeddings: texts as vectors, from the last hidden states of any text model."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from starlette.responses import Response

from crane_app.server.completions import TEXTS, TOKENS, prompts
from crane_app.server.fields import Table, harmless, honoured, one_of, shaped, text, unmet, yes_no
from crane_app.server.problems import refused
from crane_app.server.service import Call, Endpoint
from crane_app.server.sse import reply


@shaped(anyOf=[*TEXTS, *TOKENS])
def inputs(value: Any) -> list[Any]:
    """Texts, or lists of token ids; none is empty."""
    found = [each if isinstance(each, str) else list(each) for each in prompts(value)]
    if not all(found):
        raise ValueError("has an empty text, which has no vector")
    return found


FIELDS: Table = (
    honoured("model", text(1000), "a name of GET /v1/models; the first one if left out"),
    honoured("input", inputs, "a text, token ids, or at most 128 of either; nothing is added to their end"),
    honoured("encoding_format", one_of("float", "base64"), "base64: little-endian float32"),
    honoured("pooling", one_of("last", "mean"), "the state of the last token, or the mean of all; last if left out"),
    honoured("normalize", yes_no, "to length 1; true if left out"),
    *unmet("vectors are as wide as the model", "dimensions"),
    *unmet("a prompt is never cut", "truncate_prompt_tokens"),
    *harmless("user", note="for the provider's accounts"),
)


async def run(call: Call) -> Response:
    given = await call.fields()
    if "input" not in given:
        raise refused("input", "input is missing: give a text, or a list of texts.")
    model = await call.service.offer.find(given.get("model"))
    if model.card.hears:
        raise refused("model", f"The model {model.name} hears, and has no vectors of texts. Name a text model.")
    options = {"pooling": given.get("pooling", "last"), "normalise": given.get("normalize", True)}
    found = await call.wait(call.service.answers.part("embed", given["input"], model.card.name, **options))
    form = _base64 if given.get("encoding_format") == "base64" else _numbers
    data = [{"object": "embedding", "index": i, "embedding": form(each)} for i, each in enumerate(found["vectors"])]
    usage = {"prompt_tokens": found["tokens"], "total_tokens": found["tokens"]}
    return reply({"object": "list", "data": data, "model": model.name, "usage": usage})


def _numbers(vector: np.ndarray) -> list[float]:
    return [float(x) for x in vector]


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


ENDPOINTS = (Endpoint("POST", ("/v1/embeddings",), "Texts as vectors", run, FIELDS, needs=("input",)),)

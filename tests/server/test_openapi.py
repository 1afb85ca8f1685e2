"""/openapi.json says what the server takes and gives, and nothing made by its rules or against them breaks it."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from crane_app.server.app import ENDPOINTS
from crane_app.server.openapi import document
from crane_app.server.shapes import ANSWERS
from tests.server.test_chat import HELLO

EACH = 5  # examples of each operation that fit, and as many that do not
SHORT = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "num_predict")
LONG = {  # where nothing said means many
    "/v1/chat/completions": {"max_tokens": 3},
    "/v1/responses": {"max_output_tokens": 3},
    "/generate": {"sampling_params": {"max_new_tokens": 3}},
    "/api/chat": {"options": {"num_predict": 3}},
    "/api/generate": {"options": {"num_predict": 3}},
}
API = schemathesis.openapi.from_dict(document(ENDPOINTS))


def brief(body: Any) -> Any:
    """The same request for the model that is there, and for few tokens."""
    if not isinstance(body, dict):
        return body
    for inside in ("options", "sampling_params"):
        if isinstance(body.get(inside), dict):
            body[inside] = brief(body[inside])
    short = {name: 3 for name in SHORT if type(body.get(name)) in (int, float) and body[name] > 3}
    body = {**body, **short}
    if isinstance(body.get("model"), str):
        body["model"] = "tiny"
    if isinstance(body.get("input"), str):  # it may be said aloud
        body["input"] = body["input"][:5]
    return body


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=str)
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {endpoint.paths[0]}")
def test_what_comes_back_is_never_our_fault_and_always_as_described(tiny, endpoint, mode):
    checks = schemathesis.checks
    wanted = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
        checks.negative_data_rejection,
    ]
    operation = API[endpoint.paths[0].replace(":path", "")][endpoint.method]

    @settings(
        max_examples=EACH,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def tell(case: Any) -> None:
        case.body, case.query = brief(case.body), brief(case.query)
        if endpoint.paths[0] in LONG and isinstance(case.body, dict):
            case.body = {**LONG[endpoint.paths[0]], **case.body}
        case.call_and_validate(tiny.url, checks=wanted, timeout=30)

    try:
        tell()
    except Unsatisfiable:
        assert not mode.is_positive, "no request fits what is described"


TOOL = {"type": "function", "function": {"name": "look"}}
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 3, "logprobs": True, "top_logprobs": 2},
    "/v1/completions": {"prompt": "a", "max_tokens": 3},
    "/v1/responses": {"input": "a", "max_output_tokens": 3},
    "/v1/embeddings": {"input": ["a", "b"]},
    "/v1/tokenize": {"text": "a"},
    "/v1/detokenize": {"tokens": [70]},
    "/generate": {"text": ["a", "b"], "sampling_params": {"max_new_tokens": 3, "n": 2}, "return_logprob": True},
    "/v1/messages": {"messages": HELLO, "max_tokens": 3},
    "/v1/messages/count_tokens": {"messages": HELLO},
    "/api/chat": {"messages": HELLO, "stream": False, "options": {"num_predict": 3}},
    "/api/generate": {"prompt": "a", "stream": False, "options": {"num_predict": 3}},
    "/api/show": {"model": "tiny"},
    "/abort_request": {"abort_all": True},
    "/flush_cache": {},
}
HEARD = ("/v1/audio/transcriptions", "/v1/audio/speech")  # test_audio.py has them


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {endpoint.paths[0]}")
def test_a_good_answer_is_as_described(tiny, endpoint):
    told = tiny.http.get("/openapi.json").json()
    for path in endpoint.paths:
        plain = path.replace("{id:path}", "{id}")
        said = told["paths"][plain][endpoint.method.lower()]
        body = GOOD.get(endpoint.paths[0])
        if "requestBody" in said and path not in HEARD:
            schema = said["requestBody"]["content"]["application/json"]["schema"]
            jsonschema_rs.validate(schema, body)
        if path in HEARD:
            continue
        got = tiny.http.request(endpoint.method, plain.replace("{id}", "tiny"), json=body)
        assert got.status_code == 200, got.text
        kind = got.headers["content-type"].partition(";")[0]
        schema = said["responses"]["200"]["content"][kind]["schema"]
        if kind == "application/json":
            jsonschema_rs.validate(schema, got.json())
            assert not jsonschema_rs.is_valid(schema, {})


def test_every_answer_is_described_and_nothing_else():
    assert set(ANSWERS) == {endpoint.paths[0] for endpoint in ENDPOINTS}


def test_what_is_refused_can_be_told_from_what_is_honoured(tiny):
    chat = tiny.http.get("/openapi.json").json()["paths"]["/v1/chat/completions"]["post"]
    schema = chat["requestBody"]["content"]["application/json"]["schema"]
    good = {"messages": HELLO, "tools": [TOOL], "temperature": None}
    assert jsonschema_rs.is_valid(schema, good)
    for wrong in ({"best_of": 2}, {"temperature": "hot"}, {"stop": ["a"] * 5}, {"messages": []}, {"messages": None}):
        assert not jsonschema_rs.is_valid(schema, {**good, **wrong})
    assert jsonschema_rs.is_valid(schema, {**good, "best_of": 1, "user": 5})

"""GET /openapi.json: the endpoints and their fields for programs, from the tables that requests are read by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from crane_app.server.fields import properties
from crane_app.server.problems import Problem
from crane_app.server.service import Endpoint
from crane_app.server.shapes import ANSWERS, Schema
from crane_app.version import VERSION

KINDS = {str: "string", int: "integer", dict: "object"}


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """All of them, each path by itself."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        for path in endpoint.paths:
            plain = re.sub(r"\{(\w+):\w+\}", r"{\1}", path)
            paths.setdefault(plain, {})[endpoint.method.lower()] = _operation(endpoint, plain)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Crane", "version": VERSION},
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            }
        },
        "security": [{}, {"bearer": []}, {"header": []}],
    }


def _operation(endpoint: Endpoint, path: str) -> dict[str, Any]:
    name = re.sub(r"\W+", "_", f"{endpoint.method.lower()}{path}").strip("_")
    found: dict[str, Any] = {"operationId": name, "summary": endpoint.sentence, "responses": _responses(endpoint)}
    inside = [_parameter(one, "path", {"type": "string", "minLength": 1}) for one in re.findall(r"\{(\w+)\}", path)]
    inside += [_parameter(field.name, "query", field.schema) for field in endpoint.query]
    if inside:
        found["parameters"] = inside
    if endpoint.fields:
        needed = {field.name: field.schema for field in endpoint.fields if field.name in endpoint.needs}
        null = endpoint.takes == "application/json"
        body: Schema = {"type": "object", "properties": {**properties(endpoint.fields, null), **needed}}
        if needed:
            body["required"] = list(needed)
        if endpoint.either:
            choices = {field.name: field.schema for field in endpoint.fields if field.name in endpoint.either}
            body["oneOf"] = [{"required": [name], "properties": {name: choices[name]}} for name in choices]
        found["requestBody"] = {"required": True, "content": {endpoint.takes: {"schema": body}}}
    return found


def _parameter(name: str, where: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema}


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    """What it answers, and errors: in its own form, or in OpenAI's for what the guard turns away."""
    well = {kind: {"schema": schema} for kind, schema in ANSWERS[endpoint.paths[0]].items()}
    problem = Problem(400, "")
    own, guards = _like(endpoint.shape(problem)), _like(problem.body)
    error = own if own == guards else {"anyOf": [own, guards]}
    return {
        "200": {"description": "What was asked for", "content": well},
        "default": {"description": "What is wrong", "content": {"application/json": {"schema": error}}},
    }


def _like(example: Any) -> Schema:
    """The schema of what is made as the example is; a text may stand where it has nothing."""
    if isinstance(example, dict):
        inside = {name: _like(value) for name, value in example.items()}
        return {"type": "object", "properties": inside, "required": list(inside)}
    return {"type": ["string", "null"]} if example is None else {"type": KINDS[type(example)]}

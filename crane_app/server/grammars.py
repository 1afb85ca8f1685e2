"""What an answer must be, as the many APIs spell it: response_format, guided_json, regex, format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from crane_app.engine.request import Grammar
from crane_app.server.fields import Shaped, Table, honoured, mapping, shaped, text, unmet, yes_no
from crane_app.server.problems import refused

MOST = 1 << 17  # characters, as the engine takes them


@shaped(type=["string", "object", "boolean"])
def schema(value: Any) -> str:
    """A JSON schema, as an object or as a text of one, as text."""
    if isinstance(value, str):
        return text(MOST)(value)
    if not isinstance(value, dict | bool):
        raise ValueError(f"must be a JSON schema, not {value!r:.60}")
    return json.dumps(value, ensure_ascii=False)


@shaped(type="array", minItems=1, items={"type": "string"})
def choices(value: Any) -> str:
    if not (isinstance(value, list) and value and all(isinstance(each, str) for each in value)):
        raise ValueError(f"must be a list of texts, at least one, not {value!r:.60}")
    return json.dumps(value)


@shaped(type="object", required=["type"], properties={"type": {"enum": ["text", "json_object", "json_schema"]}})
def response_format(value: Any) -> Grammar | None:
    """OpenAI's; and {"type": "json_object", "schema": {...}}, as llama.cpp has it."""
    given = mapping(value)
    match given.get("type"):
        case "text":
            return None
        case "json_object" if given.get("schema") is None:
            return Grammar("json_object")
        case "json_object":
            return Grammar("json_schema", schema(given["schema"]))
        case "json_schema":
            return _named(given.get("json_schema"))
        case kind:
            raise ValueError(f"has a type that is not text, json_object or json_schema, but {kind!r:.60}")


def _named(value: Any) -> Grammar:
    """{"name": ..., "schema": {...}}. Not strict is held to all the same: it is asked for."""
    if not isinstance(value, dict) or value.get("schema") is None:
        raise ValueError('has no schema: {"name": ..., "schema": {...}} is what goes with the type json_schema')
    return Grammar("json_schema", schema(value["schema"]))


@shaped(**response_format.schema)
def text_format(value: Any) -> Grammar | None:
    """As `response_format`, but that a schema stands beside its name, as /v1/responses has it."""
    given = mapping(value)
    return _named(given) if given.get("type") == "json_schema" else response_format(given)


@shaped(type="object")
def structured_outputs(value: Any) -> Grammar | None:
    """vLLM's object, with exactly one way to say it."""
    given = {name: each for name, each in mapping(value).items() if each not in (None, False)}
    if others := set(given) - set(WAYS):
        raise ValueError(f"has {min(others)!r:.60}, which is not there; there are: {', '.join(WAYS)}")
    if len(given) != 1:
        raise ValueError(f"must have exactly one of: {', '.join(WAYS)}")
    ((name, each),) = given.items()
    return WAYS[name](each)


@shaped(anyOf=[{"enum": ["", "json"]}, {"type": "object"}])
def ollama_format(value: Any) -> Grammar | None:
    """Ollama's "json" or a schema; "" for neither."""
    if isinstance(value, str) and value in ("", "json"):
        return Grammar("json_object") if value else None
    return Grammar("json_schema", schema(mapping(value)))


@shaped(type="object", required=["type", "schema"], properties={"type": {"const": "json_schema"}})
def output_format(value: Any) -> Grammar:
    """Anthropic's {"type": "json_schema", "schema": {...}}."""
    given = mapping(value)
    if given.get("type") != "json_schema" or given.get("schema") is None:
        raise ValueError('must be {"type": "json_schema", "schema": {...}}')
    return Grammar("json_schema", schema(given["schema"]))


def _held(kind: Any, read: Shaped[str]) -> Shaped[Grammar | None]:
    return shaped(**read.schema)(lambda value: Grammar(kind, read(value)))


WAYS: dict[str, Shaped[Grammar | None]] = {
    "json": _held("json_schema", schema),
    "regex": _held("regex", text(MOST)),
    "choice": _held("choice", choices),
    "grammar": _held("ebnf", text(MOST)),
    "json_object": shaped(**yes_no.schema)(lambda value: Grammar("json_object") if yes_no(value) else None),
}
RESPONSE_FORMAT = honoured("response_format", response_format, "text, json_object, json_schema; strict in any case")
SGLANG: Table = (
    honoured("json_schema", WAYS["json"], "a schema, or a text of one"),
    honoured("regex", WAYS["regex"], "of the whole answer"),
    honoured("ebnf", WAYS["grammar"], "as llama.cpp writes it (GBNF), or Lark"),
)
VLLM: Table = (
    honoured("guided_json", WAYS["json"], "a schema, or a text of one"),
    honoured("guided_regex", WAYS["regex"], "of the whole answer"),
    honoured("guided_choice", WAYS["choice"], "texts"),
    honoured("guided_grammar", WAYS["grammar"], "as llama.cpp writes it (GBNF), or Lark"),
    honoured("structured_outputs", structured_outputs, "one of json, regex, choice, grammar, json_object"),
    honoured("grammar", WAYS["grammar"], "as guided_grammar"),
    *unmet("there is one, llguidance", "guided_decoding_backend", neutral=("auto", "guidance", "llguidance")),
    *unmet("white space is held to a line's indentation", "guided_whitespace_pattern"),
)
FIELDS: Table = (*SGLANG, *VLLM)
NAMES = (
    "response_format",
    "text.format",
    "format",
    "output_format",
    "output_config",
    *(field.name for field in FIELDS),
)


def asked(given: Mapping[str, Any], inside: str = "") -> Grammar | None:
    """What the request's one field about it says, named for errors. Problem 400 for two of them."""
    found = [(name, given[name]) for name in NAMES if given.get(name) is not None]
    if len(found) > 1:
        raise refused(found[1][0], f"An answer is held to one thing: say {found[0][0]} or {found[1][0]}, not both.")
    if not found:
        return None
    ((name, grammar),) = found
    return Grammar(grammar.kind, grammar.text, field=inside + name)

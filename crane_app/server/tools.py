"""The tools of a request: checked, and the grammar of what may be said where one must be called or one is strict."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from crane_app.engine.request import Grammar
from crane_app.server.calls import NAME
from crane_app.server.fields import mapping, shaped, some, text
from crane_app.server.problems import refused

MOST, CALLS = 128, 16  # tools offered, and calls in one answer that must call
Form = Literal["json", "xml", "list"]  # see calls.py
TAGS: dict[Form, str] = {"json": "<tool_call>", "xml": "<tool_call>", "list": "<tool_calls>"}
ANY: dict[str, Any] = {"type": "object"}
# As chat templates write JSON, so that nothing is left to chance between two tokens of it.
TIGHT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@shaped(type="array", maxItems=MOST, items={
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {"name": {"type": "string", "pattern": f"^{NAME}$"}},
            "required": ["name"],
        },
    },
    "required": ["type", "function"],
})  # fmt: skip
def offered(value: Any) -> tuple[dict[str, Any], ...]:
    """The tools of a request, checked: functions with a name each, none twice."""
    found = tuple(some(_tool, MOST)(value))
    names = [tool["function"]["name"] for tool in found]
    if len(set(names)) < len(names):
        raise ValueError("offers two functions of one name")
    return found


def _tool(value: Any) -> dict[str, Any]:
    tool = mapping(value)
    if tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
        raise ValueError('must hold functions: {"type": "function", "function": {"name": ...}}')
    name = text(64)(tool["function"].get("name"))
    if not re.fullmatch(NAME, name):
        raise ValueError(f"has a function called '{name:.64}'; letters, digits, _, . and - may be used")
    if not isinstance(tool["function"].get("parameters", {}), dict | None):
        raise ValueError(f"has parameters of {name} that are no JSON schema")
    if not isinstance(tool["function"].get("strict"), bool | None):
        raise ValueError(f"has a strict of {name} that is neither true nor false")
    return tool


@dataclass(frozen=True)
class Choice:
    """Which tools may be called: schemas by name. must: one of them has to be. strict: the names of those whose
    arguments fit their schema even where no call is asked for."""

    tools: Mapping[str, Any]
    must: bool = False
    strict: frozenset[str] = frozenset()


@shaped(anyOf=[
    {"enum": ["auto", "none", "required"]},
    {"type": "object", "properties": {"type": {"const": "function"}}, "required": ["type"]},
])  # fmt: skip
def choice(value: Any) -> str:
    """auto, none, required, or the name of a function behind a colon."""
    if value in ("auto", "none", "required") and isinstance(value, str):
        return value
    function = value.get("function", value) if isinstance(value, dict) and value.get("type") == "function" else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError('must be auto, none, required or {"type": "function", "function": {"name": ...}}')
    return f":{function['name']}"


def chosen(given: Mapping[str, Any]) -> Choice:
    """What a request's tools and tool_choice say. Problem 400 where they contradict each other."""
    how, tools = given.get("tool_choice", "auto"), given.get("tools", ())
    schemas = {tool["function"]["name"]: tool["function"].get("parameters") for tool in tools}
    if how == "none":
        return Choice({})
    if "tool_choice" in given and not schemas:
        raise refused("tool_choice", f"tool_choice is {how.lstrip(':')}, but no tools are given. Give some.")
    if not how.startswith(":"):
        strict = frozenset(tool["function"]["name"] for tool in tools if tool["function"].get("strict"))
        return Choice(schemas, how == "required", strict)
    if how[1:] not in schemas:
        raise refused("tool_choice", f"tool_choice names {how[1:]:.64}, which is not among the tools.")
    return Choice({how[1:]: schemas[how[1:]]}, True)


def calling(choice: Choice, form: Form, parallel: bool, answer: Grammar | None = None) -> Grammar:
    """The grammar of calls in a model's form: one, or with `parallel` some; or of an answer where none must be made.

    Without an answer to hold to and where none must be made, a call stands anywhere in a text, and each as it should.
    """
    rules = [_rule(number, name, schema, form) for number, (name, schema) in enumerate(_told(choice, answer).items())]
    tag, names = TAGS[form], " | ".join(f"tool_{number}" for number in range(len(rules)))
    if form == "list":
        more = f' (", " one_call){{0,{CALLS - 1}}}' if parallel else ""
        rules += [f'one_call: {names}\nbody: "[" one_call{more} "]</tool_calls>"']
    else:
        rules += [f"body: {names}"]
    if answer is None and not choice.must:
        some = "(said body)*" if parallel else "(said body)?"
        text = "/(?s:.*)/ & ~/(?s:.*<tool_calls?>.*)/"  # no call is read in it
        start = f'start: {some} REST\nsaid[suffix="{tag}"]: {text}\nREST: {text}'
        return Grammar("lark", "\n".join([start, *rules]), field="tools")
    more = f' ("\\n" "{tag}" body){{0,{CALLS - 1}}}' if parallel and form != "list" else ""
    lines = [f"start: calls{'' if answer is None else ' | answer'}", f'calls: "{tag}" body{more}', *rules]
    if answer is not None:
        lines.append(f"answer: %json {answer.text or json.dumps({'type': 'object'})}")
    return Grammar("lark", "\n".join(lines), field="tools" if answer is None else answer.field)


def _told(choice: Choice, answer: Grammar | None) -> dict[str, Any]:
    """What each function's arguments are held to: ANY where nothing asks for more."""
    held = choice.must or answer is not None
    return {name: schema if held or name in choice.strict else ANY for name, schema in choice.tools.items()}


def _rule(number: int, name: str, schema: Any, form: Form) -> str:
    """A call without the tag that it begins with."""
    if (schema or {}).get("type", "object") != "object":
        raise refused("tools", f"tools has parameters of {name} that are no object, and arguments always are.")
    if form == "xml":
        return _function(number, name, schema or {})
    before, after = f'{{"name": {json.dumps(name)}, "arguments": ', "}"
    if form == "json":
        before, after = f"\n{before}", f"{after}\n</tool_call>"
    return (
        f"tool_{number}: {json.dumps(before)} args_{number} {json.dumps(after)}\nargs_{number}: %json {_tight(schema)}"
    )


def _tight(schema: Any) -> str:
    """A tool's parameters: always an object, and with nothing in it where nothing is said."""
    given = schema or {"properties": {}, "additionalProperties": False}
    return json.dumps({**given, "type": "object", "x-guidance": TIGHT})


def _function(number: int, name: str, schema: Mapping[str, Any]) -> str:
    """Qwen3-Coder's form: each parameter by itself, those that may be left out with a question mark."""
    line = f"tool_{number}: {json.dumps(f'{chr(10)}<function={name}>{chr(10)}')}"
    if schema is ANY:
        rule, suffix = f"p_{number}", json.dumps("\n</parameter>\n")
        value = f'{rule}: "<parameter=" /[^>\\n]+/ ">\\n" {rule}_v\n{rule}_v[suffix={suffix}]: /(?s:.*)/'
        return f'{line} {rule}* "</function>\\n</tool_call>"\n{value}'
    properties = schema.get("properties") or {}
    needed = schema.get("required") or []
    if not isinstance(properties, dict) or not isinstance(needed, list):
        raise refused("tools", f"tools has parameters of {name} that are no JSON schema.")
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    rules: list[str] = []
    for place, (key, wanted) in enumerate(properties.items()):
        rule = f"p_{number}_{place}"
        line += f" {rule}" + ("" if key in needed else "?")
        before, after = json.dumps(f"<parameter={key}>\n"), json.dumps("\n</parameter>\n")
        if isinstance(wanted, dict) and wanted.get("type") == "string" and not {"enum", "const"} & set(wanted):
            rules.append(f"{rule}: {before} {rule}_v\n{rule}_v[suffix={after}]: /(?s:.*)/")
        elif isinstance(wanted, dict) and all(isinstance(each, str) for each in wanted.get("enum") or [None]):
            words = " | ".join(json.dumps(each) for each in wanted["enum"])
            rules.append(f"{rule}: {before} ({words}) {after}")
        else:
            inside = {**wanted, **shared, "x-guidance": TIGHT} if isinstance(wanted, dict) else {}
            rules.append(f"{rule}: {before} {rule}_v {after}\n{rule}_v: %json {json.dumps(inside)}")
    return "\n".join([f'{line} "</function>\\n</tool_call>"', *rules])

"""The tools of a request: checked, and where one must be called, the grammar of what may be said then."""

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
    return tool


@dataclass(frozen=True)
class Choice:
    """Which tools may be called: schemas by name. must: one of them has to be."""

    tools: Mapping[str, Any]
    must: bool = False


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
        return Choice(schemas, how == "required")
    if how[1:] not in schemas:
        raise refused("tool_choice", f"tool_choice names {how[1:]:.64}, which is not among the tools.")
    return Choice({how[1:]: schemas[how[1:]]}, True)


def calling(choice: Choice, form: Form, parallel: bool, answer: Grammar | None = None) -> Grammar:
    """The grammar of calls in a model's form: one, or with `parallel` some; or of an answer where none must be made."""
    rules = [_rule(number, name, schema, form) for number, (name, schema) in enumerate(choice.tools.items())]
    names = " | ".join(f"tool_{number}" for number in range(len(rules)))
    between = '", "' if form == "list" else r'"\n"'
    calls = f"call ({between} call){{0,{CALLS - 1}}}" if parallel else "call"
    calls = f'"<tool_calls>[" {calls} "]</tool_calls>"' if form == "list" else calls
    lines = [f"start: calls{'' if answer is None else ' | answer'}", f"calls: {calls}", f"call: {names}", *rules]
    if answer is not None:
        lines.append(f"answer: %json {answer.text or json.dumps({'type': 'object'})}")
    return Grammar("lark", "\n".join(lines), field="tools" if answer is None else answer.field)


def _rule(number: int, name: str, schema: Any, form: Form) -> str:
    if (schema or {}).get("type", "object") != "object":
        raise refused("tools", f"tools has parameters of {name} that are no object, and arguments always are.")
    if form == "xml":
        return _function(number, name, schema or {})
    before, after = f'{{"name": {json.dumps(name)}, "arguments": ', "}"
    if form == "json":
        before, after = f"<tool_call>\n{before}", f"{after}\n</tool_call>"
    return (
        f"tool_{number}: {json.dumps(before)} args_{number} {json.dumps(after)}\nargs_{number}: %json {_tight(schema)}"
    )


def _tight(schema: Any) -> str:
    """A tool's parameters: always an object, and with nothing in it where nothing is said."""
    given = schema or {"properties": {}, "additionalProperties": False}
    return json.dumps({**given, "type": "object", "x-guidance": TIGHT})


def _function(number: int, name: str, schema: Mapping[str, Any]) -> str:
    """Qwen3-Coder's form: each parameter by itself, those that may be left out with a question mark."""
    properties = schema.get("properties") or {}
    needed = schema.get("required") or []
    if not isinstance(properties, dict) or not isinstance(needed, list):
        raise refused("tools", f"tools has parameters of {name} that are no JSON schema.")
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    line, rules = f"tool_{number}: {json.dumps(f'<tool_call>{chr(10)}<function={name}>{chr(10)}')}", []
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

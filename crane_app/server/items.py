"""The input of /v1/responses, a text or items of many kinds, as the messages that a chat is made of.

The kinds are those of the OpenAI API reference (platform.openai.com/docs/api-reference/responses/create, "input").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crane_app.server import messages
from crane_app.server.fields import mapping, shaped, some
from crane_app.server.problems import Problem, refused
from crane_app.server.tools import offered

ROLES = ("user", "system", "developer", "assistant")
TEXTS = ("input_text", "output_text", "text", "reasoning_text", "summary_text")
Turn = dict[str, Any]


def tools(value: Any) -> tuple[dict[str, Any], ...]:
    """Functions, which stand flat here, in the form of a chat request."""
    found = []
    for each in some(mapping, 128)(value):
        if each.get("type") != "function":
            raise ValueError(f"has one of the type {each.get('type')!r:.40}; only your own functions can be called")
        function = {name: each[name] for name in ("name", "description", "parameters", "strict") if name in each}
        found.append({"type": "function", "function": {n: v for n, v in function.items() if v is not None}})
    return offered(found)


_PART = {"type": "object", "properties": {"type": {"enum": [*TEXTS, "refusal"]}}, "required": ["type", "text"]}
_SAID = {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]}


@shaped(anyOf=[
    {"type": "string"},
    {"type": "array", "minItems": 1, "maxItems": messages.MOST, "items": {"anyOf": [
        {"type": "object", "required": ["role", "content"],
         "properties": {"type": {"const": "message"}, "role": {"enum": list(ROLES)}, "content": _SAID}},
        {"type": "object", "properties": {"type": {"enum": ["reasoning", "function_call", "function_call_output"]}},
         "required": ["type"]},
    ]}},
])  # fmt: skip
def given(value: Any) -> Any:
    """As it is: `turns` says what is wrong with it, and where."""
    return value


def turns(given: Any, instructions: str = "") -> tuple[Turn, ...]:
    """The messages; what an assistant thinks, says and calls in a row is one. Problem 400 names the item at fault."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise refused("input", "input must be a text or a list of at least one item.")
    if len(given) > messages.MOST:
        raise refused("input", f"input has {len(given)} items; at most {messages.MOST} are taken.")
    found: list[Turn] = [{"role": "system", "content": instructions}] if instructions else []
    for number, item in enumerate(given):
        where = f"input[{number}]"
        if not isinstance(item, dict):
            raise refused(where, f"{where} must be an object, not {item!r:.60}.")
        kind = item.get("type") or "message"
        if kind not in KINDS:
            raise refused(where, f"{where} is of the type {kind!r:.40}. There are here: {', '.join(KINDS)}.")
        turn = KINDS[kind](where, item)
        if found and _goes_on(found[-1], turn):
            _join(found[-1], turn)
        else:
            found.append(turn)
    for turn in found:
        if turn["content"] is None and not turn.get("tool_calls"):
            turn["content"] = ""
    return messages.taken(found)


def _message(where: str, item: Turn) -> Turn:
    role = item.get("role")
    if role not in ROLES:
        raise refused(where, f"{where} has the role {role!r:.40}. Use one of: {', '.join(ROLES)}.")
    return {"role": role, "content": _words(where, item.get("content"))}


def _thought(where: str, item: Turn) -> Turn:
    parts = item.get("content") or item.get("summary") or []
    return {"role": "assistant", "content": None, "reasoning_content": _words(where, parts)}


def _call(where: str, item: Turn) -> Turn:
    name, arguments = item.get("name"), item.get("arguments", "{}")
    if not isinstance(name, str) or not isinstance(arguments, str):
        raise refused(where, f"{where} must have a name and its arguments as a text of JSON.")
    call = {"id": item.get("call_id"), "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [messages.called(where, call)]}


def _result(where: str, item: Turn) -> Turn:
    return {"role": "tool", "content": _words(where, item.get("output")), "tool_call_id": item.get("call_id")}


KINDS: dict[str, Callable[[str, Turn], Turn]] = {
    "message": _message,
    "reasoning": _thought,
    "function_call": _call,
    "function_call_output": _result,
}


def _words(where: str, content: Any) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise refused(where, f"{where} must have a text or a list of parts.")
    found = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        text = part.get("refusal" if kind == "refusal" else "text") if isinstance(part, dict) else None
        if kind in ("input_image", "input_audio", "input_file"):
            raise Problem(400, f"{where} has an {kind}, and this model reads text only.", where, "unsupported_content")
        if kind not in (*TEXTS, "refusal") or not isinstance(text, str):
            raise refused(where, f'{where} has a part that is not {{"type": "input_text", "text": "..."}}.')
        found.append(text)
    return "\n".join(found)


def _goes_on(last: Turn, turn: Turn) -> bool:
    """Whether both are one message of the assistant: a thought opens one, and only calls follow on calls."""
    if last["role"] != "assistant" or turn["role"] != "assistant" or "reasoning_content" in turn:
        return False
    return "tool_calls" in turn or (last["content"] is None and "tool_calls" not in last)


def _join(last: Turn, turn: Turn) -> None:
    if turn["content"] is not None:
        last["content"] = turn["content"]
    if "tool_calls" in turn:
        last["tool_calls"] = [*last.get("tool_calls", ()), *turn["tool_calls"]]

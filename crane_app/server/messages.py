"""The messages of a chat request, checked and brought into the form that chat templates take."""

from __future__ import annotations

import json
from typing import Any

from crane_app.errors import BadInput
from crane_app.pipelines.chat import ROLES, checked
from crane_app.server.fields import shaped
from crane_app.server.problems import Problem, refused

MOST = 10_000  # messages
# What a template may read; the rest (refusal, annotations) is a client's own book-keeping.
KEPT = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "reasoning", "thinking")
PICTURES = ("image_url", "image", "input_image", "video_url", "video")
SOUNDS = ("input_audio", "audio_url", "audio")


_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
_MESSAGE = {
    "type": "object",
    "properties": {
        "role": {"enum": list(ROLES)},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}, {"type": "null"}]},
    },
    "anyOf": [
        {"required": ["role", "content"], "properties": {"content": {"type": ["string", "array"]}}},
        {"required": ["role", "tool_calls"], "properties": {"role": {"const": "assistant"}}},
    ],
}


@shaped(type="array", minItems=1, maxItems=MOST, items=_MESSAGE)
def taken(value: Any) -> tuple[dict[str, Any], ...]:
    """The messages for the engine. Problem 400 names the one that is wrong."""
    if not isinstance(value, list) or not value:
        raise refused("messages", "messages must be a list of at least one message with a role and a content.")
    if len(value) > MOST:
        raise refused("messages", f"messages has {len(value)} entries; at most {MOST} are taken.")
    try:
        found = checked(value)
    except BadInput as error:
        raise refused("messages", str(error)) from None
    return tuple(_message(number, message) for number, message in enumerate(found))


def _message(number: int, message: dict[str, Any]) -> dict[str, Any]:
    kept = {name: message[name] for name in KEPT if message.get(name) is not None}
    if isinstance(kept.get("content"), list):
        kept["content"] = [_part(f"messages[{number}].content[{i}]", p) for i, p in enumerate(kept["content"])]
    if message.get("function_call") is not None:
        raise refused(f"messages[{number}].function_call", "function_call is not supported: use tool_calls.")
    if "tool_calls" in kept:
        kept["tool_calls"] = _calls(f"messages[{number}].tool_calls", kept["tool_calls"])
    return kept


def _part(where: str, part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in PICTURES:
        raise Problem(400, f"{where} is a picture, and this model reads text only.", where, "unsupported_content")
    if kind in SOUNDS:
        raise Problem(
            400, f"{where} is sound; send it to /v1/audio/transcriptions first.", where, "unsupported_content"
        )
    if kind != "text" or not isinstance(part.get("text"), str):
        raise refused(where, f'{where} must be {{"type": "text", "text": "..."}}.')
    return {"type": "text", "text": part["text"]}


def _calls(where: str, calls: Any) -> list[dict[str, Any]]:
    """Earlier calls with their arguments as objects, which is what templates expect."""
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise refused(where, f"{where} must be a list of calls.")
    return [called(where, call) for call in calls]


def called(where: str, call: dict[str, Any]) -> dict[str, Any]:
    """An earlier call with its arguments as an object; Problem 400 if they are none."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise refused(where, f"{where} must hold functions with a name and arguments.")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise refused(where, f"{where} has arguments of {function['name']:.64} that are not JSON.") from None
    if not isinstance(arguments, dict):
        raise refused(where, f"{where} has arguments of {function['name']:.64} that are no object.")
    return {**call, "function": {**function, "arguments": arguments}}

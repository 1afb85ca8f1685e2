"""POST /v1/messages: a conversation as programs made for Anthropic's API ask for it.

The shapes are those of docs.anthropic.com/en/api/messages and messages-streaming.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from crane_app.engine.request import End
from crane_app.server import chat, grammars, messages, sampling, thinking
from crane_app.server.answers import summed
from crane_app.server.chat import Delta, Reply, Wish
from crane_app.server.fields import Table, harmless, honoured, mapping, shaped, some, text, unmet, yes_no
from crane_app.server.problems import Problem, refused
from crane_app.server.service import Call, Endpoint
from crane_app.server.sse import Events, Frames, event, reply
from crane_app.server.tools import offered

CHOICES = {"auto": "auto", "any": "required", "none": "none"}  # in OpenAI's words
REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large"}
TYPES |= {429: "rate_limit_error", 503: "overloaded_error"}


def tools(value: Any) -> tuple[dict[str, Any], ...]:
    """Anthropic's tools in OpenAI's form."""
    found = []
    for each in some(mapping, 128)(value):
        if each.get("type") not in (None, "custom"):
            raise ValueError(f"has one of the type {each['type']!r:.40}; only your own tools can be called")
        function: dict[str, Any] = {name: each[name] for name in ("name", "description") if name in each}
        found.append({"type": "function", "function": {**function, "parameters": each.get("input_schema", {})}})
    return offered(found)


def tool_choice(value: Any) -> dict[str, Any]:
    kind = mapping(value).get("type")
    if kind not in CHOICES and (kind != "tool" or not isinstance(value.get("name"), str)):
        raise ValueError('must have the type auto, any or none, or be {"type": "tool", "name": ...}')
    return {
        "tool_choice": CHOICES.get(kind) or f":{value['name']}",
        "parallel_tool_calls": not value.get("disable_parallel_tool_use", False),
    }


def output_config(value: Any) -> Any:
    given = {name: each for name, each in mapping(value).items() if each is not None}
    if others := set(given) - {"format"}:
        raise ValueError(f"has {min(others)!r:.60}, and only format is there")
    return grammars.output_format(given["format"]) if given else None


def system(value: Any) -> str:
    return value if isinstance(value, str) else "\n".join(_text("system", each) for each in some(mapping, 1000)(value))


_PARTS = {"type": "array", "items": {"type": "object", "required": ["type"]}}


@shaped(type="array", minItems=1, items={
    "type": "object",
    "properties": {
        "role": {"enum": ["user", "assistant"]},
        "content": {"anyOf": [{"type": "string"}, _PARTS]},
    },
    "required": ["role", "content"],
})  # fmt: skip
def said(value: Any) -> Any:
    """As it is: what it becomes is checked."""
    return value


COUNTED: Table = (
    honoured("model", text(1000), "a name of GET /v1/models; the first one if left out"),
    honoured("messages", said, "text, tool_use, tool_result and thinking; pictures are refused"),
    honoured("system", system),
    honoured("tools", tools, "your own"),
    honoured("tool_choice", tool_choice, "auto, none, any and a tool; the last two are enforced"),
    honoured("thinking", thinking.switch, "disabled, adaptive, or enabled with budget_tokens"),
    *unmet("it is not there", "mcp_servers", "container", "context_management", neutral=([],)),
)
FIELDS: Table = (
    *COUNTED,
    honoured("max_tokens", sampling.ranged("max_tokens"), "never past the context"),
    *(honoured(name, sampling.ranged(name)) for name in ("temperature", "top_p", "top_k")),
    honoured("stop_sequences", lambda value: sampling.stops(64)(value) if value else None, "at most 64"),
    honoured("stream", yes_no),
    honoured("output_format", grammars.output_format, "json_schema, after the thought"),
    honoured("output_config", output_config, "format only, as output_format; effort is refused"),
    *harmless("metadata", "service_tier", "inference_geo", note="for the provider's accounts"),
)


def shape(problem: Problem) -> dict[str, Any]:
    kind = TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": problem.message}}


async def understood(call: Call, given: Mapping[str, Any]) -> Wish:
    if "messages" not in given:
        raise refused("messages", "messages is missing: give a list of messages with a role and a content each.")
    turns = [turn for each in _listed(given["messages"]) for turn in _turns(each)]
    if given.get("system"):
        turns = [{"role": "system", "content": given["system"]}, *turns]
    same = (
        "model", "max_tokens", "temperature", "top_p", "top_k", "stream", "tools", "thinking", "output_format",
        "output_config",
    )  # fmt: skip
    asked = {name: given[name] for name in same if name in given}
    choice = given.get("tool_choice", {})
    asked |= choice if given.get("tools") or choice.get("tool_choice", "auto") not in ("auto", "none") else {}
    if given.get("stop_sequences"):
        asked["stop"] = given["stop_sequences"]
    return await chat.understood(call, {**asked, "messages": messages.taken(turns)})


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise refused("messages", "messages must be a list.")
    return value


def _turns(message: Any) -> list[dict[str, Any]]:
    """One message as OpenAI's: results of tools become messages of their own, before what else it says."""
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return [message]
    results, words, calls, thought = [], [], [], ""
    for part in message["content"]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "tool_result":
            content = part.get("content") or ""
            words_of = content if isinstance(content, str) else "\n".join(_text("messages", each) for each in content)
            results.append({"role": "tool", "tool_call_id": part.get("tool_use_id"), "content": words_of})
        elif kind == "tool_use":
            function = {"name": part.get("name"), "arguments": part.get("input", {})}
            calls.append({"id": part.get("id"), "type": "function", "function": function})
        elif kind == "thinking":
            thought += str(part.get("thinking", ""))
        elif kind != "redacted_thinking":
            words.append(_text("messages", part))
    said: dict[str, Any] = {"role": message.get("role"), "content": "\n".join(words)}
    said |= {"reasoning_content": thought} if thought else {}
    said |= {"tool_calls": calls, "content": "\n".join(words) or None} if calls else {}
    return [*results, said] if words or calls or not results else results


def _text(where: str, part: Any) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        raise refused(where, f"{where} has a part of the kind {kind!r:.40}, and this model reads text only.")
    return str(part["text"])


async def run(call: Call) -> Response:
    given = await call.fields()
    if "max_tokens" not in given:
        raise refused("max_tokens", "max_tokens is missing.")
    wish = await call.wait(understood(call, given))
    if given.get("stream"):
        return Events(_frames(call, wish), shape, lambda body: event(body, "error"))
    return reply(await call.wait(_whole(call, wish)))


async def count(call: Call) -> Response:
    wish = await call.wait(understood(call, await call.fields()))
    return reply({"input_tokens": len(await call.wait(_ids(call, wish)))})


async def _ids(call: Call, wish: Wish) -> Any:
    request = wish.request
    given = list(request.messages or ())
    return await call.service.answers.part("tokenize", given, request.model, **request.template)


async def _whole(call: Call, wish: Wish) -> dict[str, Any]:
    total, one = Delta(), Reply(wish)
    ended: list[End] = []
    answers = call.service.answers
    async with (
        answers.known("", call.owner, "msg_") as live,
        aclosing(answers.pieces(live, wish.request, ended)) as pieces,
    ):
        async for piece in pieces:
            total.add(one.push(piece))
    content: list[dict[str, Any]] = []
    if total.reasoning:
        content.append({"type": "thinking", "thinking": total.reasoning, "signature": ""})
    if total.content:
        content.append({"type": "text", "text": total.content})
    for each in total.calls:
        content.append({"type": "tool_use", "id": each.id, "name": each.name, "input": json.loads(each.arguments)})
    usage = summed(ended)
    head = _head(live.id, wish, usage.prompt_tokens, usage.output_tokens)
    return {**head, "content": content, **_ending(total)}


def _head(id: str, wish: Wish, read: int, made: int) -> dict[str, Any]:
    usage = {"input_tokens": read, "output_tokens": made}
    usage |= {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    head = {"id": id, "type": "message", "role": "assistant", "model": wish.model.name, "content": []}
    return {**head, "stop_reason": None, "stop_sequence": None, "usage": usage}


def _ending(last: Delta) -> dict[str, Any]:
    if last.finish == "stop" and isinstance(last.matched, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": last.matched}
    return {"stop_reason": REASONS.get(last.finish or ""), "stop_sequence": None}


class Blocks:
    """The blocks of a streamed message: one at a time, each opened, filled and closed."""

    def __init__(self) -> None:
        self._index, self._kind = -1, ""

    def shown(self, new: Delta) -> list[bytes]:
        frames: list[bytes] = []
        if new.reasoning:
            frames += self._fill("thinking", {"thinking": "", "signature": ""}, "thinking", new.reasoning)
        if new.content:
            frames += self._fill("text", {"text": ""}, "text", new.content)
        for each in new.calls:
            frames += self.close() if each.name else []
            frames += self._fill("tool_use", {"id": each.id, "name": each.name, "input": {}}, "json", each.arguments)
        return frames

    def close(self) -> list[bytes]:
        if not self._kind:
            return []
        self._kind = ""
        return [_event("content_block_stop", index=self._index)]

    def _fill(self, kind: str, start: dict[str, Any], name: str, words: str) -> list[bytes]:
        frames: list[bytes] = []
        if self._kind != kind:
            frames += self.close()
            self._index, self._kind = self._index + 1, kind
            frames.append(_event("content_block_start", index=self._index, content_block={"type": kind, **start}))
        delta = {"type": "input_json_delta", "partial_json": words}
        if name != "json":
            delta = {"type": f"{name}_delta", name: words}
        return [*frames, _event("content_block_delta", index=self._index, delta=delta)]


def _event(kind: str, **more: Any) -> bytes:
    return event({"type": kind, **more}, kind)


async def _frames(call: Call, wish: Wish) -> Frames:
    ids = await _ids(call, wish)
    request = replace(wish.request, messages=None, template={}, tokens=tuple(ids))
    one, blocks, last = Reply(wish, eager=True), Blocks(), Delta()
    ended: list[End] = []
    begun = False
    answers = call.service.answers
    async with (
        answers.known("", call.owner, "msg_") as live,
        aclosing(answers.pieces(live, request, ended)) as pieces,
    ):
        async for piece in pieces:
            if not begun:
                begun = True
                yield _event("message_start", message=_head(live.id, wish, len(ids), 0))
            last = one.push(piece)
            for frame in blocks.shown(last):
                yield frame
    for frame in blocks.close():
        yield frame
    yield _event("message_delta", delta=_ending(last), usage={"output_tokens": summed(ended).output_tokens})
    yield _event("message_stop")


ENDPOINTS = (
    Endpoint(
        "POST",
        ("/v1/messages",),
        "Answer a conversation, as Anthropic's API has it",
        run,
        FIELDS,
        shape,
        needs=("messages", "max_tokens"),
    ),
    Endpoint(
        "POST", ("/v1/messages/count_tokens",), "How long its prompt is", count, COUNTED, shape, needs=("messages",)
    ),
)

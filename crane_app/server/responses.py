"""POST /v1/responses: OpenAI's newer way to ask, without anything kept here: a conversation is sent whole each time.

The shapes are those of the OpenAI API reference (platform.openai.com/docs/api-reference/responses and
responses-streaming).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from crane_app.engine.request import End
from crane_app.server import chat, grammars, items, sampling, thinking
from crane_app.server.answers import Live, summed
from crane_app.server.calls import ToolCall
from crane_app.server.chat import Delta, Reply, Wish
from crane_app.server.fields import (
    Table,
    harmless,
    honoured,
    mapping,
    one_of,
    shaped,
    some,
    take,
    text,
    unmet,
    whole,
    yes_no,
)
from crane_app.server.problems import Problem, problem_of, refused
from crane_app.server.service import Call, Endpoint
from crane_app.server.spelling import Spelt, chat_logprobs
from crane_app.server.sse import Events, Frames, event, reply
from crane_app.server.tools import choice as tool_choice

LOGPROBS, SEALED = "message.output_text.logprobs", "reasoning.encrypted_content"
TEXT: Table = (
    honoured(
        "format",
        shaped(**grammars.text_format.schema)(lambda value: (value, grammars.text_format(value))),
        "text, json_object, json_schema; always strict",
    ),
    *unmet("answers have no degrees of length", "verbosity", neutral=("medium",)),
)
REASONING: Table = (
    honoured("effort", one_of(*thinking.EFFORTS), "as reasoning_effort at /v1/chat/completions"),
    *unmet("a thought is told whole, as reasoning_text", "summary", "generate_summary", neutral=("auto",)),
)
STREAMING: Table = harmless("include_obfuscation")


def metadata(value: Any) -> dict[str, str]:
    found = mapping(value)
    if len(found) > 16 or not all(isinstance(each, str) for each in found.values()):
        raise ValueError("must be an object of at most 16 texts")
    return found


FIELDS: Table = (
    honoured("model", text(1000), "a name of GET /v1/models; the first one if left out"),
    honoured("input", items.given, "a text, or items: message, reasoning, function_call, function_call_output"),
    honoured("instructions", text(), "told first, as the system"),
    honoured("max_output_tokens", sampling.ranged("max_tokens"), "never past the context"),
    *(each for each in sampling.SAMPLING if each.name not in ("max_tokens", "n", "stream_options")),
    honoured("stream_options", lambda value: take(STREAMING, mapping(value), "stream_options"), "", STREAMING),
    honoured("top_logprobs", whole(0, 20), f"with include {LOGPROBS}"),
    honoured("include", some(one_of(LOGPROBS, SEALED), 8), f"{LOGPROBS}; {SEALED}: thoughts are never sealed"),
    honoured("tools", items.tools, "functions; calls are found in the forms of Qwen, Hermes, Qwen3-Coder and Hunyuan"),
    honoured("tool_choice", tool_choice, "as at /v1/chat/completions"),
    honoured("parallel_tool_calls", yes_no),
    honoured("reasoning", lambda value: take(REASONING, mapping(value), "reasoning"), "", REASONING),
    honoured("text", lambda value: take(TEXT, mapping(value), "text"), "", TEXT),
    honoured("metadata", metadata, "given back"),
    honoured("chat_template_kwargs", mapping, "variables for the model's chat template"),
    *(each for each in thinking.FIELDS if each.name != "reasoning_effort"),
    *unmet("nothing is kept here: send the whole conversation as input", "previous_response_id", "conversation"),
    *unmet("nothing is kept here: send the whole conversation as input", "prompt"),
    *unmet("an answer is made while its client waits", "background", neutral=(False,)),
    *unmet("a prompt is never cut", "truncation", neutral=("disabled",)),
    *unmet("a prompt is never cut", "context_management", neutral=([],)),
    *unmet("nothing is judged here", "moderation"),
    *unmet("a conversation is not scored; /v1/completions scores prompts", "prompt_logprobs"),
    *harmless("max_tool_calls", note="no tool is called by the server"),
    *(each for each in sampling.ELSEWHERE if each.name != "truncation"),
    *harmless(
        "store", "user", "safety_identifier", "service_tier", "prompt_cache_key", "prompt_cache_retention",
        "prompt_cache_options", note="for the provider's accounts and caches; nothing is kept here",
    ),
)  # fmt: skip
PASSED = (
    "model", "tools", "tool_choice", "parallel_tool_calls", "chat_template_kwargs", "enable_thinking", "thinking",
    *thinking.BUDGETS,
    *(each.name for each in grammars.FIELDS),
)  # fmt: skip


async def understood(call: Call, given: Mapping[str, Any]) -> Wish:
    """What is wished for, as a chat. Problem says which field stands against it."""
    if "input" not in given:
        raise refused("input", "input is missing: give a text or a list of items.")
    asked = {
        name: given[name] for name in (*PASSED, *grammars.NAMES, *sampling.DIRECT, "rid", "request_id") if name in given
    }
    if "max_output_tokens" in given:
        asked["max_tokens"] = given["max_output_tokens"]
    if "effort" in given.get("reasoning", {}):
        asked["reasoning_effort"] = given["reasoning"]["effort"]
    if "format" in given.get("text", {}):
        asked["text.format"] = given["text"]["format"][1]
    if LOGPROBS in given.get("include", ()):
        asked |= {"logprobs": True, "top_logprobs": given.get("top_logprobs", 0)}
    elif given.get("top_logprobs"):
        raise refused("top_logprobs", f"top_logprobs needs include: [{LOGPROBS!r}]. Say it, or leave it out.")
    asked["messages"] = items.turns(given["input"], given.get("instructions", ""))
    return await chat.understood(call, asked)


@dataclass
class Output:
    """The items of a response as they grow, and the events that tell of it. spell: whether texts have logprobs."""

    id: str
    spell: bool
    top: int
    items: list[dict[str, Any]] = field(default_factory=list)
    _open: dict[str, Any] | None = None
    _tokens: list[Spelt] = field(default_factory=list)

    def add(self, new: Delta) -> Iterator[dict[str, Any]]:
        """What a piece of the answer changes."""
        self._tokens += new.tokens
        if new.reasoning:
            yield from self._grow("reasoning", new.reasoning)
        if new.content:
            yield from self._grow("message", new.content)
        for each in new.calls:
            yield from self._called(each)

    def close(self, status: str) -> Iterator[dict[str, Any]]:
        """The end of the item that is open; status: completed or incomplete."""
        item, self._open = self._open, None
        if item is None:
            return
        place = {"item_id": item["id"], "output_index": len(self.items) - 1}
        item["status"] = status
        if item["type"] == "function_call":
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield {"type": "response.function_call_arguments.done", **place, **done}
        else:
            part, kind = item["content"][0], _NAMES[item["type"]]
            more = {"logprobs": part.get("logprobs", [])} if item["type"] == "message" else {}
            yield {"type": f"response.{kind}.done", **place, "content_index": 0, "text": part["text"], **more}
            yield {"type": "response.content_part.done", **place, "content_index": 0, "part": part}
        yield {"type": "response.output_item.done", "output_index": place["output_index"], "item": item}

    def _grow(self, kind: str, words: str) -> Iterator[dict[str, Any]]:
        if self._open is None or self._open["type"] != kind:
            yield from self.close("completed")
            yield from self._begin(kind)
        item = self._open
        assert item is not None
        part = item["content"][0]
        part["text"] += words
        more: dict[str, Any] = {}
        if kind == "message":
            spelt = chat_logprobs(self._tokens, self.top) if self.spell else []
            self._tokens = []
            more["logprobs"] = spelt
            if self.spell:
                part["logprobs"] += spelt
        place = {"item_id": item["id"], "output_index": len(self.items) - 1, "content_index": 0}
        yield {"type": f"response.{_NAMES[kind]}.delta", **place, "delta": words, **more}

    def _begin(self, kind: str) -> Iterator[dict[str, Any]]:
        index = len(self.items)
        item: dict[str, Any] = {"id": f"{_PREFIXES[kind]}_{index}_{self.id}", "type": kind, "status": "in_progress"}
        part: dict[str, Any] = {"type": _NAMES[kind], "text": ""}
        if kind == "reasoning":
            item["summary"] = []
        else:
            item["role"], part["annotations"] = "assistant", []
            part |= {"logprobs": []} if self.spell else {}
        yield {"type": "response.output_item.added", "output_index": index, "item": {**item, "content": []}}
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        yield {"type": "response.content_part.added", **place, "part": dict(part)}
        self._open = {**item, "content": [part]}
        self.items.append(self._open)

    def _called(self, call: ToolCall) -> Iterator[dict[str, Any]]:
        """A call, or more of the arguments of the last one."""
        if call.name:
            yield from self.close("completed")
            index = len(self.items)
            item = {"id": f"fc_{index}_{self.id}", "type": "function_call", "status": "in_progress"}
            item |= {"call_id": call.id, "name": call.name, "arguments": ""}
            yield {"type": "response.output_item.added", "output_index": index, "item": dict(item)}
            self._open = item
            self.items.append(item)
        if call.arguments and self._open is not None:
            self._open["arguments"] += call.arguments
            place = {"item_id": self._open["id"], "output_index": len(self.items) - 1}
            yield {"type": "response.function_call_arguments.delta", **place, "delta": call.arguments}


_NAMES = {"reasoning": "reasoning_text", "message": "output_text"}
_PREFIXES = {"reasoning": "rs", "message": "msg"}


async def run(call: Call) -> Response:
    given = await call.fields()
    if "stream_options" in given and not given.get("stream"):
        raise refused("stream_options", "stream_options is for streams: say stream true, or leave it out.")
    wish = await call.wait(understood(call, given))
    if given.get("stream"):
        return Events(_frames(call, given, wish))
    return reply(await call.wait(_whole(call, given, wish)))


@dataclass
class _Told:
    """A response as it is told at any moment."""

    live: Live
    given: Mapping[str, Any]
    wish: Wish
    created: int = field(default_factory=lambda: int(time.time()))

    def as_json(self, status: str, output: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """The object; tools and their choice as they were sent."""
        given = self.given
        said = {name: given.get(name) for name in ("instructions", "max_output_tokens", "temperature", "top_p")}
        tools = [{"type": "function", "strict": None, **tool["function"]} for tool in given.get("tools", ())]
        choice = given.get("tool_choice", "auto")
        if choice.startswith(":"):
            choice = {"type": "function", "name": choice[1:]}
        return {
            "id": self.live.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self.wish.model.name,
            "output": output,
            "parallel_tool_calls": self.wish.parallel,
            "previous_response_id": None,
            "reasoning": {"effort": given.get("reasoning", {}).get("effort"), "summary": None},
            "store": False,
            "background": False,
            "text": {"format": given.get("text", {}).get("format", ({"type": "text"},))[0]},
            "tool_choice": choice,
            "tools": tools,
            "top_logprobs": self.wish.top,
            "truncation": "disabled",
            "metadata": given.get("metadata", {}),
            "usage": None,
            **said,
            **more,
        }

    def ending(self, last: Delta, one: Reply, ended: list[End], output: Output) -> dict[str, Any]:
        """The whole response; incomplete where its tokens ran out."""
        cut = last.finish == "length"
        details = {"reason": "max_output_tokens"} if cut else None
        status = "incomplete" if cut else "completed"
        return self.as_json(status, output.items, incomplete_details=details, usage=_usage(ended, one))


def _usage(ended: list[End], one: Reply) -> dict[str, Any]:
    total = summed(ended)
    return {
        "input_tokens": total.prompt_tokens,
        "input_tokens_details": {"cached_tokens": total.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": total.output_tokens,
        "output_tokens_details": {"reasoning_tokens": one.reasoning_tokens},
        "total_tokens": total.prompt_tokens + total.output_tokens,
    }


async def _whole(call: Call, given: Mapping[str, Any], wish: Wish) -> dict[str, Any]:
    one, total, ended = Reply(wish), Delta(), list[End]()
    answers = call.service.answers
    async with (
        answers.known(wish.id, call.owner, "resp_") as live,
        aclosing(answers.pieces(live, wish.request, ended)) as pieces,
    ):
        told, output = _Told(live, given, wish), Output(live.id, wish.logprobs, wish.top)
        async for piece in pieces:
            new = one.push(piece)
            total.add(new)
            for _ in output.add(new):
                pass
        for _ in output.close("incomplete" if total.finish == "length" else "completed"):
            pass
        return told.ending(total, one, ended, output)


async def _frames(call: Call, given: Mapping[str, Any], wish: Wish) -> Frames:
    """Numbered events; one that has begun and fails ends with response.failed."""
    one, last, ended, number = Reply(wish, eager=True), Delta(), list[End](), 0
    async with call.service.answers.known(wish.id, call.owner, "resp_") as live:
        told, output = _Told(live, given, wish), Output(live.id, wish.logprobs, wish.top)

        def frame(said: dict[str, Any]) -> bytes:
            nonlocal number
            number += 1
            return event({**said, "sequence_number": number - 1}, said["type"])

        try:
            async with aclosing(call.service.answers.pieces(live, wish.request, ended)) as pieces:
                async for piece in pieces:
                    if not number:
                        for moment in ("created", "in_progress"):
                            begun = told.as_json("in_progress", [])
                            yield frame({"type": f"response.{moment}", "response": begun})
                    last = one.push(piece)
                    for said in output.add(last):
                        yield frame(said)
        except Exception as error:
            if not number:
                raise
            yield frame({"type": "response.failed", "response": _failed(told, output, problem_of(error))})
            return
        for said in output.close("incomplete" if last.finish == "length" else "completed"):
            yield frame(said)
        whole = told.ending(last, one, ended, output)
        yield frame({"type": f"response.{whole['status']}", "response": whole})


def _failed(told: _Told, output: Output, problem: Problem) -> dict[str, Any]:
    fault = {"code": problem.code or "server_error", "message": problem.message}
    return told.as_json("failed", output.items, error=fault)


ENDPOINTS = (
    Endpoint(
        "POST", ("/v1/responses",), "Answer a conversation, as the Responses API has it", run, FIELDS, needs=("input",)
    ),
)

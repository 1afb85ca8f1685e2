"""Ollama's API, which many desktop programs speak: a line of JSON for every piece.

The shapes are those of github.com/ollama/ollama, docs/api.md.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from crane_app.engine.request import End, Usage
from crane_app.server import chat, grammars, messages, sampling
from crane_app.server.chat import Delta, Reply, Wish
from crane_app.server.fields import Table, harmless, honoured, mapping, one_of, shaped, take, text, unmet, whole, yes_no
from crane_app.server.problems import Problem, refused
from crane_app.server.service import Call, Endpoint
from crane_app.server.shelf import Offered
from crane_app.server.sse import Events, Frames, as_json, reply
from crane_app.server.tools import offered
from crane_app.version import VERSION

LATEST = ":latest"
UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}  # as in Go
PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ns|us|\u00b5s|ms|s|m|h)")
DURATION = re.compile(r"(-?)((?:\d{1,9}(?:\.\d{1,9})?(?:ns|us|\u00b5s|ms|s|m|h))+)")
LONGEST_S = 1e9


def predicted(value: Any) -> int:
    found: int = whole(-2, 2**31 - 1)(value)
    if found == 0:
        raise ValueError("must be at least 1, or -1 for as many as fit")
    return found


OPTIONS: Table = (
    honoured("num_predict", predicted, "-1, -2 and nothing: to the end of the context"),
    *(
        honoured(name, sampling.ranged(name))
        for name in ("temperature", "top_p", "top_k", "min_p", "repeat_last_n", "presence_penalty", "frequency_penalty")
    ),
    honoured("repeat_penalty", sampling.ranged("repetition_penalty")),
    honoured("seed", whole(-(2**63), 2**64 - 1), "the same seed gives the same text, whatever else runs"),
    honoured("stop", sampling.stops(64), "a text or at most 64"),
    *unmet("this sampler is not there", "mirostat", "mirostat_eta", "mirostat_tau", "tfs_z", "typical_p",
           neutral=(0, 0.0, 1, 1.0)),
    *unmet("all tokens are penalised alike", "penalize_newline", neutral=(True,)),
    *harmless("num_ctx", "num_keep", note="the model's context holds; a prompt is never cut"),
    *harmless("num_batch", "num_gpu", "main_gpu", "num_thread", "use_mmap", "use_mlock", "low_vram", "numa",
              "vocab_only", note="the engine's own business"),
)  # fmt: skip


def options(value: Any) -> dict[str, Any]:
    """As the OpenAI fields are called."""
    found = take(OPTIONS, mapping(value), "options")
    if "repeat_penalty" in found:
        found["repetition_penalty"] = found.pop("repeat_penalty")
    limit = found.pop("num_predict", -1)
    return found | ({"max_tokens": limit} if limit > 0 else {})


@shaped(enum=[True, False, "low", "medium", "high"])
def think(value: Any) -> dict[str, Any]:
    """As the fields of a chat request."""
    if isinstance(value, bool):
        return {"enable_thinking": value}
    return {"reasoning_effort": one_of("low", "medium", "high")(value)}


@shaped(oneOf=[{"type": "number"}, {"type": "string"}])
def keep_alive(value: Any) -> float:
    """Seconds; inf for what is below 0."""
    if isinstance(value, str) and (parts := DURATION.fullmatch(value.strip())):
        seconds = sum(float(number) * UNITS[unit] for number, unit in PART.findall(parts[2]))
        return math.inf if parts[1] else seconds
    try:
        seconds = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    if math.isnan(seconds) or seconds > LONGEST_S:
        raise ValueError("must be seconds, or a time like 5m or 1h30m; -1 for ever")
    return math.inf if seconds < 0 else seconds


COMMON: Table = (
    honoured("model", text(1000), "a name of /api/tags, with or without :latest; the first one if left out"),
    honoured("stream", yes_no, "true if left out"),
    honoured("think", think, "true, false, or a degree: low, medium, high, as reasoning_effort"),
    honoured("options", options, "", OPTIONS),
    honoured("format", grammars.ollama_format, "json or a schema; after the thought"),
    *unmet("log-probabilities are at /v1/chat/completions", "logprobs", "top_logprobs", neutral=(False, 0)),
    honoured(
        "keep_alive", keep_alive, "seconds, or like 5m; 0: until the answer; below 0: for ever; a pin is stronger"
    ),
)
CHAT: Table = (
    *COMMON,
    honoured("messages", lambda value: messages.taken(_turns(value)) if value else (), "text; pictures are refused"),
    honoured("tools", offered, "functions; calls are found in the forms of Qwen, Hermes, Qwen3-Coder and Hunyuan"),
)
GENERATE: Table = (
    *COMMON,
    honoured("prompt", text(), "in the model's chat template, unless raw"),
    honoured("system", text(), "told first"),
    honoured("raw", yes_no, "true: without the chat template"),
    *unmet("text is only made at the end", "suffix", neutral=("",)),
    *unmet("this model reads text only", "images", neutral=([],)),
    *unmet("the model's own chat template is used", "template", neutral=("",)),
    *unmet("a conversation is told as messages", "context", neutral=([],)),
)
SHOW: Table = (
    honoured("model", text(1000), "a name of /api/tags"),
    honoured("name", text(1000), "as model"),
    *harmless("verbose"),
)


def shape(problem: Problem) -> dict[str, Any]:
    return {"error": problem.message}


def _turns(value: Any) -> Any:
    """Messages in OpenAI's form."""
    if not isinstance(value, list):
        return value
    turns = []
    for number, message in enumerate(value):
        if isinstance(message, dict):
            if message.get("images"):
                where = f"messages[{number}].images"
                raise refused(where, f"{where} holds pictures, and this model reads text only.")
            renamed = {"tool_name": "name"}
            message = {renamed.get(key, key): item for key, item in message.items()}
            if message.get("tool_calls") and message.get("content") is None:
                message["content"] = ""
        turns.append(message)
    return turns


async def _model(call: Call, name: str | None) -> Offered:
    """The model of that name; `:latest` may stand behind it."""
    there = {offered.name for offered in await call.service.offer.all()}
    if name is not None and name not in there and name.endswith(LATEST):
        name = name.removesuffix(LATEST)
    return await call.service.offer.find(name)


async def run_chat(call: Call) -> Response:
    given = await call.fields()
    model = await _model(call, given.get("model"))
    if not given.get("messages"):
        return await _kept(call, given, model, {"message": {"role": "assistant", "content": ""}})
    return await _answered(call, given, model, given["messages"], _message)


async def run_generate(call: Call) -> Response:
    given = await call.fields()
    model = await _model(call, given.get("model"))
    if not given.get("prompt"):
        return await _kept(call, given, model, {"response": ""})
    if given.get("raw"):
        if clash := next((name for name in ("system", "think") if name in given), None):
            raise refused(clash, f"{clash} is told in the chat template, which raw leaves out.")
        return await _finished(call, given, _raw(call, given, model), _response)
    turns = [{"role": "user", "content": given["prompt"]}]
    if given.get("system"):
        turns = [{"role": "system", "content": given["system"]}, *turns]
    return await _answered(call, given, model, messages.taken(turns), _response)


async def _kept(call: Call, given: Mapping[str, Any], model: Offered, empty: Mapping[str, Any]) -> Response:
    """Without a question it is about the model's being loaded alone."""
    keep, engine = given.get("keep_alive"), call.service.answers.engine
    if keep != 0:
        await call.wait(call.service.offer.ready(model))
    if keep is not None:
        await asyncio.to_thread(engine.keep, model.card.name, keep)
    return reply({**_head(model), **empty, "done": True, "done_reason": "load" if keep != 0 else "unload"})


def _asked(given: Mapping[str, Any], model: Offered) -> dict[str, Any]:
    """The sampling fields and the format; without num_predict the context is the limit."""
    held = {"format": given["format"]} if "format" in given else {}
    return {"max_tokens": model.card.context, **given.get("options", {}), **held}


def _raw(call: Call, given: Mapping[str, Any], model: Offered) -> Wish:
    asked = sampling.asked(_asked(given, model))
    request = call.request(model.card.name, text=given["prompt"], asked=asked, endpoint="completions")
    return Wish(model, request, False, False, {}, True, False, 0, False, "")


async def _answered(call: Call, given: Mapping[str, Any], model: Offered, turns: Any, part: Any) -> Response:
    wanted = {**_asked(given, model), "model": model.name, "messages": turns}
    wanted |= {"tools": given["tools"]} if given.get("tools") else {}
    wanted |= given.get("think", {})
    return await _finished(call, given, await call.wait(chat.understood(call, wanted)), part)


async def _finished(call: Call, given: Mapping[str, Any], wish: Wish, part: Any) -> Response:
    if "keep_alive" in given:
        wish = replace(wish, request=replace(wish.request, keep=given["keep_alive"]))
    lines = _lines(call, wish, part, given.get("stream", True))
    if given.get("stream", True):
        return Events(lines, shape, lambda body: as_json(body) + b"\n", lines=True)

    async def last() -> bytes:
        found = b""
        async with aclosing(lines) as all_lines:
            async for line in all_lines:
                found = line
        return found

    return Response(await call.wait(last()), media_type="application/json")


async def _lines(call: Call, wish: Wish, part: Any, stream: bool) -> Frames:
    """A line for each piece and one for the end; without `stream` the last one has it all."""
    one, total, called = Reply(wish), Delta(), 0
    ended: list[End] = []
    answers = call.service.answers
    async with answers.known("", call.owner) as live, aclosing(answers.pieces(live, wish.request, ended)) as pieces:
        async for piece in pieces:
            new = one.push(piece)
            total.add(new)
            called += len(new.calls)
            if stream and new:
                yield as_json({**_head(wish.model), **part(new), "done": False}) + b"\n"
    said = part(Delta() if stream else total)
    reason = "length" if total.finish == "length" else "stop"
    yield as_json({**_head(wish.model), **said, "done": True, "done_reason": reason, **_times(ended[0].usage)}) + b"\n"


def _message(new: Delta) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": new.content}
    if new.reasoning:
        message["thinking"] = new.reasoning
    if new.calls:
        message["tool_calls"] = [
            {"function": {"name": each.name, "arguments": json.loads(each.arguments)}} for each in new.calls
        ]
    return {"message": message}


def _response(new: Delta) -> dict[str, Any]:
    return {"response": new.content} | ({"thinking": new.reasoning} if new.reasoning else {})


def _head(model: Offered) -> dict[str, Any]:
    return {"model": model.name, "created_at": _time(time.time())}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _times(usage: Usage) -> dict[str, int]:
    """Counts, and durations in nanoseconds."""
    return {
        "total_duration": round(usage.total_s * 1e9),
        "load_duration": 0,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": round(max(usage.first_s - usage.queued_s, 0.0) * 1e9),
        "eval_count": usage.output_tokens,
        "eval_duration": round(max(usage.total_s - usage.first_s, 0.0) * 1e9),
    }


async def tags(call: Call) -> Response:
    return reply({"models": [_tag(offered) for offered in await call.service.offer.all()]})


def _tag(model: Offered) -> dict[str, Any]:
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": _time(model.since),
        "size": model.card.nbytes,
        "digest": "",
        "details": _details(model),
    }


def _details(model: Offered) -> dict[str, Any]:
    family = model.card.architecture
    return {
        "format": "safetensors",
        "family": family,
        "families": [family],
        "quantization_level": model.card.packed or model.card.dtype,
    }


async def show(call: Call) -> Response:
    given = await call.fields()
    model = await _model(call, given.get("model", given.get("name")))
    family, able = model.card.architecture, ["completion"] if not model.card.hears else []
    if model.card.chat and await call.wait(call.service.templates.knows_tools(model.card.name)):
        able.append("tools")
    info = {"general.architecture": family, f"{family}.context_length": model.card.context}
    return reply({"details": _details(model), "model_info": info, "capabilities": able})


async def version(call: Call) -> Response:
    return reply({"version": VERSION})


ENDPOINTS = (
    Endpoint("POST", ("/api/chat",), "Answer a conversation, as Ollama's API has it", run_chat, CHAT, shape),
    Endpoint("POST", ("/api/generate",), "Answer or go on with a text", run_generate, GENERATE, shape),
    Endpoint("GET", ("/api/tags",), "The models that can be asked", tags, (), shape),
    Endpoint("POST", ("/api/show",), "What a model is", show, SHOW, shape),
    Endpoint("GET", ("/api/version",), "The version of Crane", version, (), shape),
)

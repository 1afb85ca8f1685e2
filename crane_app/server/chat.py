"""POST /v1/chat/completions: messages in, an answer out, whole or as it comes.

The shapes are those of the OpenAI API reference (platform.openai.com/docs/api-reference/chat).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.responses import Response

from crane_app.engine.request import End, Grammar, Piece, Request
from crane_app.server import grammars, messages, sampling, thinking
from crane_app.server.answers import summed
from crane_app.server.calls import ToolCall, ToolCalls, joined
from crane_app.server.fields import Table, harmless, honoured, mapping, text, unmet, whole, yes_no
from crane_app.server.problems import refused
from crane_app.server.reasoning import Kind, Reasoning
from crane_app.server.service import Call, Endpoint
from crane_app.server.shelf import Offered
from crane_app.server.spelling import Spelling, Spelt, chat_logprobs
from crane_app.server.sse import DONE, Events, Frames, event, reply
from crane_app.server.tools import Choice, calling, chosen, offered
from crane_app.server.tools import choice as tool_choice
from crane_app.version import VERSION

FIELDS: Table = (
    honoured("model", text(1000), "a name of GET /v1/models; the first one if left out"),
    honoured("messages", messages.taken, "text; pictures and sound are refused"),
    *sampling.SAMPLING,
    honoured("max_completion_tokens", sampling.ranged("max_tokens"), "wins over max_tokens"),
    honoured("logprobs", yes_no, "exact bytes; the tokens joined are the text that the model wrote"),
    honoured("top_logprobs", whole(0, 20), "with logprobs"),
    honoured("tools", offered, "functions; calls are found in the forms of Qwen, Hermes, Qwen3-Coder and Hunyuan"),
    honoured("tool_choice", tool_choice, "auto, none, required or a function; the last two are enforced"),
    honoured("parallel_tool_calls", yes_no, "false: one call at most"),
    honoured("chat_template_kwargs", mapping, "variables for the model's chat template"),
    *thinking.FIELDS,
    honoured("separate_reasoning", yes_no, "false leaves the thought, with its tags, in the content"),
    honoured("add_generation_prompt", yes_no),
    honoured("continue_final_message", yes_no, "the answer goes on with the last message"),
    grammars.RESPONSE_FORMAT,
    *unmet("functions are called tools now", "functions", neutral=([],)),
    *unmet("functions are called tools now", "function_call", neutral=("none",)),
    *unmet("only text is made", "modalities", neutral=(["text"],)),
    *unmet("only text is made", "audio"),
    *unmet("nothing is looked up", "web_search_options", "documents"),
    *unmet("answers have no degrees of length", "verbosity", neutral=("medium",)),
    *unmet("reasoning_effort and thinking_budget are its names here", "reasoning"),
    *unmet("the model's own chat template is used", "chat_template"),
    *unmet("the prompt is not repeated", "echo", neutral=(False,)),
    *unmet("several answers are asked for with n", "best_of", neutral=(1,)),
    *harmless("stream_reasoning", note="reasoning comes as it is made"),
    *sampling.ELSEWHERE,
    *sampling.ACCOUNTS,
)


@dataclass(frozen=True)
class Wish:
    """A chat request, understood. tools: those that may be called, with the schemas of their parameters."""

    model: Offered
    request: Request
    thinking: bool
    splits: bool
    tools: Mapping[str, Any]
    parallel: bool
    logprobs: bool
    top: int
    usage: bool
    id: str

    @property
    def n(self) -> int:
        return self.request.asked.n or 1


async def understood(call: Call, given: Mapping[str, Any]) -> Wish:
    """What is wished for. Problem says which field stands against it."""
    if "messages" not in given:
        raise refused("messages", "messages is missing: give a list of messages with a role and a content each.")
    model = await call.service.offer.find(given.get("model"))
    top, logprobs = given.get("top_logprobs", 0), given.get("logprobs", False)
    if top and not logprobs:
        raise refused("top_logprobs", "top_logprobs needs logprobs: say logprobs true, or leave it out.")
    sampling.check_ids(given, model.card.vocabulary)
    told = variables(given)
    choice, parallel = chosen(given), given.get("parallel_tool_calls", True)
    if not model.card.chat:
        raise refused("model", f"The model {model.name} has no chat template, so it cannot talk. Use /v1/completions.")
    if choice.tools and not await call.service.templates.knows_tools(model.card.name):
        raise refused("tools", f"The chat template of {model.name} knows no tools. Leave tools out.")
    splits = given.get("separate_reasoning", True)
    thought = await call.service.templates.thought(model.card.name, told)
    opened = splits and thought == "open"
    more: dict[str, Any] = {"logprobs": max(top, 1)} if logprobs else {}
    limit = sampling.endings(given)
    more["thinking_budget"] = thinking.budget(given, limit, model.card.context)
    asked = sampling.asked({**given, "max_tokens": limit} if limit is not None else given, **more)
    grammar = await _grammar(call, choice, asked.grammar, model.card.name, parallel)
    if grammar is not None:
        asked = replace(asked, grammar=replace(grammar, thought=thought))
    template = {**told, "tools": list(given["tools"])} if choice.tools else told
    request = call.request(model.card.name, messages=given["messages"], template=template, asked=asked, endpoint="chat")
    return Wish(
        model,
        request,
        opened,
        splits,
        choice.tools,
        parallel,
        logprobs,
        top,
        sampling.include_usage(given),
        sampling.request_id(given),
    )


def variables(given: Mapping[str, Any]) -> dict[str, Any]:
    """The template's variables."""
    found = {**given.get("chat_template_kwargs", {}), **thinking.variables(given)}
    if given.get("continue_final_message"):
        if given.get("add_generation_prompt"):
            raise refused("continue_final_message", "continue_final_message excludes add_generation_prompt.")
        found["continue_final"] = True
    elif "add_generation_prompt" in given:
        found["add_generation_prompt"] = given["add_generation_prompt"]
    return found


async def _grammar(call: Call, choice: Choice, grammar: Grammar | None, model: str, parallel: bool) -> Grammar | None:
    """What an answer is held to, once calls of tools are thought of."""
    if choice.must and grammar is not None:
        raise refused(grammar.field, f"{grammar.field} is for an answer, and tool_choice wants a call instead of one.")
    if choice.must or (choice.strict and grammar is None):
        return calling(choice, await call.service.templates.form(model), parallel)
    if not choice.tools or grammar is None:
        return grammar
    if grammar.kind not in ("json_schema", "json_object"):
        raise refused(grammar.field, f"{grammar.field} goes with tools only as a JSON schema. Say tool_choice none.")
    return calling(choice, await call.service.templates.form(model), parallel, grammar)


@dataclass
class Delta:
    """What is new in one choice."""

    content: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    tokens: list[Spelt] = field(default_factory=list)
    finish: str | None = None
    matched: str | int | None = None

    def add(self, new: Delta) -> None:
        self.content += new.content
        self.reasoning += new.reasoning
        self.calls = joined([*self.calls, *new.calls])
        self.tokens += new.tokens
        self.finish, self.matched = new.finish or self.finish, new.matched

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning or self.calls or self.tokens)


class Reply:
    """One choice on its way from pieces to deltas; reasoning_tokens: how many of its tokens were thought.

    eager: calls are told in parts, as they come.
    """

    def __init__(self, wish: Wish, eager: bool = False) -> None:
        self._reasoning = Reasoning(wish.thinking) if wish.splits else None
        self._tools = ToolCalls(wish.tools, wish.parallel, eager)
        self._spelling = Spelling() if wish.logprobs else None
        self.reasoning_tokens = self._uncounted = 0

    def push(self, piece: Piece) -> Delta:
        delta = Delta()
        if self._reasoning is None:
            self._answer(delta, piece.text)
        else:
            parts = self._thought(self._reasoning, piece)
            if piece.finish is not None:
                parts += self._reasoning.flush()
            for kind, words in parts:
                if kind == "reasoning":
                    delta.reasoning += words
                else:
                    self._answer(delta, words)
        if self._spelling is not None:
            delta.tokens = self._spelling.push(piece)
        if piece.finish is not None:
            self._sort(delta, self._tools.flush())
            delta.finish = "tool_calls" if self._tools.count and piece.finish == "stop" else piece.finish
            delta.matched = piece.matched
        return delta

    def _thought(self, reasoning: Reasoning, piece: Piece) -> list[tuple[Kind, str]]:
        """The piece told apart; its tokens are counted once it is clear what they are."""
        before = reasoning.thinking
        parts = reasoning.push(piece.text)
        self._uncounted += len(piece.tokens)
        if not reasoning.undecided:
            self.reasoning_tokens += self._uncounted if before or reasoning.thinking else 0
            self._uncounted = 0
        return parts

    def _answer(self, delta: Delta, words: str) -> None:
        self._sort(delta, self._tools.push(words))

    def _sort(self, delta: Delta, parts: list[str | ToolCall]) -> None:
        for part in parts:
            if isinstance(part, ToolCall):
                delta.calls.append(part)
            else:
                delta.content += part


async def run(call: Call) -> Response:
    given = await call.fields()
    wish = await call.wait(understood(call, given))
    if given.get("stream"):
        return Events(_frames(call, wish))
    return reply(await call.wait(_whole(call, wish)))


async def _whole(call: Call, wish: Wish) -> dict[str, Any]:
    replies = [Reply(wish) for _ in range(wish.n)]
    totals = [Delta() for _ in replies]
    ended: list[End] = []
    answers = call.service.answers
    async with (
        answers.known(wish.id, call.owner, "chatcmpl-") as live,
        aclosing(answers.pieces(live, wish.request, ended)) as pieces,
    ):
        async for piece in pieces:
            totals[piece.choice].add(replies[piece.choice].push(piece))
    choices = [
        {
            "index": index,
            "message": _message(total),
            "logprobs": _logprobs(wish, total.tokens),
            "finish_reason": total.finish,
        }
        for index, total in enumerate(totals)
    ]
    head = _head(live.id, wish, "chat.completion")
    return {**head, "choices": choices, "usage": usage(ended, replies)}


def _message(total: Delta) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": total.content, "refusal": None}
    if total.reasoning:
        message |= {"reasoning_content": total.reasoning, "reasoning": total.reasoning}
    if total.calls:
        message |= {"content": total.content or None, "tool_calls": [_called(one) for one in total.calls]}
    return message


def _called(one: ToolCall) -> dict[str, Any]:
    return {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}


def _logprobs(wish: Wish, tokens: list[Spelt]) -> dict[str, Any] | None:
    return {"content": chat_logprobs(tokens, wish.top), "refusal": None} if wish.logprobs else None


async def _frames(call: Call, wish: Wish) -> Frames:
    replies = [Reply(wish, eager=True) for _ in range(wish.n)]
    ended: list[End] = []
    async with call.service.answers.known(wish.id, call.owner, "chatcmpl-") as live:
        head = _head(live.id, wish, "chat.completion.chunk")

        def chunk(index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> bytes:
            choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
            return event({**head, "choices": [choice]} | ({"usage": None} if wish.usage else {}))

        begun, called = False, [0] * wish.n
        async with aclosing(call.service.answers.pieces(live, wish.request, ended)) as pieces:
            async for piece in pieces:
                if not begun:
                    begun = True
                    for index in range(wish.n):
                        yield chunk(index, {"role": "assistant", "content": ""})
                new = replies[piece.choice].push(piece)
                if new:
                    delta = _delta(new, called[piece.choice])
                    called[piece.choice] += sum(bool(one.name) for one in new.calls)
                    yield chunk(piece.choice, delta, _logprobs(wish, new.tokens) if new.tokens else None)
                if new.finish in ("stop", "length", "tool_calls"):
                    yield chunk(piece.choice, {}, None, new.finish)
    if wish.usage:
        yield event({**head, "choices": [], "usage": usage(ended, replies)})
    yield DONE


def _delta(new: Delta, called: int) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    if new.reasoning:
        delta |= {"reasoning_content": new.reasoning, "reasoning": new.reasoning}
    if new.content:
        delta["content"] = new.content
    if new.calls:
        delta["tool_calls"] = [_part(one, called := called + bool(one.name)) for one in new.calls]
    return delta


def _part(one: ToolCall, called: int) -> dict[str, Any]:
    """A call or more of its arguments, as the last of so many."""
    if one.name:
        return {"index": called - 1, **_called(one)}
    return {"index": called - 1, "function": {"arguments": one.arguments}}


def _head(id: str, wish: Wish, kind: str) -> dict[str, Any]:
    return {
        "id": id,
        "object": kind,
        "created": int(time.time()),
        "model": wish.model.name,
        "system_fingerprint": f"crane-{VERSION}",
    }


def usage(ended: list[End], replies: list[Reply]) -> dict[str, Any]:
    total = summed(ended)
    return {
        "prompt_tokens": total.prompt_tokens,
        "completion_tokens": total.output_tokens,
        "total_tokens": total.prompt_tokens + total.output_tokens,
        "prompt_tokens_details": {"cached_tokens": total.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": sum(each.reasoning_tokens for each in replies)},
    }


ENDPOINTS = (Endpoint("POST", ("/v1/chat/completions",), "Answer a conversation", run, FIELDS, needs=("messages",)),)

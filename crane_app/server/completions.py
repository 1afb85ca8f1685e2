"""POST /v1/completions: texts or tokens go on, without a chat template; several prompts get a choice each.

The shapes are those of the OpenAI API reference (platform.openai.com/docs/api-reference/completions).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.responses import Response

from crane_app.engine.request import End, Piece, Request
from crane_app.server import grammars, sampling
from crane_app.server.answers import Live, summed
from crane_app.server.fields import Table, honoured, shaped, some, text, unmet, whole, yes_no
from crane_app.server.problems import refused
from crane_app.server.scoring import Scored, scored
from crane_app.server.service import Call, Endpoint
from crane_app.server.shelf import Offered
from crane_app.server.spelling import Spelling, Spelt
from crane_app.server.sse import DONE, Events, Frames, event, reply

MOST = 128  # prompts
Prompt = str | tuple[int, ...]


_SOME_IDS = some(whole(0, 2**31 - 1), 1 << 24)
TEXTS, TOKENS = (
    [one, {"type": "array", "minItems": 1, "maxItems": MOST, "items": one}]
    for one in ({"type": "string", "minLength": 1}, {**_SOME_IDS.schema, "minItems": 1})
)


@shaped(anyOf=[*TEXTS, *TOKENS])
def prompts(value: Any) -> tuple[Prompt, ...]:
    """A text, texts, token ids, or lists of them, as prompts."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise ValueError("must be a text, a list of texts, token ids, or a list of lists of token ids; none is empty")
    if not isinstance(value[0], str | list):
        return (_ids(value),)
    if len(value) > MOST:
        raise ValueError(f"has {len(value)} prompts; at most {MOST} are taken")
    if all(isinstance(each, str) for each in value):
        return tuple(value)
    return tuple(_ids(each) for each in value)


def _ids(value: Any) -> tuple[int, ...]:
    try:
        found = tuple(_SOME_IDS(value))
    except ValueError:
        found = ()
    if not found:
        raise ValueError("must hold texts only, or token ids only")
    return found


FIELDS: Table = (
    honoured("model", text(1000), "a name of GET /v1/models; the first one if left out"),
    honoured("prompt", prompts, f"a text, token ids, or at most {MOST} of either, with a choice (or n) each"),
    *sampling.SAMPLING,
    honoured("logprobs", whole(0, 20), "tokens, token_logprobs, top_logprobs, text_offset"),
    honoured("echo", yes_no, "the prompt stands before the answer, with logprobs its own tokens too"),
    honoured("prompt_logprobs", whole(0, 20), "as vLLM has them; not in a stream"),
    *unmet("text is only made at the end", "suffix", neutral=("",)),
    *unmet("several answers are asked for with n", "best_of", neutral=(1,)),
    grammars.RESPONSE_FORMAT,
    *sampling.ELSEWHERE,
    *sampling.ACCOUNTS,
)


@dataclass(frozen=True)
class Wish:
    """A completion request, understood: a request to the engine for each prompt.

    echoes: what each prompt gives back before its answers. prompts: their scores, where prompt_logprobs asks for them.
    """

    model: Offered
    requests: tuple[Request, ...]
    n: int
    logprobs: int | None
    usage: bool
    id: str
    echoes: tuple[Choice, ...] = ()
    prompts: tuple[Scored, ...] = ()


@dataclass
class Choice:
    """One choice as far as it is made; it is also a choice's news in a stream."""

    text: str = ""
    finish: str | None = None
    matched: str | int | None = None
    tokens: list[Spelt] = field(default_factory=list)

    def add(self, new: Choice) -> None:
        self.text += new.text
        self.tokens += new.tokens
        self.finish, self.matched = new.finish or self.finish, new.matched


async def understood(call: Call, given: Mapping[str, Any], endpoint: str = "completions") -> Wish:
    """What is wished for. Problem says which field stands against it."""
    if "prompt" not in given:
        raise refused("prompt", "prompt is missing: give a text or token ids.")
    model = await call.service.offer.find(given.get("model"))
    sampling.check_ids(given, model.card.vocabulary)
    logprobs = given.get("logprobs")
    asked = sampling.asked(given, **({} if logprobs is None else {"logprobs": max(logprobs, 1)}))
    requests = tuple(
        call.request(
            model.card.name, **{"text" if isinstance(each, str) else "tokens": each}, asked=asked, endpoint=endpoint
        )
        for each in given["prompt"]
    )
    n = given.get("n", 1)
    if len(requests) * n > MOST:
        raise refused("n", f"{len(requests)} prompts with n {n} are more than {MOST} choices. Ask in several requests.")
    usage = sampling.include_usage(given)
    echoes, scores = await _repeated(call, model.card.name, given)
    return Wish(model, requests, n, logprobs, usage, sampling.request_id(given), echoes, scores)


async def _repeated(call: Call, model: str, given: Mapping[str, Any]) -> tuple[tuple[Choice, ...], tuple[Scored, ...]]:
    """What is told of the prompts themselves, each scored once."""
    echo, logprobs, wanted = given.get("echo", False), given.get("logprobs"), given.get("prompt_logprobs")
    if wanted is not None and given.get("stream"):
        raise refused("prompt_logprobs", "prompt_logprobs are not sent in a stream: leave stream out.")
    echoes, scores = [], []
    for prompt in given["prompt"]:
        one = Scored()
        if wanted is not None or (echo and logprobs is not None):
            one = await scored(call, model, prompt, max(wanted or 0, (logprobs or 0) if echo else 0))
            scores.append(replace(one, top=wanted or 0))
        if echo:
            words = prompt if isinstance(prompt, str) else await call.service.answers.part("detokenize", prompt, model)
            echoes.append(Choice(words, tokens=list(one.tokens) if logprobs is not None else []))
    return tuple(echoes), tuple(scores) if wanted is not None else ()


async def news(call: Call, live: Live, wish: Wish, ended: list[End]) -> AsyncGenerator[tuple[int, Choice], None]:
    """What comes of all prompts, as it comes, with the choice's place. The first error ends them all."""
    spellings = [Spelling() for _ in range(len(wish.requests) * wish.n)]
    for place in range(len(spellings) if wish.echoes else 0):
        yield place, wish.echoes[place // wish.n]
    async with aclosing(merged(call, live, wish.requests, ended)) as pieces:
        async for prompt, piece in pieces:
            place = prompt * wish.n + piece.choice
            tokens = [] if wish.logprobs is None else spellings[place].push(piece)
            finish = piece.finish if piece.finish in ("stop", "length") else None
            yield place, Choice(piece.text, finish, piece.matched, tokens)


async def merged(
    call: Call, live: Live, requests: tuple[Request, ...], ended: list[End]
) -> AsyncGenerator[tuple[int, Piece], None]:
    """Pieces of several requests with the number of theirs, in the order in which they come."""
    came: asyncio.Queue[tuple[int, Piece | BaseException | None]] = asyncio.Queue(64)

    async def follow(number: int, request: Request) -> None:
        try:
            async with aclosing(call.service.answers.pieces(live, request, ended)) as pieces:
                async for piece in pieces:
                    await came.put((number, piece))
            await came.put((number, None))
        except Exception as error:
            await came.put((number, error))

    tasks = [asyncio.ensure_future(follow(number, request)) for number, request in enumerate(requests)]
    left = len(tasks)
    try:
        while left:
            number, piece = await came.get()
            if isinstance(piece, BaseException):
                raise piece
            if piece is None:
                left -= 1
            else:
                yield number, piece
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def run(call: Call) -> Response:
    given = await call.fields()
    wish = await call.wait(understood(call, given))
    if given.get("stream"):
        return Events(_frames(call, wish))
    return reply(await call.wait(_whole(call, wish)))


async def _whole(call: Call, wish: Wish) -> dict[str, Any]:
    choices = [Choice() for _ in range(len(wish.requests) * wish.n)]
    ended: list[End] = []
    async with (
        call.service.answers.known(wish.id, call.owner, "cmpl-") as live,
        aclosing(news(call, live, wish, ended)) as all_news,
    ):
        async for place, new in all_news:
            choices[place].add(new)
    made = [_choice(wish, place, choice, 0) for place, choice in enumerate(choices)]
    for place, choice in enumerate(made if wish.prompts else ()):
        choice["prompt_logprobs"] = wish.prompts[place // wish.n].as_vllm()
    return {**_head(live.id, wish), "choices": made, "usage": usage(ended)}


async def _frames(call: Call, wish: Wish) -> Frames:
    offsets = [0] * (len(wish.requests) * wish.n)
    ended: list[End] = []
    async with call.service.answers.known(wish.id, call.owner, "cmpl-") as live:
        head = _head(live.id, wish)
        async with aclosing(news(call, live, wish, ended)) as all_news:
            async for place, new in all_news:
                if new.text or new.tokens or new.finish:
                    choice = _choice(wish, place, new, offsets[place])
                    offsets[place] += sum(len(token.text) for token in new.tokens)
                    yield event({**head, "choices": [choice]} | ({"usage": None} if wish.usage else {}))
    if wish.usage:
        yield event({**head, "choices": [], "usage": usage(ended)})
    yield DONE


def _choice(wish: Wish, place: int, choice: Choice, offset: int) -> dict[str, Any]:
    logprobs = None if wish.logprobs is None else _logprobs(choice.tokens, wish.logprobs, offset)
    return {
        "index": place,
        "text": choice.text,
        "logprobs": logprobs,
        "finish_reason": choice.finish,
        "stop_reason": choice.matched,
    }


def _logprobs(tokens: list[Spelt], top: int, offset: int) -> dict[str, Any]:
    """As the legacy API has them; offsets in characters of the choice's text. A prompt's first token has no numbers."""
    found: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for spelt in tokens:
        found["tokens"].append(spelt.text)
        found["token_logprobs"].append(spelt.drawn.logprob)
        likeliest: dict[str, float] = {}
        for id, logprob in spelt.drawn.top[:top]:
            likeliest.setdefault(spelt.named(id), logprob)  # parts of characters may look alike
        found["top_logprobs"].append(None if spelt.drawn.logprob is None else likeliest)
        found["text_offset"].append(offset)
        offset += len(spelt.text)
    return found


def _head(id: str, wish: Wish) -> dict[str, Any]:
    return {"id": id, "object": "text_completion", "created": int(time.time()), "model": wish.model.name}


def usage(ended: list[End]) -> dict[str, Any]:
    total = summed(ended)
    return {
        "prompt_tokens": total.prompt_tokens,
        "completion_tokens": total.output_tokens,
        "total_tokens": total.prompt_tokens + total.output_tokens,
        "prompt_tokens_details": {"cached_tokens": total.cached_tokens},
    }


ENDPOINTS = (Endpoint("POST", ("/v1/completions",), "Go on with a text", run, FIELDS, needs=("prompt",)),)

"""POST /generate: SGLang's own way to ask, with text that grows in a stream.

The shapes are SGLang's (docs.sglang.io, "Sampling Parameters"; python/sglang/srt/managers/io_struct.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.responses import Response

from crane_app.engine.request import Asked, Piece, Request
from crane_app.errors import Cancelled
from crane_app.server import grammars, sampling
from crane_app.server.answers import Live
from crane_app.server.completions import MOST, TEXTS, TOKENS, merged, prompts
from crane_app.server.fields import Table, harmless, honoured, mapping, shaped, take, text, unmet, whole, yes_no
from crane_app.server.problems import refused
from crane_app.server.scoring import Scored, scored
from crane_app.server.service import Call, Endpoint
from crane_app.server.sse import DONE, Events, Frames, event, reply

SAMPLING: Table = (
    honoured("max_new_tokens", sampling.ranged("max_tokens"), "never past the context"),
    honoured("min_new_tokens", sampling.ranged("min_tokens")),
    *(
        honoured(name, sampling.ranged(name))
        for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
                     "frequency_penalty", "n")
    ),
    honoured("stop", sampling.stops(64), "a text or at most 64"),
    honoured("stop_token_ids", sampling.token_ids),
    honoured("ignore_eos", yes_no),
    honoured("logit_bias", sampling.biases, f"at most {sampling.MOST_BIASES} entries"),
    honoured("seed", whole(-(2**63), 2**64 - 1), "the same seed gives the same text, whatever else runs"),
    honoured("sampling_seed", whole(-(2**63), 2**64 - 1), "as seed"),
    *grammars.SGLANG,
    *unmet("tags in a text are not there", "structural_tag"),
    *unmet("stops are texts and ids", "stop_regex", neutral=([],)),
    *unmet("special tokens are never shown", "skip_special_tokens", neutral=(True,)),
    *unmet("the stop text is never shown", "no_stop_trim", neutral=(False,)),
    *unmet("there are no processors of logits", "custom_params"),
    *unmet("beams are not searched", "beam_width", neutral=(1,)),
    *harmless("spaces_between_special_tokens", note="special tokens are never shown"),
    *harmless("stream_interval", note="every token is sent when it is there"),
)  # fmt: skip
NAMES = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens", "sampling_seed": "seed"}


def sampling_params(value: Any) -> Asked:
    found = take(SAMPLING, mapping(value), "sampling_params")
    held = {"grammar": grammars.asked(found, "sampling_params.")}
    return sampling.asked({NAMES.get(name, name): each for name, each in found.items()}, **held)


FIELDS: Table = (
    honoured("model", text(1000), "a name of GET /v1/models; the first one if left out"),
    honoured("text", shaped(anyOf=TEXTS)(prompts), "a text or texts"),
    honoured("input_ids", shaped(anyOf=TOKENS)(prompts), "token ids or lists of them, instead of a text"),
    honoured("sampling_params", sampling_params, "one for all prompts", SAMPLING),
    honoured("return_logprob", yes_no, "of the output; of the input from logprob_start_len on"),
    honoured("logprob_start_len", whole(-1, 2**31 - 1), "the first token of the prompt that is scored; -1: none is"),
    honoured("top_logprobs_num", whole(0, 20), "with return_logprob"),
    honoured("return_text_in_logprobs", yes_no),
    honoured("stream", yes_no, "the text so far in every event, then [DONE]"),
    honoured("rid", text(200), "the id by which it can be aborted; one that is under way is refused"),
    *unmet("the likeliest are told, not those of chosen ids", "token_ids_logprob"),
    *unmet("no model here reads pictures or hears over this endpoint", "image_data", "image_url", "audio_data",
           "video_data", "modalities", neutral=([],)),
    *unmet("prompts are texts or ids", "input_embeds"),
    *unmet("only texts and ids are given back", "return_hidden_states", "return_routed_experts", neutral=(False,)),
    *unmet("adapters are not loaded", "lora_path", "lora_id"),
    *unmet("requests do not share a session", "session_params"),
    *unmet("there are no processors of logits", "custom_logit_processor"),
    *harmless("priority", "log_metrics", "background", "conversation_id", "routing_key", "extra_key",
              note="changes when, not what"),
)  # fmt: skip


@dataclass
class Made:
    """One answer as far as it is made. prompt: its tokens; scored: what is told of those from `start` on."""

    id: str
    prompt: int
    started: float
    logprobs: int | None
    texts: bool
    scored: Scored = field(default_factory=Scored)
    start: int = 0
    cached: int = 0
    text: str = ""
    ids: list[int] = field(default_factory=list)
    drawn: list[list[Any]] = field(default_factory=list)
    top: list[list[list[Any]]] = field(default_factory=list)
    finish: dict[str, Any] | None = None

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.ids += piece.tokens
        self.cached = max(self.cached, piece.cached)
        for one in piece.logprobs if self.logprobs is not None else ():
            self.drawn.append(self._row(one.token, one.logprob, piece))
            self.top.append([self._row(id, logprob, piece) for id, logprob in one.top[: self.logprobs]])
        if piece.finish == "stop":
            self.finish = {"type": "stop", "matched": piece.matched}
        elif piece.finish == "length":
            self.finish = {"type": "length", "length": len(self.ids)}

    def _row(self, id: int, logprob: float | None, piece: Piece) -> list[Any]:
        shown = piece.spelled.get(id, b"").decode("utf-8", "replace") if self.texts else None
        return [logprob, id, shown]

    def as_json(self) -> dict[str, Any]:
        meta: dict[str, Any] = {
            "id": self.id,
            "finish_reason": self.finish,
            "prompt_tokens": self.prompt,
            "completion_tokens": len(self.ids),
            "cached_tokens": self.cached,
            "e2e_latency": time.monotonic() - self.started,
        }
        if self.logprobs is not None:
            meta |= {"output_token_logprobs": self.drawn, "output_top_logprobs": self.top if self.logprobs else []}
            meta |= {
                "input_token_logprobs": self.scored.rows(self.start, self.texts),
                "input_top_logprobs": self.scored.top_rows(self.start, self.texts),
            }
        return {"text": self.text, "output_ids": self.ids, "meta_info": meta}


@dataclass(frozen=True)
class Wish:
    """A request, understood. batch: the answer is a list."""

    requests: tuple[Request, ...]
    n: int
    logprobs: int | None
    texts: bool
    batch: bool
    rid: str
    scores: tuple[Scored, ...] = ()
    start: int = 0

    def begun(self, rid: str) -> list[Made]:
        now = time.monotonic()
        count = len(self.requests) * self.n
        return [
            Made(rid if count == 1 else f"{rid}-{place}", len(self.requests[place // self.n].tokens or ()), now,
                 self.logprobs, self.texts, self.scores[place // self.n] if self.scores else Scored(), self.start)
            for place in range(count)
        ]  # fmt: skip


async def understood(call: Call, given: Mapping[str, Any], is_list: bool) -> Wish:
    """What is wished for, with its prompts as ids. is_list: whether several prompts were given, or one in a list."""
    inputs = [name for name in ("text", "input_ids") if name in given]
    if len(inputs) != 1:
        raise refused("text", "Give exactly one of text and input_ids.")
    if any(isinstance(each, str) != (inputs == ["text"]) for each in given[inputs[0]]):
        raise refused(inputs[0], "text is for texts, input_ids for token ids.")
    model = await call.service.offer.find(given.get("model"))
    asked = given.get("sampling_params", Asked())
    sampling.check_ids(
        {"logit_bias": asked.logit_bias or {}, "stop_token_ids": asked.stop_token_ids or ()}, model.card.vocabulary
    )
    top, wanted = given.get("top_logprobs_num", 0), given.get("return_logprob", False)
    if top and not wanted:
        raise refused("top_logprobs_num", "top_logprobs_num needs return_logprob: say true, or leave it out.")
    start = given.get("logprob_start_len", -1)
    if start >= 0 and not wanted:
        raise refused("logprob_start_len", "logprob_start_len needs return_logprob: say true, or leave it out.")
    asked = replace(asked, logprobs=max(top, 1)) if wanted else asked
    n = asked.n or 1
    if len(given[inputs[0]]) * n > MOST:
        raise refused("sampling_params.n", f"More than {MOST} answers are asked for. Ask in several requests.")
    requests = []
    for each in given[inputs[0]]:
        ids = await call.service.answers.part("tokenize", each, model.card.name) if isinstance(each, str) else each
        requests.append(call.request(model.card.name, tokens=tuple(ids), asked=asked, endpoint="generate"))
    scores = await _scores(call, model.card.name, requests, start, top) if start >= 0 else ()
    texts = given.get("return_text_in_logprobs", False)
    shape = (top if wanted else None, texts, is_list or n > 1, given.get("rid", ""))
    return Wish(tuple(requests), n, *shape, scores, max(start, 0))


async def _scores(call: Call, model: str, requests: list[Request], start: int, top: int) -> tuple[Scored, ...]:
    shortest = min(len(request.tokens or ()) for request in requests)
    if start >= shortest:
        raise refused("logprob_start_len", f"logprob_start_len must be less than the prompt's {shortest} tokens.")
    return tuple([await scored(call, model, request.tokens or (), top) for request in requests])


async def run(call: Call) -> Response:
    said = await call.given()
    given = take(call.endpoint.fields, said)
    is_list = isinstance(said.get("text"), list) or any(
        isinstance(each, list) for each in said.get("input_ids") or () if isinstance(said["input_ids"], list)
    )
    wish = await call.wait(understood(call, given, is_list))
    if given.get("stream"):
        return Events(_frames(call, wish))
    return reply(await call.wait(_whole(call, wish)))


async def _whole(call: Call, wish: Wish) -> Any:
    async with call.service.answers.known(wish.rid, call.owner, "gen-") as live:
        made = wish.begun(live.id)
        async with aclosing(_grown(call, live, wish, made)) as places:
            async for _ in places:
                pass
    found = [each.as_json() for each in made]
    return found if wish.batch else found[0]


async def _frames(call: Call, wish: Wish) -> Frames:
    async with call.service.answers.known(wish.rid, call.owner, "gen-") as live:
        made = wish.begun(live.id)
        async with aclosing(_grown(call, live, wish, made)) as places:
            async for place in places:
                yield event(made[place].as_json() | ({"index": place} if wish.batch else {}))
    yield DONE


async def _grown(call: Call, live: Live, wish: Wish, made: list[Made]) -> Any:
    """Fills what is made; yields the place of what has grown. One that is aborted says so and is no error."""
    try:
        async with aclosing(merged(call, live, wish.requests, [])) as pieces:
            async for prompt, piece in pieces:
                place = prompt * wish.n + piece.choice
                made[place].add(piece)
                if piece.finish in (None, "stop", "length"):
                    yield place
    except Cancelled as error:
        if not live.aborted:
            raise
        for place, each in enumerate(made):
            if each.finish is None:
                each.finish = {"type": "abort", "message": str(error)}
                yield place


ENDPOINTS = (
    Endpoint(
        "POST",
        ("/generate",),
        "Go on with texts or token ids, as SGLang does",
        run,
        FIELDS,
        either=("text", "input_ids"),
    ),
)

"""crane generate: one prompt or conversation, one text, as it is made or as one JSON object."""

from __future__ import annotations

import argparse
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crane_app import settings
from crane_app.cli import engines, sampling
from crane_app.cli.engines import Opened
from crane_app.cli.messages import read_messages
from crane_app.cli.sampling import token_list
from crane_app.cli.terminal import any_text, stoppable, unicode
from crane_app.engine.request import Job, Part, Piece, Request
from crane_app.errors import BadInput
from crane_app.pipelines.chat import events

SENTENCE = "Generate text, or tokens, with a model"


def add_flags(parser: argparse.ArgumentParser) -> None:
    settings.add_flags(parser, "model", "backend", "device", "dtype", "quantize", "kv-cache-dtype", "draft-model")
    engines.add_exact(parser)
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", "-p", metavar="TEXT", help="The text to go on from")
    prompt.add_argument("--tokens", type=token_list, metavar="1,2,3", help="The same as token ids; needs no tokenizer")
    prompt.add_argument(
        "--messages", type=Path, metavar="FILE.json", help="A conversation to answer; -: standard input"
    )
    sampling.add_flags(parser, sampling.PLAIN)
    sampling.add_template_flags(parser)
    top = sampling.whole(0, 20)
    parser.add_argument("--logprobs", type=top, default=0, metavar="K", help="Report the K likeliest at each step (0)")
    parser.add_argument("--json", action="store_true", help="Print one JSON object instead of the text")
    engines.add_flag(parser)


@dataclass
class Answer:
    """What has been made so far, and when: seconds since the prompt was submitted."""

    seed: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[list[dict[str, float]]] = field(default_factory=list)
    text: str = ""
    finish: str = "error"
    first: float = 0.0
    last: float = 0.0

    def add(self, piece: Piece, seconds: float) -> None:
        self.text += piece.text
        self.tokens += piece.tokens
        if piece.tokens:
            self.first = self.first or seconds
            self.last = seconds
        for drawn in piece.logprobs:
            pairs = list(drawn.top)
            if drawn.logprob is not None and drawn.token not in dict(pairs):
                pairs.append((drawn.token, drawn.logprob))
            self.logprobs.append([{"id": i, "logprob": p} for i, p in pairs])


def run(args: argparse.Namespace) -> int:
    if args.tokens is not None and args.stop:
        raise BadInput("--stop needs text: give --prompt instead of --tokens.")
    if args.think is not None and args.messages is None:
        raise BadInput("--think and --no-think are told to the chat template: give --messages.")
    messages = None if args.messages is None else read_messages(args.messages)
    any_text()
    with engines.one_off(args) as opened:
        return _run(args, opened, messages)


def _run(args: argparse.Namespace, opened: Opened, messages: Any) -> int:
    prompt = messages or args.prompt
    if args.tokens is None:
        engines.needs_tokenizer(opened)
    engines.notes(opened)
    if messages and not opened.card.chat:
        raise BadInput(f"The model {opened.card.name} has no chat template. Give a text: --prompt.")
    tokens = args.tokens if args.tokens is not None else ids(opened, prompt, sampling.template(args))
    answer = Answer(secrets.randbits(63) if args.seed is None else args.seed)
    try:
        _answer(args, opened, tokens, answer)
    except KeyboardInterrupt:
        answer.finish = "cancelled"
    finally:
        if args.json:
            found = report(opened, tokens, answer, args.logprobs)
            print(json.dumps(found, ensure_ascii=not unicode()), flush=True)
    return 130 if answer.finish == "cancelled" else 0


def _answer(args: argparse.Namespace, opened: Opened, tokens: Sequence[int], answer: Answer) -> None:
    """Fill `answer` as it is made, showing text as it becomes certain."""
    card = opened.card
    for token, _ in args.logit_bias or ():
        if token >= card.vocabulary:
            raise BadInput(f"--logit-bias {token}: the model's vocabulary has only {card.vocabulary} tokens.")
    asked = sampling.asked(args, seed=answer.seed, logprobs=args.logprobs)
    started = time.perf_counter()
    stream = opened.engine.submit(Request(card.name, tokens=tuple(tokens), asked=asked, endpoint="greedy"))
    try:
        with stoppable(stream.cancel):
            for event in events(stream):
                if not isinstance(event, Piece):
                    continue
                answer.add(event, time.perf_counter() - started)
                if not args.json:
                    shown = "".join(f"{token} " for token in event.tokens) if opened.textless else event.text
                    print(shown, end="", flush=True)
    finally:
        stream.cancel()
    answer.finish = stream.end.reason if stream.end else "cancelled"
    if stream.usage.first_s:  # the engine's own times: several tokens may arrive at once
        answer.first, answer.last = stream.usage.first_s, stream.usage.total_s
    if not args.json:
        print(flush=True)


def ids(opened: Opened, prompt: Any, template: dict[str, Any]) -> list[int]:
    """The ids of a bare text, or of messages in the model's chat template."""
    found: list[int] = []
    for event in events(opened.engine.open(Job("tokenize", prompt, template, opened.card.name))):
        if isinstance(event, Part):
            found = list(event.value)
    return found


def report(opened: Opened, tokens: Sequence[int], answer: Answer, logprobs: int) -> dict[str, Any]:
    """The JSON object of `--json`; speeds in tokens per second, None where nothing was measured."""
    made, after, card = len(answer.tokens), answer.last - answer.first, opened.card
    found = {
        "tokens": answer.tokens,
        "text": answer.text,
        "finish_reason": answer.finish,
        "prompt_tokens": len(tokens),
        "seed": answer.seed,
        "backend": card.backend,
        "device": card.device,
        "dtype": card.dtype,
        "timing": {
            "load_s": round(opened.seconds, 4),
            "ttft_s": round(answer.first, 4),
            "prefill_tps": round(len(tokens) / answer.first, 2) if answer.first else None,
            "decode_tps": round((made - 1) / after, 2) if made > 1 and after > 0 else None,
        },
    }
    return {**found, "logprobs": answer.logprobs} if logprobs else found

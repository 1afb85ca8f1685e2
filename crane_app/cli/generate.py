"""crane generate: one prompt, one text, as it is made or as one JSON object."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crane_app import settings
from crane_app.contract import Drawn, Sampling
from crane_app.errors import BadInput, CraneError

SENTENCE = "Generate text, or tokens, from a model in a folder"


def add_flags(parser: argparse.ArgumentParser) -> None:
    settings.add_flags(parser, "model", "backend", "device", "dtype")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", "-p", metavar="TEXT", help="The text to go on from")
    prompt.add_argument("--tokens", type=token_list, metavar="1,2,3", help="The same as token ids; needs no tokenizer")
    number = parser.add_argument
    number("--max-tokens", type=_whole(1, 2**30), default=256, metavar="N", help="Stop after N tokens (256)")
    number("--temperature", type=_number(0, 100), default=0.0, metavar="T", help="0 takes the likeliest token (0)")
    number("--top-k", type=_whole(0, 2**30), default=0, metavar="K", help="Draw among the K likeliest; 0: all (0)")
    number("--top-p", type=_number(0, 1), default=1.0, metavar="P", help="Draw among the likeliest of mass P (1)")
    number("--min-p", type=_number(0, 1), default=0.0, metavar="P", help="Drop tokens below P times the best (0)")
    number("--repetition-penalty", type=_number(0.01, 100), default=1.0, metavar="R", help="Above 1: repeat less (1)")
    number("--repeat-last-n", type=_whole(-1, 2**30), default=-1, metavar="N", help="Tokens it looks back on; -1: all (-1)")
    number("--presence-penalty", type=_number(-2, 2), default=0.0, metavar="X", help="Subtracted once a token was made (0)")
    number("--frequency-penalty", type=_number(-2, 2), default=0.0, metavar="X", help="Subtracted each time it was made (0)")
    number("--logit-bias", type=bias, action="append", default=[], metavar="ID=X", help="Added to a token's score; repeatable")
    number("--seed", type=_whole(0, 2**63 - 1), default=None, metavar="N", help="Same seed, same text; drawn if not given")
    number("--stop", action="append", type=_text, default=[], metavar="TEXT", help="End before this text; repeatable")
    number("--ignore-eos", action="store_true", help="Go on past the model's end-of-text token")
    number("--logprobs", type=_whole(0, 20), default=0, metavar="K", help="Report the K likeliest at each step (0)")
    number("--json", action="store_true", help="Print one JSON object instead of the text")


@dataclass
class Answer:
    """What has been made so far, and when: seconds since the prompt was submitted."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[list[dict[str, float]]] = field(default_factory=list)
    text: str = ""
    finish: str = "length"
    first: float = 0.0
    last: float = 0.0

    def add(self, drawn: Drawn, seconds: float) -> None:
        self.first = self.first or seconds
        self.last = seconds
        self.tokens.append(drawn.token)
        pairs = list(drawn.top)
        if drawn.logprob is not None and drawn.token not in dict(pairs):
            pairs.append((drawn.token, drawn.logprob))
        self.logprobs.append([{"id": i, "logprob": p} for i, p in pairs])


def run(args: argparse.Namespace) -> int:
    if args.tokens is not None and args.stop:
        raise BadInput("--stop needs text: give --prompt instead of --tokens.")
    loaded, seconds = open_model(args)
    tokenizer = _tokenizer(loaded.folder, needed=args.prompt is not None)
    tokens = args.tokens if args.prompt is None else _prompt(tokenizer, args.prompt)
    sampling = sampling_of(args)
    answer = Answer()
    try:
        _answer(args, loaded, tokenizer, tokens, sampling, answer)
    except KeyboardInterrupt:
        answer.finish = "cancelled"
    except CraneError:
        answer.finish = "error"
        raise
    finally:
        if args.json:
            print(json.dumps(report(loaded, tokens, sampling, answer, seconds, args.logprobs), ensure_ascii=False))
    return 130 if answer.finish == "cancelled" else 0


def _answer(args: Any, loaded: Any, tokenizer: Any, tokens: list[int], sampling: Sampling, answer: Answer) -> None:
    """Fill `answer` token by token, showing text as it becomes certain."""
    from crane_app.engine import generation
    from crane_app.media.detokenize import Detokenizer, StopText

    show = sys.stdout.write if not args.json else (lambda text: len(text))
    words = Detokenizer(tokenizer) if tokenizer else None
    stops = StopText(args.stop)
    started = time.perf_counter()
    steps = generation.generate(loaded, tokens, sampling, args.max_tokens, top=args.logprobs)
    for drawn in steps:
        answer.add(drawn, time.perf_counter() - started)
        if drawn.token in loaded.eos and not args.ignore_eos:
            answer.finish = "stop"
            break
        if words is None:
            show(f"{drawn.token} ")
            continue
        piece, stopped = stops.push(words.push(drawn.token))
        answer.text += piece
        show(piece)
        sys.stdout.flush()
        if stopped:
            answer.finish = "stop"
            break
    steps.close()
    if words:
        piece, _ = stops.push(words.flush())
        piece += stops.flush()
        answer.text += piece
        show(piece)
        answer.finish = "stop" if stops.matched else answer.finish
    show("\n")


def open_model(args: argparse.Namespace) -> tuple[Any, float]:
    """The model that the flags name, and the seconds its loading took; notes go to stderr."""
    from crane_app.engine.loading import load

    if not args.model:
        raise BadInput("Name a model: --model FOLDER (or CRANE_MODEL).")
    started = time.perf_counter()
    loaded = load(Path(args.model).expanduser(), args.backend, args.device, args.dtype)
    for note in loaded.notes:
        print(f"crane: note: {note}", file=sys.stderr)
    return loaded, time.perf_counter() - started


def sampling_of(args: argparse.Namespace) -> Sampling:
    """The flags as a Sampling; a seed is drawn where none was given, so that it can be reported."""
    import secrets

    return Sampling(
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        min_p=args.min_p,
        repetition_penalty=args.repetition_penalty,
        repeat_last_n=args.repeat_last_n,
        presence_penalty=args.presence_penalty,
        frequency_penalty=args.frequency_penalty,
        logit_bias=dict(args.logit_bias),
        seed=secrets.randbits(63) if args.seed is None else args.seed,
    )


def report(
    loaded: Any, tokens: list[int], sampling: Sampling, answer: Answer, load_seconds: float, logprobs: int
) -> dict[str, Any]:
    """The JSON object of `--json`; speeds in tokens per second, None where nothing was measured."""
    made, after = len(answer.tokens), answer.last - answer.first
    found = {
        "tokens": answer.tokens,
        "text": answer.text,
        "finish_reason": answer.finish,
        "prompt_tokens": len(tokens),
        "seed": sampling.seed,
        "backend": loaded.backend.device.backend,
        "device": loaded.backend.device.kind,
        "dtype": loaded.backend.dtype,
        "timing": {
            "load_s": round(load_seconds, 4),
            "ttft_s": round(answer.first, 4),
            "prefill_tps": round(len(tokens) / answer.first, 2) if answer.first else None,
            "decode_tps": round((made - 1) / after, 2) if made > 1 and after > 0 else None,
        },
    }
    return {**found, "logprobs": answer.logprobs} if logprobs else found


def _tokenizer(folder: Path, needed: bool) -> Any:
    """The folder's tokenizer; None where it has none, or a broken one, and ids are enough."""
    from crane_app.media.tokenizer import Tokenizer

    try:
        return Tokenizer.open(folder)
    except CraneError as error:
        if needed:
            raise
        print(f"crane: note: ids only, no text: {error}", file=sys.stderr)
        return None


def _prompt(tokenizer: Any, text: str) -> list[int]:
    """The ids of a bare text, after the token that begins one if the model has such."""
    start = [] if tokenizer.bos is None else [tokenizer.bos]
    return start + tokenizer.encode(text)


def token_list(text: str) -> list[int]:
    """'1,2,3' -> [1, 2, 3]."""
    try:
        return [int(part) for part in text.replace(" ", "").split(",") if part]
    except ValueError:
        raise argparse.ArgumentTypeError(f"token ids are whole numbers with commas between, not '{text:.60}'") from None


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def bias(text: str) -> tuple[int, float]:
    """'42=-1.5' -> (42, -1.5)."""
    try:
        token, _, amount = text.partition("=")
        return int(token), float(amount)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a bias is ID=NUMBER, not '{text:.60}'") from None


def _whole(low: int, high: int) -> Any:
    def whole(text: str) -> int:
        found = int(text)
        if not low <= found <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}, not {found}")
        return found

    return whole


def _number(low: float, high: float) -> Any:
    def number(text: str) -> float:
        found = float(text)
        if not low <= found <= high:
            raise argparse.ArgumentTypeError(f"must be from {low:g} to {high:g}, not {found:g}")
        return found

    return number

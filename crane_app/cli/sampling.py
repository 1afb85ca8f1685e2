"""How tokens are drawn and when they end: the flags that `generate` and `chat` share, and what they ask for."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crane_app.engine.request import Asked

# What `generate` does if not told otherwise: the likeliest token each time, whatever the model's own settings.
PLAIN: dict[str, Any] = {
    "max_tokens": 256,
    "temperature": 0.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "repeat_last_n": -1,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


@dataclass(frozen=True)
class Knob:
    """A number that a flag sets; its field in Asked has the flag's name with underscores."""

    flag: str
    parse: Callable[[str], Any]
    sign: str
    sentence: str

    @property
    def field(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")


def whole(low: int, high: int) -> Callable[[str], int]:
    """Parses a whole number of that range."""

    def parse(text: str) -> int:
        try:
            found = int(text) if len(text) < 40 else None
        except ValueError:
            found = None
        if found is None or not low <= found <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, not '{text:.40}'")
        return found

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    """Parses a number of that range."""

    def parse(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not low <= found <= high:
            raise argparse.ArgumentTypeError(f"must be a number from {low:g} to {high:g}, not '{text:.40}'")
        return found

    return parse


KNOBS = (
    Knob("--max-tokens", whole(1, 2**30), "N", "Stop after N tokens"),
    Knob("--temperature", number(0, 100), "T", "0 takes the likeliest token"),
    Knob("--top-k", whole(0, 2**30), "K", "Draw among the K likeliest; 0: all"),
    Knob("--top-p", number(0, 1), "P", "Draw among the likeliest of mass P"),
    Knob("--min-p", number(0, 1), "P", "Drop tokens below P times the best"),
    Knob("--repetition-penalty", number(0.01, 100), "R", "Above 1: repeat less"),
    Knob("--repeat-last-n", whole(-1, 2**30), "N", "Tokens it looks back on; -1: all"),
    Knob("--presence-penalty", number(-2, 2), "X", "Subtracted once a token was made"),
    Knob("--frequency-penalty", number(-2, 2), "X", "Subtracted each time it was made"),
)


def add_flags(parser: argparse.ArgumentParser, defaults: Mapping[str, Any]) -> None:
    """The flags; one without a default leaves it to the model and the engine."""
    add = parser.add_argument
    for knob in KNOBS:
        default = defaults.get(knob.field)
        shown = knob.sentence if default is None else f"{knob.sentence} ({default:g})"
        add(knob.flag, type=knob.parse, default=default, metavar=knob.sign, help=shown)
    add("--logit-bias", type=bias, action="append", metavar="ID=X", help="Added to a token's score; repeatable")
    seed = whole(0, 2**63 - 1)
    add("--seed", type=seed, metavar="N", help="Same seed, same text; drawn if not given")
    add("--stop", action="append", type=filled, metavar="TEXT", help="End before this text; repeatable")
    add("--ignore-eos", action="store_true", help="Go on past the model's end-of-text token")


def add_template_flags(parser: argparse.ArgumentParser) -> None:
    """What the chat template is told."""
    parser.add_argument(
        "--think",
        action=argparse.BooleanOptionalAction,
        help="Ask a model that can reason before it answers to do so, or not to",
    )


def asked(args: argparse.Namespace, **more: Any) -> Asked:
    """The flags as a request asks for them; None where nothing was said."""
    given = {knob.field: getattr(args, knob.field) for knob in KNOBS}
    return Asked(
        **given,
        logit_bias=dict(args.logit_bias) if args.logit_bias else None,
        stop=tuple(args.stop) if args.stop else None,
        ignore_eos=args.ignore_eos or None,
        **{"seed": args.seed, **more},
    )


def template(args: argparse.Namespace) -> dict[str, Any]:
    """The template's variables; `enable_thinking` is what Qwen3 and those after it call it."""
    return {} if args.think is None else {"enable_thinking": args.think}


def token_list(text: str) -> list[int]:
    """'1,2,3' -> [1, 2, 3]."""
    try:
        return [int(part) for part in text.replace(" ", "").split(",") if part]
    except ValueError:
        raise argparse.ArgumentTypeError(f"token ids are whole numbers with commas between, not '{text:.60}'") from None


def bias(text: str) -> tuple[int, float]:
    """'42=-1.5' -> (42, -1.5)."""
    token, _, amount = text.partition("=")
    try:
        found = int(token), float(amount)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a bias is ID=NUMBER, not '{text:.60}'") from None
    if found[0] < 0 or not abs(found[1]) <= 100:
        raise argparse.ArgumentTypeError(f"a bias is a token's id and a number from -100 to 100, not '{text:.60}'")
    return found


def filled(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text

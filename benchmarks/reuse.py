"""What is spared on a real-size model: time to the first token of later turns, and tokens that were guessed.

    python -m benchmarks.reuse [--model qwen3-0.6b] [--folder ~/.cache/crane-bench] [--backend torch] [--turns 4]
    python -m benchmarks.reuse --only drafts --model qwen3-1.7b [--draft qwen3-0.6b]

`turns`: each turn of a chat is the one before, its reply and new tokens; with what is kept and without, in turn.
`guesses`: a text that repeats itself, from which a model of random weights cannot turn away: a bias makes it say one of
two tokens for ever. Tokens a second with guesses and without, in turn, and how many tokens of the drafts were right.
`drafts`: a draft model, which costs what it does and of random weights knows nothing of the other. A bias makes both
say one token, so that all drafts are right: the most that this pair can gain. It makes them say one of two, or nothing
makes them agree and no draft is right: what is lost before it rests. Tokens a second with it and without in turn, steps
of the model, and the share that was right; what was said before is not looked up meanwhile.
`alike`: how many of 32 replies that are made at once are, token for token, what each is alone.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from pathlib import Path
from typing import Any

from crane_app.engine import lookup, sequence
from crane_app.engine.drafting import Lookups
from crane_app.engine.engine import Engine
from crane_app.engine.lookup import Gain
from crane_app.engine.random_checkpoint import CONFIGS, make
from crane_app.engine.request import Asked, Part, Piece, Request, Usage

NEW, REPLY = 120, 40  # tokens of a turn
BIAS = {100: 100.0, 101: 100.0}
GUESSED = 200  # tokens of a reply that repeats itself
AGREED: dict[str, dict[int, float]] = {"always_right": {100: 100.0}, "one_of_two": BIAS, "never_right": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=sorted(CONFIGS), default="qwen3-0.6b")
    parser.add_argument("--folder", type=Path, default=Path("~/.cache/crane-bench").expanduser())
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--draft", choices=sorted(CONFIGS), default="qwen3-0.6b")
    parser.add_argument("--tokens", type=int, default=60, help="Of each reply in `drafts`")
    parts = {"turns": turns, "guesses": guesses, "alike": alike, "drafts": drafts}
    parser.add_argument("--only", choices=list(parts), nargs="+", default=["turns", "guesses", "alike"])
    args = parser.parse_args()
    engine, found = Engine(), {}
    draft = str(make(args.draft, args.folder)) if "drafts" in args.only else None
    how = args.backend, "cpu", args.dtype
    events = engine.load(str(make(args.model, args.folder)), "m", *how, draft=draft)
    card = next(e.value for e in events if isinstance(e, Part))
    try:
        for part in args.only:
            found[part] = parts[part](engine, args)
    finally:
        engine.close(drain=False)
    print(json.dumps({"model": args.model, "backend": card.backend, "numbers": card.numbers, **found}))


def said(engine: Engine, tokens: tuple[int, ...], most: int, **asked: Any) -> tuple[tuple[int, ...], Usage]:
    stream = engine.submit(Request("m", tokens=tokens, asked=Asked(max_tokens=most, ignore_eos=True, **asked)))
    return tuple(t for e in stream if isinstance(e, Piece) for t in e.tokens), stream.usage


def turns(engine: Engine, args: argparse.Namespace) -> list[dict[str, Any]]:
    """For each turn: its prompt, what was cached, milliseconds to the first token with that and without."""
    rng, chat, found = random.Random(1), (), []
    scheduler = engine._shelf.get("m").scheduler
    for _ in range(args.turns):
        chat += tuple(rng.randrange(1000, 90000) for _ in range(NEW))
        reply, warm = said(engine, chat, REPLY, temperature=0.0)
        scheduler.reuse = "none"
        _, cold = said(engine, chat, 1, temperature=0.0)
        scheduler.reuse = "all"
        ms = {"reused_ms": round(1e3 * warm.first_s), "computed_ms": round(1e3 * cold.first_s)}
        found.append({"prompt": len(chat), "cached": warm.cached_tokens, **ms})
        chat += reply
    return found


def guesses(engine: Engine, args: argparse.Namespace) -> dict[str, Any]:
    scheduler, prompt = engine._shelf.get("m").scheduler, tuple(range(2000, 2030))
    drafted, right, take = 0, 0, sequence.Sequence.take_guess

    def counted(self: Any, drawn: Any, draft: Any) -> int:
        nonlocal drafted, right
        kept = take(self, drawn, draft)
        drafted, right = drafted + len(draft), right + min(kept - 1, len(draft))
        return kept

    sequence.Sequence.take_guess = counted  # type: ignore[method-assign]
    speeds: dict[bool, list[float]] = {True: [], False: []}
    replies = set()
    for _ in range(2):
        for on in (False, True):
            scheduler.gain = Gain() if on else None
            reply, usage = said(engine, prompt, GUESSED, temperature=0.0, logit_bias=BIAS)
            replies.add(reply)
            speeds[on].append(GUESSED / (usage.total_s - usage.first_s))
    sequence.Sequence.take_guess = take  # type: ignore[method-assign]
    scheduler.gain = Gain()
    medians = {name: round(statistics.median(speeds[on]), 1) for name, on in (("on_tps", True), ("off_tps", False))}
    return {**medians, "drafted": drafted, "right": round(right / max(drafted, 1), 3), "same": len(replies) == 1}


def drafts(engine: Engine, args: argparse.Namespace) -> dict[str, Any]:
    """Each agreement with the draft model and without, twice in turn, as the measured gain has it."""
    scheduler, look = engine._shelf.get("m").scheduler, lookup.draft
    drafter = scheduler.ahead
    lookup.draft = lambda tokens, most: lookup.NOTHING
    found: dict[str, Any] = {"draft": args.draft, "tokens": args.tokens}
    for name, bias in AGREED.items():
        speeds: dict[bool, list[float]] = {True: [], False: []}
        steps: dict[bool, int] = {True: 0, False: 0}
        replies, before = set(), (drafter.tried, drafter.right)
        scheduler.gain = Gain()
        for on in (False, True) * 2:
            scheduler.ahead, start = drafter if on else Lookups(), scheduler.steps
            reply, usage = said(engine, tuple(range(2000, 2030)), args.tokens, temperature=0.0, logit_bias=bias)
            replies.add(reply)
            speeds[on].append((args.tokens - 1) / (usage.total_s - usage.first_s))
            steps[on] += scheduler.steps - start
        tried, right = drafter.tried - before[0], drafter.right - before[1]
        found[name] = {"on_tps": round(max(speeds[True]), 2), "off_tps": round(max(speeds[False]), 2)}
        found[name] |= {"on_steps": steps[True], "off_steps": steps[False], "same": len(replies) == 1}
        found[name] |= {"tried": tried, "right": round(right / max(tried, 1), 3)}
    lookup.draft, scheduler.ahead = look, drafter
    return found


def alike(engine: Engine, args: argparse.Namespace) -> str:
    """Guesses and reuse as they are by default; temperatures of 0 and 1."""
    rng = random.Random(2)
    prompts = [tuple(rng.randrange(1000, 90000) for _ in range(rng.choice([5, 40, 90]))) for _ in range(32)]
    hows = [{"temperature": float(i % 2), "seed": i} for i in range(32)]
    alone = [said(engine, prompt, 12, **how)[0] for prompt, how in zip(prompts, hows, strict=True)]
    streams = [
        engine.submit(Request("m", tokens=prompt, asked=Asked(max_tokens=12, ignore_eos=True, **how)))
        for prompt, how in zip(prompts, hows, strict=True)
    ]
    together = [tuple(t for e in stream if isinstance(e, Piece) for t in e.tokens) for stream in streams]
    return f"{sum(a == b for a, b in zip(alone, together, strict=True))} of {len(alone)}"


if __name__ == "__main__":
    main()

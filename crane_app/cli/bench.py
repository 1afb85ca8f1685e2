"""crane bench: how fast a model runs here, beside what the memory allows and beside other programs."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crane_app import settings
from crane_app.errors import BadInput, CraneError, Unsupported
from crane_app.library import whereabouts

SENTENCE = "Measure how fast a model runs here, alone or beside other programs"


def add_flags(parser: argparse.ArgumentParser) -> None:
    settings.add_flags(parser, "model", "backend", "device", "dtype", "quantize", "kv-cache-dtype")
    add = parser.add_argument
    add("--random-weights", metavar="NAME", help="A real-size model of random weights, such as qwen3-0.6b, for --model")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--keep", action="store_true", help="Keep the random weights for next time; the default")
    kept.add_argument("--remove", action="store_true", help="Remove the random weights afterwards")
    add("--threads", type=_count, metavar="N", help="Processor threads; as many as each library takes if not given")
    add("--contexts", type=_count, nargs="+", default=[128, 1024], metavar="N", help="Cached tokens (128 1024)")
    add("--batches", type=_count, nargs="+", default=[1, 4], metavar="N", help="Rows decoded at once (1 4)")
    add("--prompts", type=_count, nargs="+", default=[128, 512], metavar="N", help="Prompt lengths in tokens (128 512)")
    add("--rounds", type=_count, default=5, metavar="N", help="Times that each case is measured (5)")
    add("--steps", type=_count, default=16, metavar="N", help="Tokens of each row in one measurement of decoding (16)")
    add("--vs", action="append", default=[], metavar="PEER", help="Beside benchmarks/peers/PEER.py; repeatable")
    add("--timeout", type=_count, default=600, metavar="S", help="Seconds to wait for a side's answer (600)")
    add("--json", action="store_true", help="Print one JSON object with every round")


def run(args: argparse.Namespace) -> int:
    if getattr(sys, "frozen", False):
        raise Unsupported("The packed Crane has no bench: each side is a Python of its own. Use Crane's source.")
    from crane_app.bench.report import as_text
    from crane_app.bench.rounds import Plan
    from crane_app.bench.rounds import run as measure

    with model(args) as folder:
        plan = Plan(
            folder=folder,
            backend=args.backend,
            device=args.device,
            dtype=args.dtype,
            quantize=args.quantize,
            kv_cache=args.kv_cache_dtype,
            threads=args.threads,
            contexts=tuple(args.contexts),
            batches=tuple(args.batches),
            prompts=tuple(args.prompts),
            rounds=args.rounds,
            steps=args.steps,
            peers=tuple(dict.fromkeys(args.vs)),
            patience=args.timeout,
        )
        report = measure(plan, _say)
    for sentence in report["skipped"].values():
        _say(sentence)
    print(json.dumps(report) if args.json else as_text(report), end="\n" if args.json else "")
    return 0


@contextmanager
def model(args: argparse.Namespace) -> Iterator[Path]:
    """The folder that the flags name; with --remove the random weights are gone afterwards."""
    if args.random_weights is None:
        if not args.model:
            words = "Name a model: --model ORG/NAME or its folder (or CRANE_MODEL), or --random-weights qwen3-0.6b."
            raise BadInput(words)
        if args.remove:
            raise BadInput("--remove is for --random-weights alone; a model's own folder stays.")
        yield whereabouts.place(args.model)
        return
    from crane_app.engine.random_checkpoint import make

    if args.model and args.model != settings.value(settings.TABLE["model"]):
        raise BadInput("--model and --random-weights name two models. Give one of them.")
    cache = cache_folder()
    _say(f"random weights in {cache / args.random_weights}")
    folder = make(args.random_weights, cache)
    try:
        yield folder
    finally:
        if args.remove:
            shutil.rmtree(folder, ignore_errors=True)


def cache_folder() -> Path:
    """Where random weights are kept."""
    import platformdirs

    try:
        return Path(platformdirs.user_cache_dir("crane", appauthor=False)) / "random-weights"
    except (OSError, RuntimeError) as error:
        raise CraneError(f"This user has no folder for caches ({error}).") from error


def _say(text: str) -> None:
    print(f"crane: {text}", file=sys.stderr, flush=True)


def _count(text: str) -> int:
    found = int(text)
    if not 1 <= found <= 2**30:
        raise argparse.ArgumentTypeError(f"must be from 1 to {2**30}, not {found}")
    return found

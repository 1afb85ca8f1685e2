"""crane logits: the scores a model gives after each token of a text; the tool for comparing with a reference."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from crane_app import settings
from crane_app.cli.sampling import token_list
from crane_app.errors import BadInput

SENTENCE = "Write a model's scores after each token to a .npy file"


def add_flags(parser: argparse.ArgumentParser) -> None:
    settings.add_flags(parser, "model", "backend", "device", "dtype", "quantize", "kv-cache-dtype")
    parser.add_argument("--fast", action="store_true", help="As answers are made, not exactly in float32")
    parser.add_argument("--tokens", type=token_list, required=True, metavar="1,2,3", help="Token ids")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npy", help="Where to write")


def run(args: argparse.Namespace) -> int:
    from crane_app.cli.engines import open_model
    from crane_app.engine import generation

    if args.out.suffix != ".npy":
        raise BadInput(f"--out must name a .npy file, not {args.out.name}.")
    if not args.out.parent.is_dir():
        raise BadInput(f"There is no folder {args.out.parent} to write to.")
    args.exact = not args.fast
    loaded, _ = open_model(args)
    scores = generation.score(loaded, args.tokens)
    write(args.out, scores)
    print(f"{args.out}: float32 {list(scores.shape)}")
    return 0


def write(path: Path, scores: Any) -> None:
    """The array whole or not at all: written beside the target, then renamed."""
    import numpy as np

    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            np.save(file, scores)
        part.replace(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)

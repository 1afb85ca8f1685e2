"""crane demo: what Crane does, shown on samples that come with it."""

from __future__ import annotations

import argparse
from pathlib import Path

SENTENCE = "Try every job on something whose answer is known"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="For what it writes (the user's cache)")


def run(args: argparse.Namespace) -> int:
    from crane_app.demo import run as show

    return show(folder=args.out)

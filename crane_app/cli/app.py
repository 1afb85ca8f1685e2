"""crane app [FILE...]: the window; where no window can open, the demo in the terminal."""

from __future__ import annotations

import argparse

from crane_app.errors import Unsupported

SENTENCE = "Open the window (the default); without a display, run the demo"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="Pictures or PDFs to open")


def run(args: argparse.Namespace) -> int:
    if args.opener is None:
        raise Unsupported("This way of starting Crane opens no window. Use: python -m crane_app")
    return int(args.opener(args.files))

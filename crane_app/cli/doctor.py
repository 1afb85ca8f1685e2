"""crane doctor: what this machine has and what it lacks."""

from __future__ import annotations

import argparse

SENTENCE = "Say what this machine has, what it lacks, and what that costs"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="Print one JSON object")


def run(args: argparse.Namespace) -> int:
    from crane_app import doctor

    return doctor.run(as_json=args.json)

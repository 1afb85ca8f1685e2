"""crane doctor: what this machine has and what it lacks."""

from __future__ import annotations

import argparse

SENTENCE = "Say what this machine has, what it lacks, and what that costs"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="Print one JSON object")
    parser.add_argument("--quick", action="store_true", help="Leave out the self-test of the tensor libraries")


def run(args: argparse.Namespace) -> int:
    from crane_app import doctor

    return doctor.run(as_json=args.json, quick=args.quick)

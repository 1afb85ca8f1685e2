"""crane version: this Crane and what it stands on."""

from __future__ import annotations

import argparse
import json

SENTENCE = "Print the versions of Crane and of what it stands on"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="Print one JSON object")


def run(args: argparse.Namespace) -> int:
    from crane_app import doctor

    facts = doctor.versions()
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        print("\n".join(f"{name:12} {value}" for name, value in facts.items() if value))
    return 0

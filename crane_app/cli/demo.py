"""crane demo: what Crane does, shown on samples that come with it."""

from __future__ import annotations

import argparse

SENTENCE = "Read a sample picture and compare what was found with what it says"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The demo has no options."""


def run(args: argparse.Namespace) -> int:
    from crane_app.demo import run as show

    return show()

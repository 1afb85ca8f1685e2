"""crane app [FILE...]: the window; where no window can open, the demo in the terminal."""

from __future__ import annotations

import argparse

SENTENCE = "Open the window (the default); without a display, run the demo"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="Pictures or PDFs to open")


def run(args: argparse.Namespace) -> int:
    from crane_app.ui import app

    available, reason = app.display_available()
    if available:
        return app.run(args.files)
    from crane_app import demo

    print(f"No window can open here ({reason}), so this is the demo instead.\n", flush=True)
    return demo.run()

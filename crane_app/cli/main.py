"""Reads the command line, runs one verb, turns errors into a sentence and an exit status.

0 done · 1 failed, one sentence on stderr (a traceback with CRANE_DEBUG=1) · 2 wrong usage · 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence

from crane_app.cli import app
from crane_app.errors import CraneError
from crane_app.version import VERSION

Opener = Callable[[Sequence[str]], int]  # opens the window with these files; the commands themselves know no window
Server = Callable[..., int]  # serves over HTTP until it is told to end; crane_app.server.run.serve
VERBS = (
    "app",
    "models",
    "chat",
    "ocr",
    "transcribe",
    "say",
    "serve",
    "generate",
    "logits",
    "vad",
    "demo",
    "doctor",
    "bench",
    "convert",
    "version",
)
EXAMPLES = """\
examples:
  crane                                     the window
  crane models get Qwen/Qwen3-0.6B          a model, once
  crane chat --model Qwen/Qwen3-0.6B        a conversation
  crane ocr page.png --format markdown      the text of a picture
  crane COMMAND --help                      all that a command can do
"""


def main(argv: Sequence[str] | None = None, opener: Opener | None = None, server: Server | None = None) -> int:
    """Run the command line `argv` and return the exit status. Without a verb it is `app`."""
    try:
        args = parser().parse_args(sys.argv[1:] if argv is None else argv)
        args.opener, args.server = opener, server
        return int(args.run(args))
    except KeyboardInterrupt:
        return _say("Stopped.", 130)
    except BrokenPipeError:
        # The reader of our output is gone; nothing is left to say, and the interpreter must not try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except CraneError as error:
        return _say(str(error), 1)
    except Exception as error:
        known = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return _say(f"Something went wrong that Crane did not expect ({known}). CRANE_DEBUG=1 shows where.", 1)


def parser() -> argparse.ArgumentParser:
    """All verbs and their flags."""
    top = argparse.ArgumentParser(
        prog="crane",
        description="Private, fast, local AI: chat, read pictures, dictate and read aloud.",
        epilog=EXAMPLES,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"crane {VERSION}")
    top.set_defaults(run=app.run, files=[])
    verbs = top.add_subparsers(title="commands", metavar="COMMAND")
    for name in VERBS:
        module = importlib.import_module(f"crane_app.cli.{name}")
        verb = verbs.add_parser(name, help=module.SENTENCE, description=module.SENTENCE, allow_abbrev=False)
        module.add_flags(verb)
        verb.set_defaults(run=module.run)
    return top


class _Help(argparse.RawDescriptionHelpFormatter):
    """Wide enough that each command and its sentence stand on one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=16, width=max(80, min(100, shutil.get_terminal_size().columns)))


def _say(sentence: str, status: int) -> int:
    if os.environ.get("CRANE_DEBUG") == "1" and sys.exc_info()[0] is not None:
        traceback.print_exc()
    print(f"crane: {sentence}", file=sys.stderr)
    return status

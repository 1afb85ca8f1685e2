"""`crane`, `crane-app` and `python -m crane_app`: the window, or a command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any


def main() -> None:
    """The command line."""
    from crane_app.cli.main import main as run

    sys.exit(run(opener=open_window, server=serve))


def app() -> None:
    """The window, opened by a double click: arguments are files."""
    from crane_app.cli.main import main as run

    sys.exit(run(["app", *sys.argv[1:]], opener=open_window))


def open_window(files: Sequence[str]) -> int:
    """The window with these files; the demo where no window can open."""
    from crane_app.ui import app

    problem = app.display_problem()
    if not problem:
        return app.run(files)
    from crane_app import demo

    print(f"{problem} This is the demo instead.\n", flush=True)
    return demo.run()


def serve(*args: Any, **options: Any) -> int:
    """The server; imported late, since nothing else needs its libraries."""
    from crane_app.server import run

    return run.serve(*args, **options)


if __name__ == "__main__":
    main()

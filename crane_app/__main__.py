"""`crane`, `crane-app` and `python -m crane_app`: the window, or a command."""

from __future__ import annotations

import sys


def main() -> None:
    """The command line."""
    from crane_app.cli.main import main as run

    sys.exit(run())


def app() -> None:
    """The window, opened by a double click: arguments are files."""
    from crane_app.cli.main import main as run

    sys.exit(run(["app", *sys.argv[1:]]))


if __name__ == "__main__":
    main()

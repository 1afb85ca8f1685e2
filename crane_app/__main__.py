"""`crane`, `crane-app` and `python -m crane_app`: the window, or a command. Also where the packed program begins."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

ENGINE = "--engine"  # the first word by which the packed program is asked to be an engine's process
EXAMINED = "--examined"  # and one that the doctor looks at


def main() -> None:
    """The command line."""
    from crane_app.cli.main import main as run

    sys.exit(run(opener=open_window, server=serve))


def app() -> None:
    """The window, opened by a double click: arguments are files."""
    from crane_app.cli.main import main as run

    sys.exit(run(["app", *sys.argv[1:]], opener=open_window))


def packed() -> None:
    """The packed program, whose one executable is everything: an engine's or doctor's process, a command, the window.

    The system opens a file with the program by naming it alone; so a first word that is a file is no command.
    """
    import multiprocessing

    multiprocessing.freeze_support()
    _own_environment()
    _open_streams()
    if sys.argv[1:2] == [ENGINE]:
        from crane_app.engine.process import child

        child.leave(child.main(sys.argv[2:]))
    elif sys.argv[1:2] == [EXAMINED]:
        from crane_app.ui import examined

        sys.exit(examined.main(sys.argv[2:]))
    else:
        app() if _names_a_file(sys.argv[1:]) else main()


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


def _names_a_file(words: Sequence[str]) -> bool:
    from pathlib import Path

    from crane_app.cli.main import VERBS

    return bool(words) and words[0] not in VERBS and Path(words[0]).is_file()


def _own_environment() -> None:
    """What we start gets the environment that we were started with, without the search path of our own libraries.

    PyInstaller's loader sets that path for us and keeps the former one beside it; another Crane must set its own anew.
    """
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LIBPATH"):
        before = os.environ.pop(f"{name}_ORIG", None)
        if before is not None:
            os.environ[name] = before
        elif os.environ.get(name) == getattr(sys, "_MEIPASS", None):
            os.environ.pop(name, None)
    os.environ["PYINSTALLER_RESET_ENVIRONMENT"] = "1"


def _open_streams() -> None:
    """A windowed program has no standard streams, and libraries that print would fail."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


if __name__ == "__main__":
    packed() if getattr(sys, "frozen", False) else main()

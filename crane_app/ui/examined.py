"""What only Qt or a fresh process can tell about this machine, for `crane doctor`, which runs this as one.

    python -m crane_app.ui.examined fonts          the families that show each of some scripts, "" where none does
    python -m crane_app.ui.examined screen         why no window can be shown, "" where one can
    python -m crane_app.ui.examined nothing        nothing: the way here is timed from outside
    python -m crane_app.ui.examined start          seconds that the phases of a start take, on no screen
    python -m crane_app.ui.examined engine         seconds until a new engine answers
    python -m crane_app.ui.examined backend NAME   seconds that its libraries take to be imported

Each prints one line of JSON.
"""

import importlib
import json
import os
import sys
import time

# One letter for each script that a font is looked for.
LETTERS = {"Chinese": "鶴", "Japanese": "つ", "Korean": "두", "Arabic": "ك", "emoji": "\N{OWL}"}


def main(argv: list[str]) -> int:
    what, *words = argv
    if what != "screen":
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    parts = {"fonts": fonts, "screen": screen, "nothing": dict, "start": start, "engine": engine, "backend": backend}
    print(json.dumps(parts[what](*words)))
    sys.stdout.flush()
    os._exit(0)  # nothing here is worth an orderly end of Qt


def fonts() -> dict[str, str]:
    """The font that Qt takes for each letter when it is asked to show it in the window's own."""
    from PySide6.QtGui import QTextLayout
    from PySide6.QtWidgets import QApplication

    app = QApplication.instance() or QApplication([])
    found = {}
    for script, letter in LETTERS.items():
        layout = QTextLayout(letter, app.font())
        layout.beginLayout()
        layout.createLine()
        layout.endLayout()
        # Glyph 0 is the box that stands for what no font has.
        runs = [run for run in layout.glyphRuns() if all(run.glyphIndexes())]
        found[script] = runs[0].rawFont().familyName() if runs else ""
    return found


def screen() -> dict[str, str]:
    from crane_app.errors import CraneError
    from crane_app.ui import app

    problem = app.display_problem()
    try:
        if not problem:
            app._require_screen()
    except CraneError as error:
        problem = str(error)
    return {"problem": problem}


def start() -> dict[str, float]:
    """From the import of Qt to a window that takes what is typed."""
    begun = time.perf_counter()
    from PySide6.QtWidgets import QApplication

    imported = time.perf_counter()
    from crane_app.ui import app

    qt = QApplication([])
    app._introduce(qt)
    ready = time.perf_counter()
    window = app._window(qt, app._Shared())
    window.show()
    qt.processEvents()
    return {"Qt's modules": imported - begun, "Qt": ready - imported, "window": time.perf_counter() - ready}


def engine() -> dict[str, float]:
    begun = time.perf_counter()
    from crane_app.engine.process.client import connect

    made = connect(new_engine=True)
    made.stats()
    took = time.perf_counter() - begun
    made.close()
    return {"engine": took}


def backend(name: str) -> dict[str, float]:
    begun = time.perf_counter()
    importlib.import_module(f"crane_app.backends.{name}.backend")
    return {f"backend {name}": time.perf_counter() - begun}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

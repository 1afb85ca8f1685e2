"""`crane demo`: does Crane work on this machine? Each job is tried on something whose answer is known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import platformdirs

from crane_app.demo.chat import answer_a_question
from crane_app.demo.dictate import find_speech
from crane_app.demo.pictures import read_a_picture
from crane_app.demo.read_aloud import say_a_sentence
from crane_app.errors import CraneError, Unsupported

Job = Callable[[TextIO, Path], bool]  # prints what it does, may write into the folder; whether all was as expected

FOLDER = Path(__file__).parents[1] / "assets" / "demo"
JOBS: dict[str, Job] = {
    "Pictures": read_a_picture,
    "Chat": answer_a_question,
    "Dictate": find_speech,
    "Read aloud": say_a_sentence,
}


def run(out: TextIO | None = None, folder: Path | None = None) -> int:
    """Tries every job and prints what was expected and found; 1 if any differs, else 0.

    folder: for what is written, the user's cache if not given.
    """
    out = out or sys.stdout
    folder = folder or platformdirs.user_cache_path("crane") / "demo"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CraneError(f"Nothing can be written into {folder} ({error.strerror}). Name another --out.") from error
    worked = [_tried(name, job, out, folder) for name, job in JOBS.items()]
    untried = worked.count(None)
    rest = f" {untried} not tried." if untried else ""
    print(f"\n{worked.count(True)} of {len(worked)} jobs: as expected.{rest}", file=out)
    return 1 if False in worked else 0


def _tried(name: str, job: Job, out: TextIO, folder: Path) -> bool | None:
    """Runs one job under its name; None where this machine lacks something, which is told and is no failure."""
    print(f"\n{name}\n{'=' * len(name)}\n", file=out, flush=True)
    try:
        return job(out, folder)
    except Unsupported as error:
        print(f"Not tried: {error}", file=out)
        return None
    except CraneError as error:
        print(f"This did NOT work: {error}", file=out)
        return False

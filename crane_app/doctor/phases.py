"""How long each phase of a start takes: each in a process of its own, so that none is helped by the one before it.

A child prints one line of JSON. It has a home that is thrown away: the window's child makes its files there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMINED = "--examined"  # the first word by which the packed program is asked to be such a child
PATIENCE_S = 90  # for one child; a library on a slow disk takes its time
CHILD = "crane_app.ui.examined"
HOMES = ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")


@dataclass(frozen=True)
class Phase:
    """seconds by the clock, or None and the problem as a sentence."""

    name: str
    seconds: float | None
    problem: str = ""


def measured(backends: Iterable[str]) -> list[Phase]:
    """The interpreter, Qt, the window, the engine's process and each of `backends`, in the order of a start."""
    with tempfile.TemporaryDirectory(prefix="crane-doctor-", ignore_cleanup_errors=True) as home:
        begun = time.perf_counter()
        failed = _child("interpreter", ["nothing"], home)
        interpreter = failed or [Phase("interpreter", time.perf_counter() - begun)]
        parts = [("window", ["start"]), ("engine", ["engine"])]
        parts += [(f"backend {name}", ["backend", name]) for name in backends]
        return interpreter + [phase for name, command in parts for phase in _child(name, command, home)]


def told(command: list[str], home: str | None = None) -> dict[str, Any]:
    """What a child prints last, as JSON; OSError, ValueError or a subprocess error where it does not."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    if home is not None:
        env |= dict.fromkeys(HOMES, home)
    result = subprocess.run(
        [*_program(), *command], env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    said = json.loads(result.stdout.strip().splitlines()[-1])
    if not isinstance(said, dict):
        raise ValueError("a child printed no object")
    return said


def _program() -> list[str]:
    """What runs a child: the packed program has no Python beside it, and is its own."""
    return [sys.executable, EXAMINED] if getattr(sys, "frozen", False) else [sys.executable, "-m", CHILD]


def _child(name: str, command: list[str], home: str) -> list[Phase]:
    try:
        return [Phase(phase, float(seconds)) for phase, seconds in told(command, home).items()]
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines()
        return [Phase(name, None, said[-1] if said else f"It ended with status {error.returncode}.")]
    except subprocess.TimeoutExpired:
        return [Phase(name, None, f"It took more than {PATIENCE_S} seconds.")]
    except (OSError, ValueError, IndexError) as error:
        return [Phase(name, None, f"It could not be measured: {error}.")]

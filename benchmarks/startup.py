"""How soon the window can be used, what that costs, and how much memory the window's process takes.

    python -m benchmarks.startup [--runs 5]

Starts `crane app` on no screen, with a home that is thrown away. `first`: without compiled modules, and with its files
out of the system's memory as far as other programs let go of them, as after an installation. `again`: the starts after
that. Each has the seconds to the mark "usable" by the clock and by the processor's time, all threads included; the
median of the runs, which are given too. `memory`: MB of the process, with the first view and with all six. `idle`:
processor time, in ms for each second, that the process takes with all views made and nothing to do; the engine lives
in a process of its own and is not counted. Prints JSON. What other programs take shows in the clock's seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HOMES = ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")
LIMITS = {"first_s": 1.5, "again_s": 0.7, "memory_mb": 150}
IDLE_S = 10
BEGIN = """
import json, os, sys, time
from PySide6.QtCore import QTimer
from crane_app.ui import app, views

def memory():
    try:
        lines = open("/proc/self/smaps_rollup").read().splitlines()
    except OSError:
        return None
    sizes = dict(line.split()[:2] for line in lines[1:])
    return round(int(sizes["Rss:"]) / 1024), round((int(sizes["Private_Clean:"]) + int(sizes["Private_Dirty:"])) / 1024)

began = float(sys.argv[1])
usable = app._usable
def measured(window, shared, files):
    told = {"usable_s": time.time() - began, "usable_cpu_s": time.process_time(), "memory": {"first view": memory()}}
    if sys.argv[2] == "0":
        print(json.dumps(told), flush=True)
        os._exit(0)
    usable(window, shared, files)
    def resting():
        if len(window.made()) < len(views.NAMES) or shared.connection.state == "starting":
            return QTimer.singleShot(100, resting)
        told["memory"]["all views"] = memory()
        QTimer.singleShot(2000, settled)
    def settled():
        told["cpu"] = time.process_time()
        QTimer.singleShot(1000 * int(sys.argv[2]), over)
    def over():
        told["idle"] = 1000 * (time.process_time() - told.pop("cpu")) / int(sys.argv[2])
        print(json.dumps(told), flush=True)
        shared.connection.close()
        os._exit(0)
    resting()
app._usable = measured
app.run()
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="starts of each kind")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="crane-startup-", ignore_cleanup_errors=True) as home:
        first = [_start(home, f"{home}/compiled-{number}", cold=True) for number in range(runs)]
        again = [_start(home, f"{home}/compiled-0") for _ in range(runs)]
        rest = _start(home, f"{home}/compiled-0", idle=IDLE_S)
    found = {"first": _told(first), "again": _told(again), "memory_mb": _memory(rest), "idle_ms_per_s": rest["idle"]}
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    print(json.dumps({"machine": machine, "limits": LIMITS, **found}, indent=1))
    too_much = [size["resident"] for size in found["memory_mb"].values() if size["resident"] > LIMITS["memory_mb"]]
    slow = found["first"]["s"] > LIMITS["first_s"] or found["again"]["s"] > LIMITS["again_s"]
    return int(slow or bool(too_much))


def _start(home: str, compiled: str, cold: bool = False, idle: int = 0) -> dict[str, Any]:
    """One start up to the mark "usable", or with `idle` up to so many seconds of rest after it."""
    env = {**os.environ, **dict.fromkeys(HOMES, home), "PYTHONPYCACHEPREFIX": compiled, "QT_QPA_PLATFORM": "offscreen"}
    env["CRANE_WELCOMED"] = "yes"  # the introduction is shown once only
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    if cold:
        _forget_files()
    told = subprocess.run(
        [sys.executable, "-c", BEGIN, str(time.time()), str(idle)],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(told.stdout.strip().splitlines()[-1])


def _forget_files() -> None:
    """Let the system read Crane's and Qt's files from the disk the next time, where it can be asked for that."""
    if not hasattr(os, "posix_fadvise"):
        return
    import PySide6

    for folder in (ROOT / "crane_app", Path(PySide6.__file__).parent, Path(os.__file__).parent):
        for path in folder.rglob("*.*"):
            if path.is_file() and path.suffix in (".py", ".so", ".svg", ".6", ".abi3"):
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _told(starts: list[dict[str, Any]]) -> dict[str, Any]:
    wall, processor = [one["usable_s"] for one in starts], [one["usable_cpu_s"] for one in starts]
    return {
        "s": round(statistics.median(wall), 3),
        "cpu_s": round(statistics.median(processor), 3),
        "runs_s": [round(seconds, 3) for seconds in wall],
        "runs_cpu_s": [round(seconds, 3) for seconds in processor],
    }


def _memory(start: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Only Linux says."""
    sizes = {name: size for name, size in start["memory"].items() if size is not None}
    return {name: {"resident": size[0], "private": size[1]} for name, size in sizes.items()}


if __name__ == "__main__":
    sys.exit(main())

"""How many threads compute: the processor's fast cores, unless somebody says otherwise.

Two threads on one core share its arithmetic, and a slow core of a hybrid processor makes all others wait at the end of
every product.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

_chosen = 0


def use(count: int) -> int:
    """Compute on `count` threads, or with 0 on as many as there are fast cores; holds for backends made after it."""
    global _chosen
    _chosen = count or fast()
    return _chosen


def chosen() -> int:
    """What `use` said; 0 where a library keeps its own number."""
    return _chosen


def fast() -> int:
    """Cores that this process may use, without the slow ones of a hybrid processor and the second threads of a core."""
    if sys.platform == "darwin":
        found = _apple("hw.perflevel0.physicalcpu") or _apple("hw.physicalcpu")
    elif sys.platform == "linux":
        found = min(len(_linux(sorted(os.sched_getaffinity(0)))), _quota())
    else:
        found = (os.cpu_count() or 2) // 2  # processors with two threads a core are the most frequent
    return max(1, found or os.cpu_count() or 1)


def _apple(name: str) -> int:
    """A number of sysctlbyname(3); 0 where there is none of that name."""
    value, size = ctypes.c_int(0), ctypes.c_size_t(4)
    failed = ctypes.CDLL(None).sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0)
    return 0 if failed else value.value


def _linux(allowed: list[int], root: Path = Path("/sys/devices")) -> set[str]:
    """The fast cores among the processors `allowed`, each by the list of its threads (admin-guide/cputopology.rst)."""
    strong = _listed(_text(root / "cpu_core" / "cpus"))  # Intel's hybrid processors name them so
    able = {cpu: int(_text(root / f"system/cpu/cpu{cpu}/cpu_capacity") or 0) for cpu in allowed}  # Arm's do
    best = max(able.values(), default=0)
    kept = [cpu for cpu in allowed if (not strong or cpu in strong) and 4 * able[cpu] >= 3 * best]
    kept = kept or allowed
    return {_text(root / f"system/cpu/cpu{cpu}/topology/core_cpus_list") or str(cpu) for cpu in kept}


def _listed(text: str) -> set[int]:
    """0-3,8 as numbers."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _quota(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Whole processors that the group of this process may use; many where nothing limits it."""
    limit, _, period = _text(file).partition(" ")
    return max(1, int(limit) // int(period)) if limit.isdigit() and period.isdigit() else 1 << 16


def _text(file: Path) -> str:
    with contextlib.suppress(OSError):
        return file.read_text("ascii").strip()
    return ""

"""The kernels for ARM, on processors that qemu emulates."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MISSING = [name for name in ("aarch64-linux-gnu-gcc", "qemu-aarch64") if shutil.which(name) is None]


@pytest.mark.timeout(900)  # most of it is the compiler's
@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.soak)], ids=["quick", "as shipped"])
@pytest.mark.skipif(bool(MISSING), reason=f"no ARM to emulate; missing: {', '.join(MISSING)}")
def test_every_set_for_arm_gives_what_the_portable_twin_gives(quick):
    command = [sys.executable, ROOT / "tools" / "neon.py", *(["--quick"] if quick else [])]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = ran.stdout.splitlines()
    assert [line.rpartition(":")[0] for line in lines] == [
        "cortex-a53: neon",
        "neoverse-n1: neon_dotprod" if quick else "neoverse-n1: neon, neon_dotprod",
        "max: neon_i8mm" if quick else "max: neon, neon_dotprod, neon_i8mm",
    ]

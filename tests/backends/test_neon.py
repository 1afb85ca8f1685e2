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
@pytest.mark.skipif(bool(MISSING), reason=f"no ARM to emulate; missing: {', '.join(MISSING)}")
def test_every_set_for_arm_gives_what_the_portable_twin_gives():
    ran = subprocess.run([sys.executable, ROOT / "tools" / "neon.py"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = ran.stdout.splitlines()
    assert [line.rpartition(":")[0] for line in lines] == [
        "cortex-a53: neon",
        "neoverse-n1: neon, neon_dotprod",
        "max: neon, neon_dotprod, neon_i8mm",
    ]

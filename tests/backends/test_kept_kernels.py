"""That memory does not grow with how many sizes of steps there were: in a process of its own, PyTorch's settings being
read when it is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

MOST = 128  # MiB that hundreds of sizes may add; by oneDNN's own habit it is 700
SCRIPT = """
import os
from pathlib import Path

import crane_app.backends.torch
import torch
from crane_app.backends.torch import leaf, ops

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

torch.set_num_threads(1)
packs = leaf.packable(torch.float32, torch.device("cpu"))
products = [leaf.merged([torch.ones(width, 64)], [None], packs)[0].product for width in (96, 128, 160, 192, 224)]
sizes = [1, 2, *range(400, 1, -1)]
for count in sizes:
    for product in products:
        ops._product(torch.ones(count, 64), product)
    if count == 400:
        before = resident()
print(resident() - before)
"""


def test_steps_of_hundreds_of_sizes_leave_little_behind():
    pytest.importorskip("torch")
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=True)
    assert float(run.stdout) < MOST

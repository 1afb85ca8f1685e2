"""Holds the kernels for ARM against their portable twin in an emulator: `python tools/neon.py`.

Builds them as pyproject.toml says, with tests/backends/sets.c, by aarch64-linux-gnu-gcc, and runs that on each of
PROCESSORS in qemu-aarch64 (on Debian: apt install gcc-aarch64-linux-gnu qemu-user). This shows that they are right, and
nothing about their speed. With --quick the compiler does less, so that the kernels are not quite the shipped ones,
and each is run only on the processor that has no wider one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
DRIVER = ROOT / "tests" / "backends" / "sets.c"

# What each is expected to have, the widest last.
PROCESSORS = {
    "cortex-a53": ["neon"],
    "neoverse-n1": ["neon", "neon_dotprod"],
    "max": ["neon", "neon_dotprod", "neon_i8mm"],
}


def compiled(source: Path, flags: list[str], folder: Path) -> Path:
    made = folder / f"{source.stem}.o"
    subprocess.run([COMPILER, *flags, "-c", source, "-o", made], check=True)
    return made


def built(folder: Path, quick: bool) -> Path:
    """A program of the library and the driver, without libraries of its own to look for."""
    (native,) = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["ext-modules"]
    flags = native["extra-compile-args"]
    less = ["-O1" if flag == "-O3" else flag for flag in flags]
    tasks = [(ROOT / source, less if quick else flags) for source in native["sources"]]
    tasks.append((DRIVER, less))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda task: compiled(*task, folder), tasks))
    program = folder / "sets"
    subprocess.run([COMPILER, "-static", "-pthread", *objects, "-lm", "-o", program], check=True)
    return program


def main() -> int:
    missing = [name for name in (COMPILER, EMULATOR) if shutil.which(name) is None]
    if missing:
        print(f"This needs {' and '.join(missing)}.", file=sys.stderr)
        return 2
    failed, quick = False, "--quick" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        program = built(Path(folder), quick)
        for processor, sets in PROCESSORS.items():
            print(f"{processor}: ", end="", flush=True)
            command = [EMULATOR, "-cpu", processor, program, *(["last"] if quick else []), *sets]
            failed |= subprocess.run(command, check=False).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

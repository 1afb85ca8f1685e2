"""In which dtype this machine's processor was found to be fastest: measured once by a backend, and kept in a file.

A measurement holds for one processor, one Crane and one tensor library; of anything else nothing is known.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import logging
import math
import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from crane_app.backends.torch import forms
from crane_app.contract import DType
from crane_app.errors import CraneError
from crane_app.library import saving
from crane_app.version import VERSION

log = logging.getLogger(__name__)
DTYPES: tuple[DType, ...] = ("bfloat16", "float32")
LARGEST = 1 << 16  # bytes of the file
BETTER = 1.1  # how much faster float32 must be, which takes twice the memory


@dataclass(frozen=True)
class Measured:
    """Milliseconds of one product by dtype."""

    took: dict[DType, float]

    @property
    def dtype(self) -> DType:
        return "float32" if BETTER * self.took["float32"] < self.took["bfloat16"] else "bfloat16"

    def __str__(self) -> str:
        return f"{self.took['bfloat16']:.2f} ms a product in bfloat16, {self.took['float32']:.2f} in float32"


def place() -> Path:
    """The file, beside other things that can be made again."""
    from platformdirs import user_cache_path

    return user_cache_path("crane", appauthor=False) / "processor.json"


@cache
def about(library: str) -> str:
    """What a measurement holds for."""
    try:
        version = importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        version = ""  # a packed app, whose own version says as much
    kernels = "with" if importlib.util.find_spec(forms.LIBRARY) else "without"
    return f"{_name()}; Crane {VERSION} {kernels} kernels; {library} {version}"


def remembered(library: str) -> Measured | None:
    """What was measured on this machine; None if nothing was, or the file is not one of ours."""
    try:
        with place().open("rb") as file:
            told = json.loads(file.read(LARGEST))
        took = {dtype: float(told[about(library)][dtype]) for dtype in DTYPES}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(math.isfinite(ms) and ms > 0 for ms in took.values()):
        return None
    return Measured(took)


def remember(library: str, measured: Measured) -> None:
    """Keep it, instead of what is there. Where nothing can be written it is measured again the next time."""
    file = place()
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        saving.save(file, json.dumps({about(library): measured.took}, indent=1) + "\n")
    except (OSError, CraneError) as error:
        log.warning("how fast this processor is could not be kept, and is measured at each start: %s", error)


def _name() -> str:
    if sys.platform == "linux":
        try:
            lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        except OSError:
            lines = []
        named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(named, platform.machine())
    return platform.processor() or platform.machine()

"""The parity table: every architecture on every backend in every dtype against transformers, and planted faults.

    python -m tests.models.parity

float32: logits within 1e-4 and 32 greedy tokens equal; float16 and bfloat16: the error (root mean square, against
float32 on the same rounded weights) at most 1.5 times the reference's own in that dtype. Token by token gives what the
whole prompt gives. Exits 1 if a row fails, or a planted fault passes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crane_app import backends
from crane_app.contract import DType, Sampling, Work
from crane_app.engine import generation
from crane_app.engine.loading import Loaded, load
from tests.models.faults import FAULTS
from tests.models.scramble import golden, golden_names

DTYPES: tuple[DType, ...] = ("float32", "bfloat16", "float16")
LARGEST = 1e-4
RATIO = 1.5


@dataclass(frozen=True)
class Row:
    """One line of the table. error: largest in float32, a ratio to the reference's own error in 16 bits."""

    case: str
    backend: str
    dtype: str
    error: float
    greedy: str
    stepwise: float
    passed: bool
    fault: str = ""

    def __str__(self) -> str:
        shown = f"{self.error:.1e}" if self.dtype == "float32" else f"{self.error:.2f} x"
        verdict = ("seen" if not self.passed else "NOT SEEN") if self.fault else ("ok" if self.passed else "FAILED")
        name = f"{self.case} with {self.fault}" if self.fault else self.case
        return (
            f"{name:34} {self.backend:6} {self.dtype:9} {shown:>9}  {self.greedy:>6}  {self.stepwise:8.1e}  {verdict}"
        )


def measure(case_name: str, backend: str, dtype: DType, folder: Path, fault=None, device: str = "cpu") -> Row:
    """One row: the case's checkpoint in `dtype`, loaded from disk, run, compared."""
    case = golden(case_name)
    loaded = load(case.write(folder / f"{case_name}-{dtype}", dtype), backend, device, dtype)
    if fault is not None:  # planted in the forward itself, which a program was written from
        loaded.runner.model = getattr(loaded.runner.model, "model", loaded.runner.model)
        fault(loaded)
    tokens = case.arrays["tokens"].tolist()
    got = generation.score(loaded, tokens)
    stepwise = float(np.abs(step_by_step(loaded, tokens) - got).max())
    name = fault.__name__ if fault else ""
    if dtype == "float32":
        drawn = [d.token for d in generation.generate(loaded, tokens, Sampling(), 32)]
        right = int((np.array(drawn) == case.arrays["greedy"]).sum())
        error = float(np.abs(got - case.arrays["logits"]).max())
        passed = error < LARGEST and right == 32 and stepwise < LARGEST
        return Row(case_name, backend, dtype, error, f"{right}/32", stepwise, passed, name)
    exact = case.arrays[f"logits_{dtype}_f32"]
    own = rms(case.arrays[f"logits_{dtype}"] - exact)
    ratio = rms(got - exact) / own
    passed = ratio < RATIO and rms(step_by_step(loaded, tokens) - exact) / own < RATIO
    return Row(case_name, backend, dtype, ratio, "-", stepwise, passed, name)


def step_by_step(loaded: Loaded, tokens: list[int]) -> np.ndarray:
    """Logits [L, V] with the text fed token by token."""
    runner = loaded.runner
    row = runner.cache.open(len(tokens))
    try:
        steps = [runner.launch([Work(row, np.array([t], np.int32))], keep_logits=True).read() for t in tokens]
        return np.concatenate([step.logits for step in steps])
    finally:
        runner.cache.close(row)


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.square(x.astype(np.float64)).mean()))


def rows(folder: Path, device: str = "cpu") -> Iterator[Row]:
    """The whole table."""
    names = backends.installed() if device == "cpu" else ("torch",)
    for case in golden_names():
        for backend in names:
            for dtype in DTYPES:
                yield measure(case, backend, dtype, folder, device=device)
    for case, fault in FAULTS:
        for backend in names:
            yield measure(case, backend, "float32", folder, fault, device=device)


def main() -> int:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    print(f"{'case':34} {'backend':6} {'dtype':9} {'error':>9}  {'greedy':>6}  {'stepwise':>8}")
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder), device):
            bad += row.passed == bool(row.fault)
            print(row, flush=True)
    print("every row is right" if not bad else f"{bad} rows are wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

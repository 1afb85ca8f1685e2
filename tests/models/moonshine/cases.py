"""Tiny Moonshine checkpoints and what transformers computed with them; README.md says what the arrays are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.models.scramble import DType, Golden, write_checkpoint

HERE = Path(__file__).parent
STEPS = 32  # greedy tokens
SOUNDS = {"short": 9_000, "long": 17_500}  # samples


def lively(name: str, x: np.ndarray) -> np.ndarray:
    """An edit after which the last token says as much as the sound; else every token is followed by the same one."""
    if name.endswith("encoder_attn.o_proj.weight"):
        return x / 2
    return 4 * x if "decoder" in name and name.endswith("fc2.weight") else x


class Case(Golden):
    """A Golden with weights of its own."""

    def write(self, folder: Path, dtype: DType = "float32") -> Path:
        return write_checkpoint(folder, self.config, self.shapes, dtype, edit=lively)


def sound(seed: int, which: str) -> np.ndarray:
    """float32 [n] at 16 kHz: noise that swells and fades, so that its parts differ."""
    count = SOUNDS[which]
    rng = np.random.Generator(np.random.PCG64([seed, count]))
    swell = np.sin(np.linspace(0.2, 9, count)) ** 2
    return (0.2 * swell * rng.standard_normal(count)).astype(np.float32)


def case(name: str) -> Case:
    """The case recorded in the folder `name`."""
    config = json.loads((HERE / name / "config.json").read_text())
    shapes = {k: tuple(s) for k, s in json.loads((HERE / name / "shapes.json").read_text()).items()}
    with np.load(HERE / name / "golden.npz") as file:
        return Case(name, config, shapes, dict(file))


def heard(of: Case, which: str) -> np.ndarray:
    """The sound that a case was recorded with."""
    return sound(int(of.arrays["seed"]), which)


def case_names() -> list[str]:
    return sorted(file.parent.name for file in HERE.glob("*/golden.npz"))


def published(name: str) -> tuple[dict, dict[str, tuple[int, ...]]]:
    """Config and tensors of a published checkpoint."""
    config = json.loads((HERE / f"{name}.config.json").read_text())
    return config, {k: tuple(s) for k, s in json.loads((HERE / f"{name}.json").read_text()).items()}

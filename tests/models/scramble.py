"""Decisive random checkpoints from names and shapes alone, and the golden numbers recorded from them.

A tensor's values depend on its name and its shape, nothing else: a test rebuilds the very weights that the
reference saw, and no weight is stored. Fresh models of a reference have biases of 0 and norms of 1, and tied
embeddings that repeat the last token, so they pass with whole terms missing; here every tensor matters.

    case = golden("qwen3")
    folder = case.write(tmp_path, "bfloat16")
    compare(load(folder), case.config, case.arrays["logits_bfloat16_f32"])
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

DType = Literal["float32", "float16", "bfloat16"]
Shapes = Mapping[str, tuple[int, ...]]
Edit = Callable[[str, np.ndarray], np.ndarray]

HERE = Path(__file__).parent
CODES: dict[DType, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def scrambled(name: str, shape: tuple[int, ...], dtype: DType = "float32") -> np.ndarray:
    """The values of tensor `name`: norms 1 ± 0.2, biases ± 0.2, matrices ± 0.3 or less above a fan-in of 16.

    bfloat16 comes as its bits in uint16.
    """
    r = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape)
    if len(shape) >= 2:
        r *= 0.3 / max(1.0, math.sqrt(math.prod(shape[1:]) / 16))
    elif "norm" in name and name.endswith("weight"):
        r = 1 + 0.2 * r
    else:
        r *= 0.2
    return rounded(r.astype(np.float32), dtype)


def rounded(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Finite float32 values to the nearest of `dtype`, ties to even; bfloat16 as its bits in uint16."""
    if dtype != "bfloat16":
        return x.astype(dtype)
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def widened(x: np.ndarray) -> np.ndarray:
    """Float32 values of what `rounded` gave."""
    if x.dtype == np.uint16:
        return (x.astype(np.uint32) << 16).view(np.float32)
    return x.astype(np.float32)


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> int:
    """Write tensors to one file, uint16 as bfloat16, and return their bytes.

    Layout: huggingface.co/docs/safetensors, section Format. Written by hand since numpy has no bfloat16.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, x in tensors.items():
        code = "BF16" if x.dtype == np.uint16 else CODES[x.dtype.name]
        header[name] = {"dtype": code, "shape": list(x.shape), "data_offsets": [end, end + x.nbytes]}
        end += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for x in tensors.values():
            file.write(np.ascontiguousarray(x).tobytes())
    return end


def write_checkpoint(
    folder: Path,
    config: Mapping[str, Any],
    shapes: Shapes,
    dtype: DType = "float32",
    shards: int = 1,
    edit: Edit | None = None,
) -> Path:
    """Make `folder` a published checkpoint of scrambled weights and return it.

    It gets config.json and model.safetensors, or with `shards` above 1 that many files and their index, cut
    through layers. `edit(name, array)` may return other float32 values for a tensor before it is rounded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    tensors = {}
    for name, shape in shapes.items():
        x = scrambled(name, tuple(shape))
        tensors[name] = rounded(edit(name, x) if edit else x, dtype)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return folder
    size, places = 0, {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(tensors.items())[i::shards])
        size += write_safetensors(folder / file, part)
        places |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return folder


def near_flat(name: str, x: np.ndarray) -> np.ndarray:
    """An edit that leaves the tokens almost equally likely: rows of lm_head are one common row plus 0.0004 x.

    The common part adds the same to all logits; float32 still tells them apart, bfloat16 and float16 do not.
    """
    if name != "lm_head.weight":
        return x
    return scrambled("lm_head.common", (1, x.shape[1])) + np.float32(0.0004) * x


SHARDS: dict[str, int] = {"qwen2_untied_sharded": 3}
EDITS: dict[str, Edit] = {"near_flat": near_flat}


@dataclass(frozen=True)
class Golden:
    """A tiny model and what transformers computed with it; golden/README.md says what `arrays` holds."""

    name: str
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    arrays: dict[str, np.ndarray]

    def write(self, folder: Path, dtype: DType = "float32") -> Path:
        """Its checkpoint, as the reference loaded it."""
        shards, edit = SHARDS.get(self.name, 1), EDITS.get(self.name)
        return write_checkpoint(folder, self.config, self.shapes, dtype, shards, edit)


def golden(name: str) -> Golden:
    """The case recorded in golden/`name`."""
    folder = HERE / "golden" / name
    config = json.loads((folder / "config.json").read_text())
    shapes = {k: tuple(s) for k, s in json.loads((folder / "shapes.json").read_text()).items()}
    with np.load(folder / "golden.npz") as file:
        return Golden(name, config, shapes, dict(file))


def golden_names() -> list[str]:
    """All recorded cases."""
    return sorted(file.parent.name for file in (HERE / "golden").glob("*/golden.npz"))


def published(name: str) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The config and the full names and shapes of a published checkpoint, from shapes/`name`.json."""
    config = json.loads((HERE / "shapes" / f"{name}.config.json").read_text())
    squeezed = json.loads((HERE / "shapes" / f"{name}.json").read_text())
    layers, experts, count = (squeezed.pop(k) for k in ("layers", "experts", "count"))
    full = {
        pattern.format(layer=layer, expert=expert): tuple(shape)
        for pattern, shape in squeezed.items()
        for layer in range(layers if "{layer}" in pattern else 1)
        for expert in range(experts if "{expert}" in pattern else 1)
    }
    assert len(full) == count, name
    return config, full


def published_names() -> list[str]:
    """All published checkpoints whose shapes are kept."""
    return sorted(file.name.removesuffix(".config.json") for file in (HERE / "shapes").glob("*.config.json"))

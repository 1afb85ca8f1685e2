"""Real-size checkpoints of random weights in the published layout, for measuring without any download.

Knows names and shapes; nothing of what the numbers would mean.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from crane_app.errors import BadInput, CraneError
from crane_app.models import registry
from crane_app.models.weights import Shape, names

QWEN = {"vocab_size": 151936, "rope_theta": 1e6, "rms_norm_eps": 1e-6, "hidden_act": "silu", "torch_dtype": "bfloat16"}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3-0.6b": QWEN
    | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072}
    | {"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
    | {"max_position_embeddings": 40960, "tie_word_embeddings": True, "attention_bias": False},
    "qwen3-1.7b": QWEN
    | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 2048, "intermediate_size": 6144}
    | {"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
    | {"max_position_embeddings": 40960, "tie_word_embeddings": True, "attention_bias": False},
    "qwen3-8b": QWEN
    | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288}
    | {"num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    | {"max_position_embeddings": 40960, "tie_word_embeddings": False, "attention_bias": False},
    "qwen2.5-0.5b": QWEN
    | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864}
    | {"num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2}
    | {"max_position_embeddings": 32768, "tie_word_embeddings": True},
}
SPARE = 256 * 2**20  # bytes of disk that stay free
PIECE = 2**22  # numbers drawn at once
ABANDONED = 3600  # seconds after which a half-written checkpoint that nobody writes to is cleared away


def make(name: str, folder: Path, seed: int = 0) -> Path:
    """A bfloat16 checkpoint in the shapes of `name`, written once, whole or not at all, into `folder`/`name`.

    Raises BadInput for an unknown name, CraneError where the disk has no room for it.
    """
    if name not in CONFIGS:
        raise BadInput(f"There are no random weights called '{name}'. There are: {', '.join(sorted(CONFIGS))}.")
    config, target = CONFIGS[name], folder / name
    module = registry.find(config)
    shapes = names(module.parameters(module.read(config)))
    header = _header(shapes)
    size = len(header) + sum(map(_nbytes, shapes.values()))
    if _whole(target, config, size):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder, name)
        _check_room(folder, size)
        with _apart(folder, name) as part:
            with (part / "model.safetensors").open("wb") as file:
                file.write(header)
                _fill(file, shapes, np.random.default_rng(seed))
                file.flush()
                os.fsync(file.fileno())
            (part / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
            shutil.rmtree(target, ignore_errors=True)  # one of other shapes
            part.rename(target)
    except OSError as error:
        if _whole(target, config, size):  # another process was first
            return target
        raise CraneError(f"The random weights cannot be written to {target} ({error.strerror or error}).") from error
    return target


def _header(shapes: dict[str, Shape]) -> bytes:
    """Length and header of the file. Layout: huggingface.co/docs/safetensors, section Format."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + _nbytes(shape)]}
        end += _nbytes(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _nbytes(shape: Shape) -> int:
    return 2 * math.prod(shape)


def _fill(file: BinaryIO, shapes: dict[str, Shape], random: np.random.Generator) -> None:
    """Matrices of 0 ± 0.02, vectors of 1 ± 0.1, as bfloat16 cut off float32; a piece at a time."""
    for shape in shapes.values():
        flat = len(shape) == 1
        scale, centre = np.float32(0.1 if flat else 0.02), np.float32(flat)
        left = math.prod(shape)
        while left:
            values = random.standard_normal(min(left, PIECE), dtype=np.float32) * scale + centre
            file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
            left -= len(values)


def _whole(target: Path, config: dict[str, Any], size: int) -> bool:
    """Whether the checkpoint is there, with these shapes; it gets its name only when it is complete."""
    try:
        same = json.loads((target / "config.json").read_text("utf-8")) == config
        return same and (target / "model.safetensors").stat().st_size == size
    except (OSError, ValueError):
        return False


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise CraneError(
            f"The random weights take {size / 1e9:.1f} GB; the disk of {folder} has {free / 1e9:.1f} GB free. "
            "Make room, or take a smaller model."
        )


@contextlib.contextmanager
def _apart(folder: Path, name: str) -> Iterator[Path]:
    """A folder beside the target that is gone afterwards, unless it got the target's name."""
    part = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sweep(folder: Path, name: str) -> None:
    """Clear what writers left that were killed."""
    for part in folder.glob(f".{name}-*"):
        with contextlib.suppress(OSError):
            if time.time() - max(path.stat().st_mtime for path in (part, *part.iterdir())) > ABANDONED:
                shutil.rmtree(part, ignore_errors=True)

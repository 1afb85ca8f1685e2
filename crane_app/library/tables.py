"""Which tensors of a checkpoint a model takes into memory, and as what, told from their names.

Reads the heads of safetensors files, never the weights.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from crane_app.errors import BadCheckpoint
from crane_app.host import DType, Scheme
from crane_app.library.weighing import Stored, width

LARGEST_HEAD = 64 * 2**20
DTYPES: dict[str, DType] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
Tensors = tuple[tuple[Stored, int], ...]  # each with how many there are like it

# Names of config.json's models, and of GGUF.
TABLES = re.compile(r"(.+\.)?(embed_tokens|token_embd)\.weight")
HEADS = re.compile(r"(lm_head|proj_out|output)\.weight")
ROUTERS = re.compile(r".+\.(mlp\.gate|ffn_gate_inp)\.weight")
STACKS = re.compile(r".+(\.experts\.(gate_up_proj|down_proj)|_exps\.weight)")
UNUSED = re.compile(r"(.+\.)?(rotary_emb\.inv_freq|rope_freqs\.weight)")


def used(named: Iterable[tuple[str, Stored]], tied: bool) -> Tensors:
    """What the model takes of a checkpoint. tied: its table of tokens is its head too, and a head beside it unused."""
    found: Counter[Stored] = Counter()
    for name, tensor in named:
        if UNUSED.fullmatch(name) or (tied and HEADS.fullmatch(name)):
            continue
        rank = 3 if STACKS.fullmatch(name) else 2
        packable = len(tensor.shape) == rank and not ROUTERS.fullmatch(name)
        if TABLES.fullmatch(name):
            tensor = replace(tensor, use="tied" if tied else "table")
        found[replace(tensor, packable=packable)] += 1
    return tuple(found.items())


def matrix(nbytes: int, dtype: str) -> Tensors:
    """All of a checkpoint as one matrix, where the heads of its files are not read: about the same."""
    return ((Stored((nbytes // width(dtype) // 64, 64), dtype), 1),)


def in_safetensors(files: Iterable[Path], config: dict[str, Any]) -> list[tuple[str, Stored]]:
    """The tensors of these files with their names; BadCheckpoint where a head cannot be read.

    What lies in MLX's groups (see media/files/grouped.py) is one tensor with its scales and biases.
    """
    every: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file in files:
        every |= _head(file)
    groups = config.get("quantization")
    found = []
    for name, (dtype, shape) in every.items():
        path, _, part = name.rpartition(".")
        if not isinstance(groups, dict) or f"{path}.scales" not in every or part not in ("weight", "scales", "biases"):
            found.append((name, Stored(shape, DTYPES.get(dtype, dtype))))
        elif part == "weight":
            found.append((name, _grouped(groups.get(path, groups), *every[f"{path}.scales"])))
    return found


def _grouped(how: Any, dtype: str, scales: tuple[int, ...]) -> Stored:
    """A matrix in groups, from the dtype and shape of their scales. how: its "quantization"."""
    bits, size = (how.get(key) if isinstance(how, dict) else None for key in ("bits", "group_size"))
    if type(bits) is not int or type(size) is not int or min(bits, size) < 1 or not scales or dtype not in DTYPES:
        raise BadCheckpoint("config.json does not say how the weights are packed.")
    scheme = Scheme("affine", bits, size, DTYPES[dtype])
    return Stored((*scales[:-1], scales[-1] * size), "float32", scheme)


def _head(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> dtype and shape. Format: https://github.com/huggingface/safetensors."""
    damaged = BadCheckpoint(f"{file.name} is damaged or not complete: its head cannot be read.")
    try:
        with file.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if length > LARGEST_HEAD:
                raise damaged
            head = json.loads(handle.read(length))
        return {
            name: (str(entry["dtype"]), tuple(max(int(each), 0) for each in entry["shape"]))
            for name, entry in head.items()
            if name != "__metadata__"
        }
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:
        raise damaged from error

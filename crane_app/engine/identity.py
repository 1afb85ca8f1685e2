"""What decides the bits that a model computes, as one short mark: blocks are used again only where it is the same.

A checkpoint is known by its files' names, sizes and times, and by samples of them: to read all of it again would take
as long as to load it.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Any

from crane_app.backends import cores
from crane_app.contract import BLOCK
from crane_app.engine.loading import Loaded
from crane_app.engine.request import ModelCard
from crane_app.version import VERSION

FORM = 1  # of what a cache gives for a block
WEIGHTS = (".safetensors", ".gguf", ".bin", ".npz", ".json")
FIRST, SAMPLE, SAMPLES = 1 << 20, 1 << 12, 16  # bytes at a file's beginning, bytes of a sample, samples


def identity(loaded: Loaded, card: ModelCard, template: Any) -> bytes:
    """16 bytes that change with the weights, their packing, the arithmetic, the chat template and this program."""
    arithmetic = [card.backend, card.device, card.dtype, card.quantize, card.packed, card.exact, card.kv_cache]
    facts = {
        "form": [FORM, VERSION, BLOCK, _version_of(card.backend)],
        "arithmetic": [*arithmetic, getattr(loaded.backend, "kernels", None), cores.chosen()],
        "model": [card.architecture, loaded.config, loaded.sizes, [repr(slot) for slot in loaded.runner.layout]],
        "template": getattr(template, "sources", None),
        "files": list(map(_file, _files(loaded.folder))),
    }
    return blake2b(json.dumps(facts, sort_keys=True, default=repr).encode(), digest_size=16).digest()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.glob("*") if file.suffix in WEIGHTS and file.is_file())


def _file(path: Path) -> list[Any]:
    """Name, size, time and a digest of its beginning and of samples."""
    found, digest = path.stat(), blake2b(digest_size=16)
    with path.open("rb") as file:
        digest.update(file.read(FIRST))
        for number in range(SAMPLES):
            file.seek(number * found.st_size // SAMPLES)
            digest.update(file.read(SAMPLE))
    return [path.name, found.st_size, found.st_mtime_ns, digest.hexdigest()]


def _version_of(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""  # a packed app, whose own version says as much

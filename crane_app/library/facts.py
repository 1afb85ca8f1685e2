"""What the small files of a model's folder say about it. They come from anywhere, so nothing in them is believed.

Reads config.json, the index of shards, README.md and LICENSE; never code and no weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from crane_app.errors import BadCheckpoint
from crane_app.library.fit import TYPICAL_CONTEXT

Job = Literal["chat", "pictures", "dictate", "read_aloud", "other"]

LARGEST_CONFIG = 16 * 2**20
LARGEST_INDEX = 64 * 2**20
LARGEST_PAGE = 2**16  # characters of a README or licence that are looked at
SHARD = re.compile(r"(.+)-(\d{5,})-of-(\d{5,})\.safetensors")
INDEX = "model.safetensors.index.json"
ARRAYS = (".bin", ".pth", ".pt", ".npz")  # read where there are no safetensors
OTHERS = (*ARRAYS, ".ckpt", ".gguf", ".onnx", ".h5", ".msgpack")
# What training leaves beside a model.
NOT_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|rng_state.*|scaler|adapter_model)\.(bin|pt|pth)")

# config.json's `architectures` -> the job of those that Crane itself defines.
OURS: dict[str, Job] = {
    "Qwen2ForCausalLM": "chat",
    "Qwen3ForCausalLM": "chat",
    "Qwen3MoeForCausalLM": "chat",
    "HunYuanDenseV1ForCausalLM": "chat",
    "LlamaForCausalLM": "chat",
    "MistralForCausalLM": "chat",
    "MoonshineForConditionalGeneration": "dictate",
}
# Names in a licence's first lines, for folders whose README has no front matter.
LICENCES = (
    ("apache license", "apache-2.0"),
    ("mit license", "mit"),
    ("permission is hereby granted, free of charge", "mit"),
    ("bsd 3-clause", "bsd-3-clause"),
    ("gnu general public license", "gpl"),
)


@dataclass(frozen=True)
class Facts:
    """What config.json says. cache: bytes of keys and values for a long conversation; 0 where not known."""

    architecture: str = ""
    job: Job = "other"
    context: int = 0
    dtype: str = ""
    cache: int = 0
    ours: bool = False


def facts(raw: dict[str, Any]) -> Facts:
    """The facts of a config.json; BadCheckpoint where a number that shapes are made from is none."""
    names = raw.get("architectures")
    known = [name for name in names if isinstance(name, str) and name] if isinstance(names, list) else []
    if not known:
        raise BadCheckpoint("config.json does not name the architecture of the model.")
    ours = next((name for name in known if name in OURS), "")
    architecture = ours or known[0]
    job = OURS.get(architecture, "chat" if architecture.endswith(("ForCausalLM", "LMHeadModel")) else "other")
    inner = raw.get("text_config")
    text = inner if isinstance(inner, dict) else raw
    context = _whole(text, "max_position_embeddings", 1, 2**30, 0)
    dtype = raw.get("dtype") or raw.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype")
    return Facts(
        architecture=architecture[:80],
        job=job,
        context=context,
        dtype=dtype[:20] if isinstance(dtype, str) else "",
        cache=_cache(text, context) if job == "chat" else 0,
        ours=bool(ours),
    )


def foreign(raw: dict[str, Any]) -> str:
    """How the weights are packed, where Crane does not read it; "" where they are plain, or in MLX's groups."""
    if isinstance(raw.get("quantization"), dict) or not isinstance(raw.get("quantization_config"), dict):
        return ""
    return str(raw["quantization_config"].get("quant_method") or "a way of its own")[:40]


def _cache(raw: dict[str, Any], context: int) -> int:
    """Bytes of keys and values (2 bytes each) for a long conversation, as every layer keeps them."""
    layers = _whole(raw, "num_hidden_layers", 1, 1000, 0)
    heads = _whole(raw, "num_attention_heads", 1, 4096, 0)
    groups = _whole(raw, "num_key_value_heads", 1, 4096, heads)
    hidden = _whole(raw, "hidden_size", 1, 2**17, 0)
    given = "head_dim" if raw.get("head_dim") is not None else "attention_head_dim"
    dim = _whole(raw, given, 1, 1024, hidden // heads if heads else 0)
    return 2 * 2 * layers * groups * dim * min(context or TYPICAL_CONTEXT, TYPICAL_CONTEXT)


def _whole(raw: dict[str, Any], name: str, low: int, high: int, default: int) -> int:
    value = raw.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadCheckpoint(f'config.json: "{name}" must be a whole number from {low} to {high}, not {value!r:.40}.')
    return value


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as an object; BadCheckpoint with a sentence where there is none that can be read."""
    return _object(folder / "config.json", LARGEST_CONFIG)


def _object(path: Path, largest: int) -> dict[str, Any]:
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise BadCheckpoint(f"There is no {path.name} in the folder.")
        if path.stat().st_size > largest:
            raise BadCheckpoint(f"{path.name} is too large to be what its name says.")
        raw = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise BadCheckpoint(f"{path.name} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadCheckpoint(f"{path.name} is damaged: it is not valid JSON.") from error
    if not isinstance(raw, dict):
        raise BadCheckpoint(f"{path.name} is damaged: it holds no JSON object.")
    return raw


def weight_files(names: Iterable[str]) -> list[str]:
    """The safetensors files among them that hold a model; macOS leaves `._model.safetensors` on foreign disks."""
    return sorted(
        name
        for name in names
        if name.endswith(".safetensors") and not name.startswith(".") and name != "adapter_model.safetensors"
    )


def array_files(names: Iterable[str]) -> list[str]:
    """The files of PyTorch and numpy among them that hold a model."""
    return sorted(
        name for name in names if name.endswith(ARRAYS) and not name.startswith(".") and not NOT_WEIGHTS.fullmatch(name)
    )


def lacking(folder: Path, names: Iterable[str]) -> list[str]:
    """The shards that should lie beside those of `names` and do not; BadCheckpoint where the index is of no use."""
    have = set(names)
    if "model.safetensors" in have:
        return []
    if INDEX in have:
        return sorted(named_shards(folder) - have)
    missing = []
    for stem, total in sorted({(shard[1], shard[3]) for name in have if (shard := SHARD.fullmatch(name))}):
        every = (f"{stem}-{number:05}-of-{total}.safetensors" for number in range(1, min(int(total), 9999) + 1))
        missing += [name for name in every if name not in have]
    return missing


def named_shards(folder: Path) -> set[str]:
    """The files that the index names, all of them plain names of this folder."""
    places = _object(folder / INDEX, LARGEST_INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise BadCheckpoint(f"{INDEX} is damaged: it names no files.")
    shards = set()
    for name in places.values():
        if not isinstance(name, str) or not name or "/" in name or "\\" in name or name in (".", "..") or "\0" in name:
            raise BadCheckpoint(f"{INDEX} names a file outside the model's folder ({name!r:.60}).")
        shards.add(name)
    return shards


def licence(folder: Path) -> str:
    """What the front matter of README.md says, else what the first lines of a licence file are known for; or ""."""
    page = _page(folder / "README.md")
    if page.startswith("---"):
        front = page[3:].partition("\n---")[0]
        said = {match[1]: match[2].strip(" \"'") for match in re.finditer(r"^(license(?:_name)?):(.*)$", front, re.M)}
        if said.get("license_name") and said.get("license") in (None, "", "other"):
            return said["license_name"][:40]
        if said.get("license"):
            return said["license"][:40]
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"):
        head = " ".join(_page(folder / name)[:2000].lower().split())
        if head:
            return next((short for sign, short in LICENCES if sign in head), "see LICENSE")
    return ""


def _page(path: Path) -> str:
    try:
        if not path.is_file():
            return ""
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return file.read(LARGEST_PAGE)
    except OSError:
        return ""

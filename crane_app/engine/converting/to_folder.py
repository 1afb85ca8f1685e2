"""A folder in mlx-lm's layout: config.json says how its weights are packed, the tokenizer's files lie beside them.

Source: save and quantize_model of mlx-lm's utils.py.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crane_app.engine.converting.pieces import Piece, Plan, Progress, flow
from crane_app.errors import BadCheckpoint, BadInput
from crane_app.host import QUANTS, Blocks, Groups, Scheme, groups_of
from crane_app.library.parts import appearing
from crane_app.media import gguf_words
from crane_app.media.files.gguf import Gguf, holds_gguf
from crane_app.media.files.gguf_groups import exact, regrouped
from crane_app.media.files.pack import pack
from crane_app.media.files.packed import stacked
from crane_app.media.files.writing import Entry, write_safetensors
from crane_app.media.growing import Growing
from crane_app.models.config import rope_fields
from crane_app.models.weights import Experts

KEPT = ("*.json", "*.jinja", "*.txt", "*.model", "LICENSE*", "NOTICE*")  # of the source's files, beside the weights
LARGEST = 100 << 20  # bytes of a file that is copied


def write(plan: Plan, target: Path) -> Progress:
    """Write the folder; see convert."""
    packed: dict[str, Scheme] = {}
    pieces = list(_pieces(plan, packed))
    entries = [entry for piece in pieces for entry in piece.entries]
    with appearing(target, sum(entry.nbytes for entry in entries)) as part:
        part.mkdir()
        _words(plan, part)
        config = dict(plan.source.config) | _said(packed)
        # What transformers 5 has in rope_parameters alone, mlx-lm asks for by its older name too.
        if "rope_parameters" in config:
            config.setdefault("rope_theta", rope_fields(config)["rope_theta"])
        if not packed:
            for name in ("quantization", "quantization_config"):
                config.pop(name, None)
        _dump(part / "config.json", config)
        with (part / "model.safetensors").open("wb") as file:
            yield from flow(plan, pieces, lambda arrays: write_safetensors(file, entries, arrays))


def _pieces(plan: Plan, packed: dict[str, Scheme]) -> Iterator[Piece]:
    """All tensors; notes in `packed` the paths of those in fewer bits."""
    for name, shape, fine in plan.leaves():
        scheme = _scheme(plan, name, shape, fine)
        if scheme is None:
            yield _plain(plan, name, name)
            continue
        path = name.removesuffix(".weight")
        packed[path] = scheme
        yield Piece(_entries(path, shape, scheme), partial(_arrays, plan, name, scheme), (name,))
    for mixture in plan.mixtures():
        yield from _mixture(plan, mixture, packed)


def _mixture(plan: Plan, mixture: Experts, packed: dict[str, Scheme]) -> Iterator[Piece]:
    """Experts: packed ones stacked under the name that mlx-lm gives them, plain ones as they are in the source."""
    whole = next(iter(mixture.stacked()))
    if whole in plan.checkpoint and plan.quantize is None:
        yield from (_plain(plan, name, name) for name in mixture.stacked())
        return
    for part, shape, names in plan.experts(mixture):
        sources = [_at(mixture, part)] if whole in plan.checkpoint else names
        schemes = {_scheme(plan, name, shape, False) for name in sources}
        scheme = schemes.pop()
        if schemes:
            raise BadInput(
                f"The experts of {mixture.path} are packed in several ways. Say --quantize to pack them anew."
            )
        if scheme is None:
            yield from (_plain(plan, name, name) for name in names)
            continue
        path = f"{mixture.path.removesuffix('experts')}switch_mlp.{part}"
        packed[path] = scheme

        def read(scheme: Scheme = scheme, part: str = part, names: Sequence[str] = names) -> Sequence[np.ndarray]:
            if whole in plan.checkpoint:
                return _share(plan, mixture, part, scheme).arrays
            return stacked((_groups(plan, name, scheme) for name in names), len(names)).arrays

        yield Piece(_entries(path, (mixture.count, *shape), scheme), read, tuple(sources))


def _at(mixture: Experts, part: str) -> str:
    """The stacked tensor in which the matrices of a part lie."""
    return f"{mixture.path}.{'down_proj' if part == 'down_proj' else 'gate_up_proj'}"


def _share(plan: Plan, mixture: Experts, part: str, scheme: Scheme) -> Groups:
    host = plan.checkpoint.read(_at(mixture, part))
    rows = {"gate_proj": slice(0, mixture.inner), "up_proj": slice(mixture.inner, None), "down_proj": slice(None)}
    return pack(type(host)(np.ascontiguousarray(host.array[:, rows[part]]), host.dtype), scheme)


def _plain(plan: Plan, name: str, as_name: str) -> Piece:
    entry = Entry(as_name, plan.checkpoint.dtypes[name], plan.checkpoint.shapes[name])
    return Piece((entry,), lambda: (plan.checkpoint.read(name).array,), (name,))


def _scheme(plan: Plan, name: str, shape: tuple[int, ...], fine: bool) -> Scheme | None:
    """How a tensor is packed in the folder; None for plain."""
    own = plan.checkpoint.schemes.get(name)
    if plan.quantize is not None and not fine and len(shape) == 2:
        # What was packed is read as float32, of which few bits were there; publishers have bfloat16.
        dtype = "bfloat16" if own is not None else plan.checkpoint.dtypes[name]
        return groups_of(shape, dtype, QUANTS[plan.quantize])
    if own is None or own.kind == "affine":
        return own
    groups = exact(own.kind)
    if groups is None or groups.size != 32 or len(shape) != 2:
        raise BadInput(
            f"{plan.source.path.name}: {name} is {own}, which no groups of MLX hold exactly. "
            "Say --quantize to pack anew."
        )
    return groups


def _groups(plan: Plan, name: str, scheme: Scheme) -> Groups:
    """The tensor in its groups: as they are in the source, or packed now."""
    own = plan.checkpoint.schemes.get(name)
    if own == scheme or (own is not None and plan.quantize is None):
        packed = plan.checkpoint.read_packed(name)
        groups = regrouped(packed, (32,))[0] if isinstance(packed, Blocks) else packed
        if groups.scheme != scheme:
            raise BadCheckpoint(f"{plan.source.path.name}: {name} has scales that no {scheme.dtype} holds")
        return groups
    return pack(plan.checkpoint.read(name), scheme)


def _arrays(plan: Plan, name: str, scheme: Scheme) -> Sequence[np.ndarray]:
    return _groups(plan, name, scheme).arrays


def _entries(path: str, shape: tuple[int, ...], scheme: Scheme) -> tuple[Entry, ...]:
    scales = (*shape[:-1], shape[-1] // scheme.size)
    return (
        Entry(f"{path}.weight", "uint32", (*shape[:-1], shape[-1] * scheme.bits // 32)),
        Entry(f"{path}.scales", scheme.dtype, scales),
        Entry(f"{path}.biases", scheme.dtype, scales),
    )


def _said(packed: dict[str, Scheme]) -> dict[str, Any]:
    """What config.json says of packed weights: the most frequent way, and each path that has another."""
    if not packed:
        return {}
    ways = {path: {"group_size": scheme.size, "bits": scheme.bits, "mode": "affine"} for path, scheme in packed.items()}
    (common, _), *_ = Counter(tuple(way.items()) for way in ways.values()).most_common()
    said = dict(common) | {path: way for path, way in ways.items() if tuple(way.items()) != common}
    return {"quantization": said, "quantization_config": said}


def _words(plan: Plan, part: Path) -> None:
    """The files of the tokenizer, the template and what else a folder has beside its weights."""
    source = plan.source.path
    if plan.source.generation:
        _dump(part / "generation_config.json", plan.source.generation)
    if holds_gguf(source):
        _words_of_gguf(source, part)
        return
    for file in sorted({file for pattern in KEPT for file in source.glob(pattern)}):
        own = file.name in ("config.json", "generation_config.json") or file.name.endswith(".index.json")
        if file.is_file() and not own and file.stat().st_size <= LARGEST:
            shutil.copyfile(file, part / file.name)


def _words_of_gguf(source: Path, part: Path) -> None:
    gguf = Gguf.open(source)
    if "tokenizer.ggml.tokens" not in gguf.metadata:
        return
    words, said, _ = gguf_words.tokenizer(gguf)
    library = words.take_all() if isinstance(words, Growing) else words
    (part / "tokenizer.json").write_text(library.to_str(), "utf-8")
    templates, _ = gguf_words.templates(gguf)
    if "default" in templates:
        said["chat_template"] = templates["default"]
    _dump(part / "tokenizer_config.json", said | {"tokenizer_class": "PreTrainedTokenizerFast"})


def _dump(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n", "utf-8")

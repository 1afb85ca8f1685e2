"""One GGUF file that is a whole model: tensors, config, tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crane_app.engine import sources
from crane_app.engine.converting.pieces import Piece, Plan, Progress, flow
from crane_app.errors import BadCheckpoint, BadInput
from crane_app.host import KINDS, HostTensor
from crane_app.library.parts import appearing
from crane_app.media import gguf_vocabulary
from crane_app.media.chat_template import ChatTemplate
from crane_app.media.files.gguf import Gguf, holds_gguf
from crane_app.media.files.gguf_blocks import form_of
from crane_app.media.files.gguf_header import Texts
from crane_app.media.files.gguf_pack import pack_blocks
from crane_app.media.files.halves import narrowed, widened
from crane_app.media.files.writing import Entry, write_gguf
from crane_app.media.tokenizer import Tokenizer
from crane_app.models import to_gguf
from crane_app.models.gguf import FACTORS
from crane_app.models.weights import Experts

FILE_TYPES = {"q4": 2, "q5": 8, "q6": 18, "q8": 7}  # gguf-py, LlamaFileType
PLAIN_TYPES = {"float32": 0, "float16": 1, "bfloat16": 32}


def write(plan: Plan, target: Path) -> Progress:
    """Write the file; see convert."""
    raw, config = plan.source.config, plan.config
    told = to_gguf.metadata(raw, config, plan.source.generation, target.stem)
    factors = to_gguf.factors(raw, config)
    pieces = [] if factors is None else [_vector(FACTORS, factors)]
    pieces += _pieces(plan)
    kinds = [entry.kind for piece in pieces for entry in piece.entries if len(entry.shape) > 1]
    if plan.quantize:
        told["general.file_type"] = FILE_TYPES[plan.quantize]
    elif set(kinds) <= set(PLAIN_TYPES):
        told["general.file_type"] = PLAIN_TYPES[max(set(kinds), key=kinds.count)]
    told |= {"general.quantization_version": 2} | _words(plan)
    entries = [entry for piece in pieces for entry in piece.entries]
    with appearing(target, sum(entry.nbytes for entry in entries)) as part, part.open("wb") as file:
        yield from flow(plan, pieces, lambda arrays: write_gguf(file, told, entries, arrays))


def _vector(name: str, x: np.ndarray) -> Piece:
    return Piece((Entry(name, "float32", x.shape),), lambda: (x,), ())


def _pieces(plan: Plan) -> Iterator[Piece]:
    for name, shape, fine in plan.leaves():
        kind = _kind(plan, name, shape, fine)
        entry = Entry(to_gguf.name_of(name, plan.source.config), kind, shape)
        yield Piece((entry,), partial(_arrays, plan, name, kind), (name,))
    for mixture in plan.mixtures():
        yield from _mixture(plan, mixture)


def _mixture(plan: Plan, mixture: Experts) -> Iterator[Piece]:
    """Three stacks [X, O, I]."""
    if next(iter(mixture.stacked())) in plan.checkpoint:
        raise BadInput(
            f"{plan.source.path.name}: its experts are stacked; convert it to a folder with --quantize first."
        )
    for part, shape, names in plan.experts(mixture):
        kinds = {_kind(plan, name, shape, False) for name in names}
        kind = kinds.pop()
        if kinds:
            raise BadInput(f"{plan.source.path.name}: the experts of {mixture.path} differ in type. Say --quantize.")
        name = to_gguf.name_of(f"{mixture.path}.0.{part}.weight", plan.source.config)

        def read(names: Sequence[str] = names, kind: str = kind) -> Sequence[np.ndarray]:
            return (np.stack([_array(plan, name, kind) for name in names]),)

        yield Piece((Entry(name, kind, (len(names), *shape)),), read, tuple(names))


def _kind(plan: Plan, name: str, shape: tuple[int, ...], fine: bool) -> str:
    """A dtype, or ggml's name of the type in which a tensor is written. Vectors and what chooses experts: float32."""
    if len(shape) < 2 or fine:
        return "float32"
    own = plan.checkpoint.schemes.get(name)
    if plan.quantize is None:
        if own is None:
            return plan.checkpoint.dtypes[name]
        if own.kind == "affine":
            raise BadInput(
                f"{plan.source.path.name}: its weights are in groups of MLX, which GGUF does not have. "
                "Say --quantize to pack them anew."
            )
        return own.kind
    return next((kind for kind in KINDS[plan.quantize] if shape[-1] % form_of(kind).block == 0), "float16")


def _arrays(plan: Plan, name: str, kind: str) -> Sequence[np.ndarray]:
    return (_array(plan, name, kind),)


def _array(plan: Plan, name: str, kind: str) -> np.ndarray:
    """A tensor as it lies in the file."""
    heads = to_gguf.heads_of(name, plan.source.config, plan.config)
    own = plan.checkpoint.schemes.get(name)
    if own is not None and own.kind == kind:
        return to_gguf.paired(plan.checkpoint.read_packed(name).arrays[0], heads)
    host = plan.checkpoint.read(name)
    host = HostTensor(to_gguf.paired(host.array, heads), host.dtype)
    if kind in PLAIN_TYPES:
        return host.array if host.dtype == kind else narrowed(widened(host), kind).array  # type: ignore[arg-type]
    if not np.isfinite(widened(host)).all():
        raise BadCheckpoint(f"{plan.checkpoint.file_of(name).name}: {name} holds numbers that are not finite")
    return pack_blocks(host, kind).data


def _words(plan: Plan) -> dict[str, Any]:
    """Tokenizer, chat template and the ids that end a text."""
    source = plan.source.path
    if holds_gguf(source):
        told = Gguf.open(source).metadata
        return {key: _plain(value) for key, value in told.items() if key.startswith("tokenizer.")}
    config = sources.optional(source / "tokenizer_config.json")
    there = (source / "tokenizer.json").is_file()
    bos = Tokenizer.open(source).bos if there else None
    told = gguf_vocabulary.described(source, plan.config.vocabulary, config, bos)
    ends = plan.source.generation.get("eos_token_id", plan.source.config.get("eos_token_id"))
    ends = ends if isinstance(ends, list) else [ends]
    for key, id in zip(("eos", "eot", "eom"), (end for end in ends if type(end) is int), strict=False):
        told[f"tokenizer.ggml.{key}_token_id"] = id
    template = ChatTemplate.open(source)
    templates = {} if template is None else dict(template.sources)
    if "default" in templates:
        told["tokenizer.chat_template"] = templates.pop("default")
    if templates:
        told["tokenizer.chat_templates"] = list(templates)
        told |= {f"tokenizer.chat_template.{name}": text for name, text in templates.items()}
    return told


def _plain(value: Any) -> Any:
    """A value of metadata as the writer takes it."""
    if isinstance(value, Texts):
        return list(value)
    return value.tolist() if isinstance(value, np.ndarray) else value

"""From a folder or a file to a model that runs: the only place where checkpoints, architectures and backends meet.

Tensors are read one leaf at a time, so the peak is the weights plus the largest leaf.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crane_app.backends import choose
from crane_app.contract import Backend, DType, HostTensor, Listener, Runner
from crane_app.engine import sources
from crane_app.engine.sources import Source, Weights
from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.models import registry
from crane_app.models.weights import Experts, Parameter, Products, Tensors, tree

ONE_AT_A_TIME = "{name} runs through an adapter: one request at a time."


@dataclass(frozen=True)
class Loaded:
    """A model ready to run. folder: its folder, or its GGUF file. eos: ids that end a text. nbytes: of its weights.

    config, generation: config.json and generation_config.json, or what stands for them.
    notes: what a person should know about how it was loaded. listener: the model itself, if it turns speech into text.
    """

    folder: Path
    runner: Runner
    backend: Backend
    architecture: str
    vocabulary: int
    context: int
    eos: tuple[int, ...]
    generation: dict[str, Any]
    nbytes: int
    notes: tuple[str, ...]
    listener: Listener | None = None
    config: dict[str, Any] = field(default_factory=dict)


def load(folder: Path, backend: str | None = None, device: str = "auto", dtype: DType | None = None) -> Loaded:
    """The model in `folder`, all at once."""
    steps = loading(folder, backend, device, dtype)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def loading(
    folder: Path,
    backend: str | None = None,
    device: str = "auto",
    dtype: DType | None = None,
    fits: Callable[[Backend, int], None] = lambda backend, nbytes: None,
) -> Generator[tuple[int, int], None, Loaded]:
    """Load step by step: yields (bytes read, bytes in all) after each leaf and returns the model; close it to give up.

    fits: raises if weights of so many bytes are too many; asked before any is read.
    Raises ModelNotFound, BadCheckpoint, Unsupported; each names the file and the tensor.
    """
    source = sources.find(folder)
    raw = source.config
    try:
        module = registry.find(raw)
    except Unsupported as unknown:
        return (yield from _adapted(source, choose(backend, device, dtype), unknown, fits))
    with source.blamed():
        config = module.read(raw)
    parameters = module.parameters(config)
    with source.weights() as checkpoint:
        with source.blamed():
            used = check(checkpoint, parameters)
        chosen = choose(backend, device, dtype)
        nbytes = (4 if chosen.dtype == "float32" else 2) * sum(math.prod(checkpoint.shapes[name]) for name in used)
        fits(chosen, nbytes)
        leaves: dict[str, Any] = {}
        done = 0
        for parameter in parameters:
            yield done, checkpoint.nbytes
            leaves.update(_leaves(checkpoint, parameter, chosen))
            done += sum(checkpoint.nbytes_of(name) for name, _ in _wanted(checkpoint, parameter))
        notes = _notes(raw, sorted(set(checkpoint.shapes) - used))
        notes += source.unpacked(checkpoint.nbytes, nbytes, chosen.dtype)
    model = module.build(chosen.ops, tree(leaves), config)
    runner = chosen.runner(model)
    return Loaded(
        folder=folder,
        runner=runner,
        backend=chosen,
        architecture=raw["architectures"][0],
        vocabulary=config.vocabulary,
        context=config.context,
        eos=_eos(source),
        generation=source.generation,
        nbytes=nbytes,
        notes=notes,
        listener=model if hasattr(model, "encoder") else None,
        config=raw,
    )


def _adapted(
    source: Source, backend: Backend, unknown: Unsupported, fits: Callable[[Backend, int], None]
) -> Generator[tuple[int, int], None, Loaded]:
    """An architecture that Crane does not define, through the backend's adapter: in one piece, one row a step."""
    total = sum(file.stat().st_size for file in source.path.glob("*.safetensors"))
    fits(backend, total)
    yield 0, total
    try:
        runner, facts = backend.adapt(source.path)
    except Unsupported as error:
        raise Unsupported(f"{unknown} {error}") from error
    return Loaded(
        folder=source.path,
        runner=runner,
        backend=backend,
        architecture=facts.architecture,
        vocabulary=facts.vocabulary,
        context=facts.context,
        eos=_eos(source),
        generation=source.generation,
        nbytes=facts.nbytes,
        notes=(*_notes(source.config, []), ONE_AT_A_TIME.format(name=facts.architecture), *facts.notes),
        config=source.config,
    )


def check(checkpoint: Weights, parameters: list[Parameter]) -> set[str]:
    """The tensors the model will read; BadCheckpoint for the first that is missing or has another shape."""
    used: set[str] = set()
    for parameter in parameters:
        wanted = dict(_wanted(checkpoint, parameter))
        for name, shape in wanted.items():
            if name not in checkpoint:
                raise BadCheckpoint(
                    f"{checkpoint.folder}: the model needs the tensor {name} {list(shape)}; no file has it"
                )
            found = checkpoint.shapes[name]
            if found != shape:
                where = checkpoint.file_of(name).name
                raise BadCheckpoint(f"{where}: the tensor {name} is {list(found)}; config.json asks for {list(shape)}")
        used.update(wanted)
    return used


def _wanted(checkpoint: Weights, parameter: Parameter) -> Iterator[tuple[str, tuple[int, ...]]]:
    if isinstance(parameter, Experts):
        stacked = parameter.stacked()
        yield from stacked.items() if next(iter(stacked)) in checkpoint else parameter.names()
    else:
        leaves = parameter.leaves if isinstance(parameter, Products) else (parameter.leaf,)
        for leaf in leaves:
            yield from leaf.names()


def _leaves(checkpoint: Weights, parameter: Parameter, backend: Backend) -> Iterator[tuple[str, Any]]:
    """Paths and leaves of one parameter, read and handed over."""
    if isinstance(parameter, Products):
        parts = (_pair(checkpoint, leaf) for leaf in parameter.leaves)
        yield from zip((leaf.path for leaf in parameter.leaves), backend.leaves(parts), strict=True)
    elif isinstance(parameter, Experts):
        for path, host in _stacks(checkpoint, parameter):
            yield path, backend.leaf(host)
    else:
        weight, bias = _pair(checkpoint, parameter.leaf)
        yield parameter.leaf.path, backend.leaf(weight, bias, "tied" if parameter.tied else "table")


def _pair(checkpoint: Weights, leaf: Tensors) -> tuple[HostTensor, HostTensor | None]:
    bias = checkpoint.read(f"{leaf.path}.bias") if leaf.bias else None
    return checkpoint.read(f"{leaf.path}.weight"), bias


def _stacks(checkpoint: Weights, experts: Experts) -> Iterator[tuple[str, HostTensor]]:
    """The two stacked tensors of a mixture, read expert by expert into place."""
    for path, shape in experts.stacked().items():
        if path in checkpoint:
            yield path, checkpoint.read(path)
            continue
        parts = ("gate_proj", "up_proj") if path.endswith("gate_up_proj") else ("down_proj",)
        first = checkpoint.read(f"{experts.path}.0.{parts[0]}.weight")
        stack = np.empty(shape, first.array.dtype)
        for expert in range(experts.count):
            rows = np.split(stack[expert], len(parts))
            for part, out in zip(parts, rows, strict=True):
                name = f"{experts.path}.{expert}.{part}.weight"
                if checkpoint.dtypes[name] != first.dtype:
                    raise BadCheckpoint(
                        f"{checkpoint.file_of(name).name}: {name} differs in type from the other experts"
                    )
                checkpoint.read_into(name, out)
        yield path, HostTensor(stack, first.dtype)


def _eos(source: Source) -> tuple[int, ...]:
    """All ids that end a text: generation_config.json's, which may be a list, else config.json's."""
    found, raw = source.generation.get("eos_token_id"), source.config
    if found is None:
        found = raw.get("eos_token_id", dict(raw.get("text_config") or {}).get("eos_token_id"))
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise BadCheckpoint(f'{source.path}: "eos_token_id" must be a number or a list of numbers, not {found!r:.60}')
    return tuple(ids)


def _notes(raw: dict[str, Any], unused: list[str]) -> tuple[str, ...]:
    notes = []
    if "auto_map" in raw:
        notes.append("config.json names code to run (auto_map); Crane never runs code from a model's folder.")
    heads = ("lm_head.weight", "proj_out.weight")
    rest = [name for name in unused if name not in heads and not name.endswith("rotary_emb.inv_freq")]
    if rest:
        notes.append(f"{len(rest)} tensors of the checkpoint are not part of this model, {rest[0]} the first of them.")
    return tuple(notes)

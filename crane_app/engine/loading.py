"""From a folder to a model that runs: the only place where checkpoints, architectures and backends meet.

Tensors are read one leaf at a time, so the peak is the weights plus the largest leaf.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crane_app.backends import choose
from crane_app.contract import Backend, DType, HostTensor, Listener, Runner
from crane_app.errors import BadCheckpoint, ModelNotFound, Unsupported
from crane_app.media.files.safetensors import Checkpoint
from crane_app.models import registry
from crane_app.models.weights import Experts, Parameter, Products, Tensors, tree

LARGEST_CONFIG = 16 * 2**20
ONE_AT_A_TIME = "{name} runs through an adapter: one request at a time."


@dataclass(frozen=True)
class Loaded:
    """A model ready to run. eos: ids that end a text. generation: generation_config.json. nbytes: of its weights.

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


def load(folder: Path, backend: str | None = None, device: str = "auto", dtype: DType | None = None) -> Loaded:
    """The model in `folder`, all at once."""
    steps = loading(folder, backend, device, dtype)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def loading(
    folder: Path, backend: str | None = None, device: str = "auto", dtype: DType | None = None
) -> Generator[tuple[int, int], None, Loaded]:
    """Load step by step: yields (bytes read, bytes in all) after each leaf and returns the model; close it to give up.

    Raises ModelNotFound, BadCheckpoint, Unsupported; each names the file and the tensor.
    """
    if not folder.is_dir():
        raise ModelNotFound(f"There is no model folder at {folder}. Name a folder with config.json and *.safetensors.")
    raw = _config(folder / "config.json")
    try:
        module = registry.find(raw)
    except Unsupported as unknown:
        return (yield from _adapted(folder, raw, choose(backend, device, dtype), unknown))
    config = module.read(raw)
    parameters = module.parameters(config)
    with Checkpoint.open(folder) as checkpoint:
        used = check(checkpoint, parameters)
        chosen = choose(backend, device, dtype)
        leaves: dict[str, Any] = {}
        done = 0
        for parameter in parameters:
            yield done, checkpoint.nbytes
            leaves.update(_leaves(checkpoint, parameter, chosen))
            done += sum(checkpoint.nbytes_of(name) for name, _ in _wanted(checkpoint, parameter))
        notes = _notes(raw, sorted(set(checkpoint.shapes) - used))
    model = module.build(chosen.ops, tree(leaves), config)
    runner = chosen.runner(model)
    generation = optional(folder / "generation_config.json")
    eos = _eos(folder, generation, raw)
    name = raw["architectures"][0]
    held = 4 if chosen.dtype == "float32" else 2
    nbytes = held * sum(math.prod(checkpoint.shapes[tensor]) for tensor in used)
    listener = model if hasattr(model, "encoder") else None
    return Loaded(
        folder, runner, chosen, name, config.vocabulary, config.context, eos, generation, nbytes, notes, listener
    )


def _adapted(
    folder: Path, raw: dict[str, Any], backend: Backend, unknown: Unsupported
) -> Generator[tuple[int, int], None, Loaded]:
    """An architecture that Crane does not define, through the backend's adapter: in one piece, one row a step."""
    yield 0, sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    try:
        runner, facts = backend.adapt(folder)
    except Unsupported as error:
        raise Unsupported(f"{unknown} {error}") from error
    generation = optional(folder / "generation_config.json")
    return Loaded(
        folder=folder,
        runner=runner,
        backend=backend,
        architecture=facts.architecture,
        vocabulary=facts.vocabulary,
        context=facts.context,
        eos=_eos(folder, generation, raw),
        generation=generation,
        nbytes=facts.nbytes,
        notes=(*_notes(raw, []), ONE_AT_A_TIME.format(name=facts.architecture), *facts.notes),
    )


def check(checkpoint: Checkpoint, parameters: list[Parameter]) -> set[str]:
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


def _wanted(checkpoint: Checkpoint, parameter: Parameter) -> Iterator[tuple[str, tuple[int, ...]]]:
    if isinstance(parameter, Experts):
        stacked = parameter.stacked()
        yield from stacked.items() if next(iter(stacked)) in checkpoint else parameter.names()
    else:
        leaves = parameter.leaves if isinstance(parameter, Products) else (parameter.leaf,)
        for leaf in leaves:
            yield from leaf.names()


def _leaves(checkpoint: Checkpoint, parameter: Parameter, backend: Backend) -> Iterator[tuple[str, Any]]:
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


def _pair(checkpoint: Checkpoint, leaf: Tensors) -> tuple[HostTensor, HostTensor | None]:
    bias = checkpoint.read(f"{leaf.path}.bias") if leaf.bias else None
    return checkpoint.read(f"{leaf.path}.weight"), bias


def _stacks(checkpoint: Checkpoint, experts: Experts) -> Iterator[tuple[str, HostTensor]]:
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


def _config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise BadCheckpoint(f"{path.name}: {path.stat().st_size} bytes is not the size of a config file")
        raw = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise ModelNotFound(f"There is no {path.name} in {path.parent}. Is it the folder of a model?") from None
    except OSError as error:
        raise BadCheckpoint(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{path}: not valid JSON ({error})") from None
    if not isinstance(raw, dict):
        raise BadCheckpoint(f"{path}: must hold a JSON object")
    return raw


def optional(path: Path) -> dict[str, Any]:
    """A JSON object that a folder may lack."""
    return _config(path) if path.exists() else {}


def _eos(folder: Path, generation: dict[str, Any], raw: dict[str, Any]) -> tuple[int, ...]:
    """All ids that end a text: generation_config.json's, which may be a list, else config.json's."""
    found = generation.get("eos_token_id")
    if found is None:
        found = raw.get("eos_token_id", dict(raw.get("text_config") or {}).get("eos_token_id"))
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise BadCheckpoint(f'{folder}: "eos_token_id" must be a number or a list of numbers, not {found!r:.60}')
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

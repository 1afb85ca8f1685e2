"""From a folder or a file to a model that runs: the only place where checkpoints, architectures and backends meet.

Tensors are read one leaf at a time, so the peak is the weights plus the largest leaf.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crane_app.backends import choose
from crane_app.contract import Backend, DType, HostTensor, Listener, Runner, Use
from crane_app.engine import sources
from crane_app.engine.packing import Packing
from crane_app.engine.sources import Source, Weights
from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.host import Host
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
    folder: Path, backend: str | None = None, device: str = "auto", dtype: DType | None = None
) -> Generator[tuple[int, int], None, Loaded]:
    """Load step by step: yields (bytes read, bytes in all) after each leaf and returns the model; close it to give up.

    Raises ModelNotFound, BadCheckpoint, Unsupported; each names the file and the tensor.
    """
    source = sources.find(folder)
    raw = source.config
    try:
        module = registry.find(raw)
    except Unsupported as unknown:
        return (yield from _adapted(source, choose(backend, device, dtype), unknown))
    with source.blamed():
        config = module.read(raw)
    parameters = module.parameters(config)
    with source.weights() as checkpoint:
        with source.blamed():
            used = check(checkpoint, parameters)
        chosen = choose(backend, device, dtype)
        packing = Packing(checkpoint, chosen)
        leaves: dict[str, Any] = {}
        done = 0
        for parameter in parameters:
            yield done, checkpoint.nbytes
            leaves.update(_leaves(checkpoint, parameter, chosen, packing))
            done += sum(checkpoint.nbytes_of(name) for name, _ in _wanted(checkpoint, parameter))
        notes = _notes(raw, sorted(set(checkpoint.shapes) - used)) + packing.notes()
    model = module.build(chosen.ops, tree(leaves), config)
    runner = chosen.runner(model)
    notes += tuple(getattr(runner, "notes", ()))
    return Loaded(
        folder=folder,
        runner=runner,
        backend=chosen,
        architecture=raw["architectures"][0],
        vocabulary=config.vocabulary,
        context=config.context,
        eos=_eos(source),
        generation=source.generation,
        nbytes=packing.nbytes,
        notes=notes,
        listener=model if hasattr(model, "encoder") else None,
        config=raw,
    )


def _adapted(source: Source, backend: Backend, unknown: Unsupported) -> Generator[tuple[int, int], None, Loaded]:
    """An architecture that Crane does not define, through the backend's adapter: in one piece, one row a step."""
    yield 0, sum(file.stat().st_size for file in source.path.glob("*.safetensors"))
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


def _leaves(checkpoint: Weights, parameter: Parameter, backend: Backend, packing: Packing) -> Iterator[tuple[str, Any]]:
    """Paths and leaves of one parameter, read and handed over."""
    if isinstance(parameter, Products):
        parts = (_pair(packing, leaf) for leaf in parameter.leaves)
        for leaf, made in zip(parameter.leaves, backend.leaves(parts), strict=True):
            packing.made(f"{leaf.path}.weight", made)
            yield leaf.path, made
    elif isinstance(parameter, Experts):
        for path, names, host in _stacks(checkpoint, parameter, packing):
            made = backend.leaf(host)
            packing.made(names, made)
            yield path, made
    else:
        use: Use = "tied" if parameter.tied else "table"
        weight, bias = _pair(packing, parameter.leaf, use)
        made = backend.leaf(weight, bias, use)
        packing.made(f"{parameter.leaf.path}.weight", made)
        yield parameter.leaf.path, made


def _pair(packing: Packing, leaf: Tensors, use: Use = "product") -> tuple[Host, HostTensor | None]:
    weight = packing.read(f"{leaf.path}.weight", use)
    return weight, packing.plain(f"{leaf.path}.bias") if leaf.bias else None


def _stacks(checkpoint: Weights, experts: Experts, packing: Packing) -> Iterator[tuple[str, str, Host]]:
    """The two stacked tensors of a mixture, read expert by expert into place: path, name of a tensor in it, numbers."""
    for path, shape in experts.stacked().items():
        if path in checkpoint:
            yield path, path, packing.plain(path)
            continue
        parts = ("gate_proj", "up_proj") if path.endswith("gate_up_proj") else ("down_proj",)
        names = [[f"{experts.path}.{expert}.{part}.weight" for part in parts] for expert in range(experts.count)]
        packed = packing.experts(names)
        yield path, names[0][0], packing.stack(names, shape) if packed is None else packed


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

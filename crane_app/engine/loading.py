"""From a folder or a file to a model that runs: the only place where checkpoints, architectures and backends meet.

Tensors are read one leaf at a time, so the peak is the weights plus the largest leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from crane_app.backends import choose
from crane_app.contract import Backend, DType, HostTensor, KVCache, Listener, Runner, Use
from crane_app.engine import sources
from crane_app.engine.packing import Packing
from crane_app.engine.sources import Source, Weights
from crane_app.errors import BadCheckpoint, BadInput, Unsupported
from crane_app.host import QUANTS, Host
from crane_app.models import registry
from crane_app.models.weights import Experts, Parameter, Products, Tensors, tree

ONE_AT_A_TIME = "{name} runs through an adapter: one request at a time."
NOT_PACKED = "What runs through an adapter is not packed: its weights are as they are in the files."
NOT_KEPT = "What runs through an adapter keeps its keys and values as that does: --kv-cache-dtype has no effect."


@dataclass(frozen=True)
class Loaded:
    """A model ready to run. folder: its folder, or its GGUF file. eos: ids that end a text. nbytes: of its weights.

    sizes: bytes by tensor. config, generation: config.json and generation_config.json, or what stands for them.
    packed: how most of its matrices are packed, "" if they are not. notes: what a person should know about how it was
    loaded. listener: the model itself, if it turns speech into text.
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
    packed: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    listener: Listener | None = None
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class How:
    """How a model is loaded; None: what suits the machine.

    quantize: one of QUANTS, what plain matrices are packed to while they are read. exact: arithmetic on the numbers
    that packed weights have, in float32 unless `dtype` says otherwise. kv_cache: how keys and values are kept, one of
    host.KVCache. draft: the folder of a small model that goes ahead of it; who loads this one sees to that.
    """

    library: str | None = None
    device: str = "auto"
    dtype: Any = None
    quantize: str | None = None
    exact: bool = False
    kv_cache: Any = "auto"
    draft: str | None = None

    def backend(self) -> Backend:
        """The backend that it asks for."""
        dtype: Any = (self.dtype or "float32") if self.exact else self.dtype
        return choose(self.library, self.device, dtype, self.kv_cache)


def load(
    folder: Path,
    backend: str | None = None,
    device: str = "auto",
    dtype: DType | None = None,
    quantize: str | None = None,
    exact: bool = False,
    kv_cache: KVCache = "auto",
) -> Loaded:
    """The model in `folder`, all at once; see How."""
    steps = loading(folder, How(backend, device, dtype, quantize, exact, kv_cache))
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def loading(
    folder: Path, how: How, fits: Callable[[Backend, int], Iterable[None]] = lambda backend, nbytes: ()
) -> Generator[tuple[int, int], None, Loaded]:
    """Load step by step: yields (bytes read, bytes in all) after each leaf and returns the model; close it to give up.

    fits: raises if weights of so many bytes are too many, waits as long as it gives anything; asked before any is read.
    Raises ModelNotFound, BadCheckpoint, Unsupported; each names the file and the tensor.
    """
    if how.quantize is not None and how.quantize not in QUANTS:
        raise BadInput(f"There is no way to pack called '{how.quantize}'. There are: {', '.join(QUANTS)}.")
    if how.kv_cache not in get_args(KVCache):
        ways = ", ".join(get_args(KVCache))
        raise BadInput(f"There is no way to keep keys and values called '{how.kv_cache}'. There are: {ways}.")
    source = sources.find(folder)
    raw = source.config
    try:
        module = registry.find(raw)
    except Unsupported as unknown:
        loaded = yield from _adapted(source, how.backend(), unknown, fits)
        said = [NOT_PACKED] * (how.quantize is not None) + [NOT_KEPT] * (how.kv_cache != "auto")
        return replace(loaded, notes=(*loaded.notes, *said))
    with source.blamed():
        config = module.read(raw)
    parameters = module.parameters(config)
    with source.weights() as checkpoint:
        with source.blamed():
            used = check(checkpoint, parameters)
        chosen = how.backend()
        packing = Packing(checkpoint, chosen, how.quantize, how.exact)
        for _ in fits(chosen, _planned(checkpoint, parameters, packing)):
            yield 0, checkpoint.nbytes
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
        nbytes=sum(packing.sizes.values()),
        sizes=packing.sizes,
        notes=notes,
        packed=packing.packed,
        listener=model if hasattr(model, "encoder") else None,
        config=raw,
    )


def _adapted(
    source: Source, backend: Backend, unknown: Unsupported, fits: Callable[[Backend, int], Iterable[None]]
) -> Generator[tuple[int, int], None, Loaded]:
    """An architecture that Crane does not define, through the backend's adapter: in one piece, one row a step."""
    total = sum(file.stat().st_size for file in source.path.glob("*.safetensors"))
    for _ in fits(backend, total):
        yield 0, total
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


def _planned(checkpoint: Weights, parameters: list[Parameter], packing: Packing) -> int:
    """Bytes that the weights will have on the device."""
    total = 0
    for parameter in parameters:
        use: Use = "product" if isinstance(parameter, Products | Experts) else "tied" if parameter.tied else "table"
        fine = isinstance(parameter, Products) and parameter.fine
        for name, shape in _wanted(checkpoint, parameter):
            rank = 3 if isinstance(parameter, Experts) and len(shape) == 3 else 2
            total += packing.planned(name, use, fine, rank)
    return total


def _leaves(checkpoint: Weights, parameter: Parameter, backend: Backend, packing: Packing) -> Iterator[tuple[str, Any]]:
    """Paths and leaves of one parameter, read and handed over."""
    if isinstance(parameter, Products):
        parts = (_pair(packing, leaf, "product", parameter.fine) for leaf in parameter.leaves)
        for leaf, made in zip(parameter.leaves, backend.leaves(parts), strict=True):
            packing.made(f"{leaf.path}.weight", made)
            yield leaf.path, made
    elif isinstance(parameter, Experts):
        for path, name, host in _stacks(checkpoint, parameter, packing):
            made = backend.leaf(host)
            packing.made(name, made)
            yield path, made
    else:
        use: Use = "tied" if parameter.tied else "table"
        weight, bias = _pair(packing, parameter.leaf, use)
        made = backend.leaf(weight, bias, use)
        packing.made(f"{parameter.leaf.path}.weight", made)
        yield parameter.leaf.path, made


def _pair(packing: Packing, leaf: Tensors, use: Use, fine: bool = False) -> tuple[Host, HostTensor | None]:
    weight = packing.read(f"{leaf.path}.weight", use, fine)
    return weight, packing.numbers(f"{leaf.path}.bias") if leaf.bias else None


def _stacks(checkpoint: Weights, experts: Experts, packing: Packing) -> Iterator[tuple[str, str, Host]]:
    """The two stacked tensors of a mixture: path, the name of a tensor in it, numbers."""
    for path, shape in experts.stacked().items():
        if path in checkpoint:
            yield path, path, packing.read(path, rank=3)
            continue
        parts = ("gate_proj", "up_proj") if path.endswith("gate_up_proj") else ("down_proj",)
        names = [[f"{experts.path}.{expert}.{part}.weight" for part in parts] for expert in range(experts.count)]
        yield path, names[0][0], packing.experts(names, shape)


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

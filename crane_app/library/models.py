"""The models on this computer: in folders a person named, in Crane's own, and in the Hugging Face cache.

    for entry in found([Path("~/models").expanduser()], hub_cache.root()): print(entry.name, entry.problem)

Looks at names, sizes and small files; opens no weights and imports no tensor library.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import platformdirs

from crane_app.errors import BadCheckpoint, BadInput
from crane_app.library import facts, fit, gguf_facts, hub_cache, tables
from crane_app.library.facts import Job
from crane_app.library.tables import Tensors
from crane_app.library.weighing import Terms

Source = Literal["folder", "hub", "imported"]
OF_MODELS = {".safetensors", ".json", ".txt", ".model", ".jinja", ".md", ".bin", ".gguf", ".py", ""}  # their files
DEPTH = 3  # folders below a named one
MOST_FOLDERS = 5000  # that are looked into below a named one


@dataclass(frozen=True)
class OnDisk:
    """A model as its folder tells. folder: a GGUF file is a model too, and stands here for its folder.

    nbytes: of its weights; tensors: of them, () if not known; context: tokens, 0 if not said.
    cache: bytes of keys and values for a long conversation. problem: why it cannot be loaded, or "".
    remark: what is worth knowing although it can. repo: its id on the hub. partial: a download that is not finished.
    """

    folder: Path
    name: str
    job: Job = "other"
    architecture: str = ""
    nbytes: int = 0
    context: int = 0
    dtype: str = ""
    licence: str = ""
    source: Source = "folder"
    problem: str = ""
    remark: str = ""
    cache: int = 0
    repo: str = ""
    partial: bool = False
    tensors: Tensors = ()


def own_folder() -> Path:
    """Where models lie that were given to Crane."""
    return platformdirs.user_data_path("crane") / "models"


def needed_memory(entry: OnDisk, available: int, terms: Terms, draft: OnDisk | None = None) -> fit.Verdict:
    """Whether the model, and its draft model, fit into a computer with `available` bytes of memory.

    terms: how their weights are loaded. What a draft model keeps of a conversation is borrowed and needs no room.
    """
    both = [each for each in (entry, draft) if each is not None]
    weights = sum(terms.weight(each.tensors) if each.tensors else each.nbytes for each in both)
    return fit.verdict(weights, entry.cache, available)


def found(folders: Iterable[Path], hub: Path | None = None) -> Iterator[OnDisk]:
    """Every model once: those of `folders`, of Crane's own folder, of the cache `hub` (default: the standard one)."""
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        yield from _below(Path(folder), "folder", seen)
    if own_folder().is_dir():
        yield from _below(own_folder(), "imported", seen)
    for kept in hub_cache.repos(hub or hub_cache.root()):
        for entry in _in_cache(kept):
            if _new(entry.folder, seen):
                yield entry


def below(folder: Path, source: Source = "folder") -> Iterator[OnDisk]:
    """Every model in a folder and below it."""
    return _below(folder, source, set())


def examine(folder: Path, source: Source = "folder", name: str = "") -> OnDisk:
    """The model in one folder or GGUF file; what is wrong with it is in `problem`."""
    entry = OnDisk(folder, name or name_of(folder), source=source)
    if folder.suffix.lower() == ".gguf" and folder.is_file():
        return _in_gguf(entry, folder)
    if not folder.is_dir():
        return replace(entry, problem="There is no such folder any more.")
    try:
        sizes = _sizes(folder)
    except OSError as error:
        return replace(entry, problem=f"The folder cannot be read ({error.strerror}).")
    weights = facts.weight_files(sizes)
    packed = [] if weights else list(gguf_facts.sets(sizes))
    if len(packed) == 1:
        return _in_gguf(entry, folder / packed[0])
    if packed:
        return replace(entry, problem=f"It holds {len(packed)} models. Name the file that is meant: {packed[0]}, ...")
    entry = replace(entry, nbytes=sum(sizes[file] for file in weights), licence=facts.licence(folder))
    try:
        raw = facts.read_config(folder)
        said = facts.facts(raw)
        entry = replace(
            entry,
            job=said.job,
            architecture=said.architecture,
            context=said.context,
            dtype=said.dtype,
            cache=said.cache,
            remark="" if said.ours or said.job == "other" else "Runs through mlx-lm or transformers, one at a time.",
        )
        if not weights and said.ours:
            weights = facts.array_files(sizes)
            entry = replace(entry, nbytes=sum(sizes[file] for file in weights))
        missing = facts.lacking(folder, sizes)
    except BadCheckpoint as error:
        return replace(entry, problem=str(error))
    foreign = facts.foreign(raw) if said.ours else ""
    entry = replace(entry, problem=_problem(entry, weights, missing, sizes, foreign))
    if not said.ours or entry.problem:
        return entry
    if weights[0].endswith(facts.ARRAYS):
        return replace(entry, tensors=tables.matrix(entry.nbytes, said.dtype))
    try:
        named = tables.in_safetensors([folder / file for file in weights], raw)
    except BadCheckpoint:  # who loads it is told what is wrong; till then it is as large as its files
        return entry
    return replace(entry, tensors=tables.used(named, bool(raw.get("tie_word_embeddings", said.job == "dictate"))))


def import_folder(folder: Path) -> Path:
    """The folder as it is kept in the settings: whole, and with a model in it or below it. BadInput where none is."""
    try:
        whole = folder.expanduser().resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise BadInput(f"There is no folder '{folder}'.") from error
    if whole.is_file():
        whole = whole.parent
    if os.pathsep in str(whole):
        raise BadInput(f"Crane cannot remember a folder with '{os.pathsep}' in its name. Rename '{whole.name}'.")
    if not any(entry.architecture or entry.nbytes for entry in below(whole)):
        raise BadInput(
            f"There is no model in '{whole.name}'. A model is a folder with config.json and *.safetensors, "
            "or a .gguf file."
        )
    return whole


def name_of(folder: Path) -> str:
    """What people call a model: its id where it lies in the cache, else the name of its folder or file."""
    if folder.suffix.lower() == ".gguf":
        split = gguf_facts.SPLIT.fullmatch(folder.name)
        repo = hub_cache.repo_of(folder.parent.parent.parent)
        return f"{repo}/{folder.name}" if repo else split[1] if split else folder.stem
    return hub_cache.repo_of(folder.parent.parent) or folder.name or str(folder)


def kept_in(entry: OnDisk) -> Path:
    """What holds all of the model: in the cache, its blobs too and not the snapshot alone; of a GGUF file, the file."""
    if entry.source != "hub":
        return entry.folder
    return entry.folder.resolve() if entry.folder.is_file() else entry.folder.parent.parent


def others_in(entry: OnDisk) -> int:
    """How many things lie in the folder of a model, beside it, and would go where the folder goes."""
    if entry.source == "hub":
        return 0
    try:
        return sum(each.is_dir() or each.suffix.lower() not in OF_MODELS for each in entry.folder.iterdir())
    except OSError:
        return 0


def listed(text: str) -> list[Path]:
    """The folders of the setting `model-folders`, which names them as PATH does."""
    return [Path(each).expanduser() for each in text.split(os.pathsep) if each]


def _problem(entry: OnDisk, weights: list[str], missing: list[str], sizes: dict[str, int], packed: str) -> str:
    if not weights:
        others = sorted({Path(name).suffix for name in sizes} & set(facts.OTHERS))
        if others:
            return f"Its weights are {', '.join(others)} files; Crane reads safetensors."
        return "Its weights (*.safetensors) are missing."
    if missing:
        more = f" and {len(missing) - 1} more files are" if len(missing) > 1 else " is"
        return f"It is not complete: {missing[0]}{more} missing."
    if any(sizes[file] == 0 for file in weights):
        return "It is not complete: a file with weights is empty."
    if entry.job == "other":
        return _useless(entry.architecture)
    if packed:
        return f"Its weights are packed as {packed}; Crane reads MLX's groups and GGUF."
    return ""


def _in_gguf(entry: OnDisk, file: Path) -> OnDisk:
    """The model whose first file is `file`."""
    try:
        sizes = _sizes(file.parent)
        names = next((files for files in gguf_facts.sets(sizes).values() if file.name in files), [file.name])
        entry = replace(entry, nbytes=sum(sizes.get(name, 0) for name in names), licence=facts.licence(file.parent))
        missing = gguf_facts.lacking(names)
        if missing:
            more = f" and {len(missing) - 1} more files are" if len(missing) > 1 else " is"
            raise BadCheckpoint(f"It is not complete: {missing[0]}{more} missing.")
        heads = [gguf_facts.head(file.with_name(name)) for name in names]
        said = facts.facts(heads[0].config)
    except (BadCheckpoint, OSError) as error:
        return replace(entry, problem=str(error).replace("config.json", file.name))
    named = [each for head in heads for each in head.tensors]
    entry = replace(
        entry,
        job=said.job,
        architecture=said.architecture,
        context=said.context,
        dtype=said.dtype,
        licence=heads[0].licence or entry.licence,
        cache=said.cache,
        tensors=tables.used(named, "output.weight" not in dict(named)),
    )
    if said.architecture == "clip":
        return replace(entry, problem="It is the part of another model that sees pictures.")
    return entry if said.ours else replace(entry, job="other", problem=_useless(said.architecture))


def _useless(architecture: str) -> str:
    return f"Crane has no use for {architecture} yet."


def _below(root: Path, source: Source, seen: set[tuple[int, int]]) -> Iterator[OnDisk]:
    """The models in and below `root`, breadth first; a link that leads back is followed once."""
    if not root.is_dir():
        yield examine(root, source)
        return
    level, looked = [root], 0
    for depth in range(DEPTH + 1):
        deeper: list[Path] = []
        for folder in level:
            looked += 1
            if looked > MOST_FOLDERS:
                return
            if not _new(folder, seen):
                continue
            try:
                names = _names(folder)
            except OSError as error:
                if folder == root:
                    problem = f"The folder cannot be read ({error.strerror})."
                    yield OnDisk(root, root.name or str(root), source=source, problem=problem)
                continue
            if _is_model(folder, names):
                yield examine(folder, source)
                continue
            for file in gguf_facts.sets(name for name, is_folder in names.items() if not is_folder):
                yield examine(folder / file, source)
            if depth < DEPTH:
                deeper += [folder / name for name, is_folder in sorted(names.items()) if is_folder]
        level = deeper


def _is_model(folder: Path, names: dict[str, bool]) -> bool:
    """Whether a model lies in the folder itself: weights, or a config.json that names an architecture."""
    if facts.weight_files(name for name, is_folder in names.items() if not is_folder):
        return True
    if "config.json" not in names or gguf_facts.sets(names):
        return False
    try:
        return "architectures" in facts.read_config(folder)
    except BadCheckpoint:
        return any(name.endswith(".bin") for name in names)


def _in_cache(kept: Path) -> Iterator[OnDisk]:
    """The model in one folder of the cache, or each of its GGUF files; none where the cache has too little of it."""
    repo = hub_cache.repo_of(kept)
    waiting = hub_cache.unfinished(kept)
    shot = hub_cache.snapshot(kept)
    try:
        names = _names(shot) if shot is not None else {}
    except OSError:
        names = {}
    weights = facts.weight_files(names)
    packed = [] if weights or shot is None else list(gguf_facts.sets(_sizes(shot)))
    if shot is None or not (weights or packed or waiting):
        return
    for path in [shot / name for name in packed] if len(packed) > 1 else [shot]:
        entry = replace(examine(path, "hub", name_of(path) if path != shot else repo), repo=repo)
        if waiting and entry.problem:
            entry = replace(entry, partial=True, problem="The download is not finished.")
        yield entry


def _names(folder: Path) -> dict[str, bool]:
    """Name -> whether it is a folder, links followed; hidden ones left out."""
    with os.scandir(folder) as entries:
        return {entry.name: _is_folder(entry) for entry in entries if not entry.name.startswith(".")}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere but to itself
        return False


def _sizes(folder: Path) -> dict[str, int]:
    """File name -> bytes, links followed; those that lead nowhere are left out."""
    sizes = {}
    for name, is_folder in _names(folder).items():
        try:
            if not is_folder:
                sizes[name] = (folder / name).stat().st_size
        except OSError:
            continue
    return sizes


def _new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """True the first time that this folder, by whatever path, is met."""
    try:
        status = folder.stat()
    except OSError:
        return False
    key = (status.st_dev, status.st_ino)
    if key in seen:
        return False
    seen.add(key)
    return True

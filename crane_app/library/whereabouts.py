"""Which model on this computer a person means: by its id, its name, its folder or its GGUF file. Asks no hub."""

from __future__ import annotations

from pathlib import Path

from crane_app import settings
from crane_app.errors import ModelNotFound
from crane_app.library import hub_cache
from crane_app.library.models import OnDisk, examine, found, listed

NAMED = 6  # models that a sentence names
GET_ONE = " To get one: crane models get Qwen/Qwen3-0.6B"


def entries() -> list[OnDisk]:
    """All models on this computer, by name."""
    folders = listed(str(settings.value(settings.TABLE["model-folders"]) or ""))
    return sorted(found(folders), key=lambda entry: entry.name.lower())


def find(name: str) -> OnDisk | None:
    """The model of that id, name or folder; None if there is none."""
    if not name.strip():  # no model's name, but the id of one outside the cache, and as a path the current folder
        return None
    folder = Path(name).expanduser()
    every = entries()
    for entry in every:
        if name in (entry.name, entry.repo) or (folder.exists() and entry.folder.resolve() == folder.resolve()):
            return entry
    if folder.is_dir() or (folder.is_file() and folder.suffix.lower() == ".gguf"):
        return examine(folder.absolute())
    return next((entry for entry in every if entry.name.lower() == name.lower()), None)


def place(name: str) -> Path:
    """The folder or file to load; whatever is at a path wins, and the last part of an id will do where one has it.

    ModelNotFound with what is here, and how to get the model.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path.absolute()
    entry = find(name)
    if entry is None:
        those = [each for each in entries() if each.name.lower().rpartition("/")[2] == name.lower()]
        entry = those[0] if len(those) == 1 else None
    if entry is None:
        raise ModelNotFound(_absent(name, path))
    if entry.partial:
        raise ModelNotFound(f"{entry.name} is not all here yet. Go on with: crane models get {entry.name}")
    return entry.folder


def title(folder: Path) -> str:
    """What a loaded model is called: its id where it lies in the cache, else the name of its folder or file."""
    return hub_cache.repo_of(folder.parent.parent) or folder.name or str(folder)


def _absent(name: str, path: Path) -> str:
    if not hub_cache.valid(name):
        return f"There is no model folder at {path}. Name a folder with config.json and *.safetensors, or a .gguf file."
    names = [entry.name for entry in entries() if not entry.partial]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    here = f"Here are: {', '.join(names[:NAMED])}{more}." if names else "There are none here yet."
    get = f" To get it: crane models get {name}" if "/" in name else "" if names else GET_ONE
    return f"There is no model '{name}' on this computer, nor a folder or a file of that name. {here}{get}"

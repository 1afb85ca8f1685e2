"""The Hugging Face cache on disk: where it is, and how a model lies in it.

The layout is huggingface_hub's (docs/source/en/guides/manage-cache.md): `models--ORG--NAME` holds `blobs/ETAG`,
`snapshots/COMMIT/FILE` linking to them, and `refs/BRANCH` naming a commit. Read here without that package, whose
import takes longer than a scan.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

COMMIT = re.compile(r"[0-9a-f]{40}")
PART = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
REPO = re.compile(rf"(?:{PART}/)?{PART}")
INCOMPLETE = ".incomplete"  # what a blob is called until all of it is there


def root() -> Path:
    """The folder that huggingface_hub uses (constants.py): HF_HUB_CACHE, else in HF_HOME, else in the cache folder."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return _path(named)
    home = os.environ.get("HF_HOME")
    if home:
        return _path(home) / "hub"
    return _path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface" / "hub"


def valid(repo: str) -> bool:
    """Whether `repo` can be the id of a model: NAME or ORGANISATION/NAME."""
    return bool(REPO.fullmatch(repo)) and "--" not in repo and ".." not in repo and not repo.endswith(".git")


def typed(text: str) -> str:
    """The id in what a person typed or pasted: an id, or the address of a model's page."""
    path = re.sub(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", "", text.strip())
    return "/".join(path.split("?")[0].split("#")[0].strip("/").split("/")[:2])


def folder_of(cache: Path, repo: str) -> Path:
    """Where the cache keeps that model."""
    return cache / f"models--{repo.replace('/', '--')}"


def repo_of(folder: Path) -> str:
    """The id of the model that such a folder keeps; "" for a folder that keeps none."""
    repo = folder.name.removeprefix("models--").replace("--", "/", 1)
    return repo if folder.name.startswith("models--") and valid(repo) else ""


def repos(cache: Path) -> Iterator[Path]:
    """The folders of the models in the cache, by name."""
    try:
        folders = sorted(cache.iterdir())
    except OSError:
        return
    yield from (folder for folder in folders if repo_of(folder) and folder.is_dir())


def snapshot(folder: Path, revision: str = "main") -> Path | None:
    """The snapshot that `revision` names, else the newest; None where there is none."""
    try:
        named = (folder / "refs" / revision).read_text("ascii")[:41].strip()
    except (OSError, ValueError):
        named = ""
    if COMMIT.fullmatch(named) and (folder / "snapshots" / named).is_dir():
        return folder / "snapshots" / named
    try:
        every = [made for made in (folder / "snapshots").iterdir() if made.is_dir()]
    except OSError:
        return None
    return max(every, key=lambda made: made.stat().st_mtime, default=None)


def unfinished(folder: Path) -> bool:
    """Whether part of a file is waiting for the rest."""
    try:
        return any(blob.name.endswith(INCOMPLETE) for blob in (folder / "blobs").iterdir())
    except OSError:
        return False


def _path(text: str) -> Path:
    return Path(os.path.expandvars(text)).expanduser()

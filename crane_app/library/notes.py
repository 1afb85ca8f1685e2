"""Notes about downloads that are not finished, in the user's state folder: what is missing, after whatever happened.

A note says which files belong to the model; how much of them has come is read off the cache.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs

from crane_app.library import hub_cache
from crane_app.library.hub import FILE, REVISION, SHA1, SHA256, File, Listing

LARGEST = 2**20  # bytes


@dataclass(frozen=True)
class Unfinished:
    """A download that can go on. done, total: bytes; missing: the files of which something is missing."""

    repo: str
    revision: str
    done: int
    total: int
    missing: tuple[str, ...]


def keep(cache: Path, revision: str, listing: Listing) -> None:
    """Remember what is to come."""
    path = _path(cache, listing.repo)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps({"cache": str(cache), "revision": revision, **asdict(listing)}), "utf-8")
    fresh.replace(path)


def drop(cache: Path, repo: str) -> None:
    """It is finished, or not wanted."""
    _path(cache, repo).unlink(missing_ok=True)


def every(cache: Path) -> tuple[Unfinished, ...]:
    """All downloads into this cache that can go on, by name."""
    folder = _folder()
    names = sorted(path.stem for path in folder.glob("models--*.json")) if folder.is_dir() else []
    found = (find(cache, hub_cache.repo_of(Path(name))) for name in names if hub_cache.repo_of(Path(name)))
    return tuple(each for each in found if each is not None)


def find(cache: Path, repo: str) -> Unfinished | None:
    """The download of that model, if it is not finished."""
    known = _read(cache, repo)
    if known is None:
        return None
    revision, listing = known
    folder = hub_cache.folder_of(cache, repo)
    came = {file: here(folder, listing.commit, file) for file in listing.files}
    missing = tuple(file.name for file, have in came.items() if have < file.size)
    return Unfinished(repo, revision, sum(came.values()), listing.nbytes, missing)


def throw_away(cache: Path, repo: str) -> None:
    """Give up a download: what came of it goes, but not what another snapshot of the model uses."""
    known = _read(cache, repo)
    if known is None:
        return
    _, listing = known
    folder = hub_cache.folder_of(cache, repo)
    if listing.commit not in _named(folder):
        shutil.rmtree(folder / "snapshots" / listing.commit, ignore_errors=True)
    used = {path.readlink().name for path in (folder / "snapshots").glob("*/*") if path.is_symlink()}
    for file in listing.files:
        (folder / "blobs" / f"{file.etag}{hub_cache.INCOMPLETE}").unlink(missing_ok=True)
        if file.etag not in used:
            (folder / "blobs" / file.etag).unlink(missing_ok=True)
    if not any((folder / "snapshots").glob("*/*")):
        shutil.rmtree(folder, ignore_errors=True)
    drop(cache, repo)


def here(folder: Path, commit: str, file: File) -> int:
    """Bytes of a file that the cache has already."""
    if whole(folder / "snapshots" / commit / file.name, file) or whole(folder / "blobs" / file.etag, file):
        return file.size
    part = folder / "blobs" / f"{file.etag}{hub_cache.INCOMPLETE}"
    return min(part.stat().st_size, file.size) if part.exists() else 0


def whole(path: Path, file: File) -> bool:
    """Whether all of a file is there, by its size."""
    return path.is_file() and path.stat().st_size == file.size


def _named(folder: Path) -> set[str]:
    """The commits that branches and tags of the model mean."""
    names = set()
    for path in (folder / "refs").rglob("*"):
        with contextlib.suppress(OSError, ValueError):
            names.add(path.read_text("ascii").strip())
    return names


def _read(cache: Path, repo: str) -> tuple[str, Listing] | None:
    """The note of a model, if it is of this cache and makes sense."""
    path = _path(cache, repo)
    try:
        if path.stat().st_size > LARGEST:
            return None
        said = json.loads(path.read_text("utf-8"))
        files = tuple(_file(each) for each in said["files"])
        fine = said["cache"] == str(cache) and REVISION.fullmatch(said["revision"]) and SHA1.fullmatch(said["commit"])
        return (said["revision"], Listing(repo, said["commit"], files)) if fine else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _file(said: dict[str, Any]) -> File:
    name, size, etag = said["name"], said["size"], said["etag"]
    if not FILE.fullmatch(name) or not (SHA256.fullmatch(etag) or SHA1.fullmatch(etag)) or not isinstance(size, int):
        raise ValueError(name)
    return File(name, size, etag)


def _path(cache: Path, repo: str) -> Path:
    return _folder() / f"{hub_cache.folder_of(cache, repo).name}.json"


def _folder() -> Path:
    return platformdirs.user_state_path("crane") / "downloads"

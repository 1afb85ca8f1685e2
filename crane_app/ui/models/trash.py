"""Folders into the system's trash, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QFile

from crane_app.errors import CraneError


@dataclass(frozen=True)
class Discarded:
    """Where a folder was, and where it lies now."""

    before: Path
    now: Path


def discard(folder: Path) -> Iterator[None]:
    """Move a folder to the trash; returns Discarded. For a Worker: another disk's trash takes time."""
    if not folder.exists():
        raise CraneError(f"'{folder.name}' is not there any more.")
    file = QFile(str(folder))
    if not file.moveToTrash() or folder.exists():
        raise CraneError(
            f"The system did not take '{folder.name}' into its trash. Delete the folder {folder} yourself."
        )
    return Discarded(folder, Path(file.fileName()))
    yield


def restore(discarded: Discarded) -> Iterator[None]:
    """Bring a folder back from the trash."""
    before, now = discarded.before, discarded.now
    if before.exists() or not now.exists():
        raise CraneError(f"'{before.name}' cannot be brought back; look for it in the trash yourself.")
    try:
        before.parent.mkdir(parents=True, exist_ok=True)
        now.rename(before)
    except OSError as error:
        raise CraneError(f"'{before.name}' cannot be brought back ({error.strerror}).") from error
    # freedesktop.org's Trash specification, 1.0: what was in `files/NAME` is described in `info/NAME.trashinfo`.
    (now.parent.parent / "info" / f"{now.name}.trashinfo").unlink(missing_ok=True)
    return
    yield

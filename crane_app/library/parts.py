"""Large files and folders that appear whole or not at all: written beside their place, then named."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from crane_app.errors import BadInput, CraneError
from crane_app.library.fit import free_disk, human

PREFIX = ".crane-part-"
SPARE = 64 * 10**6  # bytes of disk that stay free
ABANDONED = 3600  # seconds after which a part that nobody writes to is cleared away


@contextlib.contextmanager
def appearing(target: Path, nbytes: int) -> Iterator[Path]:
    """A path beside `target` for a file or folder of about `nbytes`, which gets its name at the end.

    When anything fails, or the program is stopped, nothing is left; what a killed one left is cleared by the next.
    Raises BadInput where something has the name, CraneError where the disk has no room or cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise BadInput(f"'{target}' is there already. Name another place, or remove it first.")
    folder = target.parent
    if not folder.is_dir():
        raise BadInput(f"There is no folder '{folder}'. Make it first.")
    free = free_disk(folder)
    if free < nbytes + SPARE:
        raise CraneError(f"This takes {human(nbytes)}; the disk of '{folder}' has {human(free)} free. Make room first.")
    room: Path | None = None
    try:
        sweep(folder)
        room = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        part = room / "part"
        yield part
        _settle(part, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CraneError(f"The disk of '{folder}' is full. Nothing of '{target.name}' was kept.") from error
        raise CraneError(f"'{target}' cannot be written ({error.strerror or error}). Nothing was kept.") from error
    finally:
        if room is not None:
            shutil.rmtree(room, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Clear what writers left that were killed."""
    for room in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            if time.time() - max(path.stat().st_mtime for path in (room, *room.rglob("*"))) > ABANDONED:
                shutil.rmtree(room, ignore_errors=True)


def _settle(part: Path, target: Path) -> None:
    """Give it the name that it is to have, once it is on the disk; never over something else."""
    for file in sorted(part.rglob("*")) if part.is_dir() else [part]:
        if file.is_file():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
    if part.is_dir():
        if target.exists():  # an empty folder would be replaced
            raise FileExistsError(errno.EEXIST, "something else got this name meanwhile")
        part.rename(target)
        return
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a disk without links
        if target.exists():
            raise FileExistsError(errno.EEXIST, "something else got this name meanwhile") from None
        part.rename(target)

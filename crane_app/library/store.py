"""Computed beginnings of conversations on disk, so that one that is opened again need not be read again.

A folder for each owner, such as a conversation, and in it a file for each block. Who deletes words of a conversation
sets its folder aside, and what is computed from then on has a folder of another name. Blocks are only ever written into
a folder that is there, so that one on its way in another process comes too late. Several processes may use the same
root. What was used longest ago goes first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from crane_app.errors import CraneError

if TYPE_CHECKING:
    from crane_app.library.block_file import Block

log = logging.getLogger(__name__)

LIMIT = 2 << 30  # bytes of all blocks, unless somebody says otherwise
SPARE = 1 << 30  # bytes that are left free on the disk
STALE_S = 3600.0  # after which a file that was never finished is nobody's
OWNER = re.compile(r"((?:chat|key)-[0-9a-z]{1,40})(?:-[0-9a-f]{8})?")  # who it is, and since when
GONE, ENDING, FRESH = ".gone-", ".block", ".new"
DEAD = ".dead"  # in a folder that was set aside and could not be moved
CROWDED = "The disk is nearly full, so nothing more is kept of what was computed for conversations. Make room on it."


class Crowded(CraneError):
    """The disk has too little room to keep what can be computed again."""


def store_root() -> Path:
    """Where this user's blocks are: beside other things that can be made again, which no backup need hold."""
    from platformdirs import user_cache_path

    return user_cache_path("crane", appauthor=False) / "conversations"


class Store:
    """The blocks under `root`. limit: asked before each write, the most bytes of all; spare: to be left free beside it.

    May be called from any thread.
    """

    def __init__(self, root: Path | None = None, limit: Callable[[], int] = lambda: LIMIT, spare: int = SPARE):
        self.root, self.limit, self._spare = root or store_root(), limit, spare
        self._entering = threading.Lock()

    def enter(self, who: str) -> str:
        """The owner whose blocks are those of `who` ("chat-7") until it is set aside; CraneError as from `admit`."""
        with self._entering:
            found = sorted(f.name for f in self._folders_of(who) if f.name != who and _ours(f) and not _dead(f))
            if found:
                return found[0]
            owner = f"{who}-{secrets.token_hex(4)}"
            self.admit(owner)
            return owner

    def admit(self, owner: str) -> None:
        """From now on blocks of this owner are kept. CraneError where the folder cannot be, or is another's."""
        try:
            for folder in (self.root, self._folder(owner)):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not _ours(folder):
                    raise CraneError(f"{folder} belongs to someone else, so nothing is kept there. Remove it.")
                folder.chmod(0o700)
        except OSError as error:
            raise CraneError(f"Nothing can be kept at {self.root}: {error.strerror}. Allow writing there.") from error

    def has(self, owner: str, name: str) -> bool:
        return self._path(owner, name).exists()

    def read(self, owner: str, name: str) -> Block | None:
        """The block, None if there is none; what cannot be trusted is removed."""
        from crane_app.library import block_file

        path = self._path(owner, name)
        try:
            return block_file.read(path, name) if _ours(path.parent) and not _dead(path.parent) else None
        except FileNotFoundError:
            return None
        except block_file.Untrusted as error:
            log.warning("a block on disk is not used: %s", error)
            self.discard(owner, name)
        except OSError as error:
            log.warning("a block on disk cannot be read: %s", error)
        return None

    def write(self, owner: str, block: Block, used: int) -> bool:
        """Keep a block that counts as used at that time, in nanoseconds; False if it is not wanted any more.

        Raises Crowded, or OSError if the disk refuses.
        """
        from crane_app.library import block_file

        path = self._path(owner, block.name)
        if not _ours(path.parent) or _dead(path.parent) or not self._make_room(block.nbytes, used):
            return False
        if self.crowded():
            raise Crowded(CROWDED)
        fresh = path.with_name(f"{block.name}.{secrets.token_hex(8)}{FRESH}")
        try:
            block_file.write(fresh, block)
            os.utime(fresh, ns=(used, used))
            fresh.replace(path)
        except FileNotFoundError:
            return False  # the owner has gone meanwhile
        finally:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
        if _dead(path.parent):
            self.discard(owner, block.name)
            return False
        return True

    def touch(self, owner: str, used: Mapping[str, int]) -> None:
        """These blocks were used at these times."""
        for name, when in used.items():
            with contextlib.suppress(OSError):
                os.utime(self._path(owner, name), ns=(when, when))

    def discard(self, owner: str, name: str) -> None:
        with contextlib.suppress(OSError):
            self._path(owner, name).unlink()

    def set_aside(self, who: str) -> None:
        """Nothing of them is read or written any more until they enter again; the next `sweep` frees the disk."""
        for folder in self._folders_of(who):
            self._set_aside(folder)

    def sweep(self) -> None:
        """Remove what was set aside, here or by a program that ended before it did."""
        for folder in filter(_dead, self._folders()):
            self._set_aside(folder)
        for left in self._entries(GONE):
            shutil.rmtree(left, ignore_errors=True)

    def keep_only(self, kind: str, whom: Collection[str]) -> None:
        """Forget all of a kind that are not among these."""
        for folder in self._folders():
            if folder.name.startswith(f"{kind}-") and _who(folder) not in whom:
                self._set_aside(folder)
        self.sweep()

    def clear(self) -> None:
        """Forget everybody."""
        for kind in ("chat", "key"):
            self.keep_only(kind, ())

    def trim(self) -> None:
        """Remove what is more than the limit, which may have been lowered."""
        self._make_room(0, 0)

    def nbytes(self) -> int:
        """Bytes of all blocks on the disk."""
        return sum(found.st_size for _, found in self._files())

    def crowded(self) -> bool:
        """Whether the disk has too little room for more."""
        there = next((folder for folder in (self.root, *self.root.parents) if folder.is_dir()), None)
        return there is not None and shutil.disk_usage(there).free < self._spare

    # Small steps

    def _make_room(self, nbytes: int, used: int) -> bool:
        """Remove what was used longest ago, and before `used`, until so many bytes fit; False if they do not.

        What is more than the limit goes in any case.
        """
        limit = self.limit()
        wanted = nbytes if nbytes <= limit else 0
        files = sorted(self._files(), key=lambda file: file[1].st_mtime_ns)
        total = sum(found.st_size for _, found in files)
        for path, found in files:
            stale = path.suffix == FRESH and found.st_mtime < time.time() - STALE_S
            surplus = total > limit or (total + wanted > limit and found.st_mtime_ns < used)
            if stale or (surplus and path.suffix == ENDING):
                with contextlib.suppress(OSError):
                    path.unlink()
                total -= found.st_size
        return total + nbytes <= limit

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder in self._folders():
            with contextlib.suppress(OSError):
                for entry in os.scandir(folder):
                    with contextlib.suppress(OSError):
                        if entry.name.endswith((ENDING, FRESH)):
                            yield Path(entry.path), entry.stat(follow_symlinks=False)

    def _folders(self) -> list[Path]:
        return [path for path in self._entries("") if OWNER.fullmatch(path.name)]

    def _folders_of(self, who: str) -> list[Path]:
        self._folder(who)
        return [folder for folder in self._folders() if _who(folder) == who]

    def _entries(self, begin: str) -> list[Path]:
        try:
            return [path for path in self.root.iterdir() if path.name.startswith(begin)]
        except OSError:
            return []

    def _set_aside(self, folder: Path) -> None:
        try:
            folder.rename(self.root / f"{GONE}{secrets.token_hex(8)}")
        except FileNotFoundError:
            pass
        except OSError:  # some systems move no folder with an open file in it
            with contextlib.suppress(OSError):
                (folder / DEAD).touch()
            for block in folder.glob(f"*{ENDING}"):
                with contextlib.suppress(OSError):
                    block.unlink()

    def _folder(self, owner: str) -> Path:
        if not OWNER.fullmatch(owner):
            raise ValueError(f"{owner!r:.60} is no owner of blocks")
        return self.root / owner

    def _path(self, owner: str, name: str) -> Path:
        return self._folder(owner) / f"{name}{ENDING}"


def _who(folder: Path) -> str:
    found = OWNER.fullmatch(folder.name)
    return found[1] if found else ""


def _dead(folder: Path) -> bool:
    """Whether it was set aside where it is."""
    return (folder / DEAD).exists()


def _ours(folder: Path) -> bool:
    """Whether it is a folder, no link, of this user."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and (sys.platform == "win32" or found.st_uid == os.getuid())

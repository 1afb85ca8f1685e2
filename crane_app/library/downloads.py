"""Models from a Hugging Face hub into its standard cache, so that every program that uses the cache has them too.

    for news in Download("Qwen/Qwen3-0.6B").steps(): print(news.done, news.total)

Goes on where it stopped, also after `kill -9`. huggingface_hub itself begins each file anew, so the bytes are fetched
here (transfer.py) and laid out as it does (hub_cache.py). What is not finished is known after a restart (notes.py).
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from crane_app.errors import Cancelled, CraneError
from crane_app.library import fit, hub, hub_cache, notes, transfer
from crane_app.library.hub import Broken, Damaged, File, Listing, Place, Unreachable

if TYPE_CHECKING:
    import httpx2

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before the tries after the first
DAMAGES = 2  # times that a file may come damaged
TELL_S, WINDOW_S, WAIT_S = 0.1, 10.0, 0.5  # seconds: between two news; of which the speed is; of one look at the clock
T = TypeVar("T")
Doing = Literal["asking", "checking", "downloading", "waiting"]


@dataclass(frozen=True)
class Progress:
    """Where a download is. file: the one that comes; done, total: bytes of all files; eta: seconds to go, or None.

    words: why it waits.
    """

    doing: Doing
    file: str = ""
    done: int = 0
    total: int = 0
    bytes_per_s: float = 0.0
    eta: float | None = None
    words: str = ""


Steps = Generator[Progress, None, T]


class Download:
    """One model, brought once. pauses: seconds before each further try; a try that brings more begins them anew."""

    def __init__(
        self,
        repo: str,
        revision: str = "main",
        where: Place | None = None,
        cache: Path | None = None,
        pauses: tuple[float, ...] = PAUSES,
    ):
        """Raises BadInput for what cannot be the id or the revision of a model."""
        hub.checked(repo, revision)
        self.repo, self.revision = repo, revision
        self._where, self._cache = where or hub.place(), cache or hub_cache.root()
        self._folder = hub_cache.folder_of(self._cache, repo)
        self._pauses, self._stop = pauses, transfer.Stop()
        self._before = self._have = self._most = self._total = 0  # bytes: of earlier files, of this one, ever of it
        self._marks: deque[tuple[float, int]] = deque()
        self._told = -math.inf

    def stop(self) -> None:
        """End soon, from any thread; what came is kept, and another Download goes on with it."""
        self._stop.ask()

    def steps(self) -> Steps[Path]:
        """Bring what is missing; returns the model's folder. Closing the generator is a pause.

        Raises Cancelled after `stop`, and CraneError with a sentence for everything else.
        """
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise CraneError(f"HF_HUB_OFFLINE is set, so nothing is downloaded. {self._lacking()}".strip())
        try:
            with alone(self._cache, self.repo, "crane"), hub.client(self._where) as http:
                yield Progress("asking")
                listing = yield from self._patiently(lambda: self._ask(http), "")
                notes.keep(self._cache, self.revision, listing)
                self._total = listing.nbytes
                self._room(listing)
                for file in listing.files:
                    yield from self._bring(http, listing, file)
                _name(self._folder, self.revision, listing.commit)
                notes.drop(self._cache, self.repo)
        except OSError as error:
            raise CraneError(f"{self._cache} cannot be written ({error.strerror or error}). Check the disk.") from error
        return self._folder / "snapshots" / listing.commit

    def _ask(self, http: httpx2.Client) -> Steps[Listing]:
        try:
            return hub.ask(http, self._where, self.repo, self.revision)
        except Unreachable as error:  # told now, and not after half a minute of tries
            raise CraneError(f"{error} {self._lacking()}".strip()) from error
        yield

    def _lacking(self) -> str:
        """What is here and what is not, for who cannot reach the hub."""
        waiting = notes.find(self._cache, self.repo)
        if waiting is None:
            return ""
        here = f"{fit.human(waiting.done)} of {fit.human(waiting.total)} of {self.repo} are here"
        return f"{here}; missing: {', '.join(waiting.missing)}." if waiting.missing else f"{here}."

    def _room(self, listing: Listing) -> None:
        have = sum(notes.here(self._folder, listing.commit, file) for file in listing.files)
        rest, free = listing.nbytes - have, fit.free_disk(self._folder)
        if rest and free < rest + transfer.RESERVE:
            raise transfer.no_room(rest, free)

    def _bring(self, http: httpx2.Client, listing: Listing, file: File) -> Iterator[Progress]:
        """The file in the cache, under its name."""
        blob = self._folder / "blobs" / file.etag
        link = self._folder / "snapshots" / listing.commit / file.name
        if not notes.whole(link, file):
            blob.parent.mkdir(parents=True, exist_ok=True)
            if not notes.whole(blob, file):
                self._have = self._most = 0
                part = transfer.Part(file, blob)
                with alone(self._cache, self.repo, file.etag):
                    yield from self._patiently(lambda: self._fetch(http, listing, part), file.name)
            _link(blob, link)
        self._before, self._have = self._before + file.size, 0
        yield self._news("downloading", file.name)

    def _fetch(self, http: httpx2.Client, listing: Listing, part: transfer.Part) -> Steps[None]:
        self._marks.clear()
        for doing, have in transfer.fetch(http, self._where, listing, part, self._stop):
            self._have = have
            if doing == "downloading":
                self._most = max(self._most, self._have)
            now = time.monotonic()
            if now - self._told >= TELL_S:
                self._told = now
                if doing == "downloading":
                    self._mark(now)
                yield self._news(doing, part.file.name)

    def _patiently(
        self, attempt: Callable[[], Generator[Progress, None, T]], name: str
    ) -> Generator[Progress, None, T]:
        """The attempt's result; after each failure that may pass a pause, and another attempt."""
        tries = best = damages = 0
        while True:
            try:
                return (yield from attempt())
            except Broken as broken:
                tries = 1 if self._most > best else tries + 1
                best, damages = max(best, self._most), damages + isinstance(broken, Damaged)
                if tries > len(self._pauses) or damages >= DAMAGES:
                    raise CraneError(f"{broken} Try again later; what has come is kept.") from broken
                pause = self._pauses[tries - 1] if broken.after is None else broken.after
                yield from self._wait(pause, str(broken), name)

    def _wait(self, seconds: float, words: str, name: str) -> Iterator[Progress]:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            yield self._news("waiting", name, f"{words} Trying again in {math.ceil(left)} s.")
            if self._stop.wait(min(left, WAIT_S)):
                raise Cancelled("The download was stopped; what has come is kept.")

    def _mark(self, now: float) -> None:
        self._marks.append((now, self._have))
        while now - self._marks[0][0] > WINDOW_S:
            self._marks.popleft()

    def _news(self, doing: Doing, file: str, words: str = "") -> Progress:
        speed, done = 0.0, self._before + self._have
        if len(self._marks) > 1 and doing == "downloading":
            (first, had), (last, has) = self._marks[0], self._marks[-1]
            speed = (has - had) / (last - first)
        eta = (self._total - done) / speed if speed > 0 else None
        return Progress(doing, file, done, self._total, speed, eta, words)


def verify(folder: Path) -> Steps[tuple[str, ...]]:
    """Read a model of the cache (its snapshot, or a file in it) against its checksums; returns the damaged files.

    They are thrown away, so that the next download brings them anew. A file that was copied instead of linked has no
    checksum here and is passed over.
    """
    folder = folder.parent if folder.is_file() else folder
    files = [_linked(path) for path in sorted(folder.iterdir()) if path.is_symlink()]
    total, before, damaged = sum(file.size for file in files), 0, []
    for file in files:
        path = folder / file.name
        if hub.SHA256.fullmatch(file.etag) or hub.SHA1.fullmatch(file.etag):
            digest = transfer.fresh(file)
            if path.exists():
                for done in transfer.hashed(path, digest):
                    yield Progress("checking", file.name, before + done, total)
            if digest.hexdigest() != file.etag:
                damaged.append(file.name)
                (path.parent / path.readlink()).unlink(missing_ok=True)
                path.unlink()
        before += file.size
    return tuple(damaged)


def _linked(path: Path) -> File:
    """A file of a snapshot: its blob's name is its checksum."""
    return File(path.name, path.stat().st_size if path.exists() else 0, path.readlink().name)


@contextlib.contextmanager
def alone(cache: Path, repo: str, name: str) -> Iterator[None]:
    """Alone with a model, or with a blob of it: huggingface_hub takes the same locks of blobs."""
    import filelock

    path = cache / ".locks" / hub_cache.folder_of(cache, repo).name / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(path, timeout=0):
            yield
    except filelock.Timeout as error:
        raise CraneError(f"Another program is downloading {repo} already. Wait for it, or stop it.") from error


def _link(blob: Path, link: Path) -> None:
    """The file's name for its blob: a link, or where there may be none the blob itself, as huggingface_hub does."""
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(os.path.relpath(blob, link.parent))
    except OSError:
        blob.replace(link)


def _name(folder: Path, revision: str, commit: str) -> None:
    """Let a branch or tag mean this commit: last, so that what was whole before stays in use until then."""
    if revision != commit:
        path = folder / "refs" / revision
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(commit, "ascii")
        fresh.replace(path)

"""One file from the hub onto the disk: goes on where it stopped, and is whole and right, or is not there.

What has come lies in `BLOB.incomplete` until its checksum is right; only then it gets its name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from crane_app.errors import Cancelled, CraneError
from crane_app.library import fit, hub_cache
from crane_app.library.hub import SHA256, Broken, Damaged, File, Listing, Place, address_of, guarded, refuse

if TYPE_CHECKING:
    import httpx2

BLOCK = 4 * 2**20  # bytes hashed at a time
RESERVE = 100 * 10**6  # bytes that stay free on the disk
Doing = Literal["checking", "downloading"]
LOOK = 64 * 2**20  # bytes after which the disk is looked at again


class Stop:
    """Asks a transfer to end, from any thread; a read that waits for bytes ends too."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._socket: socket.socket | None = None

    def __bool__(self) -> bool:
        return self._asked.is_set()

    def ask(self) -> None:
        self._asked.set()
        open_now = self._socket
        if open_now is not None:
            with contextlib.suppress(OSError):
                open_now.shutdown(socket.SHUT_RDWR)

    def wait(self, seconds: float) -> bool:
        """Wait so long; True as soon as the end is asked for."""
        return self._asked.wait(seconds)

    def watch(self, answer: httpx2.Response | None) -> None:
        """The answer that is being read from now on."""
        stream = answer.extensions.get("network_stream") if answer is not None else None
        self._socket = stream.get_extra_info("socket") if stream is not None else None
        if self:
            self.ask()


class Part:
    """What has come of a file, in `BLOB.incomplete`, with the checksum so far; kept over the tries of one download."""

    def __init__(self, file: File, blob: Path):
        self.file, self.blob = file, blob
        self.path = blob.with_name(blob.name + hub_cache.INCOMPLETE)
        self.digest, self.have = fresh(file), 0

    def forget(self) -> None:
        """Begin anew."""
        self.path.unlink(missing_ok=True)
        self.digest, self.have = fresh(self.file), 0

    def read(self) -> Iterator[int]:
        """Take what lies on the disk into the checksum; yields the bytes so far. What cannot be a part is dropped."""
        size = self.path.stat().st_size if self.path.exists() else -1
        if not self.have <= size <= self.file.size:
            self.forget()
            self.path.touch()
            return
        with self.path.open("rb", buffering=0) as source:
            source.seek(self.have)
            while block := source.read(BLOCK):
                self.digest.update(block)
                self.have += len(block)
                yield self.have


def fetch(http: httpx2.Client, where: Place, listing: Listing, part: Part, stop: Stop) -> Iterator[tuple[Doing, int]]:
    """Make `part` whole and give it its name: yields what is done, and the bytes so far.

    Raises Broken where another try may help, Cancelled when stopped, CraneError otherwise; what came is kept.
    """
    for have in part.read():
        _check(stop)
        yield "checking", have
    if part.have < part.file.size:
        yield from _download(http, where, listing, part, stop)
    if part.digest.hexdigest() != part.file.etag:
        part.forget()
        raise Damaged(f"{part.file.name} came damaged from {where.host} and was thrown away.")
    part.path.replace(part.blob)


def _download(
    http: httpx2.Client, where: Place, listing: Listing, part: Part, stop: Stop
) -> Iterator[tuple[Doing, int]]:
    """The bytes that are not here, each into the file and into its checksum."""
    file = part.file
    headers = {"Range": f"bytes={part.have}-"} if part.have else {}
    _room(part)
    with guarded_stop(where, stop), http.stream("GET", address_of(where, listing, file), headers=headers) as answer:
        stop.watch(answer)
        refuse(answer, where, listing.repo, listing.commit)
        _agree(answer, where, part)
        looked = part.have
        try:
            with part.path.open("ab", buffering=0) as out:
                for piece in answer.iter_raw():
                    _check(stop)
                    if part.have + len(piece) > file.size:
                        raise _wrong_size(where, part)
                    _write(out, piece)
                    part.digest.update(piece)
                    part.have += len(piece)
                    if part.have - looked >= LOOK:
                        looked = part.have
                        _room(part)
                    yield "downloading", part.have
                if part.have < file.size:
                    raise Broken(f"The connection to {where.host} broke.")
                os.fsync(out.fileno())
        except OSError as error:
            raise _disk_error(error, file) from error


def _agree(answer: httpx2.Response, where: Place, part: Part) -> None:
    """That the answer is the rest that was asked for; else what is here is thrown away and all is asked for again."""
    file, have = part.file, part.have
    status, length = answer.status_code, answer.headers.get("Content-Length", "")
    if status == 200 and have:
        part.forget()
        raise Broken(f"{where.host} does not go on where the download stopped; it begins anew.", 0.0)
    if status == 416:
        part.forget()
        raise Broken(f"{where.host} has no rest of {file.name}; it begins anew.", 0.0)
    if status == 206:
        said = answer.headers.get("Content-Range", "").removeprefix("bytes ").strip()
        if said != f"{have}-{file.size - 1}/{file.size}":
            part.forget()
            raise Broken(f"{where.host} sent another part of {file.name} than was asked for.")
    if length.isdigit() and int(length) != file.size - have:
        raise _wrong_size(where, part)


def _wrong_size(where: Place, part: Part) -> Damaged:
    part.forget()
    return Damaged(f"{where.host} sent another size of {part.file.name} than it had announced.")


class guarded_stop(guarded):
    """As hub.guarded; an error after the end was asked for is that end."""

    def __init__(self, where: Place, stop: Stop):
        super().__init__(where)
        self._stop = stop

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._stop.watch(None)
        if self._stop and error is not None and not isinstance(error, GeneratorExit):
            raise Cancelled("The download was stopped; what has come is kept.") from error
        super().__exit__(kind, error, trace)


def fresh(file: File) -> Any:
    """The checksum that the file's blob is named by, before its first byte: sha256, or git's sha1 of a blob."""
    if SHA256.fullmatch(file.etag):
        return hashlib.sha256()
    # https://git-scm.com/book/en/v2/Git-Internals-Git-Objects, "Object Storage"
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)


def hashed(path: Path, digest: Any) -> Iterator[int]:
    """Feed a file to `digest`; yields the bytes so far."""
    done = 0
    with path.open("rb", buffering=0) as source:
        while block := source.read(BLOCK):
            digest.update(block)
            done += len(block)
            yield done


def no_room(needed: int, free: int) -> CraneError:
    """The sentence for a disk that is too full."""
    return CraneError(
        f"The disk has too little room: {fit.human(needed)} are still needed and {fit.human(free)} are free. "
        "Make room, then go on; what has come is kept."
    )


def _room(part: Part) -> None:
    rest, free = part.file.size - part.have, fit.free_disk(part.path.parent)
    if free < rest + RESERVE:
        raise no_room(rest, free)


def _write(out: Any, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[out.write(view) :]


def _disk_error(error: OSError, file: File) -> CraneError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CraneError(f"The disk became full while {file.name} came. Make room, then go on; what has come is kept.")
    return CraneError(f"{file.name} cannot be written ({error.strerror or error}). Check the disk and the folder.")


def _check(stop: Stop) -> None:
    if stop:
        raise Cancelled("The download was stopped; what has come is kept.")

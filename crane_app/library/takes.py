"""What was said into the microphone, on disk from its first block: a WAV, and a JSON beside it with what was heard.

Only this user can read the folder. A take of a program that was killed is whole but for its last moment. Knows nothing
of microphones and models.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import struct
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import platformdirs

from crane_app.errors import CraneError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DAYS, COUNT, SIZE = 7, 50, 1024  # how long, how many, and how many MiB are kept
RATE = 16_000  # hertz
HEADER = 44  # bytes
WIDTH = 2  # bytes of a sample

# Files that tell backups (bford.info/cachedir) and the searches of macOS and GNOME to leave the folder out.
LEAVE_OUT = {
    "CACHEDIR.TAG": "Signature: 8a477f597d28d172789f06886806bc55\n",
    ".metadata_never_index": "",
    ".trackerignore": "",
}

State = Literal["recording", "interrupted", "unwritten", "done", "discarded"]


@dataclass(frozen=True)
class Said:
    """A stretch of a take, in seconds from its start, and its text."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Take:
    """A recording and what was heard in it.

    state: recording (under way), interrupted (its program died), unwritten (some of it is only sound), done, or
    discarded. created: Unix time. model: what wrote the text, or "".
    """

    sound: Path
    created: float
    seconds: float = 0.0
    state: State = "recording"
    text: str = ""
    segments: tuple[Said, ...] = ()
    model: str = ""

    @property
    def id(self) -> str:
        return self.sound.stem


class Takes:
    """All takes of a folder; one that another program is recording is seen as interrupted until it is done."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder or platformdirs.user_data_path("crane") / "takes"
        self._under_way: set[str] = set()

    def record(self) -> Recording:
        """Begin a take; CraneError where nothing can be written."""
        created = time.time()
        name = time.strftime("%Y%m%d-%H%M%S", time.localtime(created)) + f"-{secrets.token_hex(3)}"
        take = Take(self.folder / f"{name}.wav", created)
        file = None
        try:
            self._open_folder()
            file = _private(take.sound)
            _write_facts(take)
        except OSError as error:
            if file is not None:
                file.close()
                with contextlib.suppress(OSError):
                    take.sound.unlink()
            raise _unwritable(error, "Nothing can be recorded") from error
        self._under_way.add(take.id)
        return Recording(self, file, take)

    def all(self) -> list[Take]:
        """Newest first."""
        try:
            found = [self._read(path) for path in self.folder.glob("*.wav")]
        except OSError:
            return []
        return sorted((take for take in found if take is not None), key=lambda take: take.created, reverse=True)

    def update(self, take: Take, **changed: Any) -> Take:
        """Keep what is known of a take now."""
        take = replace(take, **changed)
        try:
            if take.sound.exists():  # deleted meanwhile, perhaps
                _write_facts(take)
        except OSError as error:
            raise _unwritable(error, "The text of this recording cannot be kept") from error
        return take

    def delete(self, takes: Iterable[Take]) -> None:
        """Remove takes for good."""
        for take in takes:
            self._remove(take.sound)
            self._remove(_facts(take.sound))

    def delete_all(self) -> None:
        """Remove every take but the one under way, and whatever else was left by them."""
        self.delete(take for take in self.all() if take.id not in self._under_way)
        for path in self.folder.glob("*.json*"):
            if path.name.partition(".")[0] not in self._under_way:  # X.json, and X.json.new while it is written
                self._remove(path)

    def sweep(self, days: float = DAYS, count: int = COUNT, size: float = SIZE) -> int:
        """Remove what is older than `days`, beyond the newest `count`, or beyond `size` MiB; says how many."""
        now, total, old = time.time(), 0, []
        for number, take in enumerate(self.all(), 1):
            total += HEADER + round(take.seconds * RATE) * WIDTH
            if take.id in self._under_way:
                continue
            if now - take.created > days * 86400 or number > count or total > size * 2**20:
                old.append(take)
        self.delete(old)
        return len(old)

    def done(self, take: Take) -> None:
        """A recording ended."""
        self._under_way.discard(take.id)

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CraneError(f"A recording cannot be deleted ({error.strerror}). Look at {self.folder}.") from error

    def _open_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for name, content in LEAVE_OUT.items():
            path = self.folder / name
            if not path.exists():
                path.write_text(content, "utf-8")

    def _read(self, path: Path) -> Take | None:
        """The take of a WAV; None where it went away meanwhile."""
        try:
            status = path.stat()
        except OSError:
            return None
        seconds = max(0, status.st_size - HEADER) / (RATE * WIDTH)
        lost = Take(path, status.st_mtime - seconds, seconds, "interrupted")
        try:
            take = _take(path, seconds, json.loads(_facts(path).read_text("utf-8")))
        except (OSError, ValueError, TypeError, KeyError):
            return lost
        if take.state == "recording" and take.id not in self._under_way:
            return replace(take, state="interrupted")
        return take


class Recording:
    """A take that grows. What is written is on disk at once, under a header that is right."""

    def __init__(self, takes: Takes, file: BinaryIO, take: Take):
        self._takes, self._file, self.take = takes, file, take
        self._nbytes = 0
        self._over = False

    @property
    def seconds(self) -> float:
        return self._nbytes / (RATE * WIDTH)

    def write(self, samples: NDArray[np.float32]) -> None:
        """Add float32 [n] at RATE. CraneError where the disk takes no more; what came before is kept."""
        import numpy as np

        if self._over:
            return
        data = (np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes()
        try:
            self._put(HEADER + self._nbytes, data)
            self._nbytes += len(data)
            self._put(0, _header(self._nbytes))
        except OSError as error:
            self._over = True
            raise _unwritable(error, "The recording stopped; what was recorded until then is kept") from error

    def finish(self, state: State, text: str = "", segments: Iterable[Said] = (), model: str = "") -> Take | None:
        """End it, with what was heard; once. None where nothing was recorded: then nothing stays of it."""
        self._over = True
        self._file.close()
        self._takes.done(self.take)
        if not self._nbytes:
            self._takes.delete([self.take])
            return None
        self.take = self._takes.update(
            self.take, seconds=self.seconds, state=state, text=text, segments=tuple(segments), model=model
        )
        return self.take

    def _put(self, at: int, data: bytes) -> None:
        self._file.seek(at)
        while data:
            data = data[self._file.write(data) :]


def _take(path: Path, seconds: float, said: dict[str, Any]) -> Take:
    segments = tuple(Said(float(s["start"]), float(s["end"]), str(s["text"])) for s in said["segments"])
    if said["state"] not in ("recording", "interrupted", "unwritten", "done", "discarded"):
        raise ValueError(said["state"])
    return Take(path, float(said["created"]), seconds, said["state"], str(said["text"]), segments, str(said["model"]))


def _facts(sound: Path) -> Path:
    return sound.with_suffix(".json")


def _write_facts(take: Take) -> None:
    """The JSON, whole or as it was."""
    facts = asdict(take)
    del facts["sound"]
    path = _facts(take.sound)
    new = path.with_suffix(".json.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()  # of a program that was killed
        with _private(new) as file:
            file.write(json.dumps(facts, ensure_ascii=False, indent=1).encode())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _private(path: Path) -> BinaryIO:
    """A new file that only this user can read, written without delay."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    return open(descriptor, "wb", buffering=0)  # noqa: PTH123


def _header(nbytes: int) -> bytes:
    """Of a WAV with `nbytes` of 16-bit mono samples (Multimedia Programming Interface 1.0); 4 GiB are the most."""
    nbytes = min(nbytes, 2**32 - 1 - HEADER)
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", nbytes + HEADER - 8, b"WAVE", b"fmt ", 16, 1, 1, RATE, RATE * WIDTH, WIDTH, 8 * WIDTH, b"data", nbytes,
    )  # fmt: skip


def _unwritable(error: OSError, what: str) -> CraneError:
    return CraneError(f"{what} ({error.strerror}). Free some space on the disk, or look at the folder of takes.")

"""Sound into WAV, FLAC, MP3 and Ogg files: the whole file or nothing, and a full disk is told as one."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from crane_app.errors import BadInput, CraneError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# By the end of the file's name: libsndfile's names of container and encoding.
FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
}
BLOCK = 16_384  # samples in one call: libsndfile's Vorbis encoder keeps a whole call on its stack


def check(path: Path) -> None:
    """Raise CraneError where no sound can be written at `path`; touches nothing."""
    if path.suffix.lower() not in FORMATS:
        known = ", ".join(FORMATS)
        raise BadInput(f"'{path.name}' is of no kind that Crane can write. Let the name end in one of: {known}")
    if path.is_reserved():
        raise BadInput(f"Windows keeps the name '{path.name}' for itself. Choose another one.")
    if path.is_dir():
        raise CraneError(f"'{path}' is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise CraneError(f"There is no folder '{path.parent}'. Make it first.")


class SoundFile:
    """A mono file in the making: a context in which blocks of sound are written.

    It takes the place of an older file only when the context ends well; otherwise nothing is left of it.
    """

    def __init__(self, path: Path, rate: int) -> None:
        check(path)
        self._path = path.resolve()  # a link stays a link
        self._rate = rate

    def __enter__(self) -> SoundFile:
        import soundfile

        container, encoding = FORMATS[self._path.suffix.lower()]
        try:
            # Unbuffered: what does not fit is told by the write itself, not by a later seek or close.
            file = tempfile.NamedTemporaryFile("w+b", 0, dir=self._path.parent, prefix=".crane-", delete=False)
        except OSError as error:
            raise _unwritten(self._path, error) from error
        self._disk = _Disk(file)
        try:
            self._sound = soundfile.SoundFile(
                self._disk, "w", self._rate, 1, subtype=encoding, format=container, closefd=False
            )
        except BaseException as error:
            self._leave()
            self._raise_for_disk()
            if isinstance(error, soundfile.SoundFileError):
                raise CraneError(f"{container} does not take {self._rate} samples a second. Choose WAV.") from error
            raise
        return self

    def write(self, samples: NDArray[np.float32]) -> None:
        """Append float32 [n]; what is beyond 1 is cut off."""
        import numpy as np

        for start in range(0, len(samples), BLOCK):
            self._sound.write(np.clip(samples[start : start + BLOCK], -1, 1))
            self._raise_for_disk()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._sound.close()
            if kind is None:
                self._raise_for_disk()
                self._disk.settle(_mode(self._path))
                Path(self._disk.name).replace(self._path)
        except OSError as problem:
            raise _unwritten(self._path, problem) from problem
        finally:
            self._leave()

    def _raise_for_disk(self) -> None:
        if self._disk.problem is not None:
            raise _unwritten(self._path, self._disk.problem) from self._disk.problem

    def _leave(self) -> None:
        self._disk.close()
        Path(self._disk.name).unlink(missing_ok=True)


class _Disk:
    """A file for libsndfile, through which no exception can pass: the first problem is kept instead."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.name = file.name
        self.problem: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data)
        try:
            while left and self.problem is None:
                left = left[self._file.write(left) :]
        except OSError as problem:
            self.problem = problem
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def settle(self, mode: int) -> None:
        """On the disk, with these permissions."""
        os.fsync(self._file.fileno())
        self._file.close()
        Path(self.name).chmod(mode)

    def close(self) -> None:
        self._file.close()


def _mode(path: Path) -> int:
    """The permissions that the file has, or a new one would get."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _unwritten(path: Path, error: OSError) -> CraneError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CraneError(f"The disk is full; '{path.name}' was not written. Free some room, or choose another folder.")
    return CraneError(f"'{path}' cannot be written ({error.strerror}). Check the folder and disk.")

"""Sound files as blocks of mono float32 at the rate a model wants, one block in memory at a time.

What a file is, its content decides, not its name. Knows nothing of speech.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from crane_app.errors import BadInput
from crane_app.media.opening import opened

RATE = 16_000  # hertz; what speech models hear
BLOCK = 512  # samples: 32 ms at RATE
READ = 1 << 16  # frames taken from a file at once
RATES = (1_000, 768_000)  # hertz; what lies outside is a damaged header
ENDLESS = 1 << 62  # frames; what libsndfile says of a FLAC that does not say how many it has
FLOOR = -80.0  # decibels; what counts as silence


class Sound:
    """An open sound file: its `rate` in hertz, `channels`, and `seconds` as its header says. Raises BadInput.

    Close it, or use `with`. longest: seconds; what is longer is refused, since minutes of silence are a few bytes of
    FLAC. No more is decoded than the header says.
    """

    def __init__(self, source: str | os.PathLike[str], name: str = "", longest: float = math.inf) -> None:
        self.name = f"'{_shown(name or str(source))}'"
        handle = opened(source, self.name, "a sound file")
        try:
            self._file = _decoder(handle, self.name)
        except BaseException:
            handle.close()
            raise
        self._handle = handle
        self.rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.seconds: float = max(self._file.frames, 0) / self.rate
        if self.seconds > longest:
            self.close()
            raise BadInput(f"{self.name} is longer than {longest / 60:g} minutes. Send it in parts.")

    def blocks(self, rate: int = RATE, size: int = BLOCK) -> Iterator[np.ndarray]:
        """The whole file as float32 [size] at `rate`, the last block as long as it comes."""
        kept = np.zeros(0, np.float32)
        for piece in self._resampled(rate):
            kept = np.concatenate([kept, piece])
            whole = len(kept) - len(kept) % size
            for first in range(0, whole, size):
                yield kept[first : first + size]
            kept = kept[whole:]
        if len(kept):
            yield kept

    def close(self) -> None:
        self._file.close()
        self._handle.close()

    def __enter__(self) -> Sound:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _resampled(self, rate: int) -> Iterator[np.ndarray]:
        if rate == self.rate:
            yield from self._mono()
            return
        import soxr

        stream = soxr.ResampleStream(self.rate, rate, 1, dtype="float32", quality="HQ")
        for piece in self._mono():
            yield stream.resample_chunk(piece)
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)

    def _mono(self) -> Iterator[np.ndarray]:
        self._decoded(self._rewind)
        while True:
            frames = self._decoded(lambda: self._file.read(READ, dtype="float32", always_2d=True))
            if not len(frames):
                return
            if not np.isfinite(frames).all():
                raise BadInput(f"{self.name} holds values that are not sound. Record or save it again.")
            yield frames.mean(axis=1)

    def _decoded(self, step: Callable[[], Any]) -> Any:
        """The result of `step`; whatever the decoder stumbles over means that the file is damaged."""
        import soundfile

        try:
            return step()
        except (soundfile.SoundFileError, OSError) as error:
            raise BadInput(f"{self.name} is damaged ({_why(error)}). Get or save it again.") from error

    def _rewind(self) -> None:
        if self._file.seekable() and self._file.frames:
            self._file.seek(0)


def level(block: np.ndarray) -> float:
    """Loudness of float32 [n] in decibels below full scale: FLOOR to 0, the root of the mean square."""
    if not len(block):
        return FLOOR
    power = float(np.mean(np.square(block, dtype=np.float64)))
    return float(np.clip(10 * np.log10(max(power, 1e-12)), FLOOR, 0.0))


def _decoder(handle: BinaryIO, name: str) -> Any:
    """The open file as soundfile reads it; handed over without its name, from which soundfile would guess."""
    import soundfile

    head = handle.read(4096)
    handle.seek(0)
    if not head:
        raise BadInput(f"{name} is empty. Get or save it again.")
    try:
        file = soundfile.SoundFile(_Nameless(handle))
    except soundfile.SoundFileError as error:
        raise BadInput(_why_refused(head, name)) from error
    if not RATES[0] <= file.samplerate <= RATES[1]:
        raise BadInput(f"{name} claims {file.samplerate} samples a second. Its header is damaged; save it again.")
    if file.frames >= ENDLESS:
        raise BadInput(f"{name} does not say how long it is. Save it again, to a file instead of a pipe.")
    if file.format == "OGG" and file.frames <= 0:  # how libsndfile opens one without its last page
        raise BadInput(f"{name} is an Ogg that is cut off, or has no sound in it. Get or save it again.")
    return file


class _Nameless:
    def __init__(self, file: BinaryIO) -> None:
        self._seek, self.read, self.tell = file.seek, file.read, file.tell
        self.readinto = file.readinto  # type: ignore[attr-defined]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Where it is then: where it was, for a place before the start, which damaged headers lead to.

        libsndfile compares; an error here would only be printed, as it cannot pass through C.
        """
        with contextlib.suppress(OSError, ValueError):
            self._seek(offset, whence)
        return self.tell()


# First bytes -> what the file is and what to do about it.
_OTHERS = {
    b"RIFF": "is a damaged WAV. Get or save it again",
    b"fLaC": "is a damaged FLAC. Get or save it again",
    b"OggS": "is a damaged Ogg, or one with a film in it. Save its sound as WAV",
    b"ID3": "is a damaged MP3. Get or save it again",
    b"FORM": "is a damaged AIFF. Get or save it again",
    b"\x1aE\xdf\xa3": "is a film (Matroska or WebM). Save its sound as WAV, FLAC or MP3",
    b"0&\xb2u": "is a Windows Media file. Save it as WAV, FLAC or MP3",
    b"%PDF": "is a PDF, not sound. Open it in Pictures",
    b"\x89PNG": "is a picture, not sound. Open it in Pictures",
    b"\xff\xd8\xff": "is a picture, not sound. Open it in Pictures",
    b"PK\x03\x04": "is an archive or an office document. Unpack it first",
}


def _why_refused(head: bytes, name: str) -> str:
    """The sentence for a file that starts with `head` and that soundfile cannot open."""
    for first, what in _OTHERS.items():
        if head.startswith(first):
            return f"{name} {what}."
    if head[4:8] == b"ftyp":
        return f"{name} is an M4A or a film, which Crane cannot open. Save its sound as WAV, FLAC or MP3."
    if _is_text(head):
        return f"{name} holds plain text, not sound."
    return f"{name} is not a sound file that Crane can open. Save it as WAV, FLAC, MP3 or Ogg."


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", "ignore")
    lost = len(head) - len(text.encode())
    # A cut at the end may break one sign of up to four bytes.
    return lost <= 3 and not any(c < " " and c not in "\t\n\r\f" for c in text)


def _shown(name: str) -> str:
    """A file name on one line, whatever signs are in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _why(error: BaseException) -> str:
    return _shown(str(error)) or type(error).__name__

"""The speaker: blocks of sound out through PortAudio, and a sentence for everything that can be wrong with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crane_app.errors import CraneError, Unsupported
from crane_app.platform import portaudio

LATENCY = 0.1  # seconds of sound that the device has in hand
NO_DEVICE = "There is no speaker on this machine. Connect one and try again, or save the speech as a file."
GONE = "The speaker is gone. Connect it or choose another one, then play again; the place is kept."


class Output(Protocol):
    """An open speaker."""

    rate: int

    def write(self, block: NDArray[np.float32]) -> None:
        """Play float32 [n]; returns when the device has taken it, and raises CraneError when it is gone."""
        ...

    def finish(self) -> None:
        """Wait until all of it was heard, and close."""
        ...

    def drop(self) -> None:
        """Fall silent at once, and close; harmless when closed."""
        ...


class Speaker:
    """A device by its name, "" for the system's own."""

    def __init__(self, device: str = "") -> None:
        self.device = device

    def open(self, rate: int) -> Output:
        """Open it for mono sound of `rate` samples a second; raises Unsupported where that cannot be."""
        library = portaudio.library()
        try:
            portaudio.refresh()
            with portaudio.steady():
                device = _number(library, self.device) if self.device else None
                return _Stream(library, device, rate)
        except (library.PortAudioError, ValueError) as error:
            if not _outputs(library):
                raise Unsupported(NO_DEVICE) from error
            raise Unsupported(f"The speaker cannot be opened ({portaudio.why(error)}). Choose another one.") from error


def devices() -> tuple[str, ...]:
    """The names of all speakers; none where there is no sound at all."""
    try:
        return tuple(dict.fromkeys(name for _, name in _outputs(portaudio.library())))
    except Unsupported:
        return ()


class _Stream:
    def __init__(self, library: Any, device: int | None, rate: int) -> None:
        self.rate = rate
        self._error = library.PortAudioError
        self._resampler: Any = None
        played = _playable(library, device, rate)
        if played != rate:
            import soxr

            self._resampler = soxr.ResampleStream(rate, played, 1, dtype="float32")
        self._stream = portaudio.keep(
            library.OutputStream(samplerate=played, device=device, channels=1, dtype="float32", latency=LATENCY)
        )
        try:
            self._stream.start()
        except self._error:
            self.drop()
            raise

    def write(self, block: NDArray[np.float32]) -> None:
        self._write(block)

    def finish(self) -> None:
        if self._resampler is not None:
            self._write(np.zeros(0, np.float32), last=True)
        with self._told():
            self._stream.stop()
            self._stream.close()

    def drop(self) -> None:
        with contextlib.suppress(self._error):
            self._stream.abort(ignore_errors=True)
            self._stream.close(ignore_errors=True)

    def _write(self, block: NDArray[np.float32], last: bool = False) -> None:
        if self._resampler is not None:
            block = self._resampler.resample_chunk(block, last=last)
        with self._told():
            self._stream.write(block.reshape(-1, 1))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise CraneError(GONE) from error


def _playable(library: Any, device: int | None, rate: int) -> int:
    """The rate itself, or the device's own where it takes no other, as under WASAPI."""
    try:
        library.check_output_settings(device=device, channels=1, dtype="float32", samplerate=rate)
    except library.PortAudioError:
        return int(library.query_devices(device, "output")["default_samplerate"])
    return rate


def _outputs(library: Any) -> list[tuple[int, str]]:
    """Number and name of every device of the usual sound system that can play; Windows lists each under four."""
    try:
        system = library.query_hostapis(library.default.hostapi)
        every = [(number, library.query_devices(number)) for number in system["devices"]]
    except library.PortAudioError:
        return []
    return [(number, device["name"]) for number, device in every if device["max_output_channels"] > 0]


def _number(library: Any, name: str) -> int:
    for number, found in _outputs(library):
        if found == name:
            return number
    raise Unsupported(f"The speaker '{name:.80}' is not connected. Connect it, or choose another one.")

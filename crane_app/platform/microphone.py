"""The microphone as blocks of mono float32 at the rate a model wants, and its faults as sentences.

PortAudio opens the device at the device's own rate; the resampling is done here. While a Microphone is open and nobody
takes blocks, it keeps the last moment, so that a word begun before the key was down is whole.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crane_app.errors import CraneError
from crane_app.platform import portaudio

log = logging.getLogger(__name__)

RATE = 16_000  # hertz; what speech models hear
BLOCK = 512  # samples: 32 ms at RATE
PRE_ROLL_S = 0.3  # what is kept of the time before the blocks are asked for
LOST_S = 3.0  # without a sign of life, a microphone is gone
POLL_S = 0.1

SETTINGS = {
    "darwin": "System Settings, Privacy & Security, Microphone",
    "win32": "Settings, Privacy & security, Microphone",
}
SILENCE = (
    "Only silence comes from the microphone: the system may not let Crane use it, or it is switched off. Look at "
    + SETTINGS.get(sys.platform, "your system's sound settings")
    + "."
)


class MicrophoneLost(CraneError):
    """The microphone stopped while it was in use."""


@dataclass(frozen=True)
class Device:
    """A microphone as the system lists it. rate: its own, in hertz; default: what the system would take."""

    index: int
    name: str
    rate: int
    channels: int
    default: bool


def devices(fresh: bool = False) -> list[Device]:
    """The microphones of this machine; Unsupported without PortAudio. fresh: as they are now, unless sound is on."""
    sound = portaudio.library()
    try:
        if fresh:
            portaudio.refresh()
        with portaudio.steady():
            return _listed(sound)
    except sound.PortAudioError as error:
        raise CraneError(
            f"The sound system does not answer ({portaudio.why(error)}). Start it, or connect a device."
        ) from error


class Microphone:
    """One device, opened by `open`; `device` is its name, or "" for the system's choice."""

    def __init__(self, device: str = "", rate: int = RATE, block: int = BLOCK):
        self.device, self.rate, self.block = device, rate, block
        self._stream: Any = None
        self._own_rate = rate
        self._lock = threading.Lock()
        self._ring: deque[NDArray[np.float32]] = deque()
        self._taken: queue.SimpleQueue[NDArray[np.float32]] | None = None
        self._ended = threading.Event()
        self._heard = 0.0

    @property
    def opened(self) -> bool:
        return self._stream is not None and not self._dead()

    def open(self) -> None:
        """Start listening, without keeping more than a moment. CraneError where that cannot be."""
        if self.opened:
            return
        self.close()
        sound = portaudio.library()
        with portaudio.steady():
            device = self._find()
            self._own_rate = device.rate
            self._ended.clear()
            self._ring.clear()
            try:
                self._begin(sound, device)
            except sound.PortAudioError as error:
                self.close()
                reason = portaudio.why(error)
                raise CraneError(
                    f"The microphone '{device.name}' cannot be opened ({reason}). Another program may hold it."
                ) from error

    def blocks(self, until: threading.Event) -> Iterator[NDArray[np.float32]]:
        """What is said from a moment before now, as float32 [block]; the last one may be shorter.

        Ends when `until` is set, after what has come; the device stays open. MicrophoneLost, after everything that
        came, when the device goes away.
        """
        self.open()
        with self._lock:
            taken: queue.SimpleQueue[NDArray[np.float32]] = queue.SimpleQueue()
            for piece in self._ring:
                taken.put(piece)
            self._ring.clear()
            self._taken = taken
        try:
            yield from _cut(_resampled(self._pieces(taken, until), self._own_rate, self.rate), self.block)
        finally:
            with self._lock:
                if self._taken is taken:
                    self._taken = None
        if not until.is_set():
            name = self.device or "the system's"
            raise MicrophoneLost(f"The microphone ({name}) stopped. What was said until then is kept.")

    def close(self) -> None:
        """Let the device go. From any thread."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _begin(self, sound: Any, device: Device) -> None:
        self._stream = portaudio.keep(
            sound.InputStream(
                device=device.index,
                samplerate=device.rate,
                channels=min(device.channels, 2),  # one alone is refused by some Windows devices
                dtype="float32",
                callback=self._came,
                finished_callback=self._ended.set,
            )
        )
        self._heard = time.monotonic()
        self._stream.start()

    def _find(self) -> Device:
        there = devices()
        if not there:
            raise CraneError("There is no microphone. Connect one and try again.")
        if not self.device:
            return next((each for each in there if each.default), there[0])
        for each in there:
            if each.name == self.device:
                return each
        raise CraneError(f"The microphone '{self.device}' is not there. Connect it, or choose another one.")

    def _came(self, frames: NDArray[np.float32], _count: int, _time: Any, status: Any) -> None:
        """On PortAudio's thread: frames [n, channels]."""
        if status:
            log.warning("microphone: %s", status)
        piece = frames.mean(axis=1, dtype=np.float32)
        self._heard = time.monotonic()
        with self._lock:
            if self._taken is not None:
                self._taken.put(piece)
                return
            self._ring.append(piece)
            while sum(map(len, self._ring)) - len(self._ring[0]) >= PRE_ROLL_S * self._own_rate:
                self._ring.popleft()

    def _pieces(
        self, taken: queue.SimpleQueue[NDArray[np.float32]], until: threading.Event
    ) -> Iterator[NDArray[np.float32]]:
        while True:
            over = until.is_set() or self._dead()  # asked before the queue is, so that nothing in it is lost
            try:
                yield taken.get_nowait() if over else taken.get(timeout=POLL_S)
            except queue.Empty:
                if over:
                    return

    def _dead(self) -> bool:
        return self._ended.is_set() or time.monotonic() - self._heard > LOST_S


def _resampled(pieces: Iterator[NDArray[np.float32]], own: int, rate: int) -> Iterator[NDArray[np.float32]]:
    if own == rate:
        yield from pieces
        return
    import soxr

    stream = soxr.ResampleStream(own, rate, 1, dtype="float32", quality="HQ")
    for piece in pieces:
        yield stream.resample_chunk(piece)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _cut(pieces: Iterator[NDArray[np.float32]], size: int) -> Iterator[NDArray[np.float32]]:
    kept = np.zeros(0, np.float32)
    for piece in pieces:
        kept = np.concatenate([kept, piece])
        whole = len(kept) - len(kept) % size
        for first in range(0, whole, size):
            yield kept[first : first + size]
        kept = kept[whole:]
    if len(kept):
        yield kept


def _listed(sound: Any) -> list[Device]:
    heard = [each for each in sound.query_devices() if each["max_input_channels"] > 0]
    default = None
    with contextlib.suppress(sound.PortAudioError):  # a system may have microphones and choose none of them
        default = sound.query_devices(kind="input")["index"] if heard else None
    return [
        Device(d["index"], d["name"], int(d["default_samplerate"]), d["max_input_channels"], d["index"] == default)
        for d in heard
    ]

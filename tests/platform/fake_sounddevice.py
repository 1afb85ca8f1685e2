"""A sound system with the microphones that a test plugs in."""

from __future__ import annotations

import numpy as np


class PortAudioError(Exception):
    pass


class FakeSoundDevice:
    """Stands for the module sounddevice; `streams` are those that were opened, newest last."""

    PortAudioError = PortAudioError

    def __init__(self, *inputs: tuple[str, int, int], default: int | None = 0):
        self.inputs, self.default = list(inputs), default  # name, rate, channels; default: None where none is chosen
        self.streams: list[FakeStream] = []
        self.refuses: str = ""
        self.restarts = 0
        self.starts = True

    def query_devices(self, kind: str | None = None):
        speaker = {"name": "Loudspeaker", "max_input_channels": 0, "default_samplerate": 48_000.0}
        every = [speaker] + [
            {"name": name, "max_input_channels": channels, "default_samplerate": float(rate)}
            for name, rate, channels in self.inputs
        ]
        listed = [{"index": index, **each} for index, each in enumerate(every)]
        if kind is None:
            return listed
        if self.default is None:
            raise PortAudioError("Error querying device -1")
        return listed[1 + self.default]

    def InputStream(self, **asked):
        if self.refuses:
            raise PortAudioError(f"Error opening InputStream: {self.refuses} [PaErrorCode -9996]", -9996)
        self.streams.append(FakeStream(**asked))
        return self.streams[-1]

    def _terminate(self) -> None:
        assert not any(stream.open for stream in self.streams), "the list is renewed while a device is open"

    def _initialize(self) -> None:
        if not self.starts:
            raise PortAudioError("Error initializing PortAudio: Unanticipated host error [PaErrorCode -9999]")
        self.restarts += 1


class FakeStream:
    def __init__(self, device, samplerate, channels, dtype, callback, finished_callback):
        assert dtype == "float32"
        self.device, self.rate, self.channels = device, samplerate, channels
        self._callback, self._finished = callback, finished_callback
        self.open = False

    @property
    def closed(self) -> bool:
        return not self.open

    def start(self) -> None:
        self.open = True

    def close(self) -> None:
        if self.open:
            self.open = False
            self._finished()

    def unplug(self) -> None:
        self.close()

    def hear(self, samples: np.ndarray, piece: int = 480) -> None:
        """Deliver float [n] on every channel, as the sound system does."""
        assert self.open
        frames = np.repeat(np.asarray(samples, np.float32)[:, None], self.channels, axis=1)
        for first in range(0, len(frames), piece):
            part = frames[first : first + piece].copy()
            self._callback(part, len(part), None, None)
            part[:] = np.nan  # PortAudio uses its buffer again

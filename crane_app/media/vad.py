"""Where somebody speaks: Silero VAD 6 in numpy, block by block, and the rules that make segments of its answers.

Knows no tensor library and no files but its own tensors. Computed in float64, for where speech begins and ends the
answer is steep: float32 is off by up to 1e-5 there, the package's own too. A block of 32 ms takes about 0.25 ms.
Reference: silero_vad 6.2.3, silero_vad.jit and utils_vad.get_speech_timestamps (MIT, assets/silero/LICENSE).
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from crane_app.errors import BadInput

FILE = Path(__file__).parents[1] / "assets" / "silero" / "silero_vad_6.npz"
BLOCKS = {16000: 512, 8000: 256}  # samples of a block, by rate in hertz
STRIDES = (1, 2, 2, 1)
CELLS = 128
LOUDEST = 2.0**20  # far past any sound; squares of what is larger overflow float32
HYSTERESIS = 0.15  # by how much speech must fall below the threshold to end
BREATH_MS = 98  # a silence of this length is a place to cut speech that is too long

Event = tuple[Literal["start", "end"], int]
Segment = tuple[int, int]  # first sample, and the one after the last


class Silero:
    """Probability of speech, block after block; remembers the sound so far until `reset`."""

    def __init__(self, rate: int = 16000):
        if rate not in BLOCKS:
            raise ValueError(f"speech is found at 16000 or 8000 Hz, not {rate}")
        self.rate, self.block = rate, BLOCKS[rate]
        self._net = _network(rate)
        self.reset()

    def reset(self) -> None:
        """Forget what was heard: the next block begins a new recording."""
        self._context = np.zeros(self.block // 8, np.float32)
        self._hidden = self._cell = np.zeros(CELLS)

    def probability(self, block: np.ndarray) -> float:
        """How likely it is, from 0 to 1, that `block` float32 [512 at 16 kHz, 256 at 8 kHz] holds speech."""
        if block.shape != (self.block,):
            raise ValueError(f"a block at {self.rate} Hz is [{self.block}], not {list(block.shape)}")
        block = block.astype(np.float32, copy=False)
        if not np.abs(block).max() < LOUDEST:
            raise BadInput("The recording holds values that are not sound. Record it again, or convert it to WAV.")
        x = self._net.features(np.concatenate([self._context, block]))
        self._context = block[-self.block // 8 :].copy()
        self._hidden, self._cell = self._net.remember(x, self._hidden, self._cell)
        return self._net.answer(self._hidden)


@dataclass(frozen=True)
class Network:
    """The tensors of one rate, turned for products from the left.

    window [n]: Hann. convs: weight [3 * inputs, outputs] and bias of each. cells: [2 * CELLS, 4 * CELLS] for input and
    hidden state, gates in the order input, forget, cell, output.
    """

    window: np.ndarray
    convs: tuple[tuple[np.ndarray, np.ndarray], ...]
    cells: np.ndarray
    cells_bias: np.ndarray
    head: np.ndarray
    head_bias: np.ndarray

    @property
    def nbytes(self) -> int:
        every = (self.window, *(x for pair in self.convs for x in pair), self.cells, self.cells_bias, self.head)
        return sum(x.nbytes for x in every) + self.head_bias.nbytes

    def features(self, x: np.ndarray) -> np.ndarray:
        """[CELLS] from a block after its context."""
        n = len(self.window)
        x = np.concatenate([x, x[-2 : -2 - n // 4 : -1]])
        frames = np.lib.stride_tricks.sliding_window_view(x, n)[:: n // 2]
        y: np.ndarray = np.abs(np.fft.rfft(frames * self.window, axis=-1))
        for (weight, bias), stride in zip(self.convs, STRIDES, strict=True):
            y = np.pad(y, ((1, 1), (0, 0)))
            taps = np.stack([y[i : i + 3].ravel() for i in range(0, len(y) - 2, stride)])
            y = np.maximum(taps @ weight + bias, 0)
        return y.ravel()

    def remember(self, x: np.ndarray, hidden: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The states [CELLS] of the LSTM after x."""
        gates = np.concatenate([x, hidden]) @ self.cells + self.cells_bias
        into, keep, new, out = np.split(gates, 4)
        cell = _sigmoid(keep) * cell + _sigmoid(into) * np.tanh(new)
        return _sigmoid(out) * np.tanh(cell), cell

    def answer(self, hidden: np.ndarray) -> float:
        return float(_sigmoid(np.maximum(hidden, 0) @ self.head + self.head_bias))


_loaded: weakref.WeakValueDictionary[int, Network] = weakref.WeakValueDictionary()
_loading = threading.Lock()


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)  # exp would overflow


def _turned(weight: np.ndarray) -> np.ndarray:
    """[taps * inputs, outputs] from [outputs, inputs, taps]."""
    return np.reshape(weight.transpose(2, 1, 0), (-1, len(weight)))


def held() -> int:
    """Bytes of what is loaded in this process; it goes with the last Silero that listens."""
    return sum(network.nbytes for network in list(_loaded.values()))


def _network(rate: int) -> Network:
    """The one of that rate, shared by all who listen; none is kept where nobody does."""
    with _loading:
        found = _loaded.get(rate)
        if found is None:
            found = _loaded[rate] = _read(rate)
        return found


def _read(rate: int) -> Network:
    n = BLOCKS[rate] // 2
    with np.load(FILE) as file:
        held = [name for name in file.files if name.startswith(f"{rate}.")]
        w = {name.partition(".")[2]: file[name].astype(np.float64) for name in held}
    return Network(
        window=np.hanning(n + 1)[:n],
        convs=tuple((_turned(w[f"conv{i}.weight"]), w[f"conv{i}.bias"]) for i in (1, 2, 3, 4)),
        cells=np.concatenate([w["lstm.weight_ih"], w["lstm.weight_hh"]], axis=1).T.copy(),
        cells_bias=w["lstm.bias_ih"] + w["lstm.bias_hh"],
        head=w["head.weight"][0, :, 0],
        head_bias=w["head.bias"][0],
    )


class Rules:
    """Probabilities of blocks -> beginnings and ends of speech, as soon as they are certain, without padding.

    Speech begins with a block at or above the threshold, and counts once it has lasted `least` samples. It ends with
    the first block of `silence` samples that stay below the threshold by HYSTERESIS. What lasts longer than `longest`
    is cut at its longest breath, or where it stands if it has none.
    """

    def __init__(self, rate: int, threshold: float, least: float, silence: float, longest: float):
        self.threshold, self.low = threshold, max(threshold - HYSTERESIS, 0.01)
        self.least, self.silence, self.longest = least, silence, longest
        self.breath = rate * BREATH_MS / 1000
        self.block = BLOCKS[rate]
        self.at = 0  # first sample of the next block
        self._start: int | None = None
        self._certain = False
        self._quiet: int | None = None  # where the silence began that may be the end
        self._breaths: list[Segment] = []

    def take(self, probability: float) -> list[Event]:
        """What the next block makes certain."""
        at, self.at = self.at, self.at + self.block
        loud = probability >= self.threshold
        if loud and self._quiet is not None:
            if at - self._quiet > self.breath:
                self._breaths.append((self._quiet, at))
            self._quiet = None
        if self._start is None:
            self._start = at if loud else None
            return []
        events: list[Event] = []
        if at - self._start > self.longest:
            events += self._cut(at)
            if self._start is None:
                return events
        if probability < self.low:
            self._quiet = at if self._quiet is None else self._quiet
            if at - self._quiet >= self.silence:
                return events + self._end(self._quiet)
        return events + self._confirm(at if self._quiet is None else self._quiet)

    def finish(self, samples: int) -> list[Event]:
        """What the end of the recording after `samples` makes certain."""
        return [] if self._start is None else self._end(samples)

    def _confirm(self, at: int) -> list[Event]:
        """The beginning, if speech from there to `at` counts and was not told of yet."""
        assert self._start is not None
        if self._certain or at - self._start <= self.least:
            return []
        self._certain = True
        return [("start", self._start)]

    def _end(self, at: int) -> list[Event]:
        events = self._confirm(at)
        if self._certain:
            events.append(("end", at))
        self._start, self._quiet, self._certain = None, None, False
        self._breaths.clear()
        return events

    def _cut(self, at: int) -> list[Event]:
        """End speech that is too long; after a breath the rest of it has begun already."""
        assert self._start is not None
        longest = max(self._breaths, key=lambda breath: breath[1] - breath[0], default=(at, at))
        events: list[Event] = [] if self._certain else [("start", self._start)]
        self._certain = True
        resumed = longest[1] if self._breaths else None
        events += self._end(longest[0])
        self._start = resumed
        return events


class SpeechFinder:
    """Beginnings and ends of speech in a stream of blocks, in samples from its start.

    A beginning is told once the speech has lasted `min_speech_ms`, an end once the silence after it has lasted
    `min_silence_ms`; both lie `speech_pad_ms` outside the speech. Segments never overlap.
    """

    def __init__(
        self,
        rate: int = 16000,
        threshold: float = 0.5,
        min_speech_ms: float = 250,
        min_silence_ms: float = 100,
        speech_pad_ms: float = 30,
        max_speech_s: float = math.inf,
    ):
        self.silero = Silero(rate)
        self.rate, self.block = rate, self.silero.block
        self.pad = rate * speech_pad_ms / 1000
        longest = rate * max_speech_s - self.block - 2 * self.pad
        self.rules = Rules(rate, threshold, rate * min_speech_ms / 1000, rate * min_silence_ms / 1000, longest)
        self._told = 0  # the last end

    def push(self, block: np.ndarray) -> list[Event]:
        """What `block` float32 [512 at 16 kHz, 256 at 8 kHz] makes certain."""
        events = self.rules.take(self.silero.probability(block))
        return self._padded(events, self.rules.at)

    def finish(self, samples: int | None = None) -> list[Event]:
        """The end of the recording, `samples` long where its last block was filled up; speech still running ends."""
        samples = self.rules.at if samples is None else samples
        return self._padded(self.rules.finish(samples), samples)

    def _padded(self, events: Iterable[Event], heard: int) -> list[Event]:
        """An end is not put past what was heard, nor a beginning before the last end."""
        padded: list[Event] = []
        for what, sample in events:
            if what == "start":
                padded.append((what, int(max(sample - self.pad, self._told))))
            else:
                self._told = int(min(sample + self.pad, heard))
                padded.append((what, self._told))
        return padded


def segments(samples: np.ndarray, rate: int, **settings: float) -> list[Segment]:
    """All speech in float32 [n] as (first sample, one past the last); settings as SpeechFinder's.

    Where two segments are nearer than twice the padding they share the gap, as in get_speech_timestamps.
    """
    finder = SpeechFinder(rate, **settings)
    events: list[Event] = []
    for first in range(0, len(samples), finder.block):
        block = samples[first : first + finder.block]
        block = np.pad(block, (0, finder.block - len(block)))
        events += finder.rules.take(finder.silero.probability(block))
    events += finder.rules.finish(len(samples))
    spans = [(start, end) for (_, start), (_, end) in zip(events[::2], events[1::2], strict=True)]
    return _spread(spans, finder.pad, len(samples))


def _spread(spans: list[Segment], pad: float, samples: int) -> list[Segment]:
    starts, ends = [s for s, _ in spans], [e for _, e in spans]
    for i in range(len(spans)):
        if i == 0:
            starts[0] = int(max(0, starts[0] - pad))
        gap = starts[i + 1] - ends[i] if i + 1 < len(spans) else math.inf
        if gap < 2 * pad:
            ends[i] += int(gap // 2)
            starts[i + 1] = int(max(0, starts[i + 1] - gap // 2))
        else:
            ends[i] = int(min(samples, ends[i] + pad))
            if i + 1 < len(spans):
                starts[i + 1] = int(max(0, starts[i + 1] - pad))
    return list(zip(starts, ends, strict=True))

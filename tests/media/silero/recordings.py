"""The recordings of the Silero tests at both rates, and the settings under which their segments were found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

FOLDER = Path(__file__).parent
RATES = {16000: 512, 8000: 256}
FILES = ("talk", "street", "long")


@dataclass(frozen=True)
class Setting:
    """Values of crane_app.media.vad.SpeechFinder."""

    threshold: float = 0.5
    min_speech_ms: float = 250
    min_silence_ms: float = 100
    speech_pad_ms: float = 30
    max_speech_s: float = float("inf")

    def package(self) -> dict[str, float]:
        """The same by the package's names."""
        return {
            "threshold": self.threshold,
            "min_speech_duration_ms": self.min_speech_ms,
            "min_silence_duration_ms": self.min_silence_ms,
            "speech_pad_ms": self.speech_pad_ms,
            "max_speech_duration_s": self.max_speech_s,
        }


SETTINGS = {
    "default": Setting(),
    "cut": Setting(max_speech_s=2),
    "cut_at_breaths": Setting(max_speech_s=4, min_silence_ms=700),
    "cut_fine": Setting(max_speech_s=0.7, min_speech_ms=90),
    "dictation": Setting(min_silence_ms=400, speech_pad_ms=400, max_speech_s=60),
    "keen": Setting(threshold=0.2, min_speech_ms=0, min_silence_ms=0, speech_pad_ms=0),
    "slow": Setting(threshold=0.85, min_speech_ms=700, min_silence_ms=33, speech_pad_ms=97),
}


def recordings() -> Iterator[tuple[str, int, np.ndarray]]:
    """Name, rate and float32 samples of each; 8 kHz is the mean of neighbours."""
    for name, sound in (*((name, read(name)) for name in FILES), *made()):
        yield name, 16000, sound
        even = sound[: len(sound) // 2 * 2]
        yield name, 8000, (even[::2] + even[1::2]) / 2


def read(name: str) -> np.ndarray:
    return soundfile.read(FOLDER / f"{name}.flac", dtype="float32")[0]


def made() -> Iterator[tuple[str, np.ndarray]]:
    """Without a file: silence, noise, and a sound shorter than a block."""
    yield "silence", np.zeros(16000, np.float32)
    yield "noise", (0.1 * np.random.default_rng(9).standard_normal(24100)).astype(np.float32)
    yield "crumb", read("talk")[16000:16300]

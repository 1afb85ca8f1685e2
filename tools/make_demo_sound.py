"""Speaks the demo's recording and writes beside it who says what when: python tools/make_demo_sound.py [FOLDER]

Needs espeak-ng, whose voice is no person's. Between the three sentences there is a quiet room, and a door slams.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

FOLDER = Path(__file__).parents[1] / "crane_app" / "assets" / "demo"
RATE = 16_000
SECONDS = 20
SENTENCES = {  # second at which each begins
    1.5: "The cranes come down to the lake every October.",
    7.0: "They sleep standing in the water, where no fox can reach them.",
    15.0: "At dawn they leave for the fields.",
}
DOOR = (12.5, 13.0)  # seconds
VOICE = ("-v", "en-gb", "-s", "150", "-p", "45")
PEAK = 0.5
ROOM = 0.0004  # loudness of the quiet room
SILENT = 0.01  # what is softer, at the ends of a sentence, is not speech


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(3)
    sound = ROOM * random.standard_normal(SECONDS * RATE)
    utterances = []
    for start, text in SENTENCES.items():
        spoken = say(text)
        first = round(start * RATE)
        sound[first : first + len(spoken)] += spoken
        utterances.append({"text": text, "start": start, "end": round(start + len(spoken) / RATE, 3)})
    first, last = (round(second * RATE) for second in DOOR)
    sound[first:last] += slam(last - first, random)
    truth = {
        "seconds": SECONDS,
        "utterances": utterances,
        "noises": [{"what": "a door slams", "start": DOOR[0], "end": DOOR[1]}],
    }
    soundfile.write(folder / "speech.ogg", sound, RATE, format="OGG", subtype="VORBIS", compression_level=0.7)
    (folder / "speech.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8", newline="\n")


def say(text: str) -> np.ndarray:
    """The sentence without the silence around it, float64 [n]."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "said.wav")
        subprocess.run(["espeak-ng", *VOICE, "-w", path, text], check=True, timeout=60)
        samples, rate = soundfile.read(path)
    samples = soxr.resample(samples, rate, RATE)
    samples *= PEAK / np.abs(samples).max()
    loud = np.flatnonzero(np.abs(samples) > SILENT)
    return samples[loud[0] : loud[-1] + 1]


def slam(samples: int, random: np.random.Generator) -> np.ndarray:
    """A thud of wood and the rattle after it."""
    at = np.arange(samples) / RATE
    thud = np.sin(2 * np.pi * 70 * at) * np.exp(-at / 0.06)
    crack = random.standard_normal(samples) * np.exp(-at / 0.015)
    rattle = random.standard_normal(samples) * np.exp(-(((at - 0.18) / 0.03) ** 2)) * 0.2
    sound = thud + 0.8 * crack + rattle
    return 0.9 * sound / np.abs(sound).max()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))

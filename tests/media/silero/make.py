"""Record what the silero-vad package answers: python tests/media/silero/make.py

Needs torch, soundfile, silero-vad==6.2.3 (pip install --no-deps silero-vad); espeak-ng where a recording is missing.
Writes answers.npz: for every recording and rate the package's probabilities, "NAME.RATE", and its segments for every
row of SETTINGS, "NAME.RATE.SETTING" int64 [segments, 2].
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.media.silero.recordings import FOLDER, RATES, SETTINGS, recordings

TALK = (
    ("The cranes come down to the lake.", "en-us"),
    ("Every October.", "de"),
    ("At dawn they leave for the fields, calling.", "en-gb"),
)
LONG = "one and two, and three and four and five and six and seven, and eight and nine and ten and eleven, twelve"


def said(text: str, voice: str, speed: int) -> np.ndarray:
    """Speech float64 at 16 kHz."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["espeak-ng", "-v", voice, "-s", str(speed), "-w", file.name, text], check=True)
        sound, rate = soundfile.read(file.name)
    at = np.arange(0, len(sound) - 1, rate / 16000)
    return 0.8 * np.interp(at, np.arange(len(sound)), sound)


def quiet(seconds: float) -> np.ndarray:
    return np.zeros(int(16000 * seconds))


def slam() -> np.ndarray:
    """A door: a burst of noise that dies away within 0.3 s, and the thud under it."""
    at = np.arange(4800) / 16000
    burst = np.random.default_rng(7).standard_normal(4800) * np.exp(-25 * at)
    return 0.3 * burst + 0.5 * np.sin(2 * np.pi * 55 * at) * np.exp(-12 * at)


def make_recording(name: str) -> np.ndarray:
    """Float64 at 16 kHz."""
    if name == "talk":
        first, second, third = (said(text, voice, 165) for text, voice in TALK)
        return np.concatenate([quiet(0.7), first, quiet(0.25), second, quiet(0.9), slam(), quiet(0.4), third])
    if name == "street":
        speech = np.concatenate([quiet(1.1), said("Can you hear me over here?", "en-us", 150), quiet(1.3), slam()])
        return 0.4 * speech + 0.02 * np.random.default_rng(8).standard_normal(len(speech))
    return np.concatenate([quiet(0.2), said(LONG, "en-us", 190)])


def write_recording(name: str) -> None:
    """Ten bits, which FLAC packs well."""
    sound = np.clip(np.rint(make_recording(name) * 512), -512, 511) * 64
    soundfile.write(FOLDER / f"{name}.flac", sound.astype(np.int16), 16000)


def main() -> None:
    from silero_vad import get_speech_timestamps, load_silero_vad

    for name in ("talk", "street", "long"):
        if not (FOLDER / f"{name}.flac").exists():
            write_recording(name)
    model = load_silero_vad()
    answers: dict[str, np.ndarray] = {}
    for name, rate, sound in recordings():
        block = RATES[rate]
        model.reset_states()
        padded = torch.from_numpy(np.pad(sound, (0, -len(sound) % block)))
        with torch.no_grad():
            answers[f"{name}.{rate}"] = np.array([model(x, rate).item() for x in padded.split(block)], np.float32)
        for setting, values in SETTINGS.items():
            found = get_speech_timestamps(torch.from_numpy(sound), model, sampling_rate=rate, **values.package())
            pairs = [(s["start"], s["end"]) for s in found]
            answers[f"{name}.{rate}.{setting}"] = np.array(pairs, np.int64).reshape(-1, 2)
            print(name, rate, setting, pairs)
    np.savez_compressed(FOLDER / "answers.npz", **answers)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

"""Finds the sentences of the recording that tools/make_demo_sound.py speaks, and leaves the slamming door out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TextIO

ASSETS = Path(__file__).parents[1] / "assets" / "demo"
NEAR = 0.2  # seconds by which a found time may differ
REPO = "UsefulSensors/moonshine-tiny"


def find_speech(out: TextIO, _folder: Path) -> bool:
    """Says whether each sentence was found at its time, and nothing else."""
    from crane_app.media.sound import Sound
    from crane_app.pipelines.utterances import speech_times

    recording = ASSETS / "speech.ogg"
    truth = json.loads((ASSETS / "speech.json").read_text(encoding="utf-8"))
    print(f"Listening to a recording on this computer: {recording}", file=out)
    print(f"It has {truth['seconds']} seconds, three sentences, and a door that slams.\n", file=out)
    started = time.perf_counter()
    with Sound(recording) as sound:
        found, _ = speech_times(sound)
    took = time.perf_counter() - started
    wanted = [(each["start"], each["end"], each["text"]) for each in truth["utterances"]]
    right = compared(wanted, found, out)
    verdict = "Each sentence was found, and the door was not taken for one" if right else "This is NOT as expected"
    print(f"\n{verdict}. It took {took:.1f} s.", file=out)
    print(f"To have speech written: crane models get {REPO}", file=out)
    return right


def compared(wanted: list[tuple[float, float, str]], found: list[tuple[float, float]], out: TextIO) -> bool:
    """Prints the times expected and found, in seconds; says whether they are NEAR each other, one by one."""
    print("  expected      found         said", file=out)
    for number in range(max(len(wanted), len(found))):
        start, end, text = wanted[number] if number < len(wanted) else (0.0, 0.0, "(nothing)")
        there = "{:5.2f} {:5.2f}".format(*found[number]) if number < len(found) else "-"
        print(f"  {start:5.2f} {end:5.2f}   {there:11}   {text}", file=out)
    pairs = zip(wanted, found, strict=False)
    near = all(abs(w[0] - f[0]) <= NEAR and abs(w[1] - f[1]) <= NEAR for w, f in pairs)
    return near and len(wanted) == len(found)

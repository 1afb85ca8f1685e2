"""`crane vad`: where somebody speaks in a sound file."""

from __future__ import annotations

import argparse
import json

SENTENCE = "Find where somebody speaks in a sound file"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="A sound file: WAV, FLAC, MP3, Ogg and others")
    parser.add_argument("--json", action="store_true", help="Print one JSON object instead of a line for each segment")


def run(args: argparse.Namespace) -> int:
    from crane_app.media.sound import Sound
    from crane_app.pipelines.utterances import speech_times

    with Sound(args.file) as sound:
        segments, seconds = speech_times(sound)
    if args.json:
        found = [{"start": start, "end": end} for start, end in segments]
        print(json.dumps({"segments": found, "seconds": round(seconds, 3)}))
    else:
        for start, end in segments:
            print(f"{start:.3f} {end:.3f}")
    return 0

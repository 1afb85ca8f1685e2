"""Has the system's voice say a sentence, writes it into a WAV, and listens to that."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TextIO

TEXT = "Cranes call while they fly. You can hear them from far away."
QUIETEST = -40.0  # decibels below full scale; what is softer is not audible over a fan
SHARE = 0.6  # of the sound that must be speech


def say_a_sentence(out: TextIO, folder: Path) -> bool:
    """Says whether there is a WAV, loud enough, and speech from its beginning to its end."""
    from crane_app.media.sound import Sound, level
    from crane_app.media.spoken_text import script
    from crane_app.pipelines.speech import Speech, save
    from crane_app.pipelines.utterances import speech_times
    from crane_app.platform import voices

    teller = voices.find()
    path = folder / "read-aloud.wav"
    print(f"The voice of this system ({teller.name}) says: {TEXT}", file=out)
    started = time.perf_counter()
    for _ in save(Speech(teller).read(script(TEXT)), path):
        pass
    took = time.perf_counter() - started
    with Sound(path) as sound:
        found, seconds = speech_times(sound)
        loudness = max((level(block) for block in sound.blocks()), default=0.0)
    spoken = sum(end - start for start, end in found)
    print(f"\n  expected   speech, louder than {QUIETEST:.0f} dB", file=out)
    print(f"  found      {spoken:.1f} s of speech in {seconds:.1f} s, {loudness:.0f} dB\n", file=out)
    right = spoken > SHARE * seconds > 0 and loudness > QUIETEST
    print(f"{'It is audible' if right else 'This is NOT as expected'}: {path}. It took {took:.1f} s.", file=out)
    return right

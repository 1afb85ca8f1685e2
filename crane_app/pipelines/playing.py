"""A sound file out of the speaker, a moment at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator

from crane_app.media.sound import Sound
from crane_app.pipelines.narration import Opens
from crane_app.platform.speaker import Speaker

MOMENT_S = 0.1


def played(path: str | os.PathLike[str], speaker: Opens | None = None) -> Iterator[float]:
    """The seconds that were played, again and again until its end; closing it stops the sound."""
    with Sound(path) as sound:
        output = (speaker or Speaker()).open(sound.rate)
        try:
            for number, block in enumerate(sound.blocks(sound.rate, round(MOMENT_S * sound.rate)), 1):
                output.write(block)
                yield number * MOMENT_S
            output.finish()
        finally:
            output.drop()

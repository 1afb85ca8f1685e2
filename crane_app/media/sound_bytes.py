"""Sound as the bytes of a file in memory, or as bare samples: what is sent rather than saved."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from crane_app.media.sound_files import BLOCK

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# libsndfile's names of container and encoding; its name on the web; the rate in hertz, None for the sound's own.
FORMS: dict[str, tuple[str, str, str, int | None]] = {
    "wav": ("WAV", "PCM_16", "audio/wav", None),
    "flac": ("FLAC", "PCM_16", "audio/flac", None),
    "mp3": ("MP3", "MPEG_LAYER_III", "audio/mpeg", None),
    "opus": ("OGG", "OPUS", "audio/ogg; codecs=opus", 48_000),  # RFC 7845: Opus runs at 48 kHz
    "pcm": ("RAW", "PCM_16", "audio/pcm; rate=24000", 24_000),  # what the OpenAI API promises of pcm
}


def encoded(samples: NDArray[np.float32], rate: int, form: str) -> bytes:
    """Mono float32 [n] at `rate` Hz in one of FORMS; what is beyond 1 is cut off."""
    import numpy as np
    import soundfile

    container, encoding, _, wanted = FORMS[form]
    if wanted is not None and wanted != rate:
        import soxr

        samples, rate = soxr.resample(samples, rate, wanted), wanted
    made = io.BytesIO()
    endian = "LITTLE" if container == "RAW" else None
    with soundfile.SoundFile(made, "w", rate, 1, subtype=encoding, format=container, endian=endian) as file:
        for start in range(0, len(samples), BLOCK):
            file.write(np.clip(samples[start : start + BLOCK], -1, 1))
    return made.getvalue()

"""Speech faster or slower at the same pitch: WSOLA, waveform-similarity overlap-add.

Verhelst and Roelands, "An overlap-add technique based on waveform similarity (WSOLA) for high quality time-scale
modification of speech", ICASSP 1993. Frames are taken from the sound at the wanted pace, each moved by a few
milliseconds to where it goes on best from the frame before, and added with windows that sum to one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SLOWEST, FASTEST = 0.5, 3.0
HOP = 0.012  # seconds; a frame is two hops long
REACH = 0.009  # seconds that a frame may be moved either way: a whole period of a voice as deep as 56 Hz in all


def stretched(samples: NDArray[np.float32], rate: int, speed: float) -> NDArray[np.float32]:
    """float32 [n] at `rate` Hz -> float32 [n / speed] at the same pitch; at speed 1 the samples themselves."""
    import numpy as np

    return np.concatenate([np.zeros(0, np.float32), *(block for block, _ in blocks(samples, rate, lambda: speed))])


def blocks(
    samples: NDArray[np.float32], rate: int, speed: Callable[[], float]
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """The sound in blocks of about 12 ms, each with the sample that was reached; `speed` is asked before each block."""
    import numpy as np

    if not len(samples):
        return
    hop, reach = max(1, round(HOP * rate)), round(REACH * rate)
    padded = np.concatenate([samples, np.zeros(2 * hop + reach, np.float32)])
    fade = (0.5 - 0.5 * np.cos(np.pi * (np.arange(hop) + 0.5) / hop)).astype(np.float32)
    place, taken = 0.0, 0  # where the pace is; where the sound goes on from the last block
    while (left := len(samples) - round(place)) > 0:
        start = _similar(padded, taken, round(place), hop, reach)
        block = padded[start : start + hop]
        if start != taken:
            block = padded[taken : taken + hop] * (1 - fade) + block * fade
        taken = start + hop
        pace = min(FASTEST, max(SLOWEST, speed()))
        place += hop * pace
        yield block[: round(left / pace)], min(len(samples), round(place))


def _similar(sound: NDArray[np.float32], taken: int, place: int, hop: int, reach: int) -> int:
    """The start near `place` whose frame is most like the sound at `taken`, by normalised correlation."""
    import numpy as np

    if taken == place:
        return taken
    first = max(0, place - reach)
    last = min(len(sound) - 2 * hop, place + reach)
    wanted = sound[taken : taken + hop]
    around = sound[first : last + hop]
    likeness = np.correlate(around, wanted, "valid")
    energy = np.convolve(np.square(around, dtype=np.float64), np.ones(hop), "valid")
    return first + int(np.argmax(likeness / np.sqrt(energy + 1e-9)))

"""Silero's parity table: every recording at both rates against the package, and planted faults.

    python -m tests.media.silero.parity

Probabilities within 1e-5, segments equal in every setting. Exits 1 if a row fails, or a planted fault passes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np

from crane_app.media import vad
from crane_app.media.vad import Silero, segments
from tests.media.silero.recordings import FOLDER, RATES, SETTINGS, recordings

LARGEST = 1e-5
SOUNDS = {(name, rate): sound for name, rate, sound in recordings()}


def blocks(sound: np.ndarray, size: int) -> np.ndarray:
    """[blocks, size], the last one filled up with silence."""
    return np.pad(sound, (0, -len(sound) % size)).reshape(-1, size)


def heard(silero: Silero, sound: np.ndarray) -> np.ndarray:
    return np.array([silero.probability(block) for block in blocks(sound, silero.block)])


def error(silero: Silero, name: str, rate: int, answers: Mapping[str, np.ndarray]) -> float:
    return float(np.abs(heard(silero, SOUNDS[name, rate]) - answers[f"{name}.{rate}"]).max())


def without_context(silero: Silero) -> None:
    """The samples before a block are taken for silence."""
    inner = silero._net

    class Deaf:
        remember, answer = inner.remember, inner.answer

        @staticmethod
        def features(x: np.ndarray) -> np.ndarray:
            return inner.features(np.concatenate([np.zeros(len(x) // 9), x[len(x) // 9 :]]))

    silero._net = Deaf  # type: ignore[assignment]


def gates_exchanged(silero: Silero) -> None:
    """Forget before input, as some libraries order them."""
    order = np.concatenate([np.arange(4 * vad.CELLS).reshape(4, -1)[i] for i in (1, 0, 2, 3)])
    net = silero._net
    silero._net = replace(net, cells=net.cells[:, order], cells_bias=net.cells_bias[order])


def not_reset(silero: Silero) -> None:
    heard(silero, SOUNDS["street", silero.rate])


def window_one_late(silero: Silero) -> None:
    net = silero._net
    silero._net = replace(net, window=np.roll(net.window, 1))


FAULTS = (without_context, gates_exchanged, not_reset, window_one_late)


def main() -> int:
    with np.load(FOLDER / "answers.npz") as file:
        answers = dict(file)
    bad = 0
    for (name, rate), sound in SOUNDS.items():
        off = error(Silero(rate), name, rate, answers)
        equal = sum(
            np.array_equal(
                np.reshape(segments(sound, rate, **asdict(setting)), (-1, 2)), answers[f"{name}.{rate}.{key}"]
            )
            for key, setting in SETTINGS.items()
        )
        wrong = off >= LARGEST or equal < len(SETTINGS)
        bad += wrong
        print(f"{name:8} {rate:6} Hz  {off:8.1e}  {equal}/{len(SETTINGS)} segments{'  <- WRONG' if wrong else ''}")
    for fault in FAULTS:
        for rate in RATES:
            silero = Silero(rate)
            fault(silero)
            off = error(silero, "talk", rate, answers)
            bad += off < LARGEST
            print(f"talk     {rate:6} Hz  {off:8.1e}  with {fault.__name__}{'  <- NOT SEEN' if off < LARGEST else ''}")
    print("every row is right, every fault was seen" if not bad else f"{bad} rows are wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""Speech at another speed: its length changes, its pitch does not, and nothing clicks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from crane_app.media.stretch import blocks, stretched

RATE = 22_050
SPEEDS = [0.5, 0.75, 0.9, 1.1, 1.5, 2.0, 3.0]


def tone(hertz: float, seconds: float = 2.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def voice() -> NDArray[np.float32]:
    """Something like speech: a buzz that glides, in syllables with silence between."""
    time = np.arange(2 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(110 + 40 * np.sin(2 * np.pi * 0.7 * time)) / RATE
    buzz = sum(np.sin(k * phase) / k for k in range(1, 20))
    return (0.2 * buzz * np.clip(np.sin(2 * np.pi * 3 * time) * 2, 0, 1)).astype(np.float32)


def pitch(sound: NDArray[np.float32]) -> float:
    middle = sound[len(sound) // 4 : -len(sound) // 4].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 19))
    return float(spectrum.argmax() * RATE / (1 << 19))


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("hertz", [90.0, 440.0])
def test_a_tone_keeps_its_pitch_and_changes_its_length(speed: float, hertz: float) -> None:
    sound = tone(hertz)
    found = stretched(sound, RATE, speed)
    assert len(found) == pytest.approx(len(sound) / speed, rel=0.01)
    assert pitch(found) == pytest.approx(hertz, rel=0.01)


def test_playing_samples_faster_would_fail_this_test() -> None:
    """What the test above must tell from a true change of speed."""
    assert pitch(tone(440)[::2]) == pytest.approx(880, rel=0.01)


@pytest.mark.parametrize("speed", SPEEDS)
def test_nothing_clicks_at_the_joins(speed: float) -> None:
    """No step between neighbouring samples is larger than the sound's own largest."""
    for sound in (tone(440), voice()):
        found = stretched(sound, RATE, speed)
        assert np.abs(np.diff(found)).max() <= 1.1 * np.abs(np.diff(sound)).max()
        assert np.abs(found).max() <= 1.1 * np.abs(sound).max()


def test_usual_speed_changes_no_sample() -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, 12_345).astype(np.float32)
    np.testing.assert_array_equal(stretched(sound, RATE, 1.0), sound)


def test_the_speed_may_change_while_it_is_heard() -> None:
    sound = tone(440)
    speeds = iter([1.0] * 20 + [2.0] * 1000)
    found = np.concatenate([block for block, _ in blocks(sound, RATE, lambda: next(speeds))])
    hop = round(0.012 * RATE)
    assert len(found) == pytest.approx(20 * hop + (len(sound) - 20 * hop) / 2, rel=0.01)
    assert np.abs(np.diff(found)).max() <= 1.1 * np.abs(np.diff(sound)).max()


def test_each_block_tells_the_sample_it_reached() -> None:
    sound = tone(440)
    reached = [at for _, at in blocks(sound, RATE, lambda: 1.7)]
    assert reached == sorted(reached)
    assert reached[-1] == len(sound)


@pytest.mark.parametrize("length", [0, 1, 100, 264, 265, 600])
@pytest.mark.parametrize("speed", [0.5, 1.0, 3.0, 99.0])
def test_short_sounds_have_an_end(length: int, speed: float) -> None:
    found = stretched(np.ones(length, np.float32), RATE, speed)
    assert len(found) == pytest.approx(length / min(speed, 3.0), abs=1)
    assert found.dtype == np.float32

"""Silero VAD in numpy against its package: probabilities, segments, the stream, and faults that must be seen."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from crane_app.errors import BadInput
from crane_app.media import vad
from crane_app.media.vad import Rules, Silero, SpeechFinder, segments
from tests.media.silero.parity import FAULTS, LARGEST, SOUNDS, blocks, error, heard
from tests.media.silero.recordings import FOLDER, RATES, SETTINGS, Setting

SPOKEN = [(name, rate) for name in ("talk", "street", "long") for rate in RATES]


@pytest.fixture(scope="module")
def answers() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "answers.npz") as file:
        return dict(file)


@pytest.mark.parametrize(("name", "rate"), SOUNDS)
def test_probabilities_are_those_of_the_package(answers, name, rate):
    assert error(Silero(rate), name, rate, answers) < LARGEST


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(("name", "rate"), SOUNDS)
def test_segments_are_those_of_the_package(answers, name, rate, setting):
    found = segments(SOUNDS[name, rate], rate, **asdict(SETTINGS[setting]))
    assert found == [tuple(pair) for pair in answers[f"{name}.{rate}.{setting}"].tolist()]


def test_the_recordings_try_every_rule(answers):
    """Speech that is found, lost, cut at a breath and cut without one."""
    count = {setting: len(answers[f"talk.16000.{setting}"]) for setting in SETTINGS}
    assert count["default"] == 4
    assert count["cut_at_breaths"] == 3
    assert count["slow"] == 3
    assert len(answers["long.16000.default"]) == 1
    assert len(answers["long.16000.cut"]) == 3
    assert answers["talk.16000"].min() < 0.01
    assert answers["talk.16000"].max() > 0.99


def test_a_second_recording_after_a_reset_is_heard_as_if_it_were_the_first(answers):
    silero = Silero(16000)
    heard(silero, SOUNDS["street", 16000])
    silero.reset()
    assert error(silero, "talk", 16000, answers) < LARGEST


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(answers, rate, fault):
    silero = Silero(rate)
    fault(silero)
    assert error(silero, "talk", rate, answers) > 1e-3


def test_a_finder_that_is_used_twice_finds_something_else():
    """What `segments` prevents by a finder of its own."""
    sound = SOUNDS["talk", 16000]
    finder = SpeechFinder(16000)
    heard(finder.silero, SOUNDS["street", 16000])
    first = [event for block in blocks(sound, 512) for event in finder.push(block)]
    assert first != streamed(sound, 16000, Setting())


def streamed(sound: np.ndarray, rate: int, setting: Setting) -> list[vad.Event]:
    finder = SpeechFinder(rate, **asdict(setting))
    events = [event for block in blocks(sound, finder.block) for event in finder.push(block)]
    return events + finder.finish(len(sound))


@pytest.mark.parametrize(("name", "rate"), SPOKEN)
def test_the_stream_tells_the_segments_of_the_whole(name, rate):
    pairs = segments(SOUNDS[name, rate], rate)
    assert streamed(SOUNDS[name, rate], rate, Setting()) == [
        event for start, end in pairs for event in (("start", start), ("end", end))
    ]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(("name", "rate"), SPOKEN)
def test_what_the_stream_tells_alternates_and_never_overlaps(name, rate, setting):
    events = streamed(SOUNDS[name, rate], rate, SETTINGS[setting])
    assert [what for what, _ in events] == ["start", "end"] * (len(events) // 2)
    at = [sample for _, sample in events]
    assert at == sorted(at)
    assert len(events) == 2 * len(segments(SOUNDS[name, rate], rate, **asdict(SETTINGS[setting])))
    assert not at or (at[0] >= 0 and at[-1] <= len(SOUNDS[name, rate]))


def test_an_end_is_told_as_soon_as_the_silence_has_lasted_and_lies_in_the_past():
    sound = SOUNDS["talk", 16000]
    finder = SpeechFinder(16000, min_silence_ms=400)
    told = [(what, at, (i + 1) * 512) for i, block in enumerate(blocks(sound, 512)) for what, at in finder.push(block)]
    for what, at, now in told:
        delay = 400 - 30 if what == "end" else 250 + 30
        assert delay * 16 <= now - at < delay * 16 + 2 * 512


def test_speech_still_running_at_the_end_ends_there():
    sound = SOUNDS["long", 16000][:40000]
    finder = SpeechFinder(16000)
    events = [event for block in blocks(sound, 512) for event in finder.push(block)]
    assert [what for what, _ in events] == ["start"]
    assert finder.finish(40000) == [("end", 40000)]


class Told:
    """Rules of 16 kHz, told a probability for each block; silences and lengths in blocks."""

    def __init__(self, least: float = 2, silence: float = 3, longest: float = 1000):
        self.rules = Rules(16000, 0.5, least * 512, silence * 512, longest * 512)
        self.rules.breath = 512

    def take(self, *probabilities: float) -> list[tuple[str, int]]:
        """Events in blocks."""
        return [(what, at // 512) for p in probabilities for what, at in self.rules.take(p)]


def test_between_the_thresholds_speech_goes_on_but_none_begins():
    assert Told().take(*[0.4] * 20) == []
    assert Told().take(0.9, *[0.4] * 20) == [("start", 0)]


def test_speech_that_is_too_short_is_never_told():
    assert Told().take(0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1) == []


def test_a_silence_that_is_too_short_ends_nothing():
    assert Told().take(*[0.9] * 5, 0.1, 0.1, 0.1, 0.9, 0.9) == [("start", 0)]
    assert Told().take(*[0.9] * 5, 0.1, 0.1, 0.1, 0.1) == [("start", 0), ("end", 5)]


def test_speech_that_is_too_long_is_cut_at_its_longest_breath():
    told = Told(silence=6, longest=14)
    spoken = [0.9] * 4 + [0.1] * 3 + [0.9] * 3 + [0.1] * 2 + [0.9] * 6
    assert told.take(*spoken) == [("start", 0), ("end", 4), ("start", 7)]


def test_speech_without_a_breath_is_cut_where_it_stands():
    assert Told(longest=6).take(*[0.9] * 12) == [("start", 0), ("end", 7), ("start", 8)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_what_is_not_sound_is_refused_and_leaves_the_rest_as_it_was(answers, value):
    silero = Silero(16000)
    spoiled = np.zeros(512, np.float32)
    spoiled[100] = value
    with pytest.raises(BadInput, match="not sound"):
        silero.probability(spoiled)
    assert error(silero, "talk", 16000, answers) < LARGEST


def test_loud_and_whole_number_sounds_give_a_probability():
    for block in (np.full(512, 32767.0), np.full(512, -(2.0**19)), np.ones(512, np.int16)):
        assert 0 <= Silero(16000).probability(block) <= 1


@pytest.mark.parametrize("size", [0, 511, 513, 256])
def test_a_block_of_another_size_is_a_mistake(size):
    with pytest.raises(ValueError, match=r"is \[512\]"):
        Silero(16000).probability(np.zeros(size, np.float32))


@pytest.mark.parametrize("rate", [44100, 48000, 0])
def test_other_rates_are_a_mistake(rate):
    with pytest.raises(ValueError, match="16000 or 8000"):
        Silero(rate)


def test_no_sound_holds_no_speech():
    assert segments(np.zeros(0, np.float32), 16000) == []

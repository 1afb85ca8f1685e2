"""Speech is cut at its pauses, whole, and no more of the recording is held than what is being said."""

from __future__ import annotations

import numpy as np
import pytest

from crane_app.media.sound import BLOCK, RATE
from crane_app.pipelines.utterances import LOOK_BACK_S, Utterances
from tests.pipelines.ears import LoudFinder, blocks, pause, speech


class Script:
    """A finder that says what a test wrote down for each block, by its number."""

    def __init__(self, events: dict[int, list[tuple[str, int]]], last: list[tuple[str, int]] | None = None):
        self.events, self.last, self.number = events, last or [], -1

    def push(self, block):
        assert len(block) == BLOCK
        self.number += 1
        return self.events.get(self.number, [])

    def finish(self, samples=None):
        return self.last


def numbered(count: int):
    """Blocks whose samples are their place in the recording."""
    return (np.arange(i * BLOCK, (i + 1) * BLOCK, dtype=np.float32) for i in range(count))


def cut(utterances: Utterances, parts) -> list:
    found = [utterance for block in parts for utterance in utterances.push(block)]
    return found + utterances.finish()


def test_an_utterance_is_the_sound_between_its_times():
    [found] = cut(Utterances(Script({4: [("start", 700)], 9: [("end", 3001)]})), numbered(12))
    np.testing.assert_array_equal(found.samples, np.arange(700, 3001))
    assert (found.start, found.end) == (700 / RATE, 3001 / RATE)


def test_speech_at_the_end_is_ended_by_the_end():
    utterances = Utterances(LoudFinder())
    [first, second] = cut(utterances, blocks(pause(1), speech(1), pause(1), speech(0.51)))
    assert (first.start, first.end) == pytest.approx((0.9, 2.1), abs=0.05)
    assert second.end == pytest.approx(3.51)
    assert utterances.samples == round(3.51 * RATE)


def test_what_is_being_said_can_be_heard_before_it_is_over():
    utterances = Utterances(LoudFinder(pad=0.0))
    for block in blocks(pause(1), speech(1)):
        assert utterances.push(block) == []
    assert utterances.speaking
    assert utterances.seconds == pytest.approx(1.0, abs=0.04)
    said = utterances.so_far()
    assert said is not None
    assert said.samples.min() == np.float32(0.5) or said.samples[BLOCK:].min() == np.float32(0.5)


def test_the_rest_after_a_cut_is_not_lost_though_it_begins_far_back():
    # The finder cuts a long speech at its longest breath, long ago, and tells with the next block that it goes on.
    far = 20 * BLOCK
    script = Script({2: [("start", 0)], 900: [("end", far)], 901: [("start", far + 100)]}, [("end", 902 * BLOCK)])
    first, second = cut(Utterances(script), numbered(902))
    np.testing.assert_array_equal(first.samples, np.arange(far))
    np.testing.assert_array_equal(second.samples, np.arange(far + 100, 902 * BLOCK))


def test_an_hour_of_speech_is_held_in_the_memory_of_one_utterance():
    utterances = Utterances(LoudFinder(longest=30.0))
    block, quiet = speech(BLOCK / RATE), pause(BLOCK / RATE)
    most = 0
    for number in range(3600 * RATE // BLOCK):
        utterances.push(quiet if number % 2000 > 1900 else block)
        most = max(most, sum(map(len, utterances._kept)))
    assert most <= 31 * RATE


def test_an_hour_of_silence_is_held_in_the_memory_of_a_moment():
    utterances = Utterances(LoudFinder())
    quiet = pause(BLOCK / RATE)
    for _ in range(3600 * RATE // BLOCK):
        utterances.push(quiet)
    assert sum(map(len, utterances._kept)) <= LOOK_BACK_S * RATE + BLOCK

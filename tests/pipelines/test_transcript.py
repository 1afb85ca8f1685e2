"""A sound file becomes segments with their times, in order, and these become text, subtitles or JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from crane_app.engine.request import Progress
from crane_app.errors import BadInput, CraneError
from crane_app.media.sound import RATE, Sound
from crane_app.pipelines import transcript as module
from crane_app.pipelines.hearing import Ear
from crane_app.pipelines.transcript import (
    AT_ONCE,
    Segment,
    Transcript,
    as_json,
    as_srt,
    as_text,
    transcribe,
)
from tests.pipelines.ears import Ears, LoudFinder, pause, speech

THREE = (pause(1), speech(1), pause(2), speech(2), pause(1), speech(0.5))


@pytest.fixture
def file(tmp_path):
    def write(*parts, rate=RATE):
        path = tmp_path / "talk.wav"
        soundfile.write(path, np.concatenate(parts) if parts else np.zeros(0), rate)
        return path

    return write


def run(steps):
    events = []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as end:
            return events, end.value


def written(path, engine, **options):
    with Sound(path) as sound:
        return run(transcribe(Ear(engine, "tiny"), sound, finder=LoudFinder(pad=0.0), **options))


def test_a_file_is_cut_at_its_pauses(file):
    events, transcript = written(file(*THREE), Ears())
    assert [segment.text for segment in transcript.segments] == ["1.0", "2.0", "0.5"]
    assert [(round(s.start, 1), round(s.end, 1)) for s in transcript.segments] == [(1, 2), (4, 6), (7, 7.5)]
    assert transcript.text == "1.0 2.0 0.5"
    assert transcript.seconds == 7.5
    assert [event for event in events if isinstance(event, Segment)] == list(transcript.segments)


def test_segments_come_in_order_though_the_engine_finishes_them_as_it_likes(file):
    ears = Ears(held=True)
    with Sound(file(*THREE)) as sound:
        steps = transcribe(Ear(ears, "tiny"), sound, finder=LoudFinder(pad=0.0))
        while len(ears.jobs) < 3:
            next(steps)
        for number in (2, 0, 1):
            ears.let(number)
        _, transcript = run(steps)
    assert [segment.text for segment in transcript.segments] == ["1.0", "2.0", "0.5"]


def test_only_a_few_are_at_work_together(file):
    ears = Ears(held=True)
    with Sound(file(*[speech(0.5), pause(0.5)] * 9)) as sound:
        steps = transcribe(Ear(ears, "tiny"), sound, finder=LoudFinder())
        while next(steps) is not None:
            pass
        assert len(ears.jobs) == AT_ONCE
        steps.close()
    assert ears.cancelled == list(range(AT_ONCE))


def test_how_far_it_is_grows_up_to_the_whole(file):
    events, _ = written(file(*THREE * 6), Ears())
    reached = [event.done for event in events if isinstance(event, Progress)]
    assert reached == sorted(reached)
    assert {event.total for event in events if isinstance(event, Progress)} == {45}


def test_whole_takes_the_file_as_it_is(file):
    ears = Ears()
    _, transcript = written(file(*THREE), ears, whole=True, max_tokens=7)
    [job] = ears.jobs
    assert len(job.inputs) == 7.5 * RATE
    assert dict(job.options) == {"max_tokens": 7}
    assert [(s.start, s.end) for s in transcript.segments] == [(0.0, 7.5)]


def test_a_file_at_another_rate_has_the_same_times(file):
    _, transcript = written(file(*(part[::2] for part in THREE), rate=RATE // 2), Ears())
    assert [(round(s.start, 1), round(s.end, 1)) for s in transcript.segments] == [(1, 2), (4, 6), (7, 7.5)]


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_without_a_sound_has_no_segments(file, whole):
    _, transcript = written(file(), Ears(), whole=whole)
    assert transcript == Transcript("tiny", 0.0, ())


def test_a_file_too_long_to_be_taken_whole_is_refused(file, monkeypatch):
    monkeypatch.setattr(module, "MOST_WHOLE_S", 6.0)
    with pytest.raises(BadInput, match="too long to be taken whole"):
        written(file(*THREE), Ears(), whole=True)


def test_an_error_of_the_engine_ends_it_and_the_others_are_cancelled(file):
    ears = Ears(held=True)
    with Sound(file(*THREE)) as sound:
        steps = transcribe(Ear(ears, "tiny"), sound, finder=LoudFinder())
        while len(ears.jobs) < 3:
            next(steps)

        def fail(_samples):
            raise CraneError("The device was lost.")

        ears.writes = fail
        ears.let(0)
        with pytest.raises(CraneError, match="device was lost"):
            run(steps)
    assert 2 in ears.cancelled


SEGMENTS = (
    Segment(0.5, 2.25, "Good morning.", (5, 6)),
    Segment(3.0, 3.5, "", (2,)),
    Segment(3599.9996, 3601.0, "An hour\nlater.", (7,)),
)


def test_text_has_a_line_for_each_segment_with_words():
    assert as_text(SEGMENTS[:2]) == "Good morning.\n"
    assert as_text(SEGMENTS[:1], times=True) == "[0:00] Good morning.\n"
    assert as_text([Segment(3725.9, 3726, "Late")], times=True) == "[1:02:05] Late\n"
    assert as_text([]) == ""


def test_subtitles_are_numbered_and_timed_to_the_thousandth():
    assert as_srt(SEGMENTS) == (
        "1\n00:00:00,500 --> 00:00:02,250\nGood morning.\n\n"
        "2\n01:00:00,000 --> 01:00:01,000\nAn hour later.\n\n"
    )  # fmt: skip


def test_json_has_everything():
    assert json.loads(as_json(Transcript("tiny", 3601.00049, SEGMENTS[:2]))) == {
        "text": "Good morning.",
        "tokens": [5, 6, 2],
        "segments": [{"start": 0.5, "end": 2.25, "text": "Good morning."}, {"start": 3.0, "end": 3.5, "text": ""}],
        "model": "tiny",
        "seconds": 3601.0,
    }

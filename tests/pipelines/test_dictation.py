"""Dictation with an engine and a finder made for it: words while one speaks, all of them in the end, whatever fails."""

from __future__ import annotations

import itertools
import json
import threading
import wave
from concurrent.futures import Future

import numpy as np
import pytest

from crane_app.demo import FOLDER
from crane_app.errors import CraneError, DeviceLost, ModelNotFound
from crane_app.library.takes import Takes
from crane_app.media.sound import BLOCK, RATE, Sound
from crane_app.pipelines import dictation as module
from crane_app.pipelines.dictation import Dictation, Heard, Level, Note, Settling, Writing, record
from crane_app.pipelines.hearing import Ear
from crane_app.platform.microphone import SILENCE, MicrophoneLost
from tests.pipelines.ears import Ears, LoudFinder, blocks, pause, speech


def dictate(engine, *parts, finder=None):
    ear = engine if isinstance(engine, Future) else Ear(engine, "tiny")
    dictation = Dictation(ear, finder or LoudFinder(pad=0.0))
    return dictation, list(dictation.listen(blocks(*parts)))


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def finals(events):
    return [heard.text for heard in of(Heard, events) if heard.final]


def guesses(events):
    return [heard.text for heard in of(Heard, events) if not heard.final]


def notes(events):
    return [note.sentence for note in of(Note, events)]


def test_each_pause_brings_the_final_text_of_what_was_said():
    dictation, events = dictate(Ears(), pause(0.5), speech(1), pause(1), speech(2), pause(1))
    assert finals(events) == ["1.0", "2.0"]
    assert dictation.text == "1.0 2.0"
    assert [(round(h.start, 1), round(h.end, 1)) for h in dictation.heard] == [(0.5, 1.5), (2.5, 4.5)]
    assert notes(events) == []


def test_the_end_of_the_blocks_ends_what_is_being_said():
    _, events = dictate(Ears(), speech(0.5))
    assert finals(events) == ["0.5"]


def test_words_come_while_somebody_speaks_and_from_more_and_more_sound():
    _, events = dictate(Ears(), speech(3), pause(1))
    seen = [float(text) for text in guesses(events)]
    assert seen[0] == pytest.approx(0.7, abs=0.05)
    assert len(seen) >= 4
    assert all(0.45 < later - earlier < 0.7 for earlier, later in itertools.pairwise(seen))


def test_guesses_at_a_long_speech_come_less_often():
    _, events = dictate(Ears(), speech(28))
    seen = [float(text) for text in guesses(events)]
    assert len(seen) < 28 / 0.5 / 1.5
    assert seen[-1] - seen[-2] > 2


def test_every_block_has_its_level():
    _, events = dictate(Ears(), pause(0.32), speech(0.32))
    levels = of(Level, events)
    assert len(levels) == 20
    assert levels[0].decibels == pytest.approx(-60, abs=0.1)
    assert levels[-1].decibels == pytest.approx(-6.02, abs=0.1)
    assert [level.speaking for level in levels] == [False] * 10 + [True] * 10
    assert levels[-1].seconds == pytest.approx(0.64)


def test_the_engine_is_never_waited_for_while_somebody_speaks():
    ears = Ears(held=True)
    dictation = Dictation(Ear(ears, "tiny"), LoudFinder())
    events = dictation.listen(blocks(speech(2), pause(1), speech(2), pause(1), speech(1)))
    for _ in range(7 * RATE // BLOCK):
        assert not isinstance(next(events), Writing)
    assert len(ears.jobs) == 2  # a guess, and the first final; the others wait in order
    ears.held = False
    ears.let(1)
    assert finals(list(events)) == ["2.1", "2.2", "1.1"]


def test_a_guess_gives_way_to_the_final_text():
    ears = Ears(held=True)
    events = Dictation(Ear(ears, "tiny"), LoudFinder()).listen(blocks(speech(1), pause(1), pause(1)))
    for _ in range(60):
        next(events)
    assert ears.cancelled == [0]
    assert len(ears.jobs[1].inputs) > len(ears.jobs[0].inputs)
    events.close()


def test_closing_stops_the_engines_work():
    ears = Ears(held=True)
    events = Dictation(Ear(ears, "tiny"), LoudFinder()).listen(blocks(speech(1), pause(1)))
    while not isinstance(next(events), Writing):
        pass
    events.close()
    assert ears.cancelled[-1] == len(ears.jobs) - 1


def test_words_wait_for_an_engine_that_is_on_its_way():
    coming: Future = Future()
    events = Dictation(coming, LoudFinder(pad=0.0)).listen(blocks(speech(1), pause(1), speech(2)))
    while not isinstance(event := next(events), Writing):
        assert isinstance(event, Level)
    assert event.waiting == 2
    coming.set_result(Ear(Ears(), "tiny"))
    assert finals(list(events)) == ["1.0", "2.0"]


def test_without_a_speech_model_it_is_only_recorded_and_said_once():
    never: Future = Future()
    never.set_exception(ModelNotFound("There is no speech model. Get one."))
    dictation, events = dictate(never, speech(1), pause(1), speech(1))
    assert notes(events) == ["There is no speech model. Get one."]
    assert dictation.unwritten == 2
    assert len(of(Level, events)) == 94


def test_a_lost_device_is_told_and_the_next_words_are_tried_again():
    lost = DeviceLost("The device was lost. Load the model again.")
    answers = iter([lost, lost, "back again"])  # a guess, the words it was for, the next words

    def write(_samples):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    dictation, events = dictate(Ears(write), speech(0.5), pause(1), speech(0.5), pause(1))
    assert finals(events) == ["back again"]
    [note] = notes(events)
    assert note.startswith("The device was lost.")
    assert "recorded" in note
    assert dictation.unwritten == 1


def test_an_engine_that_refuses_to_begin_is_told_too():
    class Gone(Ears):
        def open(self, job):
            raise CraneError("The engine is gone.")

    dictation, events = dictate(Gone(), speech(1), pause(1), speech(0.5), pause(1))
    assert len(notes(events)) == 1
    assert dictation.unwritten == 2
    assert len(of(Level, events)) == 110


def test_an_engine_that_was_stopped_is_told():
    ears = Ears(held=True)
    events = Dictation(Ear(ears, "tiny"), LoudFinder()).listen(blocks(speech(0.5), pause(1)))
    while not isinstance(next(events), Writing):
        pass
    ears.streams[-1].cancel()
    [note] = notes(list(events))
    assert note.startswith("The engine stopped")


def test_a_failed_guess_is_not_told_if_the_final_text_comes():
    calls = []

    def write(samples):
        calls.append(len(samples))
        if len(calls) == 1:
            raise CraneError("Not yet.")
        return "all of it"

    _, events = dictate(Ears(write), speech(3), pause(1))
    assert (finals(events), notes(events)) == (["all of it"], [])
    assert len(calls) == 2  # no more guesses


def test_an_unplugged_microphone_leaves_what_was_said():
    def torn():
        yield from blocks(speech(1))
        raise MicrophoneLost("The microphone stopped.")

    events = list(Dictation(Ear(Ears(), "tiny"), LoudFinder()).listen(torn()))
    assert finals(events) == ["1.0"]
    assert notes(events) == ["The microphone stopped."]


def test_nothing_but_zeros_is_told_once_while_listening_goes_on():
    zeros = np.zeros(3 * RATE, np.float32)
    _, events = dictate(Ears(), zeros, speech(1))
    assert notes(events) == [SILENCE]
    assert finals(events) == ["1.0"]


def test_a_quiet_room_and_a_later_silence_are_not_zeros():
    zeros = np.zeros(3 * RATE, np.float32)
    assert notes(dictate(Ears(), pause(3))[1]) == []
    assert notes(dictate(Ears(), np.zeros(1000, np.float32), speech(0.5), zeros)[1]) == []


def test_what_cannot_be_written_in_time_is_only_recorded(monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING_S", 4.0)
    ears = Ears(held=True)
    dictation = Dictation(Ear(ears, "tiny"), LoudFinder())
    events = dictation.listen(blocks(*[speech(1), pause(1)] * 10))
    seen = []
    while not isinstance(event := next(events), Writing):
        seen.append(event)
    [note] = notes(seen)
    assert "only recorded" in note
    assert sum(u.end - u.start for u in dictation._waiting) < 6
    assert dictation.unwritten == 10 - 1 - len(dictation._waiting)
    events.close()


def test_what_two_guesses_agree_on_stays():
    settling = Settling()
    assert settling.take("the crane") == ("the crane", 0)
    assert settling.take("the cranes fly") == ("the cranes fly", 3)
    assert settling.take("the cranes flying home") == ("the cranes flying home", 10)
    assert settling.take("a crane is flying home") == ("the cranes is flying home", 10)
    assert settling.take("a crane is flying homewards") == ("the cranes is flying homewards", 20)
    assert settling.take("") == ("the cranes is flying", 20)


def test_words_without_spaces_settle_too():
    settling = Settling()
    settling.take("鶴は飛")
    assert settling.take("鶴は飛ぶ") == ("鶴は飛ぶ", 3)


# On disk


@pytest.fixture
def takes(tmp_path):
    return Takes(tmp_path / "takes")


def finished(steps):
    events = []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as end:
            return events, end.value


def sound(take) -> np.ndarray:
    with wave.open(str(take.sound)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767


def test_a_take_keeps_sound_text_and_times(takes):
    said = [speech(1), pause(1), speech(2)]
    _, take = finished(
        record(Dictation(Ear(Ears(), "tiny"), LoudFinder(pad=0.0)), blocks(*said), takes, threading.Event())
    )
    assert takes.all() == [take]
    assert (take.state, take.text, take.model, take.seconds) == ("done", "1.0 2.0", "tiny", 4.0)
    assert [segment.text for segment in take.segments] == ["1.0", "2.0"]
    np.testing.assert_allclose(sound(take), np.concatenate(said), atol=1e-4)


def test_a_block_is_on_disk_before_it_is_heard(takes):
    steps = record(Dictation(Ear(Ears(), "tiny"), LoudFinder()), blocks(speech(1)), takes, threading.Event())
    next(steps)
    [take] = takes.all()
    assert take.state == "recording"
    assert len(sound(take)) == BLOCK
    steps.close()


def test_a_window_that_closes_leaves_an_interrupted_take(takes):
    steps = record(Dictation(Ear(Ears(), "tiny"), LoudFinder()), blocks(speech(1)), takes, threading.Event())
    next(steps)
    steps.close()
    assert [take.state for take in takes.all()] == ["interrupted"]


def test_a_dropped_take_ends_at_once_and_stays_as_discarded(takes):
    dropped = threading.Event()
    ears = Ears(held=True)
    steps = record(Dictation(Ear(ears, "tiny"), LoudFinder()), blocks(speech(1), pause(9)), takes, dropped)
    for _ in range(40):
        next(steps)
    dropped.set()
    _, take = finished(steps)
    assert (take.state, take.text) == ("discarded", "")
    assert take.seconds < 2
    assert ears.cancelled == [0]


def test_a_take_that_could_not_be_written_says_so(takes):
    never: Future = Future()
    never.set_exception(ModelNotFound("There is no speech model."))
    _, take = finished(record(Dictation(never, LoudFinder()), blocks(speech(1)), takes, threading.Event()))
    assert (take.state, take.text, take.model) == ("unwritten", "", "")


def test_a_microphone_that_gives_nothing_leaves_no_take(takes):
    def refused():
        raise CraneError("There is no microphone.")
        yield

    events, take = finished(record(Dictation(Ear(Ears(), "tiny"), LoudFinder()), refused(), takes, threading.Event()))
    assert take is None
    assert takes.all() == []
    assert notes(events) == ["There is no microphone."]


def test_a_full_disk_is_told_while_the_words_still_come(takes, monkeypatch):
    steps = record(Dictation(Ear(Ears(), "tiny"), LoudFinder()), blocks(speech(1), pause(1)), takes, threading.Event())
    next(steps)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crane_app.library.takes.Recording._put", full)
    events, take = finished(steps)
    [note] = notes(events)
    assert "No space left" in note
    assert finals(events) == ["1.1"]
    assert take.seconds == BLOCK / RATE


def test_the_real_finder_hears_the_three_sentences_of_the_demo_and_not_the_door():
    with Sound(FOLDER / "speech.ogg") as recording:
        dictation = Dictation(Ear(Ears(), "tiny"))
        events = list(dictation.listen(recording.blocks()))
    truth = json.loads((FOLDER / "speech.json").read_text())["utterances"]
    assert len(finals(events)) == len(truth) == 3
    for heard, said in zip(dictation.heard, truth, strict=True):
        assert heard.start < said["start"] < said["end"] < heard.end
        assert heard.end - heard.start < said["end"] - said["start"] + 1.2  # the silence that stays with the words
    assert guesses(events)

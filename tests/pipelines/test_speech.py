"""Speech without a voice, and narration without a speaker; both once for real."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from crane_app.errors import BadInput, CraneError
from crane_app.media.spoken_text import script
from crane_app.pipelines import speech as speech_module
from crane_app.pipelines.narration import Narration
from crane_app.pipelines.speech import Speech, save
from crane_app.platform import voices
from tests.pipelines.mouth import RATE, FakeRendering, FakeSpeaker, FakeTeller

TEXT = "One. Two two. Three three three. Four. Five. Six. Seven. Eight."


@pytest.fixture
def teller() -> Iterator[FakeTeller]:
    made = FakeTeller()
    yield made
    made.held = False


def texts(sayings: list[tuple[str, str]]) -> list[str]:
    return [text for text, _ in sayings]


# Speech


def test_sentences_come_in_order_with_their_sounds(teller: FakeTeller) -> None:
    spoken = list(Speech(teller).say(TEXT))
    assert [each.sentence for each in spoken] == script(TEXT)
    assert [len(each.samples) for each in spoken] == [10 * len(each.text) for each in script(TEXT)]
    assert {each.rate for each in spoken} == {RATE}


def test_the_next_sentences_are_made_ahead_but_not_all(teller: FakeTeller) -> None:
    reading = Speech(teller).say(TEXT)
    next(reading)
    [worker.result() for _, worker in reading._waiting]
    assert set(texts(teller.begun)) == {"One.", "Two two.", "Three three three.", "Four."}
    assert teller.most_at_once <= speech_module.AT_ONCE
    reading.close()


def test_a_sentence_is_made_once(teller: FakeTeller) -> None:
    speech = Speech(teller)
    list(speech.say("One. Two."))
    list(speech.say("Two. One. Three."))
    assert sorted(texts(teller.begun)) == ["One.", "Three.", "Two."]
    speech.voice = "anna"
    list(speech.say("One."))
    assert teller.begun[-1] == ("One.", "anna")


def test_the_longest_unheard_is_forgotten_first(teller: FakeTeller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_module, "KEPT", 4 * 10 * len("One.Two."))
    speech = Speech(teller)
    for text in ("One.", "Two.", "One.", "Six.", "One.", "Two."):
        list(speech.say(text))
    assert texts(teller.begun) == ["One.", "Two.", "Six.", "Two."]


def test_the_script_chooses_the_voice_unless_one_is_wished(teller: FakeTeller) -> None:
    list(Speech(teller).say("Hello. 鶴は眠ります。 Привет."))
    assert sorted(teller.begun) == [("Hello.", ""), ("Привет.", ""), ("鶴は眠ります。", "kyoko")]
    teller.begun.clear()
    list(Speech(teller, "Alex").say("鶴は眠ります。"))
    assert teller.begun == [("鶴は眠ります。", "alex")]
    with pytest.raises(BadInput, match="no voice 'klingon'"):
        Speech(teller, "klingon").say("Hello.")


def test_closing_kills_what_is_under_way(teller: FakeTeller) -> None:
    teller.held = True
    reading = Speech(teller).say(TEXT)
    found: list[object] = []
    waiter = threading.Thread(target=lambda: found.extend(reading))
    waiter.start()
    while teller.at_once < speech_module.AT_ONCE:
        threading.Event().wait(0.001)
    reading.close()
    reading.close()
    waiter.join(30)
    assert not waiter.is_alive()
    assert found == []
    assert set(texts(teller.begun)) <= set(teller.cancelled)
    assert next(reading, None) is None


def test_closing_does_not_wait_for_a_voice_that_takes_its_time_to_begin(teller: FakeTeller) -> None:
    # GIVEN a program that has not even started to say the first sentence
    begins, begin, render = threading.Event(), threading.Event(), teller.render

    def slow(text: str, voice: str) -> FakeRendering:
        begins.set()
        assert begin.wait(30)
        return render(text, voice)

    teller.render = slow  # type: ignore[method-assign]
    teller.held = True
    reading = Speech(teller).say("One.")
    found: list[object] = []
    waiter = threading.Thread(target=lambda: found.extend(reading))
    waiter.start()
    assert begins.wait(30)
    # WHEN it is closed THEN that is done at once
    closing = threading.Thread(target=reading.close)
    closing.start()
    closing.join(5)
    at_once = not closing.is_alive()
    begin.set()
    waiter.join(30)
    assert at_once
    # AND what begins after that is killed
    assert (found, teller.cancelled) == ([], ["One."])


def test_a_sentence_that_fails_is_told_when_it_is_its_turn(teller: FakeTeller) -> None:
    teller.faults["Three three three."] = CraneError("It broke.")
    reading = Speech(teller).say(TEXT)
    assert [next(reading).sentence.text, next(reading).sentence.text] == ["One.", "Two two."]
    with pytest.raises(CraneError, match="It broke"):
        next(reading)
    reading.close()


@pytest.mark.parametrize("text", ["", "  \n", "... ---"])
def test_nothing_to_say_is_silence(text: str, teller: FakeTeller) -> None:
    assert list(Speech(teller).say(text)) == []
    assert teller.begun == []


# Saving


def test_a_saved_file_is_all_sentences_at_the_speed_wished(teller: FakeTeller, tmp_path: Path) -> None:
    teller.rates["Two."] = 2 * RATE
    spoken = list(save(Speech(teller).say("One. Two. Three."), tmp_path / "x.wav", speed=2))
    assert [each.sentence.text for each in spoken] == ["One.", "Two.", "Three."]
    found, rate = soundfile.read(tmp_path / "x.wav")
    assert rate == RATE
    assert len(found) == pytest.approx((40 + 20 + 60) / 2, abs=3)


def test_a_saving_that_is_left_or_fails_leaves_nothing(teller: FakeTeller, tmp_path: Path) -> None:
    saving = save(Speech(teller).say(TEXT), tmp_path / "x.wav")
    next(saving)
    saving.close()
    assert list(tmp_path.iterdir()) == []
    teller.faults["Five."] = CraneError("It broke.")
    with pytest.raises(CraneError, match="It broke"):
        list(save(Speech(teller).say(TEXT), tmp_path / "x.wav"))
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_save_is_a_sentence(teller: FakeTeller, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to say"):
        list(save(Speech(teller).say("..."), tmp_path / "x.wav"))


# Narration


def narration(teller: FakeTeller, speaker: FakeSpeaker, text: str = TEXT, **named: float) -> Narration:
    return Narration(Speech(teller).say(text), speaker, **named)


def test_all_of_it_is_heard_in_order(teller: FakeTeller) -> None:
    speaker = FakeSpeaker()
    moments = list(narration(teller, speaker).moments())
    assert len(speaker.heard) == sum(10 * len(each.text) for each in script(TEXT))
    assert [output.ended for output in speaker.outputs] == ["finished"]
    assert [each.index for each in moments] == sorted(each.index for each in moments)
    assert {each.index for each in moments} == set(range(8))
    for index, sentence in enumerate(script(TEXT)):
        seconds = [each.seconds for each in moments if each.index == index]
        assert seconds[0] == 0
        assert seconds == sorted(seconds)
        assert seconds[-1] == pytest.approx(10 * len(sentence.text) / RATE)


def test_stopping_drops_the_rest_within_a_block(teller: FakeTeller) -> None:
    speaker = FakeSpeaker()
    made = narration(teller, speaker, "A sentence that is long enough for many blocks of sound to be played from it.")
    speaker.then[2] = made.stop
    moments = list(made.moments())
    assert len(speaker.outputs[0].blocks) == 2
    assert speaker.outputs[0].ended == "dropped"
    assert moments[-1].index == 0


def test_stopping_ends_a_wait_for_the_voice(teller: FakeTeller) -> None:
    teller.held = True
    speaker = FakeSpeaker()
    made = narration(teller, speaker)
    listener = threading.Thread(target=lambda: list(made.moments()))
    listener.start()
    while not teller.at_once:
        threading.Event().wait(0.001)
    made.stop()
    listener.join(30)
    assert not listener.is_alive()
    assert speaker.outputs == []


def test_leaving_early_closes_the_speaker_and_the_voice(teller: FakeTeller) -> None:
    speaker = FakeSpeaker()
    moments = narration(teller, speaker).moments()
    for _ in range(3):
        next(moments)
    moments.close()
    assert speaker.outputs[0].ended == "dropped"


def test_volume_changes_without_a_step(teller: FakeTeller) -> None:
    speaker = FakeSpeaker()
    made = narration(
        teller, speaker, "A sentence that is long enough for many blocks of sound to be played.", volume=1.0
    )
    speaker.then[2] = lambda: setattr(made, "volume", 0.0)
    list(made.moments())
    assert speaker.heard[:90] == pytest.approx(0.5)
    assert speaker.heard[-100:] == pytest.approx(0)
    assert np.abs(np.diff(speaker.heard)).max() < 0.02


def test_speed_changes_while_it_is_heard(teller: FakeTeller) -> None:
    text = "A sentence that is long enough for many blocks of sound to be played from it, at two speeds."
    usual, faster = FakeSpeaker(), FakeSpeaker()
    list(narration(teller, usual, text).moments())
    made = narration(teller, faster, text)
    faster.then[4] = lambda: setattr(made, "speed", 3.0)
    list(made.moments())
    assert len(faster.heard) == pytest.approx(4 * 48 + (len(usual.heard) - 4 * 48) / 3, rel=0.1)


def test_a_sentence_of_another_rate_opens_the_speaker_anew(teller: FakeTeller) -> None:
    teller.rates["Two."] = 2 * RATE
    speaker = FakeSpeaker()
    list(narration(teller, speaker, "One. Two. Three.").moments())
    assert [(output.rate, output.ended) for output in speaker.outputs] == [
        (RATE, "finished"), (2 * RATE, "finished"), (RATE, "finished"),
    ]  # fmt: skip


def test_a_speaker_that_goes_away_is_a_sentence_and_the_place_is_known(teller: FakeTeller) -> None:
    speaker = FakeSpeaker()

    def pull() -> None:
        raise CraneError("The speaker is gone.")

    speaker.then[3] = pull
    moments = []
    with pytest.raises(CraneError, match="is gone"):
        moments.extend(narration(teller, speaker).moments())
    assert moments[-1].index == 1


# For real


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_a_spoken_file_for_real(tmp_path: Path) -> None:
    text = "Cranes sleep in shallow water. Dr. Smith counted 24,860 of them! Why?"
    spoken = list(save(Speech(voices.find("linux"), "en-us").say(text), tmp_path / "x.flac"))
    assert [each.sentence.text for each in spoken] == [
        "Cranes sleep in shallow water.", "Dr. Smith counted 24,860 of them!", "Why?",
    ]  # fmt: skip
    found, rate = soundfile.read(tmp_path / "x.flac")
    assert 4 < len(found) / rate < 12
    assert np.sqrt(np.mean(found**2)) > 0.02

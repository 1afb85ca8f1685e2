"""The microphone on a sound system made for it: what is said arrives whole, and every fault is a sentence."""

from __future__ import annotations

import builtins
import sys
import threading
import weakref

import numpy as np
import pytest

from crane_app.errors import CraneError, Unsupported
from crane_app.platform import microphone, portaudio
from crane_app.platform.microphone import BLOCK, PRE_ROLL_S, RATE, Microphone, MicrophoneLost, devices
from tests.platform.fake_sounddevice import FakeSoundDevice, PortAudioError

STUDIO, HEADSET = ("Studio", 48_000, 2), ("Headset", 16_000, 1)


@pytest.fixture
def plugged(monkeypatch):
    def plug(*inputs, default=0):
        fake = FakeSoundDevice(*inputs, default=default)
        monkeypatch.setitem(sys.modules, "sounddevice", fake)
        monkeypatch.setattr(portaudio, "_streams", weakref.WeakSet())  # those of this sound system alone
        return fake

    return plug


def said(samples: int, start: int = 0) -> np.ndarray:
    return ((np.arange(start, start + samples) % 1000) / 2000).astype(np.float32)


def stopped() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def heard(mic: Microphone, stream_says, until: threading.Event | None = None) -> np.ndarray:
    """All of a take: opened, `stream_says()`, stopped."""
    until = until or threading.Event()
    blocks = mic.blocks(until)
    mic.open()
    got = []
    stream_says()
    got.append(next(blocks))  # the take begins with the first block that is asked for
    until.set()
    return np.concatenate([*got, *blocks])


def test_the_list_has_the_microphones_and_says_which_is_the_systems(plugged):
    plugged(STUDIO, HEADSET, default=1)
    assert [(d.name, d.rate, d.default) for d in devices()] == [("Studio", 48_000, False), ("Headset", 16_000, True)]


def test_microphones_of_which_the_system_chooses_none_are_listed_and_used(plugged):
    fake = plugged(STUDIO, HEADSET, default=None)
    assert [(d.name, d.default) for d in devices()] == [("Studio", False), ("Headset", False)]
    Microphone().open()
    assert fake.streams[-1].device == 1


def test_a_sound_system_that_does_not_start_again_is_a_sentence(plugged):
    plugged(STUDIO).starts = False
    with pytest.raises(CraneError, match="sound system does not answer"):
        devices(fresh=True)


def test_a_fresh_list_asks_the_system_anew(plugged):
    fake = plugged(STUDIO)
    devices()
    assert fake.restarts == 0
    devices(fresh=True)
    assert fake.restarts == 1


def test_a_fresh_list_does_not_end_a_take_under_way(plugged):
    fake = plugged(STUDIO)
    mic = Microphone()
    mic.open()
    assert len(devices(fresh=True)) == 1
    assert fake.restarts == 0
    mic.close()
    devices(fresh=True)
    assert fake.restarts == 1


def test_what_is_said_arrives_whole_and_in_order(plugged):
    fake = plugged(HEADSET)
    mic = Microphone()
    until = threading.Event()
    blocks = mic.blocks(until)
    mic.open()
    fake.streams[-1].hear(said(1600))
    got = [next(blocks)]
    fake.streams[-1].hear(said(3000, 1600))
    until.set()
    got += blocks
    assert [len(block) for block in got[:-1]] == [BLOCK] * (len(got) - 1)
    np.testing.assert_array_equal(np.concatenate(got), said(4600))


def test_a_device_is_opened_at_its_own_rate_and_heard_at_ours(plugged):
    fake = plugged(STUDIO)
    mic = Microphone()
    mic.open()
    assert (fake.streams[-1].rate, fake.streams[-1].channels) == (48_000, 2)
    tone = np.sin(2 * np.pi * 440 * np.arange(12_000) / 48_000)
    got = heard(mic, lambda: fake.streams[-1].hear(tone))
    assert len(got) == pytest.approx(12_000 / 3, abs=2)
    assert np.argmax(np.abs(np.fft.rfft(got))) * RATE / len(got) == pytest.approx(440, abs=5)


def test_a_word_begun_before_the_key_is_whole_and_no_more_is_kept(plugged):
    fake = plugged(HEADSET)
    mic = Microphone()
    mic.open()
    fake.streams[-1].hear(said(50_000))
    got = np.concatenate(list(mic.blocks(stopped())))
    assert PRE_ROLL_S * RATE <= len(got) < PRE_ROLL_S * RATE + 480
    np.testing.assert_array_equal(got, said(50_000)[-len(got) :])


def test_the_next_take_begins_where_the_last_one_ended(plugged):
    fake = plugged(HEADSET)
    mic = Microphone()
    first = heard(mic, lambda: fake.streams[-1].hear(said(1000)))
    fake.streams[-1].hear(said(700, 1000))
    second = np.concatenate(list(mic.blocks(stopped())))
    np.testing.assert_array_equal(first, said(1000))
    np.testing.assert_array_equal(second, said(700, 1000))
    assert len(fake.streams) == 1  # still the same open device


def test_a_key_released_before_the_device_is_open_ends_the_take(plugged):
    plugged(HEADSET)
    assert list(Microphone().blocks(stopped())) == []


def test_unplugged_while_speaking_keeps_what_came(plugged):
    fake = plugged(HEADSET)
    mic = Microphone("Headset")
    blocks = mic.blocks(threading.Event())
    mic.open()
    fake.streams[-1].hear(said(900))
    got = [next(blocks)]
    fake.streams[-1].hear(said(300, 900))
    fake.streams[-1].unplug()
    with pytest.raises(MicrophoneLost, match=r"Headset.*until then is kept"):
        got.extend(blocks)
    np.testing.assert_array_equal(np.concatenate(got), said(1200))
    assert not mic.opened


def test_a_device_that_falls_silent_without_a_word_is_lost_too(plugged, monkeypatch):
    fake = plugged(HEADSET)
    mic = Microphone()
    blocks = mic.blocks(threading.Event())
    mic.open()
    fake.streams[-1].hear(said(600))
    got = [next(blocks)]
    monkeypatch.setattr(microphone, "LOST_S", -1.0)
    with pytest.raises(MicrophoneLost):
        got.extend(blocks)
    np.testing.assert_array_equal(np.concatenate(got), said(600))


def test_a_lost_device_is_opened_again_for_the_next_take(plugged):
    fake = plugged(HEADSET)
    mic = Microphone()
    mic.open()
    fake.streams[-1].unplug()
    got = heard(mic, lambda: fake.streams[-1].hear(said(800)))
    assert len(fake.streams) == 2
    np.testing.assert_array_equal(got, said(800))


def test_the_chosen_microphone_is_taken_by_its_name(plugged):
    fake = plugged(STUDIO, HEADSET)
    Microphone("Headset").open()
    assert fake.streams[-1].device == 2


def test_a_chosen_microphone_that_is_gone_is_told_and_not_replaced(plugged):
    fake = plugged(STUDIO)
    with pytest.raises(CraneError, match=r"'Headset' is not there"):
        Microphone("Headset").open()
    assert fake.streams == []


def test_no_microphone_is_a_sentence(plugged):
    plugged()
    assert devices() == []
    with pytest.raises(CraneError, match="no microphone"):
        Microphone().open()


def test_a_device_that_another_program_holds_is_a_sentence(plugged):
    plugged(STUDIO).refuses = "Device unavailable"
    mic = Microphone()
    with pytest.raises(CraneError, match=r"'Studio' cannot be opened \(Device unavailable\)\."):
        mic.open()
    assert not mic.opened


def test_without_portaudio_the_sentence_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Unsupported, match="PortAudio"):
        devices()


def test_a_sound_system_that_does_not_start_is_a_sentence(monkeypatch):
    def started(name, *rest, **named):
        if name == "sounddevice":
            raise PortAudioError("Error initializing PortAudio: Unanticipated host error [PaErrorCode -9999]")
        return real(name, *rest, **named)

    real = builtins.__import__
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", started)
    with pytest.raises(Unsupported, match="sound system does not start"):
        devices()


def test_closing_twice_is_harmless(plugged):
    fake = plugged(HEADSET)
    mic = Microphone()
    mic.open()
    mic.close()
    mic.close()
    assert not fake.streams[-1].open

"""The loudspeaker on a sound system made for it, and the real one of a machine that has none."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest

from crane_app.errors import CraneError, Unsupported
from crane_app.platform.speaker import Speaker, devices


class PortAudioError(Exception):
    pass


class FakeSystem:
    """Stands for the module sounddevice. rates: what a device takes; plays until `lost_after` blocks."""

    PortAudioError = PortAudioError

    def __init__(self, *names: str, rates: tuple[int, ...] = (22_050, 48_000)):
        self.names, self.rates = names, rates
        self.default = type("default", (), {"hostapi": 0})
        self.lost_after = 10**9
        self.streams: list[FakeOutput] = []
        self.restarts = 0

    def query_hostapis(self, index: int):
        return {"devices": list(range(len(self.names) + 1))}

    def query_devices(self, number=None, kind=None):
        if number is None:
            number = 1
        if number == 0:
            return {"name": "Microphone", "max_output_channels": 0}
        if number > len(self.names):
            raise PortAudioError("Error querying device -1")
        return {"name": self.names[number - 1], "max_output_channels": 2, "default_samplerate": 48_000.0}

    def check_output_settings(self, device, channels, dtype, samplerate):
        if samplerate not in self.rates:
            raise PortAudioError("Invalid sample rate [PaErrorCode -9997]")

    def OutputStream(self, **asked):
        if not self.names:
            raise PortAudioError("Error querying device -1")
        self.streams.append(FakeOutput(self, **asked))
        return self.streams[-1]

    def _terminate(self):
        assert all(stream.closed for stream in self.streams)

    def _initialize(self):
        self.restarts += 1


class FakeOutput:
    def __init__(self, system, samplerate, device, channels, dtype, latency):
        self.system, self.rate, self.device, self.channels = system, samplerate, device, channels
        self.heard: list[np.ndarray] = []
        self.did: list[str] = []
        self.closed = False

    def start(self):
        self.did.append("start")

    def write(self, frames):
        if len(self.heard) >= self.system.lost_after:
            raise PortAudioError("Unanticipated host error [PaErrorCode -9999]")
        assert frames.shape[1] == 1
        self.heard.append(frames[:, 0].copy())

    def stop(self):
        self.did.append("stop")

    def abort(self, ignore_errors=True):
        self.did.append("abort")

    def close(self, ignore_errors=True):
        self.closed = True


@pytest.fixture
def system(monkeypatch):
    def plug(*names: str, **named):
        fake = FakeSystem(*names, **named)
        monkeypatch.setitem(sys.modules, "sounddevice", fake)
        return fake

    return plug


def ramp(samples: int) -> np.ndarray:
    return np.linspace(-0.5, 0.5, samples, dtype=np.float32)


def test_blocks_are_played_as_they_are(system) -> None:
    fake = system("Loud")
    output = Speaker().open(22_050)
    for part in np.array_split(ramp(2000), 4):
        output.write(part)
    output.finish()
    [stream] = fake.streams
    np.testing.assert_array_equal(np.concatenate(stream.heard), ramp(2000))
    assert (stream.rate, stream.device, stream.did, stream.closed) == (22_050, None, ["start", "stop"], True)


def test_dropping_falls_silent_at_once_and_twice_is_harmless(system) -> None:
    fake = system("Loud")
    output = Speaker().open(22_050)
    output.drop()
    output.drop()
    assert fake.streams[0].did[:2] == ["start", "abort"]
    assert fake.streams[0].closed


def test_a_device_is_chosen_by_its_name(system) -> None:
    fake = system("Loud", "Headphones")
    Speaker("Headphones").open(22_050).drop()
    assert fake.streams[0].device == 2
    assert devices() == ("Loud", "Headphones")


def test_a_device_that_takes_another_rate_gets_it(system) -> None:
    fake = system("Loud", rates=(48_000,))
    output = Speaker().open(22_050)
    tone = np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050).astype(np.float32)
    for part in np.array_split(tone, 20):
        output.write(part)
    output.finish()
    heard = np.concatenate(fake.streams[0].heard)
    assert fake.streams[0].rate == 48_000
    assert len(heard) == 48_000
    crossings = np.sum(np.diff(np.sign(heard)) > 0)
    assert crossings == pytest.approx(440, abs=3)


def test_a_speaker_that_is_not_connected_is_a_sentence(system) -> None:
    system("Loud")
    with pytest.raises(Unsupported, match="'Headphones' is not connected"):
        Speaker("Headphones").open(22_050)


def test_a_speaker_that_is_pulled_out_is_a_sentence(system) -> None:
    system("Loud").lost_after = 2
    output = Speaker().open(22_050)
    output.write(ramp(10))
    output.write(ramp(10))
    with pytest.raises(CraneError, match="The speaker is gone"):
        output.write(ramp(10))
    output.drop()


def test_no_speaker_at_all_is_a_sentence(system) -> None:
    system()
    assert devices() == ()
    with pytest.raises(Unsupported, match="no speaker on this machine"):
        Speaker().open(22_050)


def test_no_portaudio_is_a_sentence_and_nothing_else_suffers(monkeypatch) -> None:
    real = builtins.__import__

    def without(name, *rest):
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert devices() == ()
    with pytest.raises(Unsupported, match="PortAudio is missing"):
        Speaker().open(22_050)


def test_the_devices_are_listed_anew_before_one_is_opened(system) -> None:
    fake = system("Loud")
    Speaker().open(22_050).drop()
    assert fake.restarts == 1


def test_a_sound_system_that_does_not_start_again_is_a_sentence(system, monkeypatch) -> None:
    def fail():
        raise PortAudioError("Error initializing PortAudio: Unanticipated host error [PaErrorCode -9999]")

    monkeypatch.setattr(system("Loudspeaker"), "_initialize", fail)
    with pytest.raises(Unsupported, match="cannot be opened"):
        Speaker().open(22_050)

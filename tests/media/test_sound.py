"""Sound files of every kind come out as the same blocks, and what is no sound is told in one sentence."""

from __future__ import annotations

import os
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from crane_app.errors import BadInput
from crane_app.media.sound import BLOCK, FLOOR, RATE, Sound, level


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def whole(path: Path, rate: int = RATE) -> np.ndarray:
    with Sound(path) as sound:
        blocks = list(sound.blocks(rate))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as raised:
        whole(path)
    sentence = str(raised.value)
    assert path.name in sentence
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize(
    ("name", "rate", "subtype", "tolerance"),
    [
        ("plain.wav", 16_000, "PCM_16", 1e-4),
        ("phone.wav", 8_000, "ULAW", 0.02),
        ("studio.wav", 48_000, "PCM_24", 1e-3),
        ("fast.wav", 96_000, "FLOAT", 1e-3),
        ("disc.flac", 44_100, "PCM_16", 1e-3),
        ("talk.ogg", 48_000, "VORBIS", 0.02),
        ("song.mp3", 44_100, "MPEG_LAYER_III", 0.02),
        ("mac.aiff", 22_050, "PCM_16", 1e-3),
    ],
)
def test_a_tone_is_the_same_tone_from_every_kind_of_file(tmp_path, name, rate, subtype, tolerance):
    soundfile.write(tmp_path / name, tone(1.0, rate), rate, subtype=subtype)
    heard = whole(tmp_path / name)
    assert heard.dtype == np.float32
    assert abs(len(heard) - RATE) < RATE * 0.06  # lossy kinds add a little at the ends
    middle = slice(RATE // 4, 3 * RATE // 4)
    assert np.sqrt(np.mean(heard[middle] ** 2)) == pytest.approx(0.5 / np.sqrt(2), abs=tolerance)
    spectrum = np.abs(np.fft.rfft(heard[middle]))
    assert np.argmax(spectrum) * 2 == pytest.approx(440, abs=2)


def test_two_channels_become_their_mean(tmp_path):
    left, right = tone(0.5, 8000), tone(0.5, 8000, 1000.0)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], 1), 8000, subtype="FLOAT")
    np.testing.assert_allclose(whole(tmp_path / "two.wav", 8000), (left + right) / 2, atol=1e-6)


def test_an_mp3_that_is_named_wav_is_read_as_what_it_is(tmp_path):
    soundfile.write(tmp_path / "a.mp3", tone(1.0, 44_100), 44_100)
    renamed = (tmp_path / "a.mp3").rename(tmp_path / "a.wav")
    assert abs(len(whole(renamed)) - RATE) < 0.06 * RATE


def test_a_file_without_samples_has_no_blocks(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    with Sound(tmp_path / "none.wav") as sound:
        assert sound.seconds == 0
        assert list(sound.blocks()) == []


def test_all_blocks_but_the_last_have_the_asked_size(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(3.01, 44_100), 44_100)
    with Sound(tmp_path / "a.wav") as sound:
        sizes = [len(block) for block in sound.blocks()]
        again = [len(block) for block in sound.blocks()]
    assert set(sizes[:-1]) == {BLOCK}
    assert 0 < sizes[-1] <= BLOCK
    assert again == sizes
    assert sum(sizes) == pytest.approx(3.01 * RATE, abs=2)


def test_ten_hours_are_read_in_the_memory_of_a_moment(tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(0), RATE)
    seconds = 36_000
    header = bytearray(path.read_bytes()[:44])
    header[4:8] = (36 + 2 * RATE * seconds).to_bytes(4, "little")
    header[40:44] = (2 * RATE * seconds).to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(44 + 2 * RATE * seconds)  # a hole in the file, all zeros
    with Sound(path) as sound:
        assert sound.seconds == seconds
        tracemalloc.start()
        blocks = sound.blocks()
        for _ in range(20_000):
            next(blocks)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 4 << 20


def test_a_cut_file_gives_what_is_there(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(1.0, RATE), RATE)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "half.wav").write_bytes(data[: len(data) // 2])
    assert len(whole(tmp_path / "half.wav")) == pytest.approx(RATE / 2, abs=32)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nothing.wav", b"", "is empty"),
        ("header.wav", b"RIFF\x24\x00\x00\x00WAVEfm", "is a damaged WAV"),
        ("letter.wav", "Grüße\n".encode() * 3, "plain text"),
        ("film.m4a", b"\x00\x00\x00\x20ftypM4A ", "M4A or a film"),
        ("film.mkv", b"\x1aE\xdf\xa3 matroska", "a film"),
        ("page.wav", b"%PDF-1.7", "PDF"),
        ("noise.raw", bytes(range(256)), "not a sound file"),
    ],
)
def test_what_is_no_sound_is_told_in_a_sentence(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    assert says in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg"])
def test_a_cut_file_that_cannot_be_decoded_is_told(tmp_path, name):
    soundfile.write(tmp_path / name, np.random.default_rng(0).uniform(-0.5, 0.5, RATE), RATE)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    assert "damaged" in refusal(tmp_path / name) or "cut off" in refusal(tmp_path / name)


def test_a_file_whose_frames_are_gone_is_told(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, RATE), RATE)
    data = path.read_bytes()
    path.write_bytes(data[:86] + bytes(len(data) - 86))
    assert "damaged" in refusal(path)


def test_a_header_that_leads_before_the_start_prints_nothing(tmp_path, monkeypatch):
    printed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    path = tmp_path / "a.aiff"
    soundfile.write(path, tone(0.1, RATE), RATE)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"SSND", b"XXXX\x80\0\0\0", 1))
    assert "damaged AIFF" in refusal(path)
    assert printed == []


def test_folders_missing_files_and_devices_are_told(tmp_path):
    assert "is a folder" in refusal(tmp_path)
    assert "no file" in refusal(tmp_path / "gone.wav")
    if os.name == "posix":
        assert "device or pipe" in refusal(Path("/dev/zero"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_one_may_not_read_is_told(tmp_path):
    path = tmp_path / "secret.wav"
    path.write_bytes(b"RIFF")
    path.chmod(0)
    assert "may not be read" in refusal(path)


def test_a_denied_file_is_told(tmp_path, monkeypatch):
    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "secret.wav").write_bytes(b"RIFF")
    monkeypatch.setattr(Path, "open", deny)
    assert "may not be read" in refusal(tmp_path / "secret.wav")


def test_values_that_are_no_numbers_are_told(tmp_path):
    samples = tone(0.1, RATE)
    samples[7] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    assert "not sound" in refusal(tmp_path / "nan.wav")


def test_a_rate_that_no_device_has_is_a_damaged_header(tmp_path):
    soundfile.write(tmp_path / "slow.wav", tone(0.1, RATE), 10)
    assert "10 samples a second" in refusal(tmp_path / "slow.wav")


def test_level_is_in_decibels_below_full_scale():
    assert level(np.ones(100, np.float32)) == 0
    assert level(np.full(100, 0.1, np.float32)) == pytest.approx(-20, abs=1e-4)
    assert level(np.zeros(100, np.float32)) == FLOOR
    assert level(np.zeros(0, np.float32)) == FLOOR
    assert level(np.full(100, 30.0, np.float32)) == 0  # louder than a file can be


def test_what_is_longer_than_wanted_is_refused(tmp_path):
    path = tmp_path / "silence.flac"
    soundfile.write(path, np.zeros(20_000, np.int16), 1000)
    with pytest.raises(BadInput, match=r"longer than 0\.25 minutes"):
        Sound(path, longest=15.0)
    with Sound(path, longest=21.0) as sound:
        assert sum(len(block) for block in sound.blocks()) == pytest.approx(20 * RATE, abs=100)


def test_a_header_decides_how_much_is_decoded(tmp_path):
    """STREAMINFO's 36 bits of samples: RFC 9639, section 8.2. Five seconds of twenty, or no count at all."""
    path = tmp_path / "silence.flac"
    soundfile.write(path, np.zeros(20_000, np.int16), 1000)
    raw = bytearray(path.read_bytes())
    raw[21] &= 0xF0
    raw[22:26] = (5000).to_bytes(4, "big")
    path.write_bytes(raw)
    with Sound(path) as sound:
        assert sum(len(block) for block in sound.blocks()) == pytest.approx(5 * RATE, abs=100)
    raw[22:26] = bytes(4)
    path.write_bytes(raw)
    with pytest.raises(BadInput, match="does not say how long"):
        Sound(path)

"""`crane vad` on files whose speech is known."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from crane_app.cli import vad
from crane_app.demo import FOLDER
from crane_app.errors import BadInput
from crane_app.media.vad import segments

SPEECH = FOLDER / "speech.ogg"
TRUTH = json.loads((FOLDER / "speech.json").read_text())


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    vad.add_flags(parser)
    return vad.run(parser.parse_args(words))


def found(capsys, path: Path) -> dict:
    assert run(str(path), "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return soundfile.read(SPEECH, dtype="float32")[0]


def test_the_three_sentences_are_found_and_the_door_is_not(capsys):
    answer = found(capsys, SPEECH)
    assert answer["seconds"] == TRUTH["seconds"]
    assert len(answer["segments"]) == 3
    for segment, utterance in zip(answer["segments"], TRUTH["utterances"], strict=True):
        assert segment["start"] == pytest.approx(utterance["start"], abs=0.15)
        assert segment["end"] == pytest.approx(utterance["end"], abs=0.15)


@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_block_by_block_it_finds_what_the_whole_recording_gives(capsys, tmp_path, samples, rate):
    sound = soxr.resample(samples, 16_000, rate)[: -rate // 3]  # not a whole number of blocks
    soundfile.write(tmp_path / "a.wav", sound, rate, subtype="FLOAT")
    expected = [{"start": round(a / rate, 3), "end": round(b / rate, 3)} for a, b in segments(sound, rate)]
    assert found(capsys, tmp_path / "a.wav")["segments"] == expected
    assert len(expected) == 3


def test_speech_that_the_end_cuts_off_ends_with_the_file(capsys, tmp_path, samples):
    soundfile.write(tmp_path / "a.wav", samples[: 3 * 16_000], 16_000)
    answer = found(capsys, tmp_path / "a.wav")
    assert answer["segments"][-1]["end"] == answer["seconds"] == 3.0


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_other_rates_are_resampled(capsys, tmp_path, samples, rate):
    stereo = np.stack([soxr.resample(samples, 16_000, rate)] * 2, 1)
    soundfile.write(tmp_path / "a.flac", stereo, rate)
    starts = [segment["start"] for segment in found(capsys, tmp_path / "a.flac")["segments"]]
    assert starts == pytest.approx([u["start"] for u in TRUTH["utterances"]], abs=0.15)


def test_a_line_for_each_segment(capsys):
    assert run(str(SPEECH)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    start, end = map(float, lines[0].split())
    assert start < end


def test_a_file_without_a_sound_has_no_segments(capsys, tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16_000)
    assert found(capsys, tmp_path / "none.wav") == {"segments": [], "seconds": 0.0}


def test_a_file_that_is_no_sound_is_told(tmp_path):
    (tmp_path / "a.wav").write_text("hello")
    with pytest.raises(BadInput, match="plain text"):
        run(str(tmp_path / "a.wav"))

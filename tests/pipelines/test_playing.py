"""A sound file is played block by block, to its end or until somebody stops it."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from crane_app.errors import BadInput
from crane_app.pipelines.playing import MOMENT_S, played


class Loudspeaker:
    def __init__(self):
        self.heard: list[np.ndarray] = []
        self.rate, self.ends = 0, []

    def open(self, rate):
        self.rate = rate
        return self

    def write(self, block):
        self.heard.append(block)

    def finish(self):
        self.ends.append("finish")

    def drop(self):
        self.ends.append("drop")


@pytest.fixture
def file(tmp_path):
    samples = np.linspace(-0.5, 0.5, 22_050, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 22_050, subtype="FLOAT")
    return tmp_path / "a.wav", samples


def test_all_of_it_is_heard_at_its_own_rate(file):
    path, samples = file
    speaker = Loudspeaker()
    seconds = list(played(path, speaker))
    np.testing.assert_array_equal(np.concatenate(speaker.heard), samples)
    assert (speaker.rate, speaker.ends) == (22_050, ["finish", "drop"])
    assert seconds[-1] == pytest.approx(1.0)


def test_closing_it_falls_silent_at_once(file):
    speaker = Loudspeaker()
    steps = played(file[0], speaker)
    next(steps)
    steps.close()
    assert speaker.ends == ["drop"]
    assert len(speaker.heard[0]) == MOMENT_S * 22_050


def test_a_file_that_is_no_sound_opens_no_speaker(tmp_path):
    (tmp_path / "a.wav").write_text("hello")
    speaker = Loudspeaker()
    with pytest.raises(BadInput):
        next(played(tmp_path / "a.wav", speaker))
    assert speaker.rate == 0

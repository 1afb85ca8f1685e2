"""The demo tries all four jobs, and says honestly when one does not do what it should."""

from __future__ import annotations

import io
import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from crane_app import demo
from crane_app.demo import chat, dictate, one_sentence, pictures, read_aloud
from crane_app.errors import CraneError, Unsupported
from crane_app.media.reader import Line, Reader
from crane_app.platform import voices

TOOLS = Path(__file__).parents[1] / "tools"
VOICELESS = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


def tried(job: demo.Job, folder: Path) -> tuple[bool, str]:
    out = io.StringIO()
    worked = job(out, folder)
    return worked, out.getvalue()


# All of it


def test_every_job_is_run_under_its_name_and_counted(tmp_path, monkeypatch):
    jobs = {"One": lambda out, folder: bool(print("did one", file=out)) or True, "Two": lambda out, folder: False}
    monkeypatch.setattr(demo, "JOBS", jobs)
    out = io.StringIO()
    assert demo.run(out, tmp_path) == 1
    assert out.getvalue() == "\nOne\n===\n\ndid one\n\nTwo\n===\n\n\n1 of 2 jobs: as expected.\n"


def test_what_the_machine_lacks_is_told_and_is_no_failure(tmp_path, monkeypatch):
    def lacking(out, folder):
        raise Unsupported("There is no voice. Install one.")

    monkeypatch.setattr(demo, "JOBS", {"Voice": lacking, "Two": lambda out, folder: True})
    out = io.StringIO()
    assert demo.run(out, tmp_path) == 0
    assert "Not tried: There is no voice. Install one." in out.getvalue()
    assert out.getvalue().endswith("\n1 of 2 jobs: as expected. 1 not tried.\n")


def test_an_error_is_a_failure_and_the_other_jobs_go_on(tmp_path, monkeypatch):
    def broken(out, folder):
        raise CraneError("The file is damaged.")

    monkeypatch.setattr(demo, "JOBS", {"One": broken, "Two": lambda out, folder: True})
    out = io.StringIO()
    assert demo.run(out, tmp_path) == 1
    assert "This did NOT work: The file is damaged." in out.getvalue()
    assert "1 of 2 jobs" in out.getvalue()


def test_it_prints_on_standard_output_of_the_moment(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "JOBS", {"One": lambda out, folder: bool(print("did it", file=out)) or True})
    assert demo.run() == 0
    assert "did it\n" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CraneError, match="Name another"):
        demo.run(io.StringIO(), tmp_path / "file" / "folder")


def test_there_is_a_job_for_every_view():
    assert list(demo.JOBS) == ["Pictures", "Chat", "Dictate", "Read aloud"]


# Pictures


def test_the_page_is_read_exactly(tmp_path):
    worked, said = tried(pictures.read_a_picture, tmp_path)
    assert worked
    assert "exactly right" in said
    assert "north of Lübeck. Come before 6:45" in said
    assert said.rstrip().endswith("the second time.")


def test_a_wrong_letter_is_shown_and_fails(tmp_path, monkeypatch):
    box = ((0.0, 0.0), (900.0, 0.0), (900.0, 20.0), (0.0, 20.0))
    monkeypatch.setattr(Reader, "lines", lambda *_: [Line("Where the crones rest in autumn", box, 1.0)])
    worked, said = tried(pictures.read_a_picture, tmp_path)
    assert not worked
    assert "NOT what was expected" in said
    assert "- Where the cranes rest in autumn" in said
    assert "+ Where the crones rest in autumn" in said


def test_only_white_space_may_differ():
    out = io.StringIO()
    assert pictures.compared("one two\n\nthree\n", "one\ntwo\n\n three", "", out)
    for other in ("one two three", "one two\n\nthre e", "one-two\n\nthree", "onetwo\n\nthree"):
        assert not pictures.compared("one two\n\nthree\n", other, "", out)
    assert not pictures.compared("a " * 37 + "well-known\n", "a " * 37 + "well- known\n", "", out)


def test_the_tool_draws_the_page_that_is_shipped(tmp_path):
    runpy.run_path(str(TOOLS / "make_demo_picture.py"))["main"](tmp_path)
    assert (tmp_path / "page.txt").read_bytes() == (demo.FOLDER / "page.txt").read_bytes()
    drawn, shipped = (
        np.asarray(Image.open(folder / "page.png").convert("L")).astype(int) for folder in (tmp_path, demo.FOLDER)
    )
    # Pillow's FreeType may place a letter a little differently from one version to the next.
    assert np.abs(drawn - shipped).mean() < 2


# Chat


def test_the_model_of_one_sentence_says_it(tmp_path):
    worked, said = tried(chat.answer_a_question, tmp_path)
    assert worked
    assert "  Cranes fly in a wedge so that each one rests behind another." in said
    assert "crane models get Qwen/Qwen3-0.6B" in said


def test_a_model_that_says_something_else_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(one_sentence, "SENTENCE", "Cranes swim.")
    worked, said = tried(chat.answer_a_question, tmp_path)
    assert not worked
    assert "- Cranes swim." in said


def test_each_word_of_the_sentence_is_followed_by_one_other():
    assert len(set(one_sentence.WORDS)) == len(one_sentence.WORDS)


# Dictation


def test_the_sentences_are_found_and_the_door_is_not(tmp_path):
    worked, said = tried(dictate.find_speech, tmp_path)
    assert worked
    assert "the door was not taken for one" in said
    assert "crane models get UsefulSensors/moonshine-tiny" in said


@pytest.mark.parametrize(
    "found",
    [[(1.0, 2.0)], [(1.0, 2.0), (3.3, 4.0)], [(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)], [(1.0, 2.3), (3.0, 4.0)], []],
)
def test_a_sentence_too_few_too_many_or_at_another_time_fails(found):
    wanted = [(1.0, 2.0, "One."), (3.0, 4.0, "Two.")]
    out = io.StringIO()
    assert not dictate.compared(wanted, found, out)
    assert dictate.compared(wanted, [(1.1, 2.1), (2.9, 3.9)], out)


@VOICELESS
def test_the_tool_speaks_the_recording_that_is_shipped(tmp_path):
    runpy.run_path(str(TOOLS / "make_demo_sound.py"))["main"](tmp_path)
    spoken, shipped = (json.loads((folder / "speech.json").read_text()) for folder in (tmp_path, demo.FOLDER))
    assert [each["text"] for each in spoken["utterances"]] == [each["text"] for each in shipped["utterances"]]
    for new, old in zip(spoken["utterances"], shipped["utterances"], strict=True):
        assert new["end"] == pytest.approx(old["end"], abs=0.5)  # voices differ a little between versions
    assert soundfile.info(tmp_path / "speech.ogg").duration == soundfile.info(demo.FOLDER / "speech.ogg").duration
    assert (demo.FOLDER / "speech.ogg").stat().st_size < 100_000


# Read aloud


@VOICELESS
def test_what_is_read_aloud_can_be_heard(tmp_path):
    worked, said = tried(read_aloud.say_a_sentence, tmp_path)
    assert worked
    assert "It is audible" in said
    samples, rate = soundfile.read(tmp_path / "read-aloud.wav")
    assert 2 < len(samples) / rate < 10
    assert np.abs(samples).max() > 0.05


@pytest.mark.parametrize("sound", ["silence", "noise"])
def test_silence_and_noise_are_not_taken_for_a_voice(tmp_path, monkeypatch, sound):
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, 32_000) if sound == "noise" else np.zeros(32_000)

    def save(_reading, path):
        soundfile.write(path, samples, 16_000)
        return iter(())

    class Teller:
        name = "a box"

        def voices(self):
            return ()

    monkeypatch.setattr(voices, "find", Teller)
    monkeypatch.setattr("crane_app.pipelines.speech.save", save)
    worked, said = tried(read_aloud.say_a_sentence, tmp_path)
    assert not worked
    assert "NOT as expected" in said

"""`crane transcribe` on the demo's recording, with a stand-in for the engine."""

from __future__ import annotations

import argparse
import contextlib
import json

import numpy as np
import pytest
import soundfile

from crane_app.cli import engines, transcribe
from crane_app.demo import FOLDER
from crane_app.engine.request import ModelCard
from crane_app.errors import BadInput, CraneError, DeviceLost
from crane_app.media.sound import RATE, Sound
from crane_app.pipelines import transcript
from tests.chat_checkpoint import write_chat
from tests.pipelines.ears import Ears
from tests.speech_checkpoint import write_speech

SPEECH = str(FOLDER / "speech.ogg")


def card(**changes) -> ModelCard:
    facts = {
        "name": "moonshine-tiny",
        "folder": "/models/moonshine-tiny",
        "architecture": "moonshine",
        "backend": "torch",
        "device": "cpu",
        "dtype": "float32",
        "context": 194,
        "vocabulary": 32768,
        "nbytes": 1,
        "batched": True,
        "chat": False,
    }
    return ModelCard(**(facts | changes))


@pytest.fixture
def ears(monkeypatch):
    ears = Ears(lambda samples: f"{len(samples) / RATE:.0f} seconds")

    @contextlib.contextmanager
    def one_off(args):
        ears.args = args
        yield engines.Opened(ears, card(), 0.1)

    monkeypatch.setattr(engines, "one_off", one_off)
    return ears


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    transcribe.add_flags(parser)
    return transcribe.run(parser.parse_args(words))


def test_each_utterance_is_a_line(ears, capsys):
    assert run(SPEECH) == 0
    assert capsys.readouterr() == ("4 seconds\n5 seconds\n3 seconds\n", "")
    assert {job.model for job in ears.jobs} == {"moonshine-tiny"}


def test_json_has_text_tokens_times_and_the_model(ears, capsys):
    assert run(SPEECH, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"text", "tokens", "segments", "model", "seconds"}
    assert answer["text"] == "4 seconds 5 seconds 3 seconds"
    assert (answer["model"], answer["seconds"]) == ("moonshine-tiny", 20.0)
    assert answer["tokens"] == [9, 2] * 3
    assert answer["segments"][0] == {"start": 1.136, "end": 4.848, "text": "4 seconds"}


def test_subtitles_into_a_file(ears, capsys, tmp_path):
    out = tmp_path / "a.srt"
    assert run(SPEECH, "--format", "srt", "--out", str(out)) == 0
    assert out.read_text("utf-8").startswith("1\n00:00:01,136 --> 00:00:04,848\n4 seconds\n")
    assert capsys.readouterr().out == ""


def test_whole_and_max_tokens_reach_the_model(ears, capsys):
    assert run(SPEECH, "--whole", "--max-tokens", "9") == 0
    [job] = ears.jobs
    assert len(job.inputs) == 20 * RATE
    assert dict(job.options) == {"max_tokens": 9}


def test_without_max_tokens_the_model_decides(ears):
    run(SPEECH)
    assert [dict(job.options) for job in ears.jobs] == [{"max_tokens": None}] * 3


def test_the_flags_say_which_model_and_where(ears):
    run(SPEECH, "-m", "/models/x", "--cpu", "--dtype", "float32", "--backend", "torch", "--new-engine")
    args = ears.args
    assert (args.model, args.device, args.dtype, args.backend, args.new_engine) == (
        "/models/x", "cpu", "float32", "torch", True,
    )  # fmt: skip


def test_a_failure_leaves_the_old_file(ears, tmp_path):
    def fail(_samples):
        raise CraneError("The device was lost.")

    ears.writes = fail
    out = tmp_path / "a.txt"
    out.write_text("old")
    with pytest.raises(CraneError, match="device was lost"):
        run(SPEECH, "--out", str(out))
    assert out.read_text() == "old"


def failing_at(number: int, error: BaseException):
    """Writes as `ears` do, until the utterance of that number."""
    heard: list[int] = []

    def writes(samples) -> str:
        heard.append(len(samples))
        if len(heard) == number:
            raise error
        return f"{len(samples) / RATE:.0f} seconds"

    return writes


def interrupted_at(number: int, wait):
    """Hearing.wait, until so many utterances were written."""
    written: list[object] = []

    def waits(self, seconds):
        if len(written) == number - 1:
            raise KeyboardInterrupt
        found = wait(self, seconds)
        written.extend([found] * (found is not None))
        return found

    return waits


def test_text_is_printed_as_it_comes_and_stays_when_the_engine_dies(ears, capsys):
    ears.writes = failing_at(3, DeviceLost("The device was lost."))
    with pytest.raises(DeviceLost):
        run(SPEECH)
    assert capsys.readouterr().out == "4 seconds\n5 seconds\n"


def test_what_was_heard_before_a_failure_is_written(ears, capsys, tmp_path):
    out = tmp_path / "a.json"
    ears.writes = failing_at(3, DeviceLost("The device was lost."))
    with pytest.raises(DeviceLost):
        run(SPEECH, "--json", "--out", str(out))
    assert json.loads(out.read_text("utf-8"))["text"] == "4 seconds 5 seconds"


def test_ctrl_c_keeps_what_was_heard(ears, capsys, monkeypatch):
    monkeypatch.setattr(transcript.Hearing, "wait", interrupted_at(2, transcript.Hearing.wait))
    with pytest.raises(KeyboardInterrupt):
        run(SPEECH, "--format", "srt")
    assert capsys.readouterr().out == "1\n00:00:01,136 --> 00:00:04,848\n4 seconds\n\n"


def test_where_it_cannot_be_saved_the_text_is_printed(ears, capsys, monkeypatch, tmp_path):
    def full(_path, _text):
        raise CraneError("'a.txt' cannot be written (No space left on device). Check the folder and disk.")

    monkeypatch.setattr(transcribe, "save", full)
    assert run(SPEECH, "--out", str(tmp_path / "a.txt")) == 1
    out, err = capsys.readouterr()
    assert out == "4 seconds\n5 seconds\n3 seconds\n"
    assert err == (
        "crane: 'a.txt' cannot be written (No space left on device). Check the folder and disk. "
        "The text is on standard output instead.\n"
    )


def test_an_output_that_cannot_be_is_refused_before_the_work(ears, tmp_path):
    for out in (str(tmp_path), str(tmp_path / "none" / "a.txt"), SPEECH):
        with pytest.raises(CraneError):
            run(SPEECH, "--out", out)
    assert ears.jobs == []


def test_a_bad_file_is_refused_before_an_engine_is_started(ears, tmp_path):
    (tmp_path / "a.wav").write_text("hello")
    with pytest.raises(BadInput, match="plain text"):
        run(str(tmp_path / "a.wav"))
    assert not hasattr(ears, "args")


@pytest.mark.parametrize("words", [["--max-tokens", "0"], ["--format", "doc"], ["--json", "--format", "srt"]])
def test_wrong_usage_ends_with_two(ears, words):
    with pytest.raises(SystemExit) as left:
        run(SPEECH, *words)
    assert left.value.code == 2


def test_how_far_it_is_is_shown_on_a_terminal(ears, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    run(SPEECH)
    shown = capsys.readouterr().err
    assert "writing" in shown
    assert shown.endswith("\r\x1b[K")


def test_a_real_engine_writes_each_utterance_as_it_would_alone(capsys, tmp_path):
    # GIVEN a tiny model, whose words are noise but always the same
    folder = str(write_speech(tmp_path / "ears"))
    assert run(SPEECH, "-m", folder, "--cpu", "--new-engine", "--json", "--max-tokens", "9") == 0
    answer = json.loads(capsys.readouterr().out)
    # WHEN one utterance is written alone
    with Sound(SPEECH) as sound:
        samples = np.concatenate(list(sound.blocks()))
    said = answer["segments"][1]
    alone = tmp_path / "alone.wav"
    soundfile.write(alone, samples[round(said["start"] * RATE) : round(said["end"] * RATE)], RATE, subtype="FLOAT")
    assert run(str(alone), "-m", folder, "--cpu", "--new-engine", "--json", "--max-tokens", "9", "--whole") == 0
    # THEN it is the same
    assert json.loads(capsys.readouterr().out)["text"] == said["text"] != ""
    assert (answer["model"], len(answer["segments"])) == ("ears", 3)


def test_a_model_that_does_not_hear_is_told(tmp_path):
    with pytest.raises(BadInput, match="does not hear"):
        run(SPEECH, "-m", str(write_chat(tmp_path / "tiny")), "--cpu", "--new-engine")

"""`crane say` with the real espeak-ng, and without a speaker."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crane_app.cli.main import main

pytestmark = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
TEXT = "Cranes sleep in shallow water. Why?"


def run(*argv: str) -> int:
    try:
        return main(["say", *argv])
    except SystemExit as left:
        return int(left.code or 0)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("crane: ")
    return lines[0]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch):
    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


@pytest.mark.skipif(shutil.which("sox") is None, reason="sox is not installed")
@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_a_file_is_written_that_sox_can_hear(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"said.{kind}"
    assert run(TEXT, "--out", str(path), "--voice", "en-us", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    stat = subprocess.run(["sox", path, "-n", "stat"], capture_output=True, text=True, check=True).stderr
    facts = {line.split(":")[0].strip(): line.split(":")[1].strip() for line in stat.splitlines() if ":" in line}
    assert float(facts["Length (seconds)"]) == pytest.approx(told["seconds"], abs=0.05)
    assert float(facts["RMS     amplitude"]) > 0.02
    assert [each["text"] for each in told["sentences"]] == ["Cranes sleep in shallow water.", "Why?"]
    assert told["out"] == str(path)


def test_speed_halves_the_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = []
    for speed in ("1", "2"):
        assert run(TEXT, "--out", str(tmp_path / "x.mp3"), "--speed", speed, "--json") == 0
        seconds.append(json.loads(capsys.readouterr().out)["seconds"])
    assert seconds[0] / seconds[1] == pytest.approx(2, rel=0.02)


def test_a_markdown_file_is_read_without_its_signs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Cranes\n\nThey **sleep**.\n\n```\ncode\n```\n", "utf-8")
    for announce, expected in (("yes", ["Cranes", "They sleep.", "Code block."]), ("no", ["Cranes", "They sleep."])):
        assert run("--file", str(page), "--out", str(tmp_path / "x.ogg"), "--json", "--announce-code", announce) == 0
        assert [each["text"] for each in json.loads(capsys.readouterr().out)["sentences"]] == expected


@pytest.mark.parametrize("argv", [("-",), ("--file", "-")])
def test_a_dash_is_standard_input(argv: tuple[str, ...], typed, tmp_path: Path, capsys) -> None:
    typed("Zwei Sätze. Und 🙂 noch einer.".encode() + b"\xff")
    assert run(*argv, "--out", str(tmp_path / "x.wav"), "--voice", "de", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["sentences"]) == 2


def test_the_voices_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list-voices", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["program"] == "espeak-ng"
    assert {"id": "de", "name": "German", "language": "de"} in told["voices"]
    assert run("--list-voices") == 0
    assert any(line.split()[0] == "de" for line in capsys.readouterr().out.splitlines())


def test_without_a_speaker_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from crane_app.errors import Unsupported
    from crane_app.platform import speaker

    def none(*_args: object) -> None:
        raise Unsupported(speaker.NO_DEVICE)

    monkeypatch.setattr(speaker.Speaker, "open", none)
    assert run("Hello.") == 1
    assert "no speaker on this machine" in said(capsys)


def test_with_a_speaker_all_of_it_is_played(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from crane_app.platform import speaker
    from tests.pipelines.mouth import FakeSpeaker

    fake = FakeSpeaker()
    monkeypatch.setattr(speaker.Speaker, "open", lambda self, rate: fake.open(rate))
    assert run(TEXT, "--json", "--speed", "2") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["seconds"] == pytest.approx(len(fake.heard) / fake.outputs[0].rate, rel=0.02)
    assert told["out"] is None


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("Hello.", "--out", "x.aac"), "Let the name end in one of: .wav, .flac, .mp3, .ogg"),
        (("Hello.", "--out", "/nowhere/x.wav"), "There is no folder '/nowhere'"),
        (("", "--out", "x.wav"), "There is nothing to say"),
        (("... ---", "--out", "x.wav"), "There is nothing to say"),
        (("Hello.", "--out", "x.wav", "--voice", "nowhere"), "There is no voice 'nowhere'"),
        (("--file", "none.txt", "--out", "x.wav"), "none.txt cannot be read"),
    ],
)
def test_what_cannot_be_is_one_sentence(argv, sentence, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*argv) == 1
    assert sentence in said(capsys)
    assert list(tmp_path.iterdir()) == []


def test_without_a_voice_it_says_so(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run("Hello.", "--out", str(tmp_path / "x.wav")) == 1
    assert "This machine has no voice to read aloud with. " in said(capsys)


@pytest.mark.parametrize(
    "argv", [(), ("Hello.", "--file", "x.txt"), ("Hello.", "--speed", "9"), ("--list-voices", "x")]
)
def test_wrong_usage_is_2(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*argv) == 2
    assert "usage: crane say" in capsys.readouterr().err


def test_a_text_that_begins_with_a_dash_is_told_how_to_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-hello") == 2
    assert capsys.readouterr().err.strip().endswith("crane say -- -hello")

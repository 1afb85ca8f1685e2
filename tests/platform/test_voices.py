"""The system's voice on Linux, and on macOS and Windows against programs that stand for theirs.

A stand-in writes down what it was called with and answers with a WAV whose length tells how much text it got.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from crane_app.errors import BadInput, Cancelled, CraneError, Unsupported
from crane_app.platform import voices
from crane_app.platform.voices import Voice, chosen, for_language, process
from crane_app.platform.voices.process import Rendering, speakable

STAND_IN = """#!/bin/sh
''':'
exec "{python}" "$0" "$@"
'''
import json, os, pathlib, sys, wave
text = "" if {listing!r} in " ".join(sys.argv) else sys.stdin.buffer.read().decode("utf-8")
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([sys.argv[1:], text, {{k: os.environ.get(k) for k in ("CRANE_VOICE", "LC_ALL")}}]) + "\\n")
if {listing!r} in " ".join(sys.argv):
    sys.stdout.buffer.write({told!r}.encode())
    sys.exit(0)
{extra}
out = os.environ.get("CRANE_OUT") or sys.argv[sys.argv.index("-o") + 1]
with wave.open(out, "wb") as file:
    file.setparams((1, 2, 22050, 0, "NONE", ""))
    file.writeframes(b"\\0\\x40" * len(text))
"""
SAY_LISTS = """Alex                en_US    # Most people recognize me by my voice.
Bad News            en_US    # The light you see.
Anna (Premium)      de_DE    # Hallo, ich heiße Anna.
Ting-Ting           zh_CN    # 您好
"""
NASTY = [
    "-x --help",
    '\'; touch /tmp/never "$(touch /tmp/never)" `id` & | > <',
    "line\nline\r\nline",
    "🙂 été 今日は مرحبا",
    "%PATH% $env:PATH {out} \\",
    "word " * 2000,
]
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
needs_scripts = pytest.mark.skipif(sys.platform == "win32", reason="stand-ins are scripts with a first line")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a stand-in on an otherwise empty PATH; gives a function that tells the calls it got."""

    def make(name: str, listing: str, told: str = "", extra: str = ""):
        path = tmp_path / name
        path.write_text(STAND_IN.format(python=sys.executable, listing=listing, told=told, extra=extra), "utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path))
        return lambda: [json.loads(line) for line in (tmp_path / "calls").read_text("utf-8").splitlines()]

    return make


# Linux, for real


@needs_espeak
def test_espeak_says_a_sentence() -> None:
    sound = voices.find("linux").render("Hello there.", "en-us").sound()
    assert sound.samples.dtype == np.float32
    assert 0.5 < len(sound.samples) / sound.rate < 3
    assert 0.1 < np.abs(sound.samples).max() <= 1


@needs_espeak
@pytest.mark.parametrize("text", [*NASTY, "a\0b", "\ud800 lone", "[[h@lo]]", "<b>not markup</b>", "...", ""])
def test_espeak_takes_any_text(text: str) -> None:
    sound = voices.find("linux").render(text, "").sound()
    assert np.isfinite(sound.samples).all()
    assert not Path("/tmp/never").exists()
    if text in NASTY:
        assert np.abs(sound.samples).max() > 0.1


@needs_espeak
def test_espeak_tells_its_voices() -> None:
    found = voices.find("linux").voices()
    assert {"en-us", "de", "ja"} <= {voice.language for voice in found}
    assert len({voice.id for voice in found}) == len(found)
    assert chosen(found, "DE").id == "de"
    assert chosen(found, "English (America)").id == "en-us"


@needs_espeak
def test_espeak_speaks_the_language_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    espeak = voices.find("linux")
    german = espeak.render("Guten Morgen.", "de").sound()
    np.testing.assert_array_equal(espeak.render("Guten Morgen.", "").sound().samples, german.samples)
    monkeypatch.setenv("LC_ALL", "C")
    english = voices.find("linux").render("Guten Morgen.", "").sound()
    assert len(english.samples) != len(german.samples)


@needs_espeak
def test_an_unknown_voice_is_a_sentence() -> None:
    with pytest.raises(CraneError, match="voice does not exist"):
        voices.find("linux").render("Hello.", "nowhere").sound()


def test_no_program_names_the_command_that_installs_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match="apt-get install espeak-ng"):
        voices.find("linux")
    with pytest.raises(Unsupported, match="say"):
        voices.find("darwin")
    with pytest.raises(Unsupported, match="PowerShell"):
        voices.find("win32")


# macOS and Windows, by stand-ins


@needs_scripts
@pytest.mark.parametrize("text", NASTY)
def test_say_gets_the_text_on_its_standard_input(text: str, program) -> None:
    calls = program("say", "?")
    sound = voices.find("darwin").render(text, "Anna (Premium)").sound()
    [(argv, got, variables)] = calls()
    assert got == text.replace("\r", " ")
    assert argv[:3] == ["-f", "-", "-o"]
    assert argv[4:] == ["--data-format=LEI16@22050", "-v", "Anna (Premium)"]
    assert variables["LC_ALL"] == "en_US.UTF-8"
    assert len(sound.samples) == len(got)
    assert sound.samples[0] == 0.5
    assert not Path(argv[3]).parent.exists(), "the folder of the sound is left"


@needs_scripts
def test_say_tells_its_voices_with_spaces_and_brackets(program) -> None:
    program("say", "?", SAY_LISTS)
    assert voices.find("darwin").voices() == (
        Voice("Alex", "Alex", "en-us"),
        Voice("Bad News", "Bad News", "en-us"),
        Voice("Anna (Premium)", "Anna (Premium)", "de-de"),
        Voice("Ting-Ting", "Ting-Ting", "zh-cn"),
    )


@needs_scripts
@pytest.mark.parametrize("text", NASTY)
def test_powershell_gets_a_fixed_script_and_the_text_on_its_standard_input(text: str, program) -> None:
    calls = program("powershell", "never")
    sound = voices.find("win32").render(text, "Microsoft O'Hara").sound()
    [(argv, got, variables)] = calls()
    assert got == text.replace("\r", " ")
    assert argv[:3] == ["-NoProfile", "-NonInteractive", "-EncodedCommand"]
    script = base64.b64decode(argv[3]).decode("utf-16-le")
    assert "SetOutputToWaveFile($env:CRANE_OUT)" in script
    assert "O'Hara" not in script
    assert variables["CRANE_VOICE"] == "Microsoft O'Hara"
    assert len(sound.samples) == len(got)


@needs_scripts
def test_system_speech_tells_its_voices(program, monkeypatch: pytest.MonkeyPatch) -> None:
    from crane_app.platform.voices import system_speech

    listing = base64.b64encode(system_speech.LIST.encode("utf-16-le")).decode()
    program("powershell", listing[-40:], "en-US\tMicrosoft Zira Desktop\nde-DE\tMicrosoft Hedda\n")
    assert voices.find("win32").voices() == (
        Voice("Microsoft Zira Desktop", "Microsoft Zira Desktop", "en-us"),
        Voice("Microsoft Hedda", "Microsoft Hedda", "de-de"),
    )


@needs_scripts
def test_a_program_that_fails_is_a_sentence_with_its_reason(program) -> None:
    program("say", "?", extra='sys.exit("no such voice")')
    with pytest.raises(CraneError, match=r"say could not say a sentence \(no such voice\)"):
        voices.find("darwin").render("Hello.", "").sound()


@needs_scripts
def test_a_sound_that_is_none_is_a_sentence(program) -> None:
    extra = "pathlib.Path(sys.argv[sys.argv.index('-o') + 1]).write_bytes(b'RIFF no'); sys.exit(0)"
    program("say", "?", extra=extra)
    with pytest.raises(CraneError, match="cannot be read"):
        voices.find("darwin").render("Hello.", "").sound()


@needs_scripts
def test_cancelling_kills_the_process(program) -> None:
    program("say", "?", extra="import time; time.sleep(600)")
    rendering = voices.find("darwin").render("Hello.", "")
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            rendering.sound()
        except CraneError as error:
            raised.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    rendering.cancel()
    rendering.cancel()
    waiter.join(30)
    assert not waiter.is_alive()
    assert isinstance(raised[0], Cancelled)
    assert rendering._process.returncode is not None


@needs_scripts
def test_a_program_that_hangs_is_given_up(program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LONGEST_S", 0.05)
    program("say", "?", extra="import time; time.sleep(600)")
    with pytest.raises(CraneError, match="did not finish"):
        voices.find("darwin").render("Hello.", "").sound()


def test_a_program_that_cannot_be_started_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CraneError, match="cannot be started"):
        Rendering("say", [str(tmp_path / "none")], "Hello.")


# Which voice


FEW = (Voice("a", "Alex", "en-us"), Voice("b", "Kate", "en-gb"), Voice("c", "Ting", "zh-cn"))


def test_a_voice_is_found_by_id_name_and_language() -> None:
    assert [chosen(FEW, wish).id for wish in ("b", "kate", "en-GB", "zh", " zh-tw ")] == ["b", "b", "b", "c", "c"]
    with pytest.raises(BadInput, match="no voice 'fr'"):
        chosen(FEW, "fr")


def test_a_language_is_met_by_its_own_voice_before_a_related_one() -> None:
    assert for_language(FEW, "en-gb") == FEW[1]
    assert for_language(FEW, "en-nz") == FEW[0]
    assert for_language(FEW, "") is None


def test_chinese_is_met_by_mandarin_whichever_way_it_is_called():
    mandarin, chinese = Voice("cmn", "Mandarin", "cmn"), Voice("Ting-Ting", "Ting-Ting", "zh-cn")
    assert for_language((*FEW[:2], mandarin), "zh") == for_language((mandarin,), "zh-cn") == mandarin
    assert for_language((*FEW[:2], chinese), "cmn") == chinese
    assert for_language((mandarin, chinese), "zh") == chinese


def test_commands_within_a_text_are_only_text() -> None:
    """`say` obeys [[rate 300]], espeak-ng speaks [[h@lo]] as phonemes."""
    assert "[[" not in speakable("a [[rate 300]] b [[[ c")
    assert speakable("a\0\x1b[31m\ud800b\tc\n") == "a [31m b\tc\n"


def test_the_environment_of_crane_is_left_as_it_was() -> None:
    before = dict(os.environ)
    voices.ORDER.get("darwin")
    assert dict(os.environ) == before

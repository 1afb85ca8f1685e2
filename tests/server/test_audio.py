"""Sound to text and back, over a real socket."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from crane_app.engine.request import End, Job, Part, Stream
from crane_app.platform import voices
from crane_app.server.fetching import Web
from crane_app.server.service import Limits
from tests.pipelines.mouth import FakeTeller
from tests.server.conftest import Serving, serving
from tests.server.scripted import CARD, Scripted, said

EARS = replace(CARD, name="moonshine", hears=True, chat=False)


class Listening(Scripted):
    """Hears as many words as there are seconds."""

    def __init__(self) -> None:
        super().__init__(*said("x"))
        self.cards = [CARD, EARS]
        self.models_heard: list[str | None] = []

    def open(self, job: Job) -> Stream:
        if job.kind != "transcribe":
            return super().open(job)
        self.models_heard.append(job.model)
        return self._start([Part({"text": " one & two ", "tokens": [1, 2]}), End("stop")])


@pytest.fixture(scope="module")
def listening() -> Iterator[Serving]:
    with serving(Listening()) as server:
        yield server


@pytest.fixture(scope="module")
def speech() -> bytes:
    """A file in which Silero finds somebody speaking."""
    return (Path(__file__).parents[1] / "media" / "silero" / "talk.flac").read_bytes()


def post(server: Serving, sound: bytes, **fields: Any) -> Any:
    return server.http.post("/v1/audio/transcriptions", files={"file": ("take.wav", sound)}, data=fields)


def test_what_is_said_in_all_forms(listening, speech):
    client = listening.openai()
    text = client.audio.transcriptions.create(model="moonshine", file=("take.wav", speech)).text
    assert set(text.split(" ")) == {"one", "&", "two"}
    assert set(listening.engine.models_heard) == {"moonshine"}
    assert post(listening, speech, response_format="text").text == text + "\n"
    srt = post(listening, speech, response_format="srt").text
    assert srt.startswith("1\n00:00:0")
    vtt = post(listening, speech, response_format="vtt").text
    assert vtt.startswith("WEBVTT\n\n00:00:0")
    assert "one &amp; two" in vtt
    verbose = post(listening, speech, response_format="verbose_json", **{"timestamp_granularities[]": "segment"}).json()
    assert (verbose["task"], verbose["text"]) == ("transcribe", text)
    assert all(0 <= s["start"] < s["end"] <= verbose["duration"] + 0.1 for s in verbose["segments"])
    assert verbose["segments"][0]["tokens"] == [1, 2]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "docx"}, "response_format"),
        ({"language": "de"}, "language"),
        ({"prompt": "Hint"}, "prompt"),
        ({"temperature": "0.5"}, "temperature"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities"),
        ({"stream": "true"}, "stream"),
        ({"model": "tiny"}, "model"),
        ({"file": "/etc/passwd"}, "file"),
    ],
)
def test_what_cannot_be_heard_is_refused(listening, speech, fields, param):
    got = (
        post(listening, speech, **fields)
        if "file" not in fields
        else listening.http.post("/v1/audio/transcriptions", data=fields, files={"other": b""})
    )
    assert (got.status_code, got.json()["error"]["param"]) == (400, param)


def test_what_is_no_sound_or_no_form(listening):
    assert "text" in post(listening, b"This is a letter.").json()["error"]["message"]
    assert post(listening, b"").status_code == 400
    for body, kind in (
        (b"x", "multipart/form-data"),
        (b"{}", "application/json"),
        (b"--a", "multipart/form-data; boundary=a"),
    ):
        got = listening.http.post("/v1/audio/transcriptions", content=body, headers={"content-type": kind})
        assert got.status_code == 400, got.text
    assert post(listening, b"x", model="other").status_code == 404


def test_a_model_that_hears_is_not_asked_to_chat(listening):
    body = {"model": "moonshine", "messages": [{"role": "user", "content": "x"}]}
    assert listening.http.post("/v1/chat/completions", json=body).status_code == 400


def test_a_tiny_model_hears_noise(tmp_path):
    """Through the real engine: whatever it writes, it is an answer."""
    from crane_app.engine.engine import Engine
    from tests.server.conftest import loaded
    from tests.speech_checkpoint import write_speech

    pytest.importorskip("torch")
    engine = Engine()
    loaded(engine, write_speech(tmp_path / "ears"))
    sound = io.BytesIO()
    soundfile.write(sound, np.random.default_rng(1).normal(0, 0.1, 16_000).astype(np.float32), 16_000, format="WAV")
    try:
        with serving(engine, name="ears", hears=True) as server:
            got = post(server, sound.getvalue(), model="ears", response_format="verbose_json")
            assert got.status_code == 200, got.text
            assert got.json()["duration"] == pytest.approx(1.0, abs=0.05)
    finally:
        engine.close(drain=False)


# Speech


@pytest.fixture
def teller(monkeypatch) -> FakeTeller:
    made = FakeTeller()
    monkeypatch.setattr(voices, "find", lambda: made)
    monkeypatch.setattr("tests.pipelines.mouth.RATE", 22_050)
    return made


def say(server: Serving, **fields: Any) -> Any:
    return server.http.post("/v1/audio/speech", json={"input": "One. Two words.", **fields})


@pytest.mark.parametrize(
    ("form", "kind", "container"),
    [
        (None, "audio/wav", ("WAV", "PCM_16")),
        ("wav", "audio/wav", ("WAV", "PCM_16")),
        ("flac", "audio/flac", ("FLAC", "PCM_16")),
        ("mp3", "audio/mpeg", ("MP3", "MPEG_LAYER_III")),
        ("opus", "audio/ogg", ("OGG", "OPUS")),
    ],
)
def test_a_form_is_what_it_is_called(listening, teller, form, kind, container):
    got = say(listening, voice="anna", **({"response_format": form} if form else {}))
    assert got.status_code == 200, got.text
    assert got.headers["content-type"].startswith(kind)
    with soundfile.SoundFile(io.BytesIO(got.content)) as file:
        assert (file.format, file.subtype, file.channels) == (*container, 1)
        assert file.frames / file.samplerate == pytest.approx(150 / 22_050, abs=0.06)
    assert {voice for _, voice in teller.begun} == {"anna"}


def test_bare_samples_at_24_khz(listening, teller):
    client = listening.openai()
    got = client.audio.speech.create(model="system-voice", voice="anna", input="Hello there.", response_format="pcm")
    samples = np.frombuffer(got.content, "<i2")
    assert len(samples) == round(120 * 24_000 / 22_050)
    assert np.abs(samples[30:-30] / 32768 - 0.5).max() < 0.03  # the resampling rings at both ends


def test_speed_and_language(listening, teller):
    assert say(listening, language="japanese").status_code == 200
    assert {voice for _, voice in teller.begun} == {"kyoko"}
    slow, fast = (len(say(listening, voice="anna", speed=speed, input="word " * 400).content) for speed in (1.0, 2.0))
    assert fast == pytest.approx(slow / 2, rel=0.05)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": "  "}, "input"),
        ({"input": "x" * 20_001}, "input"),
        ({"voice": "alloy"}, "voice"),
        ({"language": "klingon"}, "language"),
        ({"response_format": "aac"}, "response_format"),
        ({"speed": 4.0}, "speed"),
        ({"instructions": "Whisper."}, "instructions"),
        ({"temperature": 0.7}, "temperature"),
        ({"stream_format": "sse"}, "stream_format"),
        ({"reference_audio": "/etc/passwd"}, "reference_audio"),
    ],
)
def test_what_cannot_be_said_is_refused(listening, teller, fields, param):
    got = say(listening, **fields)
    assert (got.status_code, got.json()["error"]["param"]) == (400, param)
    assert json.loads(got.text)["error"]["message"]


def test_a_model_that_does_not_speak(listening, teller):
    assert say(listening, model="tts-1").status_code == 404


def test_a_machine_without_a_voice_says_how_to_get_one(listening, monkeypatch):
    from crane_app.errors import Unsupported

    def none() -> None:
        raise Unsupported("This machine has no voice.")

    monkeypatch.setattr(voices, "find", none)
    assert "no voice" in say(listening).json()["error"]["message"]


def test_sound_in_an_address(speech):
    """data: at any time; the web only where it is allowed, and then not this machine."""
    with serving(Listening()) as server, serving(Listening(), limits=Limits(web=Web())) as allowed:
        data = "data:audio/flac;base64," + base64.b64encode(speech).decode()

        def ask(asked: Serving, **fields: Any) -> Any:
            return asked.http.post("/v1/audio/transcriptions", files={"x": b""}, data=fields)

        assert "one & two" in ask(server, url=data).json()["text"]
        for asked, sentence in ((server, "--allow-url-fetch"), (allowed, "no public address")):
            got = ask(asked, url=f"{server.url}/secret.wav")
            assert (got.status_code, got.json()["error"]["param"]) == (400, "url")
            assert sentence in got.json()["error"]["message"]
        assert post(server, speech, url=data).status_code == 400


def test_hours_of_silence_in_a_small_file_are_refused(listening):
    """As an upload and inside an address: five hours, at 1 kHz."""
    made = io.BytesIO()
    soundfile.write(made, np.zeros(5 * 3600 * 1000, np.int16), 1000, format="FLAC")
    bomb = made.getvalue()
    assert len(bomb) < 100_000
    address = "data:audio/flac;base64," + base64.b64encode(bomb).decode()
    form = {"data": {"url": address}, "files": {"other": b""}}
    for got in (post(listening, bomb), listening.http.post("/v1/audio/transcriptions", **form)):
        assert got.status_code == 400
        assert "240 minutes" in got.json()["error"]["message"]

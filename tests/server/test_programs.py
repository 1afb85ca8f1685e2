"""Programs and lines for other servers, in programs/, run against this one: only port and model differ."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import soundfile

from tests.chat_checkpoint import write_chat
from tests.server.test_serve import Process

PROGRAMS = Path(__file__).parent / "programs"
LINES = dict(re.findall(r"^# (\w+)\n(.+?)(?:\n\n|\Z)", (PROGRAMS / "lines.sh").read_text("utf-8"), re.M | re.S))
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_voice = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
# The system's voice draws nothing by chance and has names of its own, which no program for another one can know.
VOICE = (
    (r'"Qwen3-TTS"', '"system-voice"'),
    (r'\s*"?voice"?\s*[=:]\s*"\w+",', ""),
    (r',?\s*"(temperature|max_tokens)": [\d.]+', ""),
)


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Process]:
    pytest.importorskip("torch")
    folder = write_chat(tmp_path_factory.mktemp("programs") / "tiny")
    process = Process("--model-path", str(folder), "--model-name", "Qwen2.5-7B-Instruct")
    yield process
    process.end(2)


def adapted(text: str, running: Process, *changes: tuple[str, str]) -> str:
    for pattern, new in changes:
        text = re.sub(pattern, new, text)
    return text.replace("localhost:8080", f"localhost:{urlsplit(running.url).port}")


def ran(command: list[str], folder: Path) -> str:
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def program(name: str, running: Process, folder: Path, *changes: tuple[str, str]) -> str:
    path = folder / name
    path.write_text(adapted((PROGRAMS / name).read_text("utf-8"), running, *changes), "utf-8")
    return ran([sys.executable, "-X", "utf8", "-W", "ignore", str(path)], folder)


def line(name: str, running: Process, folder: Path, *changes: tuple[str, str]) -> str:
    return ran(["sh", "-c", adapted(LINES[name], running, *changes)], folder)


def seconds(path: Path) -> float:
    return float(soundfile.info(path).duration)


def test_a_conversation(running, tmp_path):
    assert len(program("chat.py", running, tmp_path)) > 200


@needs_voice
def test_speech(running, tmp_path):
    program("speech.py", running, tmp_path, *VOICE[:1], (r'voice="\w+"', 'voice="en-us"'), *VOICE[2:])
    assert all(seconds(tmp_path / name) > 0.5 for name in ("output.wav", "english.wav", "hello.wav"))


@needs_voice
def test_speech_without_the_client(running, tmp_path):
    assert "Saved" in program("speech_requests.py", running, tmp_path, *VOICE)
    assert seconds(tmp_path / "speech.wav") > 0.5


@needs_curl
def test_lines_of_openais_api(running, tmp_path):
    whole = json.loads(line("whole", running, tmp_path))
    assert 0 < whole["usage"]["completion_tokens"] <= 256
    assert whole["choices"][0]["message"]["content"]
    frames = line("streamed", running, tmp_path).split("\n\n")
    assert frames[-2] == "data: [DONE]"
    assert json.loads(frames[-3].removeprefix("data: "))["usage"]["completion_tokens"] > 0
    assert json.loads(line("completed", running, tmp_path))["choices"][0]["text"]


@needs_curl
def test_lines_of_tokens_and_of_sglangs_api(running, tmp_path):
    def said(name: str, *changes: tuple[str, str]) -> Any:
        return json.loads(line(name, running, tmp_path, *changes))

    tokens = said("tokens")
    assert tokens["count"] == len(tokens["tokens"]) > 0
    assert said("text", (r"\[9707, 1917\]", str(tokens["tokens"])))["text"] == "Hello world"  # ids are the model's own
    generated = said("generated")
    assert generated["meta_info"]["completion_tokens"] == len(generated["output_ids"]) > 0
    assert said("aborted")["error"]["code"] == "request_not_found"


@needs_curl
@needs_voice
def test_a_line_that_is_spoken(running, tmp_path):
    line("spoken", running, tmp_path, *VOICE)
    assert seconds(tmp_path / "speech.wav") > 0.5

"""`crane serve` as a process: its banner, its refusals, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from crane_app.cli.main import main
from crane_app.errors import BadInput
from crane_app.server.run import _wish, bound
from crane_app.server.shelf import Stock, Stored
from tests.chat_checkpoint import write_chat
from tests.server.scripted import CARD, Scripted

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    pytest.importorskip("torch")
    return write_chat(tmp_path_factory.mktemp("serve") / "tiny", context=100_000)


class Process:
    """A running `crane serve`, once it has said where it is."""

    def __init__(self, *flags: str) -> None:
        command = [sys.executable, "-m", "crane_app", "serve", "--port", "0", "--new-engine", "--cpu", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if found := re.search(r"serving at (\S+)", line):
                self.url = found[1]
                return
        raise AssertionError(f"it did not start: {self.process.communicate()}")

    def end(self, times: int = 1) -> int:
        for _ in range(times):
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def running(folder) -> Iterator[Process]:
    process = Process("--model-path", str(folder), "--model-name", "mine", "--max-seq-len", "50000")
    yield process
    if process.process.poll() is None:
        process.end(2)


def test_the_banner_says_what_is_served(running):
    assert re.search(r"mine: \w+, torch on cpu in \w+, 50000 tokens of context", running.said)
    assert re.search(r"kv_bytes 0, kv_budget \d+; 16 answers at once", running.said)
    assert "this machine only, no key" in running.said
    assert httpx.get(f"{running.url}/v1/models").json()["data"][0]["id"] == "mine"


def test_the_first_signal_lets_answers_end_and_the_second_does_not(folder, running):
    """New requests are refused; what is under way is finished, or cut off."""
    body = {"messages": HELLO, "stream": True, "max_tokens": 300, "ignore_eos": True, "seed": 1}
    with httpx.stream("POST", f"{running.url}/v1/chat/completions", json=body, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        running.process.send_signal(signal.SIGTERM)
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert running.process.wait(30) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{running.url}/health")
    again = Process("--model-path", str(folder))
    body = {**body, "max_tokens": 90_000}
    with httpx.stream("POST", f"{again.url}/v1/chat/completions", json=body, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        again.process.send_signal(signal.SIGTERM)
        threading.Timer(0.3, again.process.send_signal, (signal.SIGTERM,)).start()
        with pytest.raises(httpx.HTTPError):
            for _ in lines:
                pass
    assert again.process.wait(30) == 0


def test_a_draft_model_goes_ahead_and_is_told(folder, tmp_path):
    """By its flag, in the engine's own process; what it borrowed is back when nothing is under way."""
    small = write_chat(tmp_path / "small", context=100_000)
    serving = Process("--model-path", str(folder), "--draft-model", str(small))
    try:
        assert httpx.get(f"{serving.url}/model_info").json()["draft_model"] == str(small)
        body = {"messages": HELLO, "max_tokens": 80, "ignore_eos": True, "temperature": 0}
        assert httpx.post(f"{serving.url}/v1/chat/completions", json=body, timeout=60).status_code == 200
        httpx.post(f"{serving.url}/flush_cache", timeout=60)
        told = httpx.get(f"{serving.url}/v1/stats").json()["engine"]
        (draft,) = [each for each in told["held"] if each["job"] == "draft"]
        assert (draft["name"], draft["kv_bytes"]) == ("tiny (draft model)", 0)
        assert told["kv_bytes"] == 0
        assert told["weights_bytes"] == 2 * draft["bytes"] > 0
        assert told["drafted_tokens"] >= told["accepted_tokens"] >= 0
        assert "crane_spec_decode_num_draft_tokens_total" in httpx.get(f"{serving.url}/metrics").text
    finally:
        serving.end()


def test_the_engines_death_is_told_and_the_next_request_finds_another(folder):
    """SIGKILL under way: an error event, then the same answer as before from a new engine."""
    serving = Process("--model-path", str(folder))
    try:
        short = {"messages": HELLO, "max_tokens": 8, "seed": 1}
        before = httpx.post(f"{serving.url}/v1/chat/completions", json=short, timeout=60).json()
        pid = httpx.get(f"{serving.url}/v1/stats").json()["engine"]["pid"]
        body = {**short, "stream": True, "max_tokens": 90_000, "ignore_eos": True}
        with httpx.stream("POST", f"{serving.url}/v1/chat/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            os.kill(pid, signal.SIGKILL)
            last = [line for line in lines if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_lost"
        after = httpx.post(f"{serving.url}/v1/chat/completions", json=short, timeout=60).json()
        assert after["choices"] == before["choices"]
        assert httpx.get(f"{serving.url}/health", timeout=60).status_code == 200
        assert httpx.get(f"{serving.url}/v1/stats").json()["engine"]["pid"] != pid
    finally:
        serving.end(2)


def refusal(capsys, *flags: str) -> str:
    def never(*_: object, **__: object) -> int:
        raise AssertionError("it would have served")

    assert main(["serve", *flags], server=never) == 1
    return capsys.readouterr().err


def test_a_draft_model_without_a_model_that_writes_is_refused(capsys, folder, monkeypatch):
    monkeypatch.delenv("CRANE_MODEL", raising=False)
    assert "Name that with --model" in refusal(capsys, "--speech-model", str(folder), "--draft-model", str(folder))


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--gpu-memory-limit", "much"], "5120M"),
        (["--format", "gguf"], "gguf"),
        (["--model-type", "hunyuan"], "qwen3"),
        (["--model-type", "qwen3_tts"], "qwen3"),
    ],
)
def test_a_flag_that_could_have_no_effect_is_refused(capsys, folder, flags, word):
    assert word in refusal(capsys, "--model-path", str(folder), *flags)


def test_the_format_is_held_against_the_file(capsys, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(60))
    assert "which is gguf" in refusal(capsys, "--model-path", str(path), "--format", "safetensors")
    assert main(["serve", "--model-path", str(path), "--format", "gguf"], server=lambda *_, **__: 0) == 0


def test_a_model_must_be_named(capsys, monkeypatch):
    monkeypatch.delenv("CRANE_MODEL", raising=False)
    assert "Name a model: --model" in refusal(capsys)


def test_flags_reach_the_server_with_their_defaults(folder, monkeypatch):
    told: dict = {}

    def server(opened: object, **options: object) -> int:
        told.update(options)
        return 0

    assert main(["serve", "-m", str(folder), "--model-type", "qwen3"], server=server) == 0
    assert (told["host"], told["port"], told["max_concurrent"]) == ("127.0.0.1", 8080, 16)
    assert (told["decode_tokens_per_seq"], told["max_length"], told["keys"]) == (16, None, ())
    assert (told["fetches"], told["insecure"]) == (False, False)
    assert main(["serve", "-m", str(folder), "--allow-url-fetch"], server=server) == 0
    assert told["fetches"] is True
    assert (told["stored"], told["idle_s"]) == (None, None)
    monkeypatch.setenv("CRANE_MODEL_FOLDERS", str(folder.parent))
    assert main(["serve", "-m", str(folder), "--allow-load", "--idle-unload", "2.5"], server=server) == 0
    assert told["stored"]()[folder.name] == (str(folder), 100_000, None, "auto", None, None, False, "auto")
    assert (told["idle_s"], told["pins"]) == (150, ())
    assert main(["serve", "-m", str(folder), "--pin", "a", "--pin", "b"], server=server) == 0
    assert told["pins"] == ("a", "b")
    monkeypatch.setenv("CRANE_API_KEY", "a, b")
    monkeypatch.setenv("CRANE_PORT", "9000")
    assert main(["serve", "-m", str(folder)], server=server) == 0
    assert (told["port"], told["keys"]) == (9000, ("a", "b"))


def test_beyond_this_machine_only_with_a_key(capsys, folder):
    from crane_app.server.run import serve

    flags = ["serve", "-m", str(folder), "--host", "0.0.0.0", "--port", "0"]
    assert main(flags, server=serve) == 1
    assert "--api-key" in capsys.readouterr().err


def test_a_port_that_is_taken(capsys, folder):
    from crane_app.server.run import serve

    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", "-m", str(folder), "--port", str(port)], server=serve) == 1
    assert f"port {port}" in capsys.readouterr().err


def test_nothing_is_served_by_the_library_alone(capsys, folder):
    assert main(["serve", "-m", str(folder)]) == 1
    assert "python -m crane_app serve" in capsys.readouterr().err
    assert os.environ.get("CRANE_INSECURE") is None


def test_a_pin_must_name_what_is_served():
    engine = Scripted()
    own = {"mine": CARD}
    _wish(engine, own, Stock(None, 60.0, frozenset({"mine"})))
    assert engine.wishes == [("tiny", 60.0), ("tiny", True)]
    with pytest.raises(BadInput, match="nowhere"):
        _wish(engine, own, Stock(None, None, frozenset({"nowhere"})))
    _wish(engine, own, Stock(lambda: {"other": Stored("/other")}, None, frozenset({"other"})))

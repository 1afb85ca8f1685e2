"""What the window gives to copy is run as it is, against a real `crane serve` with a tiny model and a key."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from crane_app.pipelines import client_snippets
from crane_app.pipelines.serving import Plan, Served, Server, new_key
from tests.chat_checkpoint import write_chat

NAME = 'it\'s "tiny"'  # quotes are what shells and languages stumble over


class Running:
    """A server, looked at while it is used."""

    def __init__(self, plan: Plan):
        self.plan, self.server = plan, Server(look_s=0.05)
        self.steps = self.server.run(plan)
        self.now = Served()
        while self.now.state != "on":
            self.now = next(self.steps)
            assert self.now.state in ("starting", "on"), self.now

    def snippet(self, kind: str) -> str:
        return client_snippets.snippets(self.now.url, NAME, self.plan.key)[kind]


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Running]:
    pytest.importorskip("torch")
    home = tmp_path_factory.mktemp("served")
    folder = write_chat(home / "tiny", context=256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_RUNTIME_DIR", str(home))
        patch.setenv("CRANE_BACKEND", "torch")
        patch.setenv("CRANE_DEVICE", "cpu")
        made = Running(Plan(str(folder), NAME, port=0, key=new_key()))
    yield made
    made.server.stop()
    assert [now.state for now in made.steps][-1] == "off"


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def test_the_python_program_prints_an_answer(running):
    assert run(sys.executable, "-c", running.snippet("Python")).strip()


POSIX = pytest.mark.skipif(sys.platform == "win32", reason="commands for a POSIX shell")


@POSIX
@pytest.mark.parametrize("kind", ["curl", "SGLang", "Ollama"])
def test_the_commands_of_a_shell_get_an_answer(running, kind):
    needs("curl")
    answer = json.loads(run("sh", "-c", running.snippet(kind).replace("curl ", "curl -s ", 1)))
    said = {
        "curl": lambda: answer["choices"][0]["message"]["content"],
        "SGLang": lambda: answer["text"],
        "Ollama": lambda: answer["message"]["content"],
    }[kind]()
    assert said


def test_the_javascript_program_prints_an_answer(running, tmp_path):
    node = needs("node")
    program = tmp_path / "ask.mjs"
    program.write_text(running.snippet("JavaScript"), "utf-8")
    assert run(node, str(program)).strip()


def test_what_was_asked_is_counted(running):
    run(sys.executable, "-c", running.snippet("Python"))
    before = next(running.steps).answered
    run(sys.executable, "-c", running.snippet("Python"))
    assert next(running.steps).answered == before + 1


@POSIX
def test_without_the_key_nobody_is_let_in(running):
    needs("curl")
    keyless = client_snippets.snippets(running.now.url, NAME, "")["curl"].replace("curl ", "curl -s ", 1)
    assert json.loads(run("sh", "-c", keyless))["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("kind", list(client_snippets.snippets("", "", "")))
def test_no_snippet_has_a_key_where_there_is_none(kind):
    assert "Bearer" not in client_snippets.snippets("http://127.0.0.1:8080", "tiny", "")[kind]

"""The command line as a whole: exit statuses, one sentence on stderr, variables, and verbs that need no model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crane_app.cli.main import VERBS, main
from crane_app.errors import BadInput
from crane_app.version import VERSION
from tests.models.scramble import golden

ROOT = Path(__file__).parents[2]


def run(*argv: str) -> int:
    """The status with which `crane ARGV` ends."""
    try:
        return main(list(argv))
    except SystemExit as exit:
        return int(exit.code or 0)


def one_sentence(said: str) -> str:
    """stderr without its prefix; it must be one line that begins as ours do, and no traceback."""
    lines = said.strip().splitlines()
    assert len(lines) == 1, said
    assert lines[0].startswith("crane: ")
    return lines[0].removeprefix("crane: ")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CRANE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden("qwen3").write(tmp_path_factory.mktemp("qwen3"))


def generate(*argv: str) -> int:
    return run("generate", "--tokens", "1,2,3", "--max-tokens", "2", *argv)


def test_help_names_every_verb(capsys):
    assert run("--help") == 0
    told = capsys.readouterr().out
    assert all(verb in told for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    assert run(verb, "--help") == 0
    assert "usage: crane" in capsys.readouterr().out


def test_the_version_is_told(capsys):
    assert run("--version") == 0
    assert VERSION in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["fly"], ["--fly"], ["generate"], ["generate", "--fly"], ["version", "x"], ["ocr"]])
def test_wrong_usage_is_2(argv, capsys):
    assert run(*argv) == 2
    told = capsys.readouterr().err
    assert "usage: crane" in told
    assert "Traceback" not in told


def test_a_flag_may_not_be_cut_short(capsys):
    """What is short for one flag today is short for two tomorrow."""
    assert generate("--max-tok", "3") == 2
    capsys.readouterr()


def test_a_known_fault_is_1_and_a_sentence(capsys, tmp_path):
    assert generate("--model", str(tmp_path / "none")) == 1
    assert "none" in one_sentence(capsys.readouterr().err)


@pytest.mark.parametrize("error", [RuntimeError("the sky fell"), KeyError("x"), MemoryError(), AssertionError()])
def test_an_unknown_fault_is_1_and_a_sentence(monkeypatch, capsys, error):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr("crane_app.doctor.versions", failing)
    assert run("version") == 1
    told = one_sentence(capsys.readouterr().err)
    assert type(error).__name__ in told
    assert "CRANE_DEBUG=1" in told


@pytest.mark.parametrize("error", [BadInput("No."), RuntimeError("No.")])
def test_debugging_shows_the_traceback_and_then_the_sentence(monkeypatch, capsys, error):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr("crane_app.doctor.versions", failing)
    monkeypatch.setenv("CRANE_DEBUG", "1")
    assert run("version") == 1
    told = capsys.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert told.strip().splitlines()[-1].startswith("crane: ")


def test_ctrl_c_is_130(monkeypatch, capsys):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("crane_app.doctor.versions", stopped)
    assert run("version") == 130
    one_sentence(capsys.readouterr().err)


# Variables


@pytest.mark.parametrize(
    ("name", "value"), [("CRANE_BACKEND", "tpu"), ("CRANE_DTYPE", "int8"), ("CRANE_DEVICE", "quantum")]
)
def test_a_bad_variable_is_named_with_what_it_may_be(monkeypatch, capsys, folder, name, value):
    monkeypatch.setenv(name, value)
    assert generate("-m", str(folder)) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert name in told
    assert value in told


@pytest.mark.parametrize("argv", [["version"], ["doctor", "--quick"], ["--help"]])
@pytest.mark.parametrize("name", ["CRANE_BACKEND", "CRANE_DTYPE"])
def test_a_bad_variable_does_not_matter_to_verbs_that_do_not_read_it(monkeypatch, name, argv):
    monkeypatch.setattr("crane_app.doctor.phases.measured", lambda backends: [])
    monkeypatch.setenv(name, "nonsense")
    assert run(*argv) == 0


def test_a_flag_stands_above_a_bad_variable(monkeypatch, folder):
    monkeypatch.setenv("CRANE_DTYPE", "nonsense")
    assert generate("-m", str(folder), "--dtype", "float32", "--max-tokens", "1") == 0


def test_variables_stand_for_flags(monkeypatch, capsys, folder, backend_name):
    monkeypatch.setenv("CRANE_MODEL", str(folder))
    monkeypatch.setenv("CRANE_BACKEND", backend_name)
    monkeypatch.setenv("CRANE_DTYPE", "float16")
    monkeypatch.setenv("CRANE_DEVICE", "cpu")
    assert generate("--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["backend"], told["device"], told["dtype"]) == (backend_name, "cpu", "float16")


def test_a_flag_wins_over_a_good_variable(monkeypatch, capsys, folder):
    monkeypatch.setenv("CRANE_MODEL", "/nowhere")
    monkeypatch.setenv("CRANE_DTYPE", "float16")
    assert generate("--model", str(folder), "--cpu", "--dtype", "float32", "--json") == 0
    assert json.loads(capsys.readouterr().out)["dtype"] == "float32"


@pytest.mark.parametrize("name", ["CRANE_MODEL", "CRANE_BACKEND", "CRANE_DTYPE"])
def test_an_empty_variable_is_none(monkeypatch, capsys, name):
    monkeypatch.setenv(name, "")
    assert generate() == 1
    assert "--model" in one_sentence(capsys.readouterr().err)


@pytest.mark.parametrize("flag", ["--backend", "--device", "--dtype"])
def test_a_bad_choice_is_wrong_usage(capsys, folder, flag):
    assert generate("-m", str(folder), flag, "nonsense") == 2
    assert flag in capsys.readouterr().err


# Verbs that tell of this machine


def test_version_as_json_and_as_text(capsys):
    assert run("version", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["crane"] == VERSION
    assert {"python", "system", "torch", "mlx", "backend", "device"} <= told.keys()
    assert run("version") == 0
    assert VERSION in capsys.readouterr().out


def test_doctor_as_json_and_as_text(capsys, monkeypatch):
    monkeypatch.setattr("crane_app.doctor.phases.measured", lambda backends: [])
    assert run("doctor", "--json", "--quick") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["versions"]["crane"] == VERSION
    assert {f["name"] for f in told["findings"]} >= {"python", "backend mlx", "backend torch", "disk"}
    assert all({"name", "ok", "seen", "costs", "mend", "essential"} == f.keys() for f in told["findings"])
    assert run("doctor") == 0
    assert "backend torch" in capsys.readouterr().out


def test_as_a_program(tmp_path):
    """`python -m crane_app`, from another folder."""
    command = [sys.executable, "-m", "crane_app", "version", "--json"]
    told = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert json.loads(told.stdout)["crane"] == VERSION
    assert told.stderr == ""


def test_help_is_quick_and_imports_no_tensor_library():
    code = (
        "import sys\n"
        "from crane_app.cli.main import main\n"
        "try: main(['generate', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'mlx', 'PySide6', 'onnxruntime', 'rapidocr'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stderr.strip() == "[]"

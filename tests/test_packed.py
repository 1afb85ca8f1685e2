"""The packed program's one entrance: engine, command or window, whatever the system gave it for streams."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crane_app import __main__ as entrance

ENGINE = """
import sys, types
child = types.ModuleType("crane_app.engine.process.child")
child.main = lambda argv: print(argv, sorted({"argparse", "PySide6", "torch", "numpy"} & {*sys.modules})) or 7
child.leave = sys.exit
sys.modules[child.__name__] = child
sys.argv = ["crane", "--engine", "--tied"]
from crane_app.__main__ import packed
packed()
"""


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way was taken; the environment and the streams stay as they are."""
    ways: list[str] = []
    monkeypatch.setattr(entrance, "app", lambda: ways.append("window"))
    monkeypatch.setattr(entrance, "main", lambda: ways.append("command"))
    monkeypatch.setattr(os, "environ", {**os.environ})
    return ways


def test_an_engine_is_one_before_anything_else_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", ENGINE], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert done.stdout == "['--tied'] []\n"


def test_a_child_of_the_doctor_is_one_before_a_command_is_looked_for() -> None:
    code = "import sys; sys.argv = ['crane', '--examined', 'nothing']; from crane_app.__main__ import packed; packed()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "{}\n"), done.stderr


def test_a_file_is_opened_in_the_window(called: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "page 1.png"
    page.touch()
    monkeypatch.setattr(sys, "argv", ["crane", str(page)])
    entrance.packed()
    assert called == ["window"]


def test_a_command_is_one_even_beside_a_file_of_its_name(
    called: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ocr").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["crane", "ocr", "page.png"])
    entrance.packed()
    assert called == ["command"]


@pytest.mark.parametrize("words", [[], ["--version"], ["nowhere.png"]])
def test_everything_else_is_the_command_lines(
    called: list[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["crane", *words])
    entrance.packed()
    assert called == ["command"]


def test_a_windowed_program_can_print_all_the_same(called: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    monkeypatch.setattr(sys, "argv", ["crane"])
    entrance.packed()
    print("nobody hears this", file=sys.stderr)
    sys.stdout.flush()
    assert sys.stdin.read() == ""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.close()


def test_programs_of_the_system_do_not_get_our_libraries(
    called: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "_MEIPASS", str(tmp_path), raising=False)
    monkeypatch.setattr(sys, "argv", ["crane"])
    os.environ.update(LD_LIBRARY_PATH=str(tmp_path), LIBPATH="/opt/own", DYLD_LIBRARY_PATH="/ours")
    os.environ["DYLD_LIBRARY_PATH_ORIG"] = "/theirs"
    entrance.packed()
    assert "LD_LIBRARY_PATH" not in os.environ  # ours alone
    assert os.environ["LIBPATH"] == "/opt/own"
    assert os.environ["DYLD_LIBRARY_PATH"] == "/theirs"
    assert "DYLD_LIBRARY_PATH_ORIG" not in os.environ
    assert os.environ["PYINSTALLER_RESET_ENVIRONMENT"] == "1"

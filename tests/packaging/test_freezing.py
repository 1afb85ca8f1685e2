"""Crane's entrance, frozen by PyInstaller without the large libraries: it starts, and starts as an engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import FOLDER

LARGE = ("torch", "mlx", "PySide6", "rapidocr", "onnxruntime", "cv2", "PIL", "soundfile", "huggingface_hub")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("PyInstaller", reason="PyInstaller is not installed: make bundle does that")
    work = tmp_path_factory.mktemp("frozen 🪶")
    command = [sys.executable, "-m", "PyInstaller", "--name", "crane", "--log-level", "ERROR"]
    command += ["--paths", str(FOLDER.parent), *(word for name in LARGE for word in ("--exclude-module", name))]
    sys.path.insert(0, str(FOLDER))
    try:
        from recipe import NEVER, own_modules

        skipped = ("crane_app.ui", "crane_app.backends.mlx", "crane_app.backends.torch")
        wanted = [name for name in own_modules("mlx") if not name.startswith(skipped)]
    finally:
        sys.path.remove(str(FOLDER))
    command += [word for name in wanted for word in ("--hidden-import", name)]
    command += [word for name in NEVER for word in ("--exclude-module", name)]
    subprocess.run([*command, str(FOLDER.parent / "crane_app" / "__main__.py")], cwd=work, check=True)
    return work / "dist" / "crane" / ("crane.exe" if sys.platform == "win32" else "crane")


@pytest.mark.slow
def test_the_frozen_program_has_commands(program: Path) -> None:
    done = subprocess.run([str(program), "version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0.1.0" in done.stdout


@pytest.mark.slow
def test_the_frozen_program_is_its_own_engine(program: Path) -> None:
    done = subprocess.run([str(program), "--engine", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "The engine's process." in done.stdout

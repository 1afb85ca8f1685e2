"""The scripts that pack and try: what they refuse, and that a broken program does not pass."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Script = Callable[[str], ModuleType]
linux = pytest.mark.skipif(sys.platform != "linux", reason="packs as on Linux, and tries a shell script")
BROKEN = """#!/bin/sh
case "$1" in
    version) echo "crane 0.1.0" ;;
    ocr) echo "Something else entirely" ;;
    *) echo "no such thing" >&2; exit 3 ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A packed program that can say its version, and reads pictures wrongly."""
    made = tmp_path / "crane-0.1.0-linux-x86_64"
    made.mkdir()
    (made / "crane").write_text(BROKEN, "utf-8")
    (made / "crane").chmod(0o755)
    return made


@linux
def test_an_artefact_unpacks_to_its_folder_and_has_its_sum_beside_it(
    script: Script, folder: Path, tmp_path: Path
) -> None:
    made = script("bundle").pack(script("recipe").plan("linux"), folder, tmp_path / "dist")
    digest, name = made.with_name(f"{made.name}.sha256").read_text("utf-8").split()
    assert (digest, name) == (hashlib.sha256(made.read_bytes()).hexdigest(), made.name)
    script("smoke").unpack(made, tmp_path / "dist")
    assert (tmp_path / "dist" / folder.name / "crane").read_text("utf-8") == BROKEN


@linux
def test_without_zstd_it_is_an_xz(
    script: Script, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = script("bundle")
    monkeypatch.setattr(bundle.shutil, "which", lambda name: None)
    made = bundle.pack(script("recipe").plan("linux"), folder, tmp_path / "dist")
    assert made.name == "crane-0.1.0-linux-x86_64.tar.xz"
    assert made.read_bytes()[:6] == b"\xfd7zXZ\x00"


@pytest.mark.parametrize(("backend", "limit"), [("torch", 400), ("mlx", 150)])
def test_a_larger_artefact_fails_the_build(
    script: Script,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    backend: str,
    limit: int,
) -> None:
    bundle, recipe = script("bundle"), script("recipe")
    made = tmp_path / "artefact"
    for size, status in ((limit * 10**6, 0), (limit * 10**6 + 100_000, 1)):
        with made.open("wb") as file:
            file.truncate(size)
        assert bundle.judge(recipe.plan("linux", backend), made) == status
    assert "0.1 MB too large" in capsys.readouterr().err


def test_a_bundle_is_not_begun_without_what_it_is_made_of(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script("recipe"), "lacking", lambda plan: ["PyInstaller", "rapidocr"])
    with pytest.raises(SystemExit, match="missing here: PyInstaller, rapidocr"):
        script("bundle").main([])


@linux
def test_a_bundle_with_cuda_is_not_begun(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script("recipe"), "lacking", lambda plan: [])
    monkeypatch.setattr(script("bundle").importlib.metadata, "version", lambda name: "2.13.0")
    with pytest.raises(SystemExit, match="CPU index"):
        script("bundle").main([])


@linux
def test_a_broken_program_does_not_pass(
    script: Script, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    smoke = script("smoke")
    monkeypatch.setattr(smoke, "PATIENCE_S", 0.5)
    monkeypatch.setattr(smoke, "screen", lambda: contextlib.nullcontext({}))
    artefact = tmp_path / "artefact.tar"
    subprocess.run(["tar", "-cf", str(artefact), "-C", str(tmp_path), folder.name], check=True)
    assert smoke.main([str(artefact)]) == 1
    words = {line.split()[1]: line.split()[0] for line in capsys.readouterr().out.splitlines() if "  " in line}
    assert words["says_what_it_is"] == "ok"
    for check in ("reads_the_picture", "speaks", "hears", "answers", "converses", "shows_a_window"):
        assert words[check] == "FAILED", check

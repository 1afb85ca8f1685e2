"""crane logits: the file holds what `score` gives, or is not there at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from crane_app.cli.main import main
from tests.models.scramble import golden

CASE = golden("qwen3")
TOKENS = ",".join(map(str, CASE.arrays["tokens"].tolist()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CASE.write(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CRANE_")]:
        monkeypatch.delenv(name)


def logits(folder: Path, out: Path, *argv: str, tokens: str = TOKENS) -> int:
    try:
        return main(["logits", "--model", str(folder), "--cpu", f"--tokens={tokens}", "--out", str(out), *argv])
    except SystemExit as exit:
        return int(exit.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *said: str) -> None:
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.strip().splitlines()) == 1, told.err
    assert all(part in told.err for part in said), told.err


def test_the_file_holds_the_logits_of_every_token(capsys, folder, tmp_path, backend_name):
    out = tmp_path / "some name 🦜.npy"
    assert logits(folder, out, "--backend", backend_name, "--dtype", "float32") == 0
    got = np.load(out, allow_pickle=False)
    assert got.dtype == np.float32
    assert got.shape == CASE.arrays["logits"].shape
    np.testing.assert_allclose(got, CASE.arrays["logits"], rtol=0, atol=1e-4)
    assert [file.name for file in tmp_path.iterdir()] == [out.name]
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_they_are_float32_in_any_dtype(capsys, folder, tmp_path, backend_name, dtype):
    assert logits(folder, tmp_path / "x.npy", "--backend", backend_name, "--dtype", dtype) == 0
    assert np.load(tmp_path / "x.npy").dtype == np.float32
    capsys.readouterr()


def test_an_older_file_is_replaced(capsys, folder, tmp_path):
    (tmp_path / "x.npy").write_bytes(b"old")
    assert logits(folder, tmp_path / "x.npy", "--backend", "torch", tokens="1") == 0
    assert np.load(tmp_path / "x.npy").shape == (1, 199)
    capsys.readouterr()


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_no_part_and_the_older_file(capsys, folder, tmp_path, monkeypatch):
    (tmp_path / "x.npy").write_bytes(b"old")

    def half(file, array):
        file.write(b"half of it")
        full()

    monkeypatch.setattr("numpy.save", half)
    assert logits(folder, tmp_path / "x.npy", "--backend", "torch") == 1
    refused(capsys, "x.npy", "No space left")
    assert [file.name for file in tmp_path.iterdir()] == ["x.npy"]
    assert (tmp_path / "x.npy").read_bytes() == b"old"


def test_ctrl_c_while_writing_leaves_no_part(capsys, folder, tmp_path, monkeypatch):
    def stopped(file, array):
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr("numpy.save", stopped)
    assert logits(folder, tmp_path / "x.npy", "--backend", "torch") == 130
    assert list(tmp_path.iterdir()) == []
    capsys.readouterr()


def test_a_disk_that_is_full_at_the_end_leaves_no_part(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", full)
    assert logits(folder, tmp_path / "x.npy", "--backend", "torch") == 1
    refused(capsys, "x.npy")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(capsys, folder, tmp_path):
    assert logits(folder, tmp_path / "none" / "x.npy") == 1
    refused(capsys, str(tmp_path / "none"))


@pytest.mark.parametrize("name", ["x.txt", "x", "x.npz", "x.npy.gz", ".npy"])
def test_a_file_that_is_not_called_npy(capsys, folder, tmp_path, name):
    assert logits(folder, tmp_path / name) in (1, 2)
    assert ".npy" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_the_file(capsys, folder, tmp_path):
    (tmp_path / "x.npy").mkdir()
    assert logits(folder, tmp_path / "x.npy", "--backend", "torch") == 1
    refused(capsys, "x.npy")
    assert [file.name for file in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.parametrize(
    ("tokens", "status"), [("", 1), ("199", 1), ("-1", 1), ("1,x", 2), ("1.5", 2), ("9" * 5000, 2)]
)
def test_tokens_that_are_none(capsys, folder, tmp_path, tokens, status):
    assert logits(folder, tmp_path / "x.npy", "--backend", "torch", tokens=tokens) == status
    assert "Traceback" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_tokens_and_a_file_must_be_named(capsys, folder):
    assert main.__module__ == "crane_app.cli.main"
    for argv in (["--tokens", "1"], ["--out", "x.npy"]):
        with pytest.raises(SystemExit) as exit:
            main(["logits", "--model", str(folder), *argv])
        assert exit.value.code == 2
    capsys.readouterr()

"""crane convert: one line about what it wrote, one sentence where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from crane_app.cli.main import main
from crane_app.engine import generation
from crane_app.engine.loading import load
from tests.models.scramble import golden

CASE = golden("qwen3")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return CASE.write(tmp_path / "a model 🦜", "bfloat16")


def run(*argv: object) -> int:
    try:
        return main(["convert", *map(str, argv)])
    except SystemExit as exit:
        return int(exit.code or 0)


def test_a_folder_is_written_and_told(capsys, source, tmp_path):
    assert run(source, tmp_path / "out", "--quantize", "q4") == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{tmp_path / 'out'}: ")
    assert len(told.out.splitlines()) == 1
    assert (tmp_path / "out" / "model.safetensors").stat().st_size < (source / "model.safetensors").stat().st_size / 2


def test_the_object_tells_the_bytes(capsys, source, tmp_path):
    assert run(source, tmp_path / "out.gguf", "--quantize", "q8", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["target", "nbytes", "seconds"]
    assert told["nbytes"] == (tmp_path / "out.gguf").stat().st_size


@pytest.mark.parametrize(
    ("argv", "said", "status"),
    [
        (["nowhere", "out"], "There is no model 'nowhere'", 1),
        (["SRC", "out.safetensors"], "would be a folder. Name one, or a file that ends in .gguf.", 1),
        (["SRC", "SRC"], "is there already", 1),
        (["SRC", "none/out"], "There is no folder", 1),
        (["SRC", "out", "--quantize", "q3"], "invalid choice", 2),
        (["SRC"], "DST", 2),
    ],
)
def test_what_cannot_be_done_is_a_sentence(capsys, source, tmp_path, monkeypatch, argv, said, status):
    monkeypatch.chdir(tmp_path)
    assert run(*(str(source) if word == "SRC" else word for word in argv)) == status
    assert said in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == [source.name]


def test_a_model_that_was_downloaded_is_named_by_its_id(source, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    there = tmp_path / "hub" / "models--birds--tiny" / "snapshots" / ("a" * 40)
    there.parent.mkdir(parents=True)
    source.rename(there)
    assert run("birds/tiny", tmp_path / "out.gguf") == 0
    assert (tmp_path / "out.gguf").is_file()


def logits(folder: Path, out: Path, *argv: str) -> np.ndarray:
    said = ["--model", str(folder), "--cpu", "--backend", "torch", "--tokens=1,5,77", "--out", str(out)]
    assert main(["logits", *said, *argv]) == 0
    return np.load(out)


def test_logits_are_exact_unless_fast(capsys, source, tmp_path):
    run(source, tmp_path / "q4", "--quantize", "q4")
    exact = generation.score(load(tmp_path / "q4", "torch", "cpu", exact=True), [1, 5, 77])
    fast = generation.score(load(tmp_path / "q4", "torch", "cpu"), [1, 5, 77])
    np.testing.assert_array_equal(logits(tmp_path / "q4", tmp_path / "a.npy"), exact)
    np.testing.assert_array_equal(logits(tmp_path / "q4", tmp_path / "b.npy", "--fast"), fast)
    packed = generation.score(load(source, "torch", "cpu", None, "q4", exact=True), [1, 5, 77])
    np.testing.assert_array_equal(logits(source, tmp_path / "c.npy", "--quantize", "q4"), packed)
    capsys.readouterr()

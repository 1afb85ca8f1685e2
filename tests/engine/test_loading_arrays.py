"""Weights in PyTorch's and numpy's files give the logits of the same weights as safetensors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from crane_app.engine import generation
from crane_app.engine.loading import load
from crane_app.errors import BadCheckpoint, Unsupported
from tests.models.scramble import Golden, golden, rounded, scrambled

torch = pytest.importorskip("torch", exc_type=ImportError)

TOKENS = [1, 5, 77, 140, 3]


def folder_of(path: Path, case: Golden) -> Path:
    """Its config.json alone."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(case.config))
    return path


def tensors_of(case: Golden, dtype: str) -> dict:
    """As torch holds them."""
    found = {}
    for name, shape in case.shapes.items():
        tensor = torch.from_numpy(rounded(scrambled(name, shape), dtype))
        found[name] = tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor
    return found


def scores(folder: Path, backend: str) -> np.ndarray:
    return generation.score(load(folder, backend, "cpu", "float32"), TOKENS)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["qwen3", "qwen3_moe"])
def test_a_pytorch_file_gives_the_logits_of_its_safetensors(tmp_path, backend_name, name, dtype):
    case = golden(name)
    folder = folder_of(tmp_path / "torch", case)
    torch.save(tensors_of(case, dtype), folder / "pytorch_model.bin")
    twin = case.write(tmp_path / "twin", dtype)
    np.testing.assert_array_equal(scores(folder, backend_name), scores(twin, backend_name))


def test_shards_with_an_index_are_one_model(tmp_path, backend_name):
    case = golden("qwen3")
    folder, every = folder_of(tmp_path / "torch", case), tensors_of(case, "float32")
    places = {name: f"pytorch_model-0000{i % 2 + 1}-of-00002.bin" for i, name in enumerate(every)}
    for file in set(places.values()):
        torch.save({name: every[name] for name in every if places[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    np.testing.assert_array_equal(scores(folder, backend_name), scores(case.write(tmp_path / "twin"), backend_name))


def test_a_numpy_file_gives_the_logits_of_its_safetensors(tmp_path, backend_name):
    case = golden("qwen3")
    folder = folder_of(tmp_path / "numpy", case)
    np.savez(folder / "model.npz", **{name: scrambled(name, shape) for name, shape in case.shapes.items()})
    np.testing.assert_array_equal(scores(folder, backend_name), scores(case.write(tmp_path / "twin"), backend_name))


def test_a_missing_tensor_and_a_whole_module_are_named(tmp_path):
    case = golden("qwen3")
    folder = folder_of(tmp_path / "torch", case)
    every = tensors_of(case, "float32")
    del every["model.norm.weight"]
    torch.save(every, folder / "model.pth")
    with pytest.raises(BadCheckpoint, match=r"model\.norm\.weight"):
        load(folder, "torch", "cpu", "float32")
    torch.save(torch.nn.Linear(2, 2), folder / "model.pth")
    with pytest.raises(Unsupported, match=r"torch\.nn\.modules\.linear\.Linear, which no weights need"):
        load(folder, "torch", "cpu", "float32")

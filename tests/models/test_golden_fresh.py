"""The recorded goldens are what the reference computes today, from the weights that tests rebuild."""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from safetensors import safe_open

from tests.models.scramble import (
    CODES,
    HERE,
    golden,
    golden_names,
    published,
    published_names,
    scrambled,
    widened,
    write_checkpoint,
)

GOLDEN = HERE / "golden"

needs_reference = pytest.mark.skipif(
    not find_spec("transformers"), reason="transformers is not installed: pip install -e .[oracle]"
)


def remake(into, *cases):
    """Run the generator as its docstring says."""
    script = GOLDEN / "make.py"
    done = subprocess.run([sys.executable, script, "--into", into, *cases], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_weights_are_those_the_goldens_were_recorded_with():
    """Values seen at that time: should numpy change its stream of normal numbers, the goldens are void."""
    norm, bias = scrambled("model.norm.weight", (3,)), scrambled("q_proj.bias", (3,))
    np.testing.assert_allclose(norm, [1.1203152, 1.1671259, 0.7890117], rtol=1e-6)
    np.testing.assert_allclose(bias, [0.2805619, 0.1602240, 0.1760554], rtol=1e-6)
    row = scrambled("q_proj.weight", (1, 64))[0]
    np.testing.assert_allclose(row[:3], [-0.1688275, -0.1096840, -0.1539469], rtol=1e-6)


def test_the_older_config_form_means_the_same_numbers():
    for name in ("qwen3", "hunyuan"):
        newer, older = golden(name), golden(f"{name}_v4")
        assert newer.shapes == older.shapes
        for key, x in newer.arrays.items():
            np.testing.assert_array_equal(x, older.arrays[key], err_msg=key)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_written_checkpoint_reads_back(tmp_path, dtype, shards):
    shapes = {f"model.layers.{i}.{part}.weight": (i + 1, 5) for i in range(3) for part in ("a", "b")}
    write_checkpoint(tmp_path, {"model_type": "qwen3"}, shapes, dtype, shards)
    assert json.loads((tmp_path / "config.json").read_text()) == {"model_type": "qwen3"}
    index = tmp_path / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"] if shards > 1 else {}
    assert len(set(places.values())) == (shards if shards > 1 else 0)
    for name, shape in shapes.items():
        with safe_open(tmp_path / places.get(name, "model.safetensors"), "numpy") as file:
            part = file.get_slice(name)
            assert tuple(part.get_shape()) == shape
            assert part.get_dtype() == CODES[dtype]
            if dtype != "bfloat16":
                np.testing.assert_array_equal(file.get_tensor(name), scrambled(name, shape, dtype))
        error = widened(scrambled(name, shape, dtype)) - scrambled(name, shape)
        assert np.abs(error).max() <= {"float32": 0, "float16": 2**-11, "bfloat16": 2**-8}[dtype]


@pytest.mark.parametrize("name", published_names())
def test_published_shapes_agree_with_their_config(name):
    config, shapes = published(name)
    assert shapes["model.embed_tokens.weight"] == (config["vocab_size"], config["hidden_size"])
    assert ("lm_head.weight" in shapes) != config["tie_word_embeddings"]


@pytest.mark.oracle
@needs_reference
@pytest.mark.parametrize("name", golden_names())
def test_a_golden_is_what_the_reference_computes(tmp_path, name):
    remake(tmp_path, name)
    old = golden(name)
    shapes = json.loads((tmp_path / name / "shapes.json").read_text())
    assert old.shapes == {k: tuple(s) for k, s in shapes.items()}
    with np.load(tmp_path / name / "golden.npz") as new:
        assert set(new) == set(old.arrays)
        for key in ("tokens", "greedy"):
            np.testing.assert_array_equal(new[key], old.arrays[key], err_msg=key)
        for key in set(new) - {"tokens", "greedy", "noise"}:
            # The rounded types may round the other way on another processor.
            loose = {"logits_bfloat16": 0.1, "logits_float16": 0.02}.get(key, 2e-5)
            np.testing.assert_allclose(new[key], old.arrays[key], rtol=0, atol=loose, err_msg=key)


@pytest.mark.oracle
@needs_reference
def test_rope_frequencies_are_what_the_reference_computes(tmp_path):
    remake(tmp_path, "rope")
    new, old = (json.loads((folder / "rope.json").read_text()) for folder in (tmp_path, GOLDEN))
    for a, b in zip(new, old, strict=True):
        np.testing.assert_allclose(a.pop("inverse"), b.pop("inverse"), rtol=1e-12)
        assert a == b

"""A folder in mlx-lm's quantised layout runs on both backends, and a damaged one is a sentence.

mlx quantises and is the oracle of the numbers; the names are mlx-lm's.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane_app.engine import generation
from crane_app.engine.loading import load
from crane_app.errors import BadCheckpoint, CraneError, Unsupported
from crane_app.media.files import writing
from crane_app.media.files.grouped import Grouped
from crane_app.media.files.safetensors import Checkpoint
from tests.engine.test_loading_gguf import TOKENS, wide
from tests.models.scramble import scrambled, write_checkpoint, write_safetensors

mx = pytest.importorskip("mlx.core", exc_type=ImportError)
HOW: dict[str, Any] = {"bits": 4, "group_size": 64}


def write_grouped(folder: Path, name: str, **paths: Any) -> dict[str, np.ndarray]:
    """Write a tiny model as mlx-lm does; returns its numbers by published name. paths: what is packed otherwise."""
    config, shapes = wide(name)
    how = {**HOW, "mode": "affine"} | {path.replace("__", "."): said for path, said in paths.items()}
    write_checkpoint(folder, config | {"quantization": how, "quantization_config": how}, {})
    found: dict[str, Any] = {}
    twin: dict[str, np.ndarray] = {}
    stacks: dict[str, list[np.ndarray]] = {}
    for published, shape in shapes.items():
        x = scrambled(published, shape)
        expert = re.fullmatch(r"(.+)\.experts\.\d+\.(.+)\.weight", published)
        if expert:
            stacks.setdefault(f"{expert[1]}.switch_mlp.{expert[2]}", []).append(x)
        elif len(shape) == 2:
            twin[published] = put(found, published.removesuffix(".weight"), x, how)
        else:
            found[published], twin[published] = mx.array(x), x
    for path, parts in stacks.items():
        for i, x in enumerate(put(found, path, np.stack(parts), how)):
            twin[f"{path.replace('switch_mlp', f'experts.{i}')}.weight"] = x
    mx.save_safetensors(str(folder / "model.safetensors"), found, {"format": "mlx"})
    return twin


def put(found: dict[str, Any], path: str, x: np.ndarray, how: dict[str, Any]) -> np.ndarray:
    said = how.get(path, how)
    if said is False:
        found[f"{path}.weight"] = mx.array(x)
        return x
    form = {"group_size": said["group_size"], "bits": said["bits"]}
    with mx.stream(mx.cpu):
        q, scales, biases = mx.quantize(mx.array(x).astype(mx.bfloat16), **form)
        found |= {f"{path}.weight": q, f"{path}.scales": scales, f"{path}.biases": biases}
        return np.array(mx.dequantize(q, scales.astype(mx.float32), biases.astype(mx.float32), **form))


def scores(path: Path, backend: str) -> np.ndarray:
    return generation.score(load(path, backend, "cpu", "float32"), TOKENS)


MIXED = {"model__layers__0__self_attn__v_proj": {"group_size": 32, "bits": 6}, "model__layers__1__mlp__up_proj": False}
ROUTER = {f"model__layers__{i}__mlp__gate": {"group_size": 64, "bits": 8} for i in range(2)}


@pytest.mark.parametrize(
    ("name", "paths"),
    [("qwen3", {}), ("qwen2", {}), ("llama", MIXED), ("hunyuan", {}), ("qwen3_moe", ROUTER)],
    ids=["qwen3", "qwen2", "llama, mixed", "hunyuan", "qwen3_moe"],
)
def test_a_grouped_folder_gives_the_logits_of_its_numbers(tmp_path, backend_name, name, paths):
    twin = write_grouped(tmp_path / "grouped", name, **paths)
    write_checkpoint(tmp_path / "twin", wide(name)[0], {})
    write_safetensors(tmp_path / "twin" / "model.safetensors", twin)
    ours, theirs = scores(tmp_path / "grouped", backend_name), scores(tmp_path / "twin", backend_name)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "bits that are not those of the file": ({"bits": 8}, "is not packed as config.json says: 8 bits"),
    "groups that are not those of the file": ({"group_size": 32}, "is not packed as config.json says"),
    "no bits": ({"bits": None}, "must give"),
    "bits of a text": ({"bits": "4"}, "must give"),
    "a size of no group": ({"group_size": 48}, "must give"),
    "another way": ({"mode": "mxfp4"}, "packed as 'mxfp4'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_not_what_it_says_is_a_sentence(tmp_path, fault):
    write_grouped(tmp_path, "qwen3")
    changed, sentence = FAULTS[fault]
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization"] |= changed
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CraneError, match=re.escape(sentence)):
        load(tmp_path, "torch", "cpu", "float32")


def test_scales_without_biases_are_a_sentence(tmp_path):
    write_grouped(tmp_path, "qwen3")
    tensors = mx.load(str(tmp_path / "model.safetensors"))
    del tensors["model.layers.0.mlp.down_proj.biases"]
    mx.save_safetensors(str(tmp_path / "model.safetensors"), tensors, {"format": "mlx"})
    with pytest.raises(BadCheckpoint, match="down_proj is not packed"):
        load(tmp_path, "torch", "cpu", "float32")


def test_other_ways_to_pack_are_named(tmp_path):
    config, _ = wide("qwen3")
    write_checkpoint(tmp_path, config | {"quantization_config": {"quant_method": "gptq", "bits": 4}}, {})
    with pytest.raises(Unsupported, match="packed as 'gptq'"):
        load(tmp_path, "torch", "cpu", "float32")


SIZES = st.lists(st.integers(0, 6), max_size=4).map(tuple)
ANYTHING = st.none() | st.booleans() | st.integers(-1, 300) | st.text(max_size=3) | st.lists(st.integers(), max_size=2)


@settings(max_examples=200)
@given(
    shapes=st.fixed_dictionaries(
        {}, optional={f"m.switch_mlp.up_proj.{part}": SIZES for part in ("weight", "scales", "biases")}
    ),
    plain=st.fixed_dictionaries({}, optional={f"a.{part}": SIZES for part in ("weight", "scales", "biases", "bias")}),
    said=st.dictionaries(st.sampled_from(["bits", "group_size", "mode", "a", "m.switch_mlp.up_proj"]), ANYTHING),
)
def test_any_shapes_under_any_words_are_read_or_are_a_sentence(shapes, plain, said):
    with tempfile.TemporaryDirectory() as folder:
        tensors = {
            name: np.zeros(shape, np.uint32 if name.endswith("weight") else np.float16)
            for name, shape in (shapes | plain).items()
        }
        with Path(folder, "model.safetensors").open("wb") as file:
            entries = [writing.Entry(name, x.dtype.name, x.shape) for name, x in tensors.items()]
            list(writing.write_safetensors(file, entries, tensors.values()))
        with contextlib.suppress(CraneError):
            grouped = Grouped(Checkpoint.open(Path(folder)), said)
            for name in grouped.schemes:
                assert grouped.read_packed(name).shape == grouped.shapes[name]


def test_more_experts_than_any_model_has_take_no_memory(tmp_path):
    """A few bytes for each in the file would be a hundred times that in names."""
    x = np.zeros((1 << 16, 1, 0), np.uint32)
    entries = [writing.Entry(f"{i}.switch_mlp.up_proj.weight", "uint32", x.shape) for i in range(5)]
    with (tmp_path / "model.safetensors").open("wb") as file:
        list(writing.write_safetensors(file, entries, [x] * 5))
    with pytest.raises(BadCheckpoint, match="more experts than any model"):
        Grouped(Checkpoint.open(tmp_path), dict(HOW))

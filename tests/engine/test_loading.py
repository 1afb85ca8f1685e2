"""From a folder to a model: what is read is what the files hold, and every broken folder is refused with a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crane_app.engine import generation
from crane_app.engine.loading import load
from crane_app.errors import BadCheckpoint, CraneError, ModelNotFound, Unsupported
from tests.models.scramble import Golden, golden, rounded, scrambled, widened, write_checkpoint, write_safetensors

CASE = "qwen3"
SHARDED = "qwen2_untied_sharded"
TOKENS = [1, 5, 77, 140, 3]


def write(folder: Path, name: str = CASE) -> Path:
    return golden(name).write(folder)


def config_of(folder: Path, **changed) -> None:
    """Change fields of a written config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def tensors_of(case: Golden, dtype="float32") -> dict[str, np.ndarray]:
    return {name: scrambled(name, shape, dtype) for name, shape in case.shapes.items()}


def refused(folder: Path, *said: str, error: type[CraneError] = BadCheckpoint, **how) -> str:
    """The sentence with which loading fails; it holds all of `said`."""
    with pytest.raises(error) as raised:
        load(folder, how.pop("backend", "torch"), "cpu", how.pop("dtype", "float32"))
    sentence = str(raised.value)
    assert all(part in sentence for part in said), sentence
    assert len(sentence) < 600, sentence
    return sentence


# What is not there


def test_a_folder_that_is_not_there(tmp_path):
    refused(tmp_path / "none", str(tmp_path / "none"), error=ModelNotFound)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "model.txt").write_bytes(b"words")
    refused(tmp_path / "model.txt", "model.txt", error=ModelNotFound)


def test_an_empty_folder(tmp_path):
    refused(tmp_path, "config.json", str(tmp_path), error=ModelNotFound)


def test_a_folder_without_weights(tmp_path):
    write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    refused(tmp_path, "safetensors")


def test_a_missing_shard_is_named(tmp_path):
    write(tmp_path, SHARDED)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    refused(tmp_path, "model-00002-of-00003.safetensors")
    (tmp_path / "model.safetensors.index.json").unlink()
    refused(tmp_path, "model-00002-of-00003.safetensors")


@pytest.mark.parametrize("form", ["single", "sharded"])
def test_a_missing_tensor_is_named_with_its_shape(tmp_path, form):
    case, name = golden(CASE), "model.layers.1.self_attn.q_norm.weight"
    shapes = {k: v for k, v in case.shapes.items() if k != name}
    write_checkpoint(tmp_path, case.config, shapes, shards=1 if form == "single" else 2)
    refused(tmp_path, name, "[32]", str(tmp_path))


@pytest.mark.parametrize("name", ["lm_head.weight", "model.norm.weight", "model.layers.2.self_attn.k_proj.bias"])
def test_no_kind_of_tensor_may_be_missing(tmp_path, name):
    case = golden(SHARDED)
    assert name in case.shapes
    write_checkpoint(tmp_path, case.config, {k: v for k, v in case.shapes.items() if k != name})
    refused(tmp_path, name)


def test_a_missing_expert_is_named(tmp_path):
    case, name = golden("qwen3_moe"), "model.layers.1.mlp.experts.7.up_proj.weight"
    write_checkpoint(tmp_path, case.config, {k: v for k, v in case.shapes.items() if k != name})
    refused(tmp_path, name)


# What is there, and wrong


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.embed_tokens.weight", (198, 64)),
        ("model.layers.0.self_attn.q_proj.weight", (64, 192)),
        ("model.layers.0.mlp.down_proj.weight", (64, 96, 1)),
        ("model.norm.weight", (1, 64)),
    ],
)
def test_a_wrong_shape_is_named_with_both(tmp_path, name, shape):
    case = golden(CASE)
    write_checkpoint(tmp_path, case.config, {**case.shapes, name: shape})
    refused(tmp_path, "model.safetensors", name, str(list(shape)), str(list(case.shapes[name])))


def test_a_wrong_shape_in_a_shard_names_the_shard(tmp_path):
    case, name = golden(SHARDED), "model.layers.1.mlp.up_proj.weight"
    write_checkpoint(tmp_path, case.config, {**case.shapes, name: (64, 96)}, shards=3)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    refused(tmp_path, name, index["weight_map"][name])


def test_a_truncated_file_is_named_with_a_tensor(tmp_path):
    write(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    assert "truncated" in refused(tmp_path, "model.safetensors", "model.")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html><body>Sign in</body></html>" * 9, "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n", "Git LFS"),
        (b"", "empty"),
        (b"\0" * 4096, "model.safetensors"),
        (os.urandom(4096), "model.safetensors"),
        (b"PK\x03\x04" + b"\0" * 999, "PyTorch"),
        (b"GGUF" + b"\0" * 999, "GGUF"),
    ],
    ids=["html", "lfs", "empty", "zeros", "noise", "zip", "gguf"],
)
def test_what_is_no_safetensors_file_is_called_what_it_is(tmp_path, content, said):
    write(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    refused(tmp_path, "model.safetensors", said)


@pytest.mark.parametrize(
    "place", ["../../x.safetensors", "/etc/passwd", "..", "a/../../x", "C:\\x.safetensors", "\\\\host\\x"]
)
def test_an_index_may_not_name_a_file_outside_the_folder(tmp_path, place):
    """Not even one that is there and good."""
    folder = write(tmp_path / "a" / "b", SHARDED)
    write(tmp_path, CASE)
    (tmp_path / "model.safetensors").rename(tmp_path / "x.safetensors")
    index = folder / "model.safetensors.index.json"
    said = json.loads(index.read_text())
    said["weight_map"]["lm_head.weight"] = place
    index.write_text(json.dumps(said))
    refused(folder, "model.safetensors.index.json")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    folder = write(tmp_path / "model", SHARDED)
    shard = folder / "model-00001-of-00003.safetensors"
    shard.rename(tmp_path / "elsewhere.safetensors")
    shard.symlink_to(tmp_path / "elsewhere.safetensors")
    refused(folder, "model.safetensors.index.json", "model-00001-of-00003.safetensors")


def test_integers_are_no_weights(tmp_path):
    """A quantised file says what it is by its type."""
    case, name = golden(CASE), "model.layers.0.mlp.up_proj.weight"
    write(tmp_path)
    file = tmp_path / "model.safetensors"
    blob = file.read_bytes()
    size = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8 : 8 + size])
    header[name]["dtype"] = "I32"
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + blob[8 + size :])
    refused(tmp_path, "model.safetensors", name, "int32", error=Unsupported)
    assert name in case.shapes


# config.json


@pytest.mark.parametrize(
    "text",
    [b"{", b"", b"[1, 2]", b'"x"', b"null", b"7", b"\xff\xfe{}", b"[" * 100_000, b'{"a": NaN', b"{'a': 1}"],
    ids=lambda t: ascii(t[:8]),
)
def test_a_config_that_is_no_json_object(tmp_path, text):
    write(tmp_path)
    (tmp_path / "config.json").write_bytes(text)
    refused(tmp_path, "config.json")


def test_a_config_with_a_number_of_a_million_digits(tmp_path):
    """Python refuses to read it, with an error of its own."""
    write(tmp_path)
    (tmp_path / "config.json").write_text('{"vocab_size": ' + "9" * 1_000_000 + "}")
    refused(tmp_path, "config.json")


def test_a_config_of_a_hundred_megabytes_is_not_read(tmp_path):
    write(tmp_path)
    with (tmp_path / "config.json").open("r+b") as file:
        file.truncate(100 * 2**20)
    refused(tmp_path, "config.json", str(100 * 2**20))


def test_a_config_that_is_a_folder(tmp_path):
    write(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    refused(tmp_path, "config.json", error=CraneError)


def test_a_config_in_a_loop_of_links(tmp_path):
    write(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").symlink_to("config.json")
    refused(tmp_path, "config.json", error=CraneError)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_a_config_that_may_not_be_read(tmp_path):
    write(tmp_path)
    (tmp_path / "config.json").chmod(0)
    refused(tmp_path, "config.json", error=CraneError)


def test_a_byte_order_mark_before_the_config_is_no_fault(tmp_path):
    """Windows editors write it."""
    write(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "config.json").read_bytes())
    assert load(tmp_path, "torch", "cpu", "float32").vocabulary == 199


def test_an_unknown_architecture_is_told_the_known_ones(tmp_path):
    write(tmp_path)
    config_of(tmp_path, architectures=["GPT2LMHeadModel"])
    refused(tmp_path, "GPT2LMHeadModel", "Qwen3ForCausalLM", "MistralForCausalLM", error=Unsupported)


@pytest.mark.parametrize("field", ["head_dim", "num_hidden_layers", "vocab_size", "hidden_size"])
@pytest.mark.parametrize("value", [0, -1, 10**9, "64", True, [64]], ids=repr)
def test_an_absurd_size_is_refused_before_anything_is_made(tmp_path, field, value):
    write(tmp_path)
    config_of(tmp_path, **{field: value})
    refused(tmp_path, "config.json", field)


def test_code_in_the_folder_is_not_run(tmp_path, monkeypatch):
    write(tmp_path)
    config_of(tmp_path, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    (tmp_path / "modeling_evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.chdir(tmp_path)
    loaded = load(tmp_path, "torch", "cpu", "float32")
    assert any("auto_map" in note for note in loaded.notes)
    assert not (tmp_path / "ran").exists()


# eos


def eos(folder: Path) -> tuple[int, ...]:
    return load(folder, "torch", "cpu", "float32").eos


@pytest.mark.parametrize(
    ("generation_config", "found"),
    [({"eos_token_id": [7, 9]}, (7, 9)), ({"eos_token_id": 7}, (7,)), ({"eos_token_id": 0}, (0,))],
)
def test_generation_config_says_what_ends_a_text(tmp_path, generation_config, found):
    write(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps(generation_config))
    assert eos(tmp_path) == found


@pytest.mark.parametrize("generation_config", [None, {}, {"eos_token_id": None}])
def test_else_the_config_says_it(tmp_path, generation_config):
    write(tmp_path)
    if generation_config is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation_config))
    assert eos(tmp_path) == (2,)
    config_of(tmp_path, eos_token_id=[2, 3])
    assert eos(tmp_path) == (2, 3)
    config_of(tmp_path, eos_token_id=None)
    assert eos(tmp_path) == ()


@pytest.mark.parametrize("value", ["2", 2.0, True, [2, "3"], [[2]], {"a": 2}, [None]], ids=repr)
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_an_eos_of_another_type_is_refused(tmp_path, file, value):
    write(tmp_path)
    if file == "config.json":
        config_of(tmp_path, eos_token_id=value)
    else:
        (tmp_path / file).write_text(json.dumps({"eos_token_id": value}))
    refused(tmp_path, "eos_token_id", str(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", "7"])
def test_a_broken_generation_config_is_named(tmp_path, text):
    write(tmp_path)
    (tmp_path / "generation_config.json").write_text(text)
    refused(tmp_path, "generation_config.json")


# What is read


def logits(folder: Path, backend: str, dtype="float32") -> np.ndarray:
    return generation.score(load(folder, backend, "cpu", dtype), TOKENS)


def test_a_folder_may_have_any_name(tmp_path, backend_name):
    folder = write(tmp_path / "a b  c" / "Modèle 🦜'\"$(x);&%20#?")
    np.testing.assert_array_equal(logits(folder, backend_name), logits(write(tmp_path / "plain"), backend_name))


def test_shards_hold_what_one_file_holds(tmp_path, backend_name):
    case = golden(SHARDED)
    one = write_checkpoint(tmp_path / "one", case.config, case.shapes)
    np.testing.assert_array_equal(logits(case.write(tmp_path / "three"), backend_name), logits(one, backend_name))


def stacked(case: Golden, dtype="float32") -> dict[str, np.ndarray]:
    """The tensors of a mixture in transformers 5's form: path.gate_up_proj [X, 2F, E], gate first; path.down_proj."""
    tensors = tensors_of(case, dtype)
    for layer in range(case.config["num_hidden_layers"]):
        at = f"model.layers.{layer}.mlp.experts"
        parts = {
            part: [tensors.pop(f"{at}.{i}.{part}.weight") for i in range(case.config["num_experts"])]
            for part in ("gate_proj", "up_proj", "down_proj")
        }
        pairs = zip(parts["gate_proj"], parts["up_proj"], strict=True)
        tensors[f"{at}.gate_up_proj"] = np.stack([np.concatenate(pair) for pair in pairs])
        tensors[f"{at}.down_proj"] = np.stack(parts["down_proj"])
    return tensors


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_both_forms_of_experts_are_the_same_model(tmp_path, backend_name, dtype):
    case = golden("qwen3_moe")
    each = case.write(tmp_path / "each", dtype)
    together = case.write(tmp_path / "together", dtype)
    write_safetensors(together / "model.safetensors", stacked(case, dtype))
    np.testing.assert_array_equal(logits(together, backend_name, dtype), logits(each, backend_name, dtype))


def test_a_stack_of_experts_without_its_twin_is_refused(tmp_path):
    case, name = golden("qwen3_moe"), "model.layers.2.mlp.experts.down_proj"
    case.write(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", {k: v for k, v in stacked(case).items() if k != name})
    refused(tmp_path, name)


def test_experts_of_different_types_are_refused_by_name(tmp_path):
    case, name = golden("qwen3_moe"), "model.layers.0.mlp.experts.3.up_proj.weight"
    case.write(tmp_path)
    tensors = tensors_of(case)
    write_safetensors(tmp_path / "model.safetensors", {**tensors, name: rounded(tensors[name], "bfloat16")})
    refused(tmp_path, "model.safetensors", name)


def test_tensors_that_nobody_reads_are_noted(tmp_path):
    case = golden(CASE)
    write_checkpoint(tmp_path, case.config, {**case.shapes, "visual.patch.weight": (4, 4), "visual.zzz": (2,)})
    notes = load(tmp_path, "torch", "cpu", "float32").notes
    assert len(notes) == 1
    assert "2 tensors" in notes[0]
    assert "visual.patch.weight" in notes[0]


def test_a_tied_head_and_old_frequencies_in_the_file_are_no_news(tmp_path, backend_name):
    """Some files carry them; the head is tied, whatever the file's copy holds."""
    case = golden(CASE)
    spare = {"lm_head.weight": (199, 64), "model.layers.0.self_attn.rotary_emb.inv_freq": (16,)}
    folder = write_checkpoint(tmp_path / "spare", case.config, {**case.shapes, **spare})
    assert load(folder, backend_name, "cpu", "float32").notes == ()
    np.testing.assert_array_equal(logits(folder, backend_name), logits(write(tmp_path / "bare"), backend_name))


@pytest.mark.parametrize("kept", ["bfloat16", "float16"])
def test_sixteen_bits_on_disk_are_widened_without_loss(tmp_path, backend_name, kept):
    case = golden("qwen2")
    narrow = case.write(tmp_path / "narrow", kept)
    wide = write_checkpoint(tmp_path / "wide", case.config, case.shapes, edit=lambda _, x: widened(rounded(x, kept)))
    np.testing.assert_array_equal(logits(narrow, backend_name), logits(wide, backend_name))


@pytest.mark.parametrize("wanted", ["bfloat16", "float16"])
def test_float32_on_disk_is_rounded_to_the_nearest(tmp_path, backend_name, wanted):
    """As if the file had held the rounded values, tables and norms, products and experts."""
    case = golden("qwen3_moe")
    wide, narrow = case.write(tmp_path / "wide"), case.write(tmp_path / "narrow", wanted)
    np.testing.assert_array_equal(logits(wide, backend_name, wanted), logits(narrow, backend_name, wanted))


def test_one_checkpoint_may_mix_types(tmp_path, backend_name):
    """Norms are often float32 among bfloat16 products."""
    case = golden(CASE)
    tensors = tensors_of(case, "bfloat16")
    mixed = case.write(tmp_path / "mixed")
    wide = {k: widened(v) if len(v.shape) == 1 or "q_proj" in k else v for k, v in tensors.items()}
    write_safetensors(mixed / "model.safetensors", wide)
    narrow = case.write(tmp_path / "narrow", "bfloat16")
    np.testing.assert_array_equal(logits(mixed, backend_name), logits(narrow, backend_name))


def test_what_is_loaded_says_what_it_is(tmp_path):
    case = golden(CASE)
    loaded = load(case.write(tmp_path), "torch", "cpu", "bfloat16")
    assert loaded.vocabulary == 199
    assert loaded.context == 512
    assert loaded.nbytes == 2 * sum(int(np.prod(s)) for s in case.shapes.values())  # as held, not as in the file
    assert (loaded.backend.device.backend, loaded.backend.device.kind, loaded.backend.dtype) == (
        "torch",
        "cpu",
        "bfloat16",
    )
    assert loaded.notes == ()


def test_a_loaded_model_outlives_its_folder(tmp_path, backend_name):
    folder = write(tmp_path / "model")
    loaded = load(folder, backend_name, "cpu", "float32")
    before = generation.score(loaded, TOKENS)
    for file in folder.iterdir():
        with file.open("r+b") as opened:
            opened.truncate(0)
        file.unlink()
    folder.rmdir()
    np.testing.assert_array_equal(generation.score(loaded, TOKENS), before)


# Memory

LARGEST_SHARE = 1.15  # of what loading may take at its peak, against the weights plus the largest leaf
BIG = {"hidden_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 128, "layer_types": None}
SIZES = {  # what the largest leaf is -> about 200 MB in bfloat16
    "head": ("near_flat", {"intermediate_size": 3072, "num_hidden_layers": 4, "vocab_size": 32768}),
    "merged": ("qwen3", {"intermediate_size": 8192, "num_hidden_layers": 3, "vocab_size": 8192}),
    "experts": (
        "qwen3_moe",
        {"num_hidden_layers": 2, "vocab_size": 8192, "num_experts": 16, "moe_intermediate_size": 1024},
    ),
}

PEAK = """
import gc, json, sys
from pathlib import Path

def held(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])

from crane_app.engine.loading import load
small, folder, backend, dtype, *packed = sys.argv[1:]
load(Path(small), backend, "cpu", dtype, *packed)  # the libraries, their threads and their kernels
gc.collect()
before = held("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew, proc(5)
loaded = load(Path(folder), backend, "cpu", dtype, *packed)
print(json.dumps({"peak": held("VmHWM") - before, "after": held("VmRSS") - before}))
"""


def big(folder: Path, kind: str) -> tuple[Path, int, int]:
    """The folder, the bytes of all weights, and those of the largest leaf (what the backend is handed at once)."""
    from crane_app.models import registry
    from crane_app.models.weights import Experts, Products, names

    name, sizes = SIZES[kind]
    config = {**golden(name).config, **BIG, **sizes}
    module = registry.find(config)
    parameters = module.parameters(module.read(config))
    random = np.random.default_rng(0)
    tensors = {  # bits of numbers from 0.008 to 0.03
        tensor: random.integers(0x3C00, 0x3D00, shape, np.uint16) for tensor, shape in names(parameters).items()
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    total = write_safetensors(folder / "model.safetensors", tensors)
    leaves = []
    for p in parameters:
        if isinstance(p, Experts):
            leaves += [2 * int(np.prod(shape)) for shape in p.stacked().values()]
        else:
            shapes = [leaf.shape for leaf in p.leaves] if isinstance(p, Products) else [p.leaf.shape]
            leaves.append(2 * sum(int(np.prod(shape)) for shape in shapes))
    return folder, total, max(leaves)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("head", "bfloat16"), ("merged", "bfloat16"), ("merged", "float32"), ("experts", "bfloat16")],
)
def test_loading_takes_the_weights_and_one_leaf(tmp_path, backend_name, kind, dtype):
    """The weights as the backend holds them, plus the largest leaf, at the peak; the file itself is not mapped."""
    folder, total, largest = big(tmp_path / "big", kind)
    small = golden(SIZES[kind][0]).write(tmp_path / "small", "bfloat16")
    told = subprocess.run(
        [sys.executable, "-c", PEAK, small, folder, backend_name, dtype],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        # Else glibc keeps freed buffers of up to 32 MiB for itself, whatever the program does.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)},
    )
    got = json.loads(told.stdout)
    wide = 2 if dtype == "float32" else 1
    allowed = wide * (total + largest)
    figures = {k: f"{v / 2**20:.0f} MiB" for k, v in {**got, "weights": wide * total, "leaf": wide * largest}.items()}
    print(f"\n{backend_name} {kind} {dtype}: {figures}")
    assert got["peak"] < LARGEST_SHARE * allowed, figures
    assert got["after"] < LARGEST_SHARE * wide * total, figures


def test_a_model_that_is_dropped_gives_its_memory_back(tmp_path, backend_name):
    """Nothing but the caller keeps a loaded model alive."""
    import gc
    import weakref

    loaded = load(write(tmp_path), backend_name, "cpu", "float32")
    kept = weakref.ref(loaded.runner.model)
    generation.score(replace(loaded, notes=()), TOKENS)
    del loaded
    gc.collect()
    assert kept() is None

"""What weights will take is told from the heads of their files, within 2 % of what they take once loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Type

from crane_app import backends
from crane_app.backends import choose
from crane_app.engine.loading import load
from crane_app.host import KINDS, QUANTS, TYPES, Scheme
from crane_app.library.models import examine
from crane_app.library.tables import in_safetensors
from crane_app.library.weighing import width
from tests.engine.test_loading_gguf import wide
from tests.gguf_checkpoint import write_gguf
from tests.models.scramble import write_checkpoint
from tests.speech_checkpoint import write_speech

BLOCKS = [Type.Q4_0, Type.Q8_0, Type.Q4_K, Type.Q5_0]


def near(model: Path, backend: str, dtype: str | None, quantize: str | None = None) -> None:
    """Holds the page's figure against the nbytes of the loaded model, which its card shows."""
    entry = examine(model)
    assert (entry.problem, bool(entry.tensors)) == ("", True)
    told = backends.foreseen(backend, "cpu", dtype, quantize).weight(entry.tensors)
    taken = load(model, backend, "cpu", dtype, quantize).nbytes
    assert told == pytest.approx(taken, rel=0.02)


@pytest.mark.parametrize("quantize", [None, *QUANTS])
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["qwen2", "qwen3", "qwen3_moe"])
def test_a_folder_is_as_large_as_was_told(tmp_path, backend_name, name, stored, quantize):
    config, shapes = wide(name)
    folder = write_checkpoint(tmp_path, config, shapes, stored)
    for dtype in ("float32", "bfloat16"):
        near(folder, backend_name, dtype, quantize)


@pytest.mark.parametrize("quantize", [None, "q4"])
def test_so_is_a_model_for_speech(tmp_path, backend_name, quantize):
    """Its head is its table of tokens, and its taps are not packed."""
    near(write_speech(tmp_path), backend_name, "float32", quantize)


@pytest.mark.parametrize("quantize", [None, "q4"])
@pytest.mark.parametrize("kind", [*BLOCKS, Type.Q5_K, Type.F16], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["qwen2", "qwen3", "qwen3_moe"])
def test_a_gguf_file_is_as_large_as_was_told(tmp_path, backend_name, name, kind, quantize):
    config, shapes = wide(name)
    write_gguf(tmp_path / "model.gguf", config, shapes, kind)
    near(tmp_path / "model.gguf", backend_name, "bfloat16", quantize)


def test_a_head_beside_a_table_that_is_the_head_takes_nothing(tmp_path, backend_name):
    config, shapes = wide("qwen3")
    shapes["lm_head.weight"] = shapes["model.embed_tokens.weight"]
    folder = write_checkpoint(tmp_path, config | {"tie_word_embeddings": True}, shapes)
    near(folder, backend_name, "float32")


@pytest.mark.parametrize("name", ["qwen3", "llama", "qwen3_moe"])
def test_a_folder_of_mlx_lm_is_as_large_as_was_told(tmp_path, backend_name, name):
    from tests.engine.test_loading_grouped import MIXED, ROUTER, write_grouped

    write_grouped(tmp_path / "grouped", name, **{"llama": MIXED, "qwen3_moe": ROUTER}.get(name, {}))
    near(tmp_path / "grouped", backend_name, "bfloat16")


def test_groups_of_mlx_are_one_tensor_with_their_scales(tmp_path):
    """A folder as mlx-lm's convert writes it: 512 numbers in 4 bits, and 2 bytes twice for each 64 of them."""
    head = {
        "a.weight": {"dtype": "U32", "shape": [4, 16], "data_offsets": [0, 256]},
        "a.scales": {"dtype": "BF16", "shape": [4, 2], "data_offsets": [256, 272]},
        "a.biases": {"dtype": "BF16", "shape": [4, 2], "data_offsets": [272, 288]},
    }
    text = json.dumps(head).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    [(name, tensor)] = in_safetensors([tmp_path / "x.safetensors"], {"quantization": {"bits": 4, "group_size": 64}})
    assert (name, tensor.shape, str(tensor.scheme)) == ("a.weight", (4, 128), "4 bits in groups of 64")
    assert tensor.scheme.nbytes(tensor.shape) == 288
    assert backends.foreseen("mlx", "cpu", "bfloat16").nbytes(tensor) == 288
    wide = 4 * 2 * 2 * 2  # bytes that scales and biases take more in float32, which the backend then computes in
    assert backends.foreseen("mlx", "cpu", "float32").nbytes(tensor) == 288 + wide


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_backend_is_foreseen_as_it_is(backend_name, device):
    """Without its library: what is fast there, and how wide the numbers are that suit it."""
    backend, terms = choose(backend_name, device), backends.foreseen(backend_name, device)
    assert width(terms.dtype) == width(backend.dtype)
    affine = [
        Scheme("affine", bits, size, dtype)
        for bits in (2, 3, 4, 5, 6, 8)
        for size in (32, 64, 128)
        for dtype in ("float32", "float16", "bfloat16")
    ]
    schemes = affine + [Scheme(name) for name, _, _ in TYPES.values()]
    assert {Scheme(kind) for kinds in KINDS.values() for kind in kinds} <= set(schemes)
    for scheme in schemes:
        for use in ("product", "tied", "table"):
            assert terms.fast(scheme, use) == backend.fast(scheme, use)
        for shape in ((48, 512), (40, 256), (3, 40, 256)):
            assert terms.held(scheme, shape) == backend.held(scheme, shape)

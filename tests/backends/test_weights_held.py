"""The bytes that a model's card counts are those of the arrays that hold its weights, whatever they were packed in."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from crane_app.engine.loading import load
from crane_app.host import QUANTS, TYPES, Blocks, Scheme
from crane_app.media.files.gguf_groups import AFFINE, NEAREST, regrouped, regrouping
from tests.engine.test_loading_gguf import wide
from tests.gguf_checkpoint import write_gguf
from tests.models.scramble import write_checkpoint

KINDS = [Type.Q4_0, Type.Q5_0, Type.Q8_0, Type.Q4_K, Type.Q6_K, Type.F16]
FAMILIES = ["qwen2", "qwen3", "qwen3_moe"]
DTYPES = ["float32", "bfloat16", "float16"]


def held(x: Any, seen: dict[int, Any]) -> Iterator[tuple[int, int]]:
    """(where, bytes) of every array below x; views of one memory are at one place."""
    if id(x) in seen:
        return
    seen[id(x)] = x
    kind = type(x).__module__.partition(".")[0]
    if type(x).__name__ == "array":
        yield id(x), x.nbytes
    elif kind == "torch" and hasattr(x, "untyped_storage"):
        memory = None if x.is_mkldnn else x.untyped_storage()
        yield (id(x), x.numel() * x.element_size()) if memory is None else (memory.data_ptr(), memory.nbytes())
    elif isinstance(x, np.ndarray):
        yield x.ctypes.data, x.nbytes
    elif isinstance(x, (list, tuple, dict)):
        for each in x.values() if isinstance(x, dict) else x:
            yield from held(each, seen)
    elif kind == "crane_app" and not isinstance(x, type):
        for name, each in getattr(x, "__dict__", {}).items():
            if name != "turned":  # MLX's view of a weight
                yield from held(each, seen)


def agrees(path: Path, backend: str, dtype: str, quantize: str | None = None) -> None:
    """Holds the card against the arrays, and on MLX against the library's own count."""
    mx = pytest.importorskip("mlx.core", exc_type=ImportError) if backend == "mlx" else None
    gc.collect()
    before = mx.get_active_memory() if mx is not None else 0
    loaded = load(path, backend, "cpu", dtype, quantize)
    gc.collect()
    model = getattr(loaded.runner.model, "model", loaded.runner.model)
    arrays: dict[int, int] = {}
    for where, nbytes in held(model, {}):
        arrays[where] = max(nbytes, arrays.get(where, 0))
    assert loaded.nbytes == pytest.approx(sum(arrays.values()), rel=0.01)
    if mx is not None:
        # Which counts pieces of memory as large as the system gave them, a little more for such small arrays, and what
        # other tests left behind or gave back meanwhile.
        assert loaded.nbytes == pytest.approx(mx.get_active_memory() - before, rel=0.05, abs=2**17)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", FAMILIES)
def test_of_a_gguf_file(tmp_path, backend_name, name, kind, dtype):
    write_gguf(tmp_path / "model.gguf", *wide(name), kind)
    agrees(tmp_path / "model.gguf", backend_name, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("quantize", [None, *QUANTS])
@pytest.mark.parametrize("name", FAMILIES)
def test_of_a_folder_that_is_packed_as_it_is_loaded(tmp_path, backend_name, name, quantize, dtype):
    """Its scales come in bfloat16: where that is not what the backend computes in, they are held in float32."""
    agrees(write_checkpoint(tmp_path, *wide(name), "bfloat16"), backend_name, dtype, quantize)


@pytest.mark.parametrize("kind", [*AFFINE, *NEAREST])
def test_the_groups_of_every_type_are_foreseen(kind):
    """Zeros in blocks: what comes of them has the form that was told."""

    block, nbytes = next((block, nbytes) for name, block, nbytes in TYPES.values() if name == kind)
    blocks = Blocks(kind, np.zeros((4, 256 // block * nbytes), np.uint8), (4, 256))
    for sizes, dtype in itertools.product(((32, 64, 128), (16, 32)), ("float32", "bfloat16")):
        assert regrouped(blocks, sizes, dtype)[0].scheme == regrouping(Scheme(kind), sizes, dtype)


def test_on_a_gpu_blocks_are_groups_and_experts_are_expanded():
    torch = pytest.importorskip("torch")
    from crane_app.backends.torch import forms
    from crane_app.backends.torch.twins import GroupTwin

    for kind in AFFINE:
        block, nbytes = next((block, nbytes) for name, block, nbytes in TYPES.values() if name == kind)
        blocks = Blocks(kind, np.zeros((8, 512 // block * nbytes), np.uint8), (8, 512))
        twin = GroupTwin(regrouped(blocks, forms.GPU_SIZES)[0], torch.bfloat16, torch.device("cpu"))
        assert twin.nbytes == forms.on_gpu(Scheme(kind), (8, 512), "bfloat16")
        assert forms.on_gpu(Scheme(kind), (3, 8, 512), "bfloat16") == 3 * 8 * 512 * 2

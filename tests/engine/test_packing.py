"""Packing while loading: what mlx.core.quantize makes of each matrix, in the memory of the result and a tensor."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from crane_app import settings
from crane_app.backends import choose
from crane_app.contract import Backend
from crane_app.engine import generation
from crane_app.engine.engine import Engine
from crane_app.engine.loading import How, load, loading
from crane_app.errors import BadInput
from crane_app.host import KINDS, QUANTS, HostTensor, Scheme
from crane_app.media.files.gguf_pack import pack_blocks
from tests.engine.nulls import events
from tests.engine.test_loading import PEAK, SIZES, big
from tests.engine.test_loading_gguf import TOKENS, wide
from tests.gguf_checkpoint import write_gguf
from tests.models.scramble import golden, rounded, scrambled, widened, write_checkpoint, write_safetensors


def in_blocks(backend: str, quantize: str) -> bool:
    """Whether a backend packs in GGUF's blocks, having kernels for these and none for the groups."""
    if backend != "torch":
        return False
    fast = choose(backend, "cpu").fast
    return fast(Scheme(KINDS[quantize][0])) and not fast(Scheme("affine", QUANTS[quantize], 64, "bfloat16"))


def blocked(x: np.ndarray, quantize: str) -> np.ndarray:
    """The numbers of a bfloat16 matrix in GGUF's blocks, as the gguf package reads them (it packs no Q6_K)."""
    kind = KINDS[quantize][0]
    data = (
        pack_blocks(HostTensor(x, "bfloat16"), kind).data if kind == "Q6_K" else gguf.quantize(widened(x), Type[kind])
    )
    return gguf.dequantize(data, Type[kind])


def folder_and_twin(tmp_path: Path, name: str, quantize: str, backend: str = "mlx") -> tuple[Path, Path]:
    """A bfloat16 folder, and one with the numbers that mlx's groups of 64, or GGUF's blocks, give its matrices."""
    mx = pytest.importorskip("mlx.core", exc_type=ImportError)
    config, shapes = wide(name)
    plain = {each: rounded(scrambled(each, shape), "bfloat16") for each, shape in shapes.items()}
    twin = {}
    for each, x in plain.items():
        twin[each] = widened(x)
        if x.ndim == 2 and not each.endswith("mlp.gate.weight"):  # what chooses experts stays as it is
            if in_blocks(backend, quantize):
                twin[each] = blocked(x, quantize)
                continue
            form = {"group_size": 64, "bits": QUANTS[quantize]}
            with mx.stream(mx.cpu):
                q, *pair = mx.quantize(mx.array(twin[each]).astype(mx.bfloat16), **form)
                twin[each] = np.array(mx.dequantize(q, *(part.astype(mx.float32) for part in pair), **form))
    for folder, tensors in (("plain", plain), ("twin", twin)):
        write_checkpoint(tmp_path / folder, config, {})
        write_safetensors(tmp_path / folder / "model.safetensors", tensors)
    return tmp_path / "plain", tmp_path / "twin"


@pytest.mark.parametrize("quantize", QUANTS)
@pytest.mark.parametrize("name", ["qwen3", "llama", "qwen3_moe"])
def test_a_model_packed_while_it_is_loaded_has_the_logits_of_its_numbers(tmp_path, backend_name, name, quantize):
    folder, twin = folder_and_twin(tmp_path, name, quantize, backend_name)
    ours = load(folder, backend_name, "cpu", "float32", quantize)
    want = generation.score(load(twin, backend_name, "cpu", "float32"), TOKENS)
    np.testing.assert_allclose(generation.score(ours, TOKENS), want, rtol=0, atol=3e-4)
    assert ours.packed == quantize
    exact = load(folder, backend_name, "cpu", None, quantize, exact=True)
    assert (exact.backend.dtype, exact.packed) == ("float32", "")
    np.testing.assert_array_equal(generation.score(exact, TOKENS), want)


@pytest.mark.parametrize("name", ["qwen3", "qwen3_moe"])
def test_the_bytes_of_packed_weights_are_known_exactly(tmp_path, backend_name, name):
    _, shapes = wide(name)
    folder, _ = folder_and_twin(tmp_path, name, "q4")
    loaded = load(folder, backend_name, "cpu", "bfloat16", "q4")
    packed = [s for n, s in shapes.items() if len(s) == 2 and not n.endswith("mlp.gate.weight")]
    plain = [s for n, s in shapes.items() if len(s) == 1 or n.endswith("mlp.gate.weight")]
    bits = 4.5  # of both: 64 numbers with two bfloat16, or 32 with a float16
    strip = 16 if getattr(loaded.backend, "kernels", None) else 1  # rows of our kernels, the last filled up
    held = [(-(-rows // strip) * strip, columns) for rows, columns in packed]
    want = sum(math.prod(s) * bits / 8 for s in held) + sum(2 * math.prod(s) for s in plain)
    assert loaded.nbytes == want


def test_exact_takes_the_numbers_of_a_packed_file(tmp_path, backend_name):
    """To the last bit, also where the backend would multiply by groups that are only near."""
    config, shapes = wide("qwen3")
    twin = write_gguf(tmp_path / "model.gguf", config, shapes, Type.Q6_K)
    write_checkpoint(tmp_path / "twin", config, {})
    write_safetensors(tmp_path / "twin" / "model.safetensors", twin)
    ours = load(tmp_path / "model.gguf", backend_name, "cpu", exact=True)
    theirs = load(tmp_path / "twin", backend_name, "cpu", "float32")
    assert not any("packed" in note for note in ours.notes)
    np.testing.assert_array_equal(generation.score(ours, TOKENS), generation.score(theirs, TOKENS))


def test_what_is_packed_already_stays_as_it_is(tmp_path, backend_name):
    config, shapes = wide("qwen3")
    write_gguf(tmp_path / "model.gguf", config, shapes, Type.Q8_0)
    loaded = load(tmp_path / "model.gguf", backend_name, "cpu", "float32", "q4")
    assert loaded.packed == "Q8_0"
    assert any("packed already (Q8_0)" in note for note in loaded.notes)
    bits = 10 if backend_name == "mlx" else 8.5  # whose groups have scales and biases in float32, where it computes
    assert loaded.nbytes < 1.01 * bits / 8.5 * (tmp_path / "model.gguf").stat().st_size


def test_torch_says_that_a_way_it_has_no_kernel_for_is_slow(tmp_path, monkeypatch):
    from crane_app.backends.torch import native

    monkeypatch.setattr(native, "library", lambda: None)
    folder, _ = folder_and_twin(tmp_path, "qwen3", "q5")
    notes = load(folder, "torch", "cpu", "float32", "q5").notes
    assert any("no fast product for 5 bits in groups of 64" in note for note in notes)


def test_rows_that_are_no_whole_groups_stay_as_they_are(tmp_path, backend_name):
    """The tiny golden model has rows of 64, 96 and fewer: groups of 64, of 32, and none."""
    folder = golden("qwen3").write(tmp_path, "bfloat16")
    plain, ours = load(folder, backend_name, "cpu", "float32"), load(folder, backend_name, "cpu", "float32", "q8")
    assert ours.nbytes < plain.nbytes
    np.testing.assert_allclose(generation.score(ours, TOKENS), generation.score(plain, TOKENS), rtol=0, atol=0.3)


def test_that_what_an_adapter_runs_is_not_packed_is_said(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["MysteryForCausalLM"], "model_type": "m"}))
    facts = SimpleNamespace(architecture="Mystery", vocabulary=9, context=9, nbytes=1, notes=())
    adapted = lambda self, folder: (SimpleNamespace(batched=False), facts)  # noqa: E731
    monkeypatch.setattr("crane_app.backends.torch.backend.Backend.adapt", adapted)
    assert any("not packed" in note for note in load(tmp_path, "torch", "cpu", "float32", "q4").notes)
    assert not any("not packed" in note for note in load(tmp_path, "torch", "cpu", "float32").notes)


def test_a_way_that_there_is_not_is_a_sentence(tmp_path):
    with pytest.raises(BadInput, match="There are: q4, q5, q6, q8"):
        load(tmp_path, "torch", "cpu", "float32", "q3")
    assert tuple(QUANTS) == settings.QUANTS


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["head", "merged", "experts"])
def test_packing_takes_the_packed_weights_and_one_tensor(tmp_path, backend_name, kind):
    folder, total, largest = big(tmp_path / "big", kind)
    small = golden(SIZES[kind][0]).write(tmp_path / "small", "bfloat16")
    told = subprocess.run(
        [sys.executable, "-c", PEAK, small, folder, backend_name, "bfloat16", "q4"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)},
    )
    got = json.loads(told.stdout)
    packed = total * 4.5 / 16
    figures = {k: f"{v / 2**20:.0f} MiB" for k, v in {**got, "packed": packed, "tensor": largest}.items()}
    print(f"\n{backend_name} {kind}: {figures}")
    assert got["after"] < 1.1 * packed + 2**23, figures
    assert got["peak"] < 1.1 * (packed + largest), figures
    assert re.fullmatch(r"\d+ MiB", figures["peak"])


@pytest.mark.parametrize("quantize", [None, "q4"])
@pytest.mark.parametrize("name", ["qwen3", "llama", "qwen3_moe"])
def test_what_a_model_will_take_is_known_before_it_is_read(tmp_path, backend_name, name, quantize):
    folder, _ = folder_and_twin(tmp_path, name, "q4")
    asked: list[int] = []
    how = How(backend_name, "cpu", "bfloat16", quantize)

    def fits(_: Backend, nbytes: int) -> tuple[()]:
        asked.append(nbytes)
        return ()

    steps = loading(folder, how, fits)
    next(steps)
    assert len(asked) == 1
    steps.close()
    assert asked == [load(folder, backend_name, "cpu", "bfloat16", quantize).nbytes]


def test_the_card_tells_how_the_weights_are_packed(tmp_path):
    """And is the same for who asks again: a model is packed once, when it is loaded."""
    folder, _ = folder_and_twin(tmp_path, "qwen3", "q4")
    engine = Engine()
    try:
        card = events(engine.load(str(folder), "m", "torch", "cpu", "bfloat16", "q8"))[0][-1].value
        assert (card.packed, card.quantize, card.exact, card.numbers) == ("q8", "q8", False, "q8, bfloat16")
        assert engine.stats().weights_nbytes == card.nbytes == load(folder, "torch", "cpu", "bfloat16", "q8").nbytes
        plain = events(engine.load(str(folder), "p", "torch", "cpu", "bfloat16"))[0][-1].value
        assert (plain.packed, plain.numbers) == ("", "bfloat16")
        exact = events(engine.load(str(folder), "e", "torch", "cpu", None, "q4", True))[0][-1].value
        assert (exact.packed, exact.quantize, exact.exact, exact.numbers) == ("", "q4", True, "float32")
    finally:
        engine.close(drain=False)

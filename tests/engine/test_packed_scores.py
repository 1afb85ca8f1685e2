"""How much packed arithmetic changes what a model expects, against float32 arithmetic on the same packed numbers.

`pytest -s` prints the table: mean negative log-likelihood of the same tokens, in nats.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from crane_app.engine.generation import score, surprise
from crane_app.engine.loading import load
from crane_app.host import QUANTS
from crane_app.media.files.gguf_groups import NEAREST
from tests.engine.test_loading_gguf import wide
from tests.engine.test_packing import folder_and_twin
from tests.gguf_checkpoint import PACKED, write_gguf

TEXT = np.random.default_rng(4).integers(0, 199, 200).tolist()


def test_surprise_is_the_mean_of_what_each_token_was_given(tmp_path):
    folder, _ = folder_and_twin(tmp_path, "qwen3", "q4")
    loaded = load(folder, "torch", "cpu", "float32")
    logits = score(loaded, TEXT).astype(np.longdouble)
    given = [np.log(np.exp(row)[token] / np.exp(row).sum()) for row, token in zip(logits, TEXT[1:], strict=False)]
    assert surprise(loaded, TEXT) == pytest.approx(float(-np.mean(given)), rel=1e-6)
    assert surprise(loaded, TEXT) > math.log(199) - 1  # random weights know nothing


def differences(path, backend: str, *packed: str) -> tuple[float, float]:
    """Of exact arithmetic, and by how much bfloat16 with the backend's packed products differs from it."""
    exact = surprise(load(path, backend, "cpu", None, *packed, exact=True), TEXT)
    return exact, surprise(load(path, backend, "cpu", "bfloat16", *packed), TEXT) - exact


@pytest.mark.parametrize("kind", PACKED, ids=lambda kind: kind.name)
def test_each_type_of_gguf_expects_what_its_numbers_do(tmp_path, backend_name, kind):
    config, shapes = wide("qwen3")
    write_gguf(tmp_path / "model.gguf", config, shapes, kind)
    exact, more = differences(tmp_path / "model.gguf", backend_name)
    print(f"\n{backend_name:6} {kind.name:8} {exact:8.4f} {more:+8.4f}")
    assert abs(more) < (0.05 if backend_name == "mlx" and kind.name in NEAREST else 0.02)


@pytest.mark.parametrize("quantize", QUANTS)
def test_each_way_to_pack_expects_what_its_numbers_do(tmp_path, backend_name, quantize):
    folder, _ = folder_and_twin(tmp_path, "qwen3", quantize)
    exact, more = differences(folder, backend_name, quantize)
    print(f"\n{backend_name:6} {quantize:8} {exact:8.4f} {more:+8.4f}")
    assert abs(more) < 0.02


def test_more_bits_are_nearer_to_the_plain_weights(tmp_path):
    folder, _ = folder_and_twin(tmp_path, "qwen3", "q4")
    plain = score(load(folder, "torch", "cpu", "float32"), TEXT)
    off = [
        float(np.std(score(load(folder, "torch", "cpu", None, quantize, exact=True), TEXT) - plain))
        for quantize in QUANTS
    ]
    print("\nfrom the plain logits:", {q: f"{each / np.std(plain):.4f}" for q, each in zip(QUANTS, off, strict=True)})
    assert off == sorted(off, reverse=True)
    assert off[-1] < 0.05 * np.std(plain)

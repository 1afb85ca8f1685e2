"""Blocks that we pack are those of the gguf package, and what it cannot pack is near to the numbers as it reads it."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from crane_app.media.files.gguf_pack import PACK, pack_blocks
from crane_app.media.files.halves import narrowed
from tests.media.test_groups import rows

# Root mean square error of Gaussian numbers by their size; a uniform step of 1/32 of the range gives 0.02.
WORST = {"Q4_0": 0.11, "Q5_0": 0.055, "Q6_K": 0.025, "Q8_0": 0.008}


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_0", "Q8_0"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_blocks_are_those_of_the_gguf_package(kind, dtype):
    host = narrowed(rows(), dtype)
    x = rows() if dtype == "float32" else _wide(host)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        want = gguf.quantize(x, Type[kind])
    np.testing.assert_array_equal(pack_blocks(host, kind).data, want)


def _wide(host):
    from crane_app.media.files.halves import widened

    return np.ascontiguousarray(widened(host))


@pytest.mark.parametrize("kind", PACK)
def test_numbers_come_back_nearly(kind):
    x = np.random.default_rng(0).standard_normal((64, 512)).astype(np.float32)
    packed = pack_blocks(narrowed(x, "float32"), kind)
    assert packed.shape == x.shape
    back = gguf.dequantize(packed.data, Type[kind])
    assert np.sqrt(np.mean((back - x) ** 2)) < WORST[kind]


@pytest.mark.parametrize("kind", PACK)
def test_odd_rows_come_back_too(kind):
    """All nought, all alike, of one sign, tiny, huge: never further off than a step of their own size."""
    x = rows()
    back = gguf.dequantize(pack_blocks(narrowed(x, "float32"), kind).data, Type[kind])
    steps = {"Q4_0": 8, "Q5_0": 16, "Q6_K": 30, "Q8_0": 127}[kind]
    most = np.abs(x).max(-1, keepdims=True)
    tiny = 2.0**-24 * steps  # what a float16 scale cannot hold
    assert (np.abs(back - x) <= 1.01 * most / steps + tiny).all()


@pytest.mark.parametrize("kind", PACK)
def test_experts_are_packed_as_their_matrices_are(kind):
    x = np.random.default_rng(1).standard_normal((3, 4, 256)).astype(np.float32)
    together = pack_blocks(narrowed(x, "float32"), kind)
    for expert, data in zip(x, together.data, strict=True):
        np.testing.assert_array_equal(pack_blocks(narrowed(expert, "float32"), kind).data, data)

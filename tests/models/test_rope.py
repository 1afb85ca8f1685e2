"""Rotary frequencies against those that transformers computes, and what a config may not say about them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.models.config import rope_fields
from crane_app.models.rope import inverse_frequencies
from tests.models.scramble import HERE

RECORDED: dict[str, dict[str, Any]] = {
    case["name"]: case for case in json.loads((HERE / "golden" / "rope.json").read_text())
}
LLAMA3 = {
    "rope_theta": 1e4,
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def old_form(case: dict[str, Any]) -> dict[str, Any]:
    return {"rope_theta": case["rope_theta"], "rope_scaling": case["rope_scaling"]}


def older_form(case: dict[str, Any]) -> dict[str, Any]:
    """As files of before 2024 name the kind."""
    scaling = dict(case["rope_scaling"] or {})
    return {
        "rope_theta": case["rope_theta"],
        "rope_scaling": {"type": scaling.pop("rope_type"), **scaling} if scaling else None,
    }


def new_form(case: dict[str, Any]) -> dict[str, Any]:
    scaling = case["rope_scaling"] or {"rope_type": "default"}
    return {"rope_parameters": {"rope_theta": case["rope_theta"], **scaling}}


@pytest.mark.parametrize("form", [older_form, old_form, new_form])
@pytest.mark.parametrize("name", RECORDED)
def test_frequencies_are_those_of_transformers(name, form):
    case = RECORDED[name]
    got = inverse_frequencies(rope_fields(form(case)), case["head_dim"])
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, case["inverse"], rtol=1e-12, atol=0)


def test_linear_scaling_divides_every_frequency():
    plain = inverse_frequencies({"rope_theta": 1e4, "rope_type": "default"}, 64)
    slow = inverse_frequencies({"rope_theta": 1e4, "rope_type": "linear", "factor": 4.0}, 64)
    np.testing.assert_allclose(slow, plain / 4, rtol=1e-15)


def test_a_whole_number_is_a_number():
    whole = inverse_frequencies({"rope_theta": 1_000_000, "rope_type": "default"}, 128)
    np.testing.assert_array_equal(whole, inverse_frequencies({"rope_theta": 1e6, "rope_type": "default"}, 128))


@pytest.mark.parametrize("kind", ["yarn", "longrope", "su", "dynamic", "mrope", 7, ["llama3"], {"a": 1}])
def test_a_kind_that_is_not_known_is_unsupported(kind):
    """`dynamic` without alpha is the scaling that grows with the length, which is another thing."""
    with pytest.raises(Unsupported, match="rope type") as raised:
        inverse_frequencies({"rope_theta": 1e4, "rope_type": kind, "factor": 2.0}, 64)
    assert "llama3" in str(raised.value)


BAD = [0, -1.0, float("nan"), float("inf"), 1e300, 10**400, "10000", True, [1], {"a": 1}]


@pytest.mark.parametrize("value", [None, *BAD], ids=lambda v: f"{v!r:.12}")
@pytest.mark.parametrize(
    "field",
    ["rope_theta", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
)
def test_a_number_that_is_none_names_its_field(field, value):
    with pytest.raises(BadCheckpoint, match=field):
        inverse_frequencies({**LLAMA3, field: value}, 64)


@pytest.mark.parametrize("value", BAD, ids=lambda v: f"{v!r:.12}")
def test_a_bad_alpha_or_linear_factor_names_its_field(value):
    with pytest.raises(BadCheckpoint, match="alpha"):
        inverse_frequencies({"rope_theta": 1e4, "rope_type": "dynamic", "alpha": value}, 64)
    with pytest.raises(BadCheckpoint, match="factor"):
        inverse_frequencies({"rope_theta": 1e4, "rope_type": "linear", "factor": value}, 64)


@pytest.mark.parametrize(("low", "high"), [(4.0, 4.0), (4.0, 1.0)])
def test_bands_that_do_not_follow_each_other_are_refused(low, high):
    with pytest.raises(BadCheckpoint, match="high_freq_factor"):
        inverse_frequencies({**LLAMA3, "low_freq_factor": low, "high_freq_factor": high}, 64)


@pytest.mark.parametrize("kind", ["default", "llama3", "linear", "dynamic"])
@pytest.mark.parametrize("dim", [2, 4, 1024])
@pytest.mark.parametrize("theta", [1e-300, 1e-9, 1.0, 1e14])
def test_frequencies_are_finite_or_refused(kind, dim, theta):
    """A head of two dims has one frequency, whatever the base; nothing that is not a number goes on from here."""
    fields = {**LLAMA3, "rope_theta": theta, "rope_type": kind, "alpha": 1000.0}
    try:
        got = inverse_frequencies(fields, dim)
    except BadCheckpoint:
        return
    assert got.shape == (dim // 2,)
    with np.errstate(over="ignore", divide="ignore"):
        single = got.astype(np.float32)  # what the devices turn with; MLX takes the inverse of it
        assert np.isfinite(single).all()
        assert np.isfinite(1 / single).all()

"""Rotary frequencies on the host, in float64: plain, llama3-scaled, linear, divided, and Hunyuan's static NTK.

Reference: transformers/modeling_rope_utils.py and transformers/models/hunyuan_v1_dense; arXiv 2104.09864.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from crane_app.errors import BadCheckpoint, Unsupported


def inverse_frequencies(fields: dict[str, Any], dim: int) -> np.ndarray:
    """float64 [dim / 2] for heads of `dim`, from rope parameters with transformers 5's names."""
    theta = _number(fields, "rope_theta", 1.0)
    kind = fields["rope_type"]
    if kind == "dynamic" and fields.get("alpha") is not None:
        if dim <= 2:
            raise BadCheckpoint(f"config.json: rope's alpha needs heads of more than 2 dimensions, not {dim}")
        # Hunyuan says "dynamic" but scales the base once, whatever the length.
        return _plain(theta * _number(fields, "alpha") ** (dim / (dim - 2)), dim)
    if kind == "default":
        return _plain(theta, dim)
    if kind == "linear":
        return _plain(theta, dim) / _number(fields, "factor")
    if kind == "divided":
        return _divided(_plain(theta, dim), fields.get("factors"))
    if kind == "llama3":
        return _llama3(_plain(theta, dim), fields)
    raise Unsupported(
        f"config.json: rope type {kind!r:.60} is not known; Crane knows default, linear, llama3, dynamic with alpha"
    )


def _plain(theta: float, dim: int) -> np.ndarray:
    return theta ** -(np.arange(0, dim, 2, dtype=np.float64) / dim)


def _llama3(inverse: np.ndarray, fields: dict[str, Any]) -> np.ndarray:
    """Long waves are stretched by `factor`, short ones kept, those between are blended."""
    factor, original = _number(fields, "factor"), _number(fields, "original_max_position_embeddings")
    low, high = _number(fields, "low_freq_factor"), _number(fields, "high_freq_factor")
    if high <= low:
        raise BadCheckpoint(f"config.json: rope needs high_freq_factor above low_freq_factor, not {high:g} and {low:g}")
    turns = original * inverse / (2 * math.pi)
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return inverse * (keep + (1 - keep) / factor)


def _divided(inverse: np.ndarray, factors: Any) -> np.ndarray:
    """Each frequency divided by a factor of its own, as GGUF files have it."""
    by = np.asarray(factors, np.float64) if isinstance(factors, list) else np.empty(0)
    if by.shape != inverse.shape or not (np.isfinite(by) & (by > 0)).all():
        raise BadCheckpoint(f"rope's factors must be {len(inverse)} numbers above 0")
    return inverse / by


def _number(fields: dict[str, Any], name: str, low: float = 1e-6) -> float:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= 1e15:
        raise BadCheckpoint(f'config.json: rope\'s "{name}" must be a number from {low:g} to 1e15, not {value!r:.60}')
    return float(value)

"""Text models that Crane does not define, run by mlx-lm on MLX. The one place that imports mlx-lm.

mlx-lm never sees a repository's name here, so it downloads nothing, and never runs code from the folder.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map_with_path

from crane_app.backends.adapted import AdapterRunner, Facts, examine, facts, unknown
from crane_app.backends.mlx.leaf import TYPES
from crane_app.errors import BadCheckpoint, CraneError, Unsupported

OLD_NAMES = {
    "rope_theta": ("rope_theta", "rotary_emb_base"),
    "partial_rotary_factor": ("partial_rotary_factor", "rotary_pct"),
}


def adapt(folder: Path, backend: Any) -> tuple[AdapterRunner, Facts]:
    """The model in `folder` as mlx-lm defines it, in the backend's dtype."""
    raw = examine(folder)
    foreign, width = _load(folder, raw, TYPES[backend.dtype])
    weights = sum(array.nbytes for _, array in tree_flatten(foreign.model.parameters()))
    found = _within_window(facts(raw, width, weights, "mlx-lm"), foreign.model, raw)
    return AdapterRunner(backend, foreign, found.vocabulary, found.context), found


class MlxLm:
    """A model of mlx-lm; see adapted.Foreign."""

    def __init__(self, model: Any):
        from mlx_lm.models import cache as caches

        self.model = model
        self._caches = caches

    def fresh(self) -> list[Any]:
        return self._caches.make_prompt_cache(self.model)

    def forward(self, tokens: mx.array, cache: list[Any], count: int) -> mx.array:
        """The part without logits goes alone, since mlx-lm runs the head over all that it is given."""
        plain = tokens.shape[0] - count
        if count and plain:
            self.model(tokens[None, :plain], cache=cache)
            tokens = tokens[plain:]
        logits = self.model(tokens[None], cache=cache)[0]
        return logits[logits.shape[0] - count :]

    def cut(self, cache: list[Any], excess: int) -> bool:
        if not all(self._cuttable(part) for part in cache):
            return False
        for part in cache:
            part.trim(excess)
        return True

    def _cuttable(self, part: Any) -> bool:
        """Of the caches that mlx-lm calls trimmable, those that are as if the positions had never been.

        ConcatenateKVCache keeps the keys it should forget; ChunkedKVCache has lost the ones before its chunk.
        """
        if isinstance(part, self._caches.CacheList):
            return all(self._cuttable(inner) for inner in part.caches)
        whole = (self._caches.KVCache, self._caches.QuantizedKVCache, self._caches.RotatingKVCache)
        return type(part) in whole and part.is_trimmable()

    def arrays(self, cache: list[Any]) -> list[mx.array]:
        states = tree_flatten([part.state for part in cache])
        return [array for _, array in states if isinstance(array, mx.array)]

    def nbytes(self, cache: list[Any]) -> int:
        return sum(array.nbytes for array in self.arrays(cache))


def _load(folder: Path, raw: dict[str, Any], dtype: mx.Dtype) -> tuple[MlxLm, int]:
    """mlx-lm's model with its weights read and cast, and the width of its logits; mlx_lm/convert.py casts alike."""
    try:
        from mlx_lm import utils
    except ImportError as error:
        raise Unsupported(
            f"Crane does not define {raw['model_type']} itself; mlx-lm may know it. Install it: pip install mlx-lm"
        ) from error

    def classes(config: dict) -> tuple[type, type]:
        for name in (config["model_type"], config["model_type"].removesuffix("_text")):
            try:
                return utils._get_classes({**config, "model_type": name})
            except (ValueError, AttributeError):
                continue
        raise unknown(raw, "mlx-lm")

    try:
        how = {"lazy": True, "trust_remote_code": False, "model_config": _published(raw)}
        model, _ = utils.load_model(folder, get_model_classes=classes, **how)
        casts = getattr(model, "cast_predicate", lambda name: True)

        def cast(name: str, array: mx.array) -> mx.array:
            return array.astype(dtype) if mx.issubdtype(array.dtype, mx.floating) and casts(name) else array

        model.update(tree_map_with_path(cast, model.parameters()))
        foreign = MlxLm(model)
        width = foreign.forward(mx.zeros(1, mx.int32), foreign.fresh(), 1).shape[-1]  # a shape alone computes nothing
        mx.eval(model.parameters())
    except CraneError:
        raise
    except Exception as error:  # a damaged folder may fail anywhere in a library that trusts it
        raise BadCheckpoint(f"{folder}: mlx-lm cannot load it ({type(error).__name__}: {error!s:.300})") from error
    return foreign, width


def _within_window(found: Facts, model: Any, raw: dict[str, Any]) -> Facts:
    """Several of mlx-lm's models (gemma2, phi3) attend to everything whatever window the config has. Up to the window
    that is the same, so there the context ends."""
    window = raw.get("sliding_window")
    used = isinstance(window, int) and raw.get("use_sliding_window", True)
    if not used or window >= found.context or not hasattr(model, "args") or hasattr(model.args, "sliding_window"):
        return found
    note = f"mlx-lm leaves out this model's attention window, so its context ends with the window at {window} tokens."
    return replace(found, context=window, notes=(*found.notes, note))


def _published(raw: dict[str, Any]) -> dict[str, Any]:
    """Fields that transformers 5 writes into rope_parameters, where most of mlx-lm's models look for them; else these
    take their defaults without a word."""
    rope = raw.get("rope_parameters")
    if not isinstance(rope, dict):
        return {}
    found = {}
    if isinstance(inner := rope.get("full_attention"), dict):
        local = rope.get("sliding_attention")
        found["rope_local_base_freq"] = local.get("rope_theta") if isinstance(local, dict) else None
        rope = inner
    for name, names in OLD_NAMES.items():
        found.update(dict.fromkeys(names, rope.get(name)))
    if rope.get("rope_type", "default") != "default":
        found["rope_scaling"] = {**rope, "type": rope["rope_type"]}
    return {name: value for name, value in found.items() if value is not None and name not in raw}

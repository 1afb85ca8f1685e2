"""Architecture name (config.json's `architectures`) -> the module that defines it.

Such a module offers read(raw) -> config, parameters(config) -> Parameters, build(ops, weights, config) -> Model.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from crane_app.errors import BadCheckpoint, Unsupported

MODULES = {
    "Qwen2ForCausalLM": "decoder",
    "Qwen3ForCausalLM": "decoder",
    "Qwen3MoeForCausalLM": "decoder",
    "HunYuanDenseV1ForCausalLM": "decoder",
    "LlamaForCausalLM": "decoder",
    "MistralForCausalLM": "decoder",
    "MoonshineForConditionalGeneration": "moonshine",
}


def find(raw: dict[str, Any]) -> ModuleType:
    """The module for a config. Its `auto_map` (code shipped with weights) is never run."""
    names = raw.get("architectures")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise BadCheckpoint('config.json: "architectures" must be a list with the name of the architecture')
    for name in names:
        if name in MODULES:
            return importlib.import_module(f"crane_app.models.{MODULES[name]}")
    raise Unsupported(f"Crane does not know the architecture {names[0]!r:.60}. It knows: {', '.join(MODULES)}.")

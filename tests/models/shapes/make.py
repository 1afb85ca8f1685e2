"""Names and shapes of published checkpoints: python tests/models/shapes/make.py [name...]

Reads NAME.config.json, builds that model without memory, names its tensors as published, writes NAME.json.
"""

import json
import re
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.core_model_loading import revert_weight_conversion

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.models.scramble import published, published_names

HERE = Path(__file__).parent


def hub_shapes(config) -> dict[str, tuple[int, ...]]:
    """Names and shapes as published: transformers renames and stacks tensors as it loads them."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    full = revert_weight_conversion(model, model.state_dict())
    return {k: tuple(x.shape) for k, x in full.items() if k not in model.all_tied_weights_keys}


def squeeze(full: dict[str, tuple[int, ...]], layers: int, experts: int) -> dict:
    """One entry for all layers and all experts, which must be alike."""
    tensors = {}
    for name, shape in full.items():
        pattern = re.sub(r"layers\.\d+\.", "layers.{layer}.", name)
        pattern = re.sub(r"experts\.\d+\.", "experts.{expert}.", pattern)
        assert tensors.setdefault(pattern, shape) == shape, name
    return {"layers": layers, "experts": experts, "count": len(full), **tensors}


def by_line(table: dict) -> str:
    """JSON with an entry a line."""
    return "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in table.items()) + "\n}\n"


def make(name: str) -> None:
    """Write NAME.json and read it back."""
    raw = json.loads((HERE / f"{name}.config.json").read_text())
    full = hub_shapes(AutoConfig.for_model(**raw))
    squeezed = squeeze(full, raw["num_hidden_layers"], raw.get("num_experts", 0))
    (HERE / f"{name}.json").write_text(by_line(squeezed))
    assert published(name)[1] == full, name


if __name__ == "__main__":
    for name in sys.argv[1:] or published_names():
        make(name)
        print(name)

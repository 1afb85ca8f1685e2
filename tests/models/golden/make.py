"""Record what transformers computes with every case.

    python tests/models/golden/make.py [--into FOLDER] [case...]

A case is a folder with a config.json; this writes shapes.json and golden.npz beside it, and rope.json.
README.md says what they hold.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.hunyuan_v1_dense.modeling_hunyuan_v1_dense import HunYuanDenseV1RotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.models.scramble import Golden
from tests.models.shapes.make import by_line, hub_shapes

HERE = Path(__file__).parent
STEPS = 32
# Length and seed of each prompt. The seeds were searched for prompts that pass `check`.
PROMPTS = {
    "hunyuan": (23, 420),
    "hunyuan_v4": (23, 420),
    "llama": (23, 1185),
    "mistral": (40, 26),
    "near_flat": (23, 1006),
    "qwen2": (23, 913),
    "qwen2_untied_sharded": (23, 127),
    "qwen3": (23, 422),
    "qwen3_moe": (23, 895),
    "qwen3_moe_sparse": (23, 140),
    "qwen3_v4": (23, 422),
}


def load(case: Golden, weights: str, dtype: torch.dtype):
    """The case's checkpoint, rounded to `weights`, as transformers loads it to compute in `dtype`."""
    with tempfile.TemporaryDirectory() as folder:
        model, info = AutoModelForCausalLM.from_pretrained(
            case.write(Path(folder), weights),
            dtype=dtype,
            attn_implementation="eager",
            experts_implementation="eager",
            output_loading_info=True,
        )
    wrong = {k: v for k, v in info.items() if v}
    assert not wrong, wrong
    return model.eval()


def score(model, tokens: torch.Tensor) -> np.ndarray:
    """Logits of every token, in one forward without a cache."""
    return model(input_ids=tokens[None], use_cache=False).logits[0].float().numpy()


def greedy(model, tokens: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """STEPS tokens, each the likeliest after those before it, and the logits they were drawn from."""
    cache, new, logits = None, tokens, []
    for _ in range(STEPS):
        out = model(input_ids=new[None], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits.append(out.logits[0, -1].numpy())
        new = torch.tensor([logits[-1].argmax()])
    return np.argmax(logits, -1).astype(np.int32), np.stack(logits)


def routing_gaps(model, tokens: torch.Tensor) -> np.ndarray:
    """By how much each token's last expert was ahead of the next: router logits, [sparse layers, L]."""
    k = model.config.num_experts_per_tok
    routers = model(input_ids=tokens[None], use_cache=False, output_router_logits=True).router_logits
    best = torch.stack(routers).topk(k + 1).values
    return (best[..., k - 1] - best[..., k]).numpy()


@torch.inference_mode()
def record(case: Golden, length: int, seed: int) -> dict[str, np.ndarray]:
    """All that golden.npz holds."""
    numbers = np.random.Generator(np.random.PCG64(seed))
    tokens = torch.tensor(numbers.integers(3, case.config["vocab_size"], length))
    model = load(case, "float32", torch.float32)
    drawn, logits = greedy(model, tokens)
    best = np.sort(logits)[:, -2:]
    arrays = {
        "tokens": tokens.numpy().astype(np.int32),
        "logits": score(model, tokens),
        "greedy": drawn,
        "margins": best[:, 1] - best[:, 0],
    }
    # What the order of additions alone does to the difference of two logits: a cache against one forward.
    whole = score(model, torch.cat([tokens, torch.tensor(drawn[:-1])]))[length - 1 :]
    arrays["noise"] = np.ptp(logits - whole, axis=-1).max()
    if "num_experts" in case.config:
        arrays["routing_gaps"] = routing_gaps(model, tokens)
    for name in ("bfloat16", "float16"):
        arrays[f"logits_{name}_f32"] = score(load(case, name, torch.float32), tokens)
        arrays[f"logits_{name}"] = score(load(case, name, getattr(torch, name)), tokens)
    return arrays


def check(name: str, arrays: dict[str, np.ndarray]) -> None:
    """A golden is worth keeping when its tokens vary, and the weights decide them, not the rounding."""
    margins, noise = arrays["margins"], arrays["noise"].item()
    if name == "near_flat":
        assert np.median(margins) < 1e-4, np.median(margins)
        assert margins.min() > max(2e-5, 8 * noise), (margins.min(), noise)
    else:
        assert margins.min() > max(0.03, 1000 * noise), (margins.min(), noise)
    assert len(set(arrays["greedy"].tolist())) > STEPS // 3, arrays["greedy"]
    if "routing_gaps" in arrays:
        assert arrays["routing_gaps"].min() > 0.03, arrays["routing_gaps"].min()


def make(name: str, into: Path) -> None:
    """Write the files of one case."""
    config = json.loads((HERE / name / "config.json").read_text())
    shapes = hub_shapes(AutoConfig.from_pretrained(HERE / name))
    arrays = record(Golden(name, config, shapes, {}), *PROMPTS[name])
    check(name, arrays)
    folder = into / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shapes.json").write_text(by_line(shapes))
    np.savez_compressed(folder / "golden.npz", **arrays)


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 8192}
ALPHA = {"rope_type": "dynamic", "alpha": 1000.0, "factor": 1.0}
ROPES = {
    "plain-64": (64, 10000.0, None),
    "plain-qwen3": (128, 1000000.0, None),
    "llama3-3.1-8b": (128, 500000.0, LLAMA3),
    "llama3-3.2-3b": (128, 500000.0, LLAMA3 | {"factor": 32.0}),
    "llama3-odd": (
        32,
        10000.0,
        LLAMA3 | {"factor": 4.0, "low_freq_factor": 2.0, "original_max_position_embeddings": 100},
    ),
    "hunyuan-0.5b": (128, 10000.0, ALPHA),
    "hunyuan-odd": (32, 10000.0, ALPHA | {"alpha": 50.0}),
}


def inverse_frequencies(size: int, theta: float, scaling: dict | None) -> list[float]:
    """The reference's own formulas in float64: they ask for `torch.float`, which stands for float64 here."""
    kind = scaling["rope_type"] if scaling else "default"
    model = "hunyuan_v1_dense" if kind == "dynamic" else "llama"
    rope = {"rope_theta": theta, **(scaling or {"rope_type": "default"})}
    config = AutoConfig.for_model(model, head_dim=size, rope_parameters=rope)
    formula = {
        "default": LlamaRotaryEmbedding.compute_default_rope_parameters,
        "dynamic": HunYuanDenseV1RotaryEmbedding.compute_ntk_alpha_rope_parameters,
    }.get(kind) or ROPE_INIT_FUNCTIONS[kind]
    single = formula(config)[0]
    with patch.object(torch, "float", torch.float64):
        double = formula(config)[0]
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=2e-6, atol=0)
    return double.tolist()


def make_rope(into: Path) -> None:
    """Write rope.json: a list of what a config says and what the reference makes of it."""
    rows = [
        {
            "name": name,
            "head_dim": size,
            "rope_theta": theta,
            "rope_scaling": scaling,
            "inverse": inverse_frequencies(size, theta, scaling),
        }
        for name, (size, theta, scaling) in ROPES.items()
    ]
    (into / "rope.json").write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=[*sorted(PROMPTS), "rope"])
    parser.add_argument("--into", type=Path, default=HERE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    for case in args.cases:
        make_rope(args.into) if case == "rope" else make(case, args.into)
        print(case)

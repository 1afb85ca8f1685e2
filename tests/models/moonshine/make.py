"""Record what transformers computes with every Moonshine case.

    python tests/models/moonshine/make.py [--into FOLDER] [case...]

A case is a folder with a config.json; this writes shapes.json and golden.npz beside it, and the names and shapes of the
published checkpoints. README.md says what they hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, MoonshineForConditionalGeneration
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.models.moonshine.cases import HERE, SOUNDS, STEPS, Case, sound
from tests.models.shapes.make import by_line

LENGTH = 9  # tokens that are scored
SEEDS = {"small": 63, "untied": 50}  # of the scored tokens and sounds; searched for cases that pass `check`


def names(config) -> dict[str, tuple[int, ...]]:
    """Names and shapes as published."""
    with torch.device("meta"):
        model = MoonshineForConditionalGeneration(config)
    model.tie_weights()
    full = revert_weight_conversion(model, model.state_dict())
    tied = model.all_tied_weights_keys if config.tie_word_embeddings else ()
    return {name: tuple(x.shape) for name, x in full.items() if name not in tied}


def load(case: Case, weights: str, dtype: torch.dtype):
    """The case's checkpoint, rounded to `weights`, as transformers loads it to compute in `dtype`."""
    with tempfile.TemporaryDirectory() as folder:
        model, info = MoonshineForConditionalGeneration.from_pretrained(
            case.write(Path(folder), weights), dtype=dtype, attn_implementation="eager", output_loading_info=True
        )
    wrong = {k: v for k, v in info.items() if v}
    assert not wrong, wrong
    return model.eval()


def score(model, heard: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Logits of every token, in one forward without a cache."""
    values = torch.from_numpy(heard)[None].to(model.dtype)
    return model(input_values=values, decoder_input_ids=torch.from_numpy(tokens)[None].long()).logits[0].float().numpy()


def greedy(model, heard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """STEPS tokens after the first, each the likeliest after those before it, and the logits they were drawn from."""
    encoded = model.model.encoder(torch.from_numpy(heard)[None])
    cache, new, logits = None, torch.tensor([[model.config.decoder_start_token_id]]), []
    for _ in range(STEPS):
        out = model(encoder_outputs=encoded, decoder_input_ids=new, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits.append(out.logits[0, -1].numpy())
        new = torch.tensor([[int(logits[-1].argmax())]])
    return np.argmax(logits, -1).astype(np.int32), np.stack(logits)


@torch.inference_mode()
def record(case: Case, seed: int) -> dict[str, np.ndarray]:
    """All that golden.npz holds."""
    arrays: dict[str, np.ndarray] = {"seed": np.array(seed)}
    model = load(case, "float32", torch.float32)
    rng = np.random.Generator(np.random.PCG64(seed))
    for which in SOUNDS:
        heard = sound(seed, which)
        tokens = rng.integers(3, case.config["vocab_size"], LENGTH).astype(np.int32)
        drawn, logits = greedy(model, heard)
        best = np.sort(logits)[:, -2:]
        arrays |= {
            f"states_{which}": model.model.encoder(torch.from_numpy(heard)[None]).last_hidden_state[0].numpy(),
            f"tokens_{which}": tokens,
            f"logits_{which}": score(model, heard, tokens),
            f"greedy_{which}": drawn,
            f"margins_{which}": best[:, 1] - best[:, 0],
        }
        for name in ("bfloat16", "float16"):
            arrays[f"logits_{which}_{name}_f32"] = score(load(case, name, torch.float32), heard, tokens)
            arrays[f"logits_{which}_{name}"] = score(load(case, name, getattr(torch, name)), heard, tokens)
    return arrays


def check(arrays: dict[str, np.ndarray]) -> None:
    """A golden is worth keeping when its tokens vary, and the weights decide them, not the rounding."""
    for which in SOUNDS:
        assert arrays[f"margins_{which}"].min() > 0.02, arrays[f"margins_{which}"].min()
        assert len(set(arrays[f"greedy_{which}"].tolist())) > STEPS // 3, arrays[f"greedy_{which}"]
    assert not np.array_equal(arrays["greedy_short"], arrays["greedy_long"]), "the sound does not matter"


def make(name: str, into: Path) -> None:
    """Write the files of one case."""
    config = json.loads((HERE / name / "config.json").read_text())
    shapes = names(AutoConfig.from_pretrained(HERE / name))
    arrays = record(Case(name, config, shapes, {}), SEEDS[name])
    check(arrays)
    folder = into / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shapes.json").write_text(by_line(shapes))
    np.savez_compressed(folder / "golden.npz", **arrays)


def make_published(file: Path, into: Path) -> None:
    """The names and shapes of a published checkpoint."""
    raw = json.loads(file.read_text())
    (into / file.name.replace(".config", "")).write_text(by_line(names(AutoConfig.for_model(**raw))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=[*SEEDS])
    parser.add_argument("--into", type=Path, default=HERE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    for config_file in HERE.glob("*.config.json"):
        make_published(config_file, args.into)
    for case_name in args.cases:
        make(case_name, args.into)
        print(case_name)

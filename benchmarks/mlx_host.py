"""Host cost of building one MLX decode step: Crane's `launch` against mlx-lm's model with its own cache.

    python -m benchmarks.mlx_host [--rounds 60]

A 28-layer Qwen3 of width 64, so that the time is the host's alone. Both build the graph of one greedy step and are then
evaluated outside the clock; rounds alternate, and the ratio is taken within each. Crane's figure includes the plan, its
checks, the step's index arrays and the draw.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import mlx.core as mx
import numpy as np

from crane_app.contract import Work
from crane_app.engine.loading import load
from crane_app.engine.random_checkpoint import CONFIGS, make

SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
PROMPT = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    CONFIGS["small"] = CONFIGS["qwen3-0.6b"] | SMALL | {"vocab_size": 199}
    with tempfile.TemporaryDirectory() as scratch:
        folder = make("small", Path(scratch))
        found = [measure(folder, batch, args.rounds) for batch in (1, 8)]
    print(json.dumps({"machine": platform.processor() or platform.machine(), "runs": found}))


def measure(folder: Path, batch: int, rounds: int) -> dict:
    """Median milliseconds of each, and the median ratio over paired rounds."""
    ours, theirs = _ours(folder, batch), _theirs(folder, batch)
    pairs = [(ours(), theirs()) for _ in range(rounds + 5)][5:]
    mine, peer = ([1e3 * x for x in side] for side in zip(*pairs, strict=True))
    ratios = sorted(a / b for a, b in pairs)
    found = {
        "batch": batch,
        "crane_ms": round(statistics.median(mine), 3),
        "mlx_lm_ms": round(statistics.median(peer), 3),
    }
    found |= {"ratio": round(statistics.median(ratios), 3)}
    found |= {"ratio_low": round(ratios[len(ratios) // 10], 3), "ratio_high": round(ratios[-len(ratios) // 10], 3)}
    print(
        f"batch {batch}: Crane {found['crane_ms']:.2f} ms, mlx-lm {found['mlx_lm_ms']:.2f} ms; "
        f"ratio {found['ratio']:.2f} [{found['ratio_low']:.2f} - {found['ratio_high']:.2f}, the middle 80 %]",
        flush=True,
    )
    return found


def _ours(folder: Path, batch: int):
    loaded = load(folder, "mlx", "cpu", "float32")
    runner, submit = loaded.runner, loaded.backend.submit
    rows = [runner.cache.open(PROMPT + 200) for _ in range(batch)]
    state = [runner.launch([Work(row, np.zeros(PROMPT, np.int32)) for row in rows])]
    state[0].read()

    def step() -> float:
        loaded.backend.submit = lambda *_: None
        start = time.perf_counter()
        state[0] = runner.launch([Work(row, None) for row in rows], state[0])
        seconds = time.perf_counter() - start
        submit(runner.cache, state[0].tokens, None, None)
        state[0].read()
        return seconds

    return step


def _theirs(folder: Path, batch: int):
    from mlx_lm.models.cache import BatchKVCache, KVCache
    from mlx_lm.utils import load_model

    model, _ = load_model(folder)
    model.set_dtype(mx.float32)
    cache = [KVCache() if batch == 1 else BatchKVCache([0] * batch) for _ in model.layers]
    mx.eval(model(mx.zeros((batch, PROMPT), mx.int32), cache=cache))
    state = [mx.zeros((batch, 1), mx.int32)]

    def step() -> float:
        start = time.perf_counter()
        state[0] = mx.argmax(model(state[0], cache=cache)[:, -1:], -1)
        seconds = time.perf_counter() - start
        mx.eval(state[0])
        return seconds

    return step


if __name__ == "__main__":
    main()

"""Decoding one request in bfloat16: Crane's eager PyTorch step against transformers, on the same random weights.

    python -m benchmarks.torch_decode [--model qwen3-0.6b] [--rounds 7] [--device cpu|cuda]

Rounds alternate between the two in one process, since a machine's memory speed changes over time; the ratio is taken
within each round. transformers runs with sdpa, with its dynamic and its static cache; the faster one counts. The share
of the physical limit is weight bytes x tokens / s over the read bandwidth measured in the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from crane_app.bench.bandwidth import HostStream
from crane_app.contract import Work
from crane_app.engine.loading import Loaded, load
from crane_app.engine.random_checkpoint import CONFIGS, make

STEPS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=sorted(CONFIGS), default="qwen3-0.6b")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--contexts", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = make(args.model, Path(scratch))
        loaded = load(folder, "torch", args.device, "bfloat16")
        peer = _peer(folder, args.device)
        found = [measure(loaded, peer, context, args.rounds) for context in args.contexts]
    print(
        json.dumps(
            {"machine": loaded.backend.device.name, "torch": torch.__version__, "threads": args.threads, "runs": found}
        )
    )


def measure(loaded: Loaded, peer, context: int, rounds: int) -> dict:
    """Median tokens per second of each, and the median and range of the ratio, over paired rounds."""
    runs: dict[str, list[float]] = {"crane": [], "dynamic": [], "static": [], "share": []}
    with torch.inference_mode():
        theirs = {"dynamic": _theirs(peer, context, False), "static": _theirs(peer, context, True)}
        ours = _ours(loaded, context)
        for _ in range(rounds):
            limit = bandwidth(peer.device) / loaded.nbytes
            runs["crane"].append(STEPS / clock(ours))
            for name, run in theirs.items():
                runs[name].append(STEPS / clock(run))
            runs["share"].append(runs["crane"][-1] / limit)
    ratios = [c / max(d, s) for c, d, s in zip(runs["crane"], runs["dynamic"], runs["static"], strict=True)]
    found = {name: round(statistics.median(values), 2) for name, values in runs.items()}
    found |= {"context": context, "ratio": round(statistics.median(ratios), 2)}
    found |= {"ratio_low": round(min(ratios), 2), "ratio_high": round(max(ratios), 2)}
    print(
        f"context {context:5}: Crane {found['crane']:6.2f} tok/s, transformers dynamic {found['dynamic']:6.2f}, "
        f"static {found['static']:6.2f}; ratio to the faster {found['ratio']:.2f} "
        f"[{found['ratio_low']:.2f} - {found['ratio_high']:.2f}], {found['share']:.0%} of the bandwidth",
        flush=True,
    )
    return found


def clock(run: Callable[[], object]) -> float:
    """Seconds, the device's work included."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def bandwidth(device: torch.device) -> float:
    """Bytes per second that the device reads; on a GPU a maximum over 2 GiB."""
    if device.type == "cpu":
        return HostStream(torch.get_num_threads())()
    data = torch.ones(2**29, dtype=torch.int32, device=device)
    data.max()
    return data.nbytes / min(clock(data.max) for _ in range(5))


def _ours(loaded: Loaded, context: int) -> Callable[[], None]:
    runner = loaded.runner
    row = runner.cache.open(context + STEPS)
    runner.launch([Work(row, np.ones(context, np.int32))]).read()

    def run() -> None:
        runner.cache.truncate(row, context)
        pending = runner.launch([Work(row, np.ones(1, np.int32))])
        for _ in range(STEPS - 1):
            pending = runner.launch([Work(row, None)], pending)
            pending.read()

    run()
    return run


def _peer(folder: Path, device: str):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa")
    return model.eval().to(device)


def _theirs(model, context: int, static: bool) -> Callable[[], None]:
    """A plain greedy loop over the model's own forward: no generate(), whose set-up would count against it."""
    from transformers import DynamicCache, StaticCache

    prompt = torch.ones(1, context, dtype=torch.long, device=model.device)
    length = context + STEPS + 1
    cache = StaticCache(model.config, max_cache_len=length) if static else DynamicCache()
    model(prompt, past_key_values=cache, use_cache=True, logits_to_keep=1)

    def run() -> None:
        if static:
            _rewind(cache, context)
        elif cache.get_seq_length() > context:
            cache.crop(context - cache.get_seq_length())
        token = torch.ones(1, 1, dtype=torch.long, device=model.device)
        for _ in range(STEPS):
            out = model(token, past_key_values=cache, use_cache=True)
            token = out.logits[:, -1].argmax(-1, keepdim=True)

    return run


def _rewind(cache, length: int) -> None:
    """A static cache counts its positions in each layer."""
    for layer in cache.layers:
        layer.cumulative_length.fill_(length)


if __name__ == "__main__":
    main()

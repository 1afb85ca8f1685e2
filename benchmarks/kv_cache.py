"""How far keys and values in 8 bits change what a model says: against the same weights with a full cache.

    python -m benchmarks.kv_cache [--models qwen3-0.6b ...] [--checkpoints FOLDER ...] [--tokens 1024]

Both caches are given the same tokens, drawn at random, in the same chunks. Told are the mean negative log-likelihood of
these tokens with either cache, and how far the logits are apart, usually (root mean square) and at most, beside their
own root mean square. Random weights expect nothing, so their likelihoods say little; a checkpoint of yours says more.
Speed: python -m benchmarks.cpu_decode --kv-cache-dtype int8.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from crane_app.contract import Work
from crane_app.engine.generation import chunks
from crane_app.engine.loading import Loaded, load
from crane_app.engine.random_checkpoint import CONFIGS
from crane_app.engine.random_checkpoint import make as random_weights


def in_bytes(loaded: Loaded) -> Loaded:
    """The same weights with a cache in 8 bits."""
    backend = copy.copy(loaded.backend)
    backend.kv_cache = "int8"
    model = loaded.runner.model  # type: ignore[attr-defined]
    return replace(loaded, backend=backend, runner=backend.runner(getattr(model, "model", model)))


def likelihoods(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each token after its logits [L, V]."""
    most = logits.max(-1, keepdims=True)
    mass = most[:, 0] + np.log(np.exp(logits - most).sum(-1, dtype=np.float64))
    return mass - logits[np.arange(len(tokens)), tokens]


def compare(loaded: Loaded, count: int) -> dict[str, float]:
    """Of `count` tokens: nll with either cache; what is usual and most of the difference; the logits' own size."""
    sides = [loaded, in_bytes(loaded)]
    rows = [side.runner.cache.open(count) for side in sides]
    tokens = np.random.default_rng(0).integers(0, loaded.vocabulary, count + 1).astype(np.int32)
    nll: list[list[float]] = [[], []]
    squares = own = most = 0.0
    for start, end in chunks(count):
        work = [Work(row, tokens[start:end], logits=end - start) for row in rows]
        both = [
            side.runner.launch([item], keep_logits=True).read().logits for side, item in zip(sides, work, strict=True)
        ]
        for told, logits in zip(nll, both, strict=True):
            told += likelihoods(logits, tokens[start + 1 : end + 1]).tolist()
        own += float(np.square(both[0]).mean(-1).sum())
        off = np.abs(np.subtract(both[1], both[0], out=both[1]))
        most = max(most, float(off.max()))
        squares += float(np.square(off).mean(-1).sum())
    full, ours = (float(np.mean(told)) for told in nll)
    return {"full": full, "int8": ours, "usual": (squares / count) ** 0.5, "most": most, "size": (own / count) ** 0.5}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="*", choices=sorted(CONFIGS), default=[], help="of random weights")
    parser.add_argument("--checkpoints", nargs="*", type=Path, default=[], help="folders or GGUF files")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--backend", choices=("mlx", "torch"))
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--folder", type=Path, help="where random weights are made and kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        names = args.models or ([] if args.checkpoints else ["qwen3-0.6b"])
        for path in [*args.checkpoints, *(random_weights(name, folder) for name in names)]:
            loaded = load(path, args.backend, "cpu", args.dtype)
            found = compare(loaded, min(args.tokens, loaded.context - 1))
            print(
                f"{path.name:16} {loaded.backend.device.backend} {args.dtype}: nll {found['full']:.5f} with a full "
                f"cache, {found['int8'] - found['full']:+.5f} in 8 bits; logits of {found['size']:.3f} are off by "
                f"{found['usual']:.5f}, at most {found['most']:.4f}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What fewer bits, and 8-bit activations, change about a model's scores: mean negative log-likelihood on the same text.

    python -m benchmarks.scores [--llama-bin FOLDER] [--kinds Q4_0 ...] [--folder PATH]

Random weights in Qwen3's form, 28 layers deep and narrow enough to be quick. Each type is measured as answers are made
(`fast`) and in float32 on the very numbers that the packed weights have (`exact`, its twin); `text` is the mean over
the same tokens, `each` the mean of what a single token's differs by. With llama.cpp's programs the K types are measured
too, which its llama-quantize makes, and its llama-perplexity scores the same file. q4 to q8 are --quantize of the
unpacked file. Needs the gguf package.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _random_gguf
from crane_app.engine import generation
from crane_app.engine.loading import load
from crane_app.host import QUANTS
from crane_app.media.tokenizer import Tokenizer
from crane_app.models import registry
from crane_app.models.weights import names

CONFIG: dict[str, Any] = {
    **{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 8192, "hidden_size": 512},
    **{"intermediate_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 8, "num_key_value_heads": 4},
    **{"head_dim": 128, "rope_theta": 1e6, "rms_norm_eps": 1e-6, "max_position_embeddings": 4096},
    **{"tie_word_embeddings": True, "attention_bias": False},
}
PLAIN = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
K = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
SPREAD = 6.0  # of the last norm, so that some tokens are far likelier than others
CONTEXT, CHUNKS = 512, 2  # as llama-perplexity cuts a text; the second half of each is scored


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=[*PLAIN, *K, *QUANTS], default=[*PLAIN, *K, *QUANTS])
    parser.add_argument("--llama-bin", type=Path, help="llama.cpp's folder of programs")
    parser.add_argument("--folder", type=Path, help="where the files of weights are made and kept")
    args = parser.parse_args()
    if not args.llama_bin:
        print("llama.cpp and the K types are skipped: name its programs' folder (--llama-bin PATH)")
    with tempfile.TemporaryDirectory(prefix="crane-scores-") as scratch:
        folder = args.folder or Path(scratch)
        base = plain(folder)
        text = folder / "text.txt"
        text.write_text(prose(), "ascii")
        ids = Tokenizer.open(base).encode(text.read_text("ascii"))
        print(f"{'':6} {'exact':>9} {'fast':>9} {'text':>9} {'each':>9} {'llama.cpp':>10}")
        for kind in args.kinds:
            if kind in K and not args.llama_bin:
                continue
            file = base if kind in QUANTS else packed(base, kind, folder, args.llama_bin)
            exact, fast = (likelihoods(file, kind, ids, how) for how in (True, False))
            theirs = perplexity(args.llama_bin, file, text) if args.llama_bin and kind not in QUANTS else math.nan
            off, each = fast.mean() - exact.mean(), np.abs(fast - exact).mean()
            print(f"{kind:6} {exact.mean():9.5f} {fast.mean():9.5f} {off:+9.5f} {each:9.5f} {theirs:10.5f}", flush=True)
    return 0


def plain(folder: Path) -> Path:
    """The file of float32 weights."""
    import gguf

    target, random = folder / "scores-f32.gguf", np.random.default_rng(0)
    if target.exists():
        return target
    writer = gguf.GGUFWriter(target.with_suffix(".part"), CONFIG["model_type"])
    _random_gguf.describe(writer, CONFIG, "scores")
    module = registry.find(CONFIG)
    for path, shape in names(module.parameters(module.read(CONFIG))).items():
        values = random.standard_normal(shape, np.float32) * np.float32(0.02)
        if len(shape) == 1:
            values = np.float32(SPREAD if path == "model.norm.weight" else 1) * (1 + 5 * values)
        writer.add_tensor(_random_gguf.told(path), values)
    _random_gguf.finish(writer, target)
    return target


def packed(base: Path, kind: str, folder: Path, programs: Path | None) -> Path:
    """The same weights in blocks, all matrices of one type."""
    import gguf

    target = folder / f"scores-{kind.lower()}.gguf"
    if target.exists():
        return target
    if kind in K:
        assert programs is not None
        asked = [programs / "llama-quantize", "--pure", base, target, kind if kind != "Q3_K" else "Q3_K_S"]
        subprocess.run(list(map(str, asked)), check=True, capture_output=True)
        return target
    writer, form = gguf.GGUFWriter(target.with_suffix(".part"), CONFIG["model_type"]), gguf.GGMLQuantizationType[kind]
    _random_gguf.describe(writer, CONFIG, "scores")
    for tensor in gguf.GGUFReader(base).tensors:
        shape = tensor.shape[::-1]
        values = np.array(tensor.data).reshape(shape)
        if len(shape) == 1:
            writer.add_tensor(tensor.name, values)
        else:
            writer.add_tensor(tensor.name, gguf.quantize(values, form), raw_dtype=form)
    _random_gguf.finish(writer, target)
    return target


def likelihoods(file: Path, kind: str, ids: list[int], exact: bool) -> np.ndarray:
    """Negative log-likelihood of each token that counts."""
    loaded = load(file, "torch", "cpu", None, kind if kind in QUANTS else None, exact)
    found = []
    for chunk in range(CHUNKS):
        part = ids[chunk * CONTEXT : (chunk + 1) * CONTEXT]
        scores = generation.score(loaded, part)[CONTEXT // 2 : -1].astype(np.float64)
        top = scores.max(1)
        total = top + np.log(np.exp(scores - top[:, None]).sum(1))
        found.append(total - scores[np.arange(len(scores)), part[CONTEXT // 2 + 1 :]])
    return np.concatenate(found)


def perplexity(programs: Path, file: Path, text: Path) -> float:
    """llama.cpp's mean over the same tokens."""
    asked = [programs / "llama-perplexity", "-m", file, "-f", text, "-c", CONTEXT, "-b", CONTEXT, "--chunks", CHUNKS]
    done = subprocess.run(list(map(str, [*asked, "--no-warmup"])), check=True, capture_output=True, text=True)
    found = re.search(r"PPL = ([\d.]+)", done.stdout + done.stderr)
    return math.log(float(found[1])) if found else math.nan


def prose() -> str:
    """Letters and spaces as English has them, of no meaning; far more than two chunks of tokens."""
    random = np.random.default_rng(1)
    letters = random.choice(list("etaoinshrdlucmfwyp      "), 12_000)
    return "".join(letters.tolist())


if __name__ == "__main__":
    sys.exit(main())

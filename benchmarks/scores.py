"""What fewer bits, and 8-bit activations, change about a model's scores: mean negative log-likelihood on the same text.

    python -m benchmarks.scores [--llama-bin FOLDER] [--kinds Q4_0 ...] [--chunks 12] [--folder PATH]

Random weights in Qwen3's form, 28 layers deep and narrow enough to be quick. `exact` is float32 on the very numbers
that the packed weights have, the twin; `fast` is how answers are made, told by how far its mean is off and, under
`each`, how far a single token's is off, on average. A4 and A8 are folders in MLX's layout, q4 to q8 --quantize of the
unpacked file, and `cache` is 8-bit keys and values with all else exact. With llama.cpp's programs the K types are
measured too, which its llama-quantize makes, and its llama-perplexity scores the same files: how far it is from our
twin, and how far we are from it.

What follows ± is the standard error of a difference, over the chunks: within one, tokens share what came before and err
together. Rounding moves a single token's by some hundredths to either side, and a mean within two or three standard
errors of nought is nought. Nothing in the arithmetic has a side: a packed product is that of the activations rounded to
the nearest (tests/backends/test_kernels.py). The error knows the text's chance alone, not the weights': on a text of 37
different tokens all chunks err alike, by -0.013 to +0.006 with twelve seeds of Q4_0; this one has some 800.
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
from benchmarks._vocabulary import NORMAL, vocabulary
from crane_app.engine import generation
from crane_app.engine.converting import convert
from crane_app.engine.loading import Loaded, load
from crane_app.host import QUANTS
from crane_app.media.files.halves import narrowed, widened
from crane_app.media.tokenizer import BYTE_OF, Tokenizer
from crane_app.models import registry
from crane_app.models.weights import names

CONFIG: dict[str, Any] = {
    **{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 8192, "hidden_size": 512},
    **{"intermediate_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 8, "num_key_value_heads": 4},
    **{"head_dim": 128, "rope_theta": 1e6, "rms_norm_eps": 1e-6, "max_position_embeddings": 4096},
    **{"tie_word_embeddings": True, "attention_bias": False},
}
PLAIN = ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
K = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
AFFINE = {"A4": "q4", "A8": "q8"}
CACHE = "cache"
KINDS = (*PLAIN, *K, *AFFINE, *QUANTS, CACHE)
SPREAD = 6.0  # of the last norm, so that some tokens are far likelier than others
CONTEXT = 256  # as llama-perplexity cuts a text; the second half of each chunk is scored


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--llama-bin", type=Path, help="llama.cpp's folder of programs")
    parser.add_argument("--chunks", type=int, default=12, help="of the text, 128 tokens of each counting (12)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (0)")
    parser.add_argument("--folder", type=Path, help="where the files of weights are made and kept")
    args = parser.parse_args()
    if not args.llama_bin:
        print("llama.cpp and the K types are skipped: name its programs' folder (--llama-bin PATH)")
    with tempfile.TemporaryDirectory(prefix="crane-scores-") as scratch:
        folder = args.folder or Path(scratch)
        base = plain(folder, args.seed)
        text = folder / "text.txt"
        text.write_text(prose(args.chunks), "ascii")
        ids = Tokenizer.open(base).encode(text.read_text("ascii"))[: args.chunks * CONTEXT]
        print(
            f"{'':6} {'exact':>9} {'fast - exact':>19} {'each':>8} {'llama.cpp - exact':>19} {'fast - llama.cpp':>19}"
        )
        for kind in args.kinds:
            if kind in K and not args.llama_bin:
                continue
            file = made(base, kind, folder, args.llama_bin)
            exact, fast = (likelihoods(load(file, *way), ids) for way in ways(kind))
            line = f"{kind:6} {exact.mean():9.5f} {off(fast - exact)} {np.abs(fast - exact).mean():8.5f}"
            if args.llama_bin and kind in (*PLAIN, *K):
                theirs = perplexity(args.llama_bin, file, text, args.chunks)
                line += f" {off(theirs - exact.mean(1))} {off(fast.mean(1) - theirs)}"
            print(line, flush=True)
    return 0


def ways(kind: str) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """How the twin is loaded, and how what is held against it."""
    quantize = kind if kind in QUANTS else None
    twin = ("torch", "cpu", None, quantize, True)
    return twin, (*twin, "int8") if kind == CACHE else ("torch", "cpu", None, quantize)


def off(differences: np.ndarray) -> str:
    """The mean of differences [chunks, tokens] or [chunks], and its standard error over chunks."""
    chunks = differences.reshape(len(differences), -1).mean(1)
    error = chunks.std(ddof=1) / len(chunks) ** 0.5 if len(chunks) > 1 else math.nan
    return f"{chunks.mean():+9.5f} ±{error:8.5f}"


def plain(folder: Path, seed: int) -> Path:
    """The file of float32 weights; those of norms are numbers of bfloat16, as published models have them."""
    import gguf

    target, random = folder / f"scores-{seed}-f32.gguf", np.random.default_rng(seed)
    if target.exists():
        return target
    writer = gguf.GGUFWriter(target.with_suffix(".part"), CONFIG["model_type"])
    _random_gguf.describe(writer, CONFIG, "scores")
    module = registry.find(CONFIG)
    for path, shape in names(module.parameters(module.read(CONFIG))).items():
        values = random.standard_normal(shape, np.float32) * np.float32(0.02)
        if len(shape) == 1:
            size = SPREAD if path == "model.norm.weight" else 1.0
            values = widened(narrowed(np.float32(size) * (1 + 5 * values), "bfloat16"))
        writer.add_tensor(_random_gguf.told(path), values)
    _random_gguf.finish(writer, target)
    return target


def made(base: Path, kind: str, folder: Path, programs: Path | None) -> Path:
    """The same weights, all matrices of one type: a file, or for affine groups a folder."""
    if kind in QUANTS or kind == CACHE:
        return base
    target = folder / f"{base.stem.removesuffix('-f32')}-{kind.lower()}{'' if kind in AFFINE else '.gguf'}"
    if target.exists():
        return target
    if kind in AFFINE:
        for _ in convert(made(base, "BF16", folder, programs), target, AFFINE[kind]):  # groups scaled in bfloat16
            pass
    elif kind in K:
        assert programs is not None
        part = target.with_suffix(".part")
        asked = [programs / "llama-quantize", "--pure", base, part, kind if kind != "Q3_K" else "Q3_K_S"]
        subprocess.run(list(map(str, asked)), check=True, capture_output=True)
        part.rename(target)
    else:
        _pack(base, kind, target)
    return target


def _pack(base: Path, kind: str, target: Path) -> None:
    import gguf

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


def likelihoods(loaded: Loaded, ids: list[int]) -> np.ndarray:
    """Negative log-likelihood of each token that counts, [chunks, tokens]."""
    found = []
    for start in range(0, len(ids) - CONTEXT + 1, CONTEXT):
        part = ids[start : start + CONTEXT]
        scores = generation.score(loaded, part)[CONTEXT // 2 : -1].astype(np.float64)
        top = scores.max(1)
        total = top + np.log(np.exp(scores - top[:, None]).sum(1))
        found.append(total - scores[np.arange(len(scores)), part[CONTEXT // 2 + 1 :]])
    return np.stack(found)


def perplexity(programs: Path, file: Path, text: Path, chunks: int) -> np.ndarray:
    """llama.cpp's mean over the same tokens, [chunks]; it prints the perplexity of the first, of the first two ..."""
    asked = [programs / "llama-perplexity", "-m", file, "-f", text, "-c", CONTEXT, "-b", CONTEXT, "--chunks", chunks]
    done = subprocess.run(list(map(str, [*asked, "--no-warmup"])), check=True, capture_output=True, text=True)
    found = re.findall(r"\[(\d+)\]([\d.]+)", done.stdout)
    assert [int(number) for number, _ in found] == list(range(1, chunks + 1)), done.stdout
    sums = [int(number) * math.log(float(value)) for number, value in found]
    return np.diff([0.0, *sums])


def prose(chunks: int) -> str:
    """Tokens of the vocabulary that are ASCII, in any order; text for so many chunks, and more."""
    known = vocabulary(CONFIG["vocab_size"])
    spelled = [
        bytes(BYTE_OF[sign] for sign in token)
        for token, kind in zip(known.tokens, known.kinds, strict=True)
        if kind == NORMAL
    ]
    words = [word.decode() for word in spelled if all(0x20 <= byte < 0x7F for byte in word)]
    return "".join(np.random.default_rng(1).choice(words, chunks * CONTEXT).tolist())


if __name__ == "__main__":
    sys.exit(main())

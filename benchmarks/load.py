"""From the command to load a 4-bit model to its first token, in an engine that runs, and the memory this takes.

    python -m benchmarks.load [--model qwen3-0.6b] [--kind Q4_0] [--runs 5] [--text TEXT] [--folder PATH]
        [--llama-bench PATH]

The engine is a process of its own, as the window's is, and is asked over its socket; the file is in the system's
memory. `first` is the first load of the engine's life, which imports PyTorch; `again` are loads after that, each after
the model was unloaded. The prompt is a text, so the tokenizer counts; the made-up vocabulary makes some 25 tokens of
it, as a real one does of a longer sentence. `cpu_s` is the engine's own processor time, which others change little.
`above_mb`: the peak of the engine's memory over what it had idle, before that load; `wanted_memory` times the weights
and the cache of one row is the aim. llama.cpp is given the same file: seconds of its whole program for one token. Linux
only. Needs the gguf package.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import _random_gguf
from crane_app.engine.process.client import Client, connect
from crane_app.engine.random_checkpoint import CONFIGS
from crane_app.engine.random_checkpoint import make as random_weights
from crane_app.engine.request import Asked, End, Piece, Request
from crane_app.errors import CraneError

WANTED_S, WANTED_MEMORY = 0.5, 1.15
TEXT = "What is the weather like?"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=sorted(CONFIGS), default="qwen3-0.6b")
    parser.add_argument("--kind", default="Q4_0")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--text", default=TEXT, help="the prompt")
    parser.add_argument("--llama-bench", help="llama.cpp's program of that name")
    parser.add_argument("--folder", type=Path, help="where the file of weights is made and kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crane-load-") as scratch:
        folder = args.folder or Path(scratch)
        file = _random_gguf.make(args.model, args.kind, random_weights(args.model, folder), folder)
        engine = connect(new_engine=True)
        try:
            found: dict[str, Any] = {
                "file_mb": round(file.stat().st_size / 1e6),
                "first": once(engine, file, args.text),
            }
            again = [once(engine, file, args.text) for _ in range(args.runs)]
        finally:
            engine.close(drain=False)
        found["again"] = again
        seconds = statistics.median(run["s"] for run in again)
        share = statistics.median(run["above_mb"] / run["weights_and_cache_mb"] for run in again)
        found |= {"again_s": round(seconds, 3), "again_cpu_s": statistics.median(run["cpu_s"] for run in again)}
        found |= {"wanted_s": WANTED_S, "memory": round(share, 3), "wanted_memory": WANTED_MEMORY}
        if args.llama_bench:
            found["llama.cpp_s"] = sorted(theirs(args.llama_bench, file) for _ in range(args.runs))
        else:
            print("llama.cpp is skipped: name its program (--llama-bench PATH)", file=sys.stderr)
        print(json.dumps(found, indent=1))
    return int(seconds > WANTED_S or share > WANTED_MEMORY)


def once(engine: Client, file: Path, text: str) -> dict[str, Any]:
    """One load with its first token, and the memory; the model is unloaded again."""
    pid = engine.stats().pid
    idle, before = resident(pid, "VmRSS"), processor_s(pid)
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew: proc(5)
    start = time.perf_counter()
    for event in engine.load(str(file), name="measured"):
        refused(event)
    loaded = time.perf_counter()
    first, *_ = answered(engine, text, 1)
    peak, spent = resident(pid, "VmHWM"), processor_s(pid) - before
    stats = next(engine.stats() for _ in answered(engine, text, 32))  # with a row under way
    held = stats.weights_nbytes + stats.cache_nbytes
    engine.unload("measured")
    return {
        "s": round(first - start, 3),
        "load_s": round(loaded - start, 3),
        "cpu_s": round(spent, 2),
        "idle_mb": round(idle / 1e6),
        "above_mb": round((peak - idle) / 1e6),
        "weights_and_cache_mb": round(held / 1e6),
    }


def answered(engine: Client, text: str, tokens: int) -> Iterator[float]:
    """When each piece of an answer came."""
    for event in engine.submit(Request("measured", text=text, asked=Asked(max_tokens=tokens, ignore_eos=True))):
        refused(event)
        if isinstance(event, Piece):
            yield time.perf_counter()


def refused(event: Any) -> None:
    if isinstance(event, End) and event.error:
        raise CraneError(str(event.error))


def resident(pid: int, name: str) -> int:
    """Bytes of a process in memory, now (VmRSS) or at most (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def processor_s(pid: int) -> float:
    """Seconds of all its threads; fields 14 and 15 of proc(5)'s stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def theirs(bench: str, file: Path) -> float:
    """Seconds of llama.cpp's program from its start to the end of a token, without its warming up."""
    start = time.perf_counter()
    asked = [bench, "-m", file, "-p", 0, "-n", 1, "-r", 1, "--no-warmup"]
    subprocess.run(list(map(str, asked)), check=True, capture_output=True)
    return round(time.perf_counter() - start, 3)


if __name__ == "__main__":
    sys.exit(main())

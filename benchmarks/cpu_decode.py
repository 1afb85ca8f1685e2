"""Text on a processor: Crane against llama.cpp, on the same random weights in the same file, round by round.

    python -m benchmarks.cpu_decode --llama-bench PATH [--models ...] [--kinds ...] [--rounds 5]
    python -m benchmarks.cpu_decode --kv-cache-dtype int8   # Crane with keys and values in 8 bits against Crane without

A round runs one side right after the other, since a machine's memory speed changes; only ratios within a round
count, their median and range. llama.cpp runs with its flash attention on and off in the first two rounds, and as it was
fastest in the others. The share of the bandwidth is the bytes a step reads over what reading alone gives in that round.
Without llama.cpp Crane is measured alone. `--peers openvino=PYTHON mistralrs=PYTHON transformers=PYTHON` measures these
too, at context 128 and for the prompt: the first two on the same file, transformers in bfloat16 on the same numbers.
Needs the gguf package.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks import _random_gguf
from benchmarks.kv_cache import in_bytes
from crane_app.backends.torch import native
from crane_app.contract import BLOCK, Work
from crane_app.engine.loading import Loaded, load
from crane_app.engine.random_checkpoint import CONFIGS
from crane_app.engine.random_checkpoint import make as random_weights

PEERS = "openvino, mistralrs and transformers, each with the interpreter that has it"
MIXES = ("Q3_K_M", "Q4_K_M", "Q5_K_M", "IQ4_XS")  # of several types in one file
STREAM = 2**28  # bytes read to see what the memory gives
Run = Callable[[], float]  # tokens a second


@dataclass(frozen=True)
class Case:
    """What is measured: so many steps of `batch` rows after `context` tokens, or a prompt of `prompt` tokens."""

    context: int = 0
    batch: int = 1
    prompt: int = 0
    steps: int = 24
    wanted: dict[str, float] = field(default_factory=dict)  # times as fast as llama.cpp, by kind

    def __str__(self) -> str:
        return f"prompt of {self.prompt}" if self.prompt else f"context {self.context:4}, batch {self.batch}"


CASES = (
    Case(context=128, wanted={"Q4_0": 1.4, "Q8_0": 1.2, "Q4_K_M": 1.3, "BF16": 1.15}),
    Case(context=2048, steps=16, wanted={"Q4_0": 1.8, "Q8_0": 1.3}),
    Case(context=128, batch=8, steps=12, wanted={"Q4_0": 2.0, "Q8_0": 1.5}),
    Case(prompt=512, wanted=dict.fromkeys(("Q4_0", "Q8_0", "BF16"), 1.8)),
)


class Ours:
    """A model loaded once, and what it is asked for."""

    def __init__(self, file: Path, threads: int):
        start = time.perf_counter()
        self.loaded: Loaded = load(file, "torch", "cpu", "bfloat16")
        self.seconds, self.threads = time.perf_counter() - start, threads
        self.stream = native.aligned(STREAM)
        self.stream[:] = 1

    def bandwidth(self) -> float:
        """Bytes a second, the best of two."""
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            native.library().crane_stream(self.stream.ctypes.data, STREAM, self.threads)
            seconds.append(time.perf_counter() - start)
        return STREAM / min(seconds)

    def nbytes(self, case: Case) -> int:
        """That a step reads: all weights once, and what the rows have cached."""
        position = self.loaded.runner.cache.position_nbytes()
        return self.loaded.nbytes + case.batch * position * (case.context + case.steps // 2)

    def prepare(self, case: Case) -> Run:
        runner = self.loaded.runner
        rows = [runner.cache.open(case.context + case.steps + case.prompt) for _ in range(case.batch)]
        self.rows = rows
        for row in rows:
            self._prefill(row, case.context)

        def decode() -> float:
            for row in rows:
                runner.cache.truncate(row, case.context)
            start = time.perf_counter()
            pending = runner.launch([Work(row, np.ones(1, np.int32)) for row in rows])
            for _ in range(case.steps - 1):
                pending = runner.launch([Work(row, None) for row in rows], pending)
            pending.read()
            return case.batch * case.steps / (time.perf_counter() - start)

        def prompt() -> float:
            runner.cache.truncate(rows[0], 0)
            start = time.perf_counter()
            self._prefill(rows[0], case.prompt)
            return case.prompt / (time.perf_counter() - start)

        return prompt if case.prompt else decode

    def close(self) -> None:
        """Give back the rows of the last case."""
        for row in self.rows:
            self.loaded.runner.cache.close(row)

    def _prefill(self, row: int, tokens: int) -> None:
        for start in range(0, tokens, BLOCK):
            part = np.arange(start, min(start + BLOCK, tokens), dtype=np.int32) % 1000 + 5
            self.loaded.runner.launch([Work(row, part, logits=int(start + BLOCK >= tokens))]).read()


def file_of(name: str, kind: str, folder: Path, bench: str | None) -> Path | None:
    """The model's file of that kind. A mix of types is llama.cpp's own to make: None where it cannot."""
    source = random_weights(name, folder)
    if kind not in MIXES:
        return _random_gguf.make(name, kind, source, folder)
    quantize = Path(bench).with_name("llama-quantize") if bench else None
    if quantize is None or not quantize.exists():
        return None
    target = folder / f"{name}-{kind.lower()}.gguf"
    if not target.exists():
        part = target.with_suffix(".part")
        _told([quantize, _random_gguf.make(name, "BF16", source, folder), part, kind])
        part.rename(target)
    return target


def theirs(bench: str, file: Path, case: Case, threads: int, flash: int) -> float | None:
    """llama.cpp's tokens a second; None where its program is not there."""
    if case.batch > 1:
        batched = Path(bench).with_name("llama-batched-bench")
        if not batched.exists():
            return None
        asked = ["-m", file, "-t", threads, "-c", case.batch * (case.context + case.steps + 8), "-b", 2048, "-ub", 512]
        asked += ["-npp", case.context, "-ntg", case.steps, "-npl", case.batch, "--output-format", "jsonl"]
        told = _told([batched, *asked, "-fa", "on" if flash else "off"])
        lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
        return float(lines[-1]["speed_tg"])
    asked = ["-m", file, "-t", threads, "-fa", flash, "-r", 1, "-o", "json"]
    asked += ["-p", case.prompt, "-n", 0] if case.prompt else ["-p", 0, "-n", case.steps, "-d", case.context]
    return float(json.loads(_told([bench, *asked]))[0]["avg_ts"])


def _told(command: list) -> str:
    # llama.cpp's barriers are OpenMP's: with threads that sleep at once it runs at half its speed.
    told = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, env=told).stdout


class Peer:
    """Another program in a process of its own, run by `python`; see _peers.py."""

    def __init__(self, name: str, python: str, file: Path, threads: int):
        self.name = name
        command = [python, str(Path(__file__).with_name("_peers.py")), name, str(file), str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.skipped = self._answer().get("skipped", "")

    def rate(self, case: Case) -> float | None:
        """Tokens a second; None where the case is not asked of it, or it died."""
        if self.skipped or case.batch > 1 or case.context > CASES[0].context:
            return None
        asked = f"prefill {case.prompt}" if case.prompt else f"decode {case.context} {case.steps}"
        assert self._process.stdin is not None
        self._process.stdin.write(asked + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.skipped = answer.get("skipped", "")
        return answer.get("rate")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"skipped": "it died"}


def measure(ours: Ours, bench: str | None, file: Path, case: Case, rounds: int, peers: Sequence[Peer] = ()) -> dict:
    """Rates, ratios and shares of every round."""
    run = ours.prepare(case)
    run()
    found: dict[str, list[float]] = {"crane": [], "llama.cpp": [], "ratio": [], "bandwidth": [], "share": []}
    flags, fastest = [0, 1], {0: 0.0, 1: 0.0}
    for number in range(rounds):
        before = ours.bandwidth()
        mine = run()
        limit = (before + ours.bandwidth()) / 2
        found["crane"].append(mine)
        found["bandwidth"].append(limit / 1e9)
        if not case.prompt:
            found["share"].append(mine / case.batch * ours.nbytes(case) / limit)
        for peer in peers:
            rate = peer.rate(case)
            if rate is not None:
                found.setdefault(f"as {peer.name}", []).append(mine / rate)
                found.setdefault(peer.name, []).append(rate)
        if bench is None:
            continue
        rates = {flag: theirs(bench, file, case, ours.threads, flag) for flag in flags}
        if None in rates.values():
            print("  llama-batched-bench is not beside llama-bench: skipped", flush=True)
            bench = None
            continue
        fastest |= {flag: max(rate, fastest[flag]) for flag, rate in rates.items()}
        flags = [max(fastest, key=lambda flag: fastest[flag])] if number == 1 else flags
        found["llama.cpp"].append(max(rates.values()))
        found["ratio"].append(mine / max(rates.values()))
    ours.close()
    return found


def beside_full(ours: Ours, case: Case, rounds: int) -> dict[str, list[float]]:
    """Tokens a second with keys and values as they are and in 8 bits, and how many times as fast the latter is."""
    other = copy.copy(ours)
    other.loaded = in_bytes(ours.loaded)
    runs = {"full": ours.prepare(case), "int8": other.prepare(case)}
    for run in runs.values():
        run()
    found: dict[str, list[float]] = {"full": [], "int8": [], "ratio": []}
    for number in range(rounds):
        for name in sorted(runs, reverse=bool(number % 2)):
            found[name].append(runs[name]())
        found["ratio"].append(found["int8"][-1] / found["full"][-1])
    ours.close()
    other.close()
    return found


def beside_others(ours: Ours, rounds: int) -> list[float]:
    """The share of its speed that decoding keeps while one process on each core is busy."""
    case = CASES[0]
    run, shares = ours.prepare(case), []
    run()
    for _ in range(rounds):
        alone = run()
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(ours.threads)]
        try:
            time.sleep(0.5)  # until they are under way
            shares.append(run() / alone)
        finally:
            for other in others:
                other.kill()
                other.wait()
    ours.close()
    return shares


def line(name: str, kind: str, case: Case, found: dict) -> str:
    def spread(key: str, form: str) -> str:
        values = found[key]
        if not values:
            return "-"
        return f"{statistics.median(values):{form}} [{min(values):{form}} - {max(values):{form}}]"

    wanted = case.wanted.get(kind)
    verdict = ""
    if wanted and found["ratio"]:
        verdict = f"wanted {wanted}: {'met' if statistics.median(found['ratio']) >= wanted else 'NOT MET'}"
    return (
        f"{name:13} {kind:6} {case!s:23} crane {spread('crane', '6.1f'):26} llama.cpp {spread('llama.cpp', '6.1f'):26} "
        f"ratio {spread('ratio', '.2f'):20} share {spread('share', '.0%'):18} "
        f"of {spread('bandwidth', '.0f')} GB/s {verdict}"
    )


def others(asked: Sequence[str], source: Path, file: Path, threads: int) -> Iterator[Peer]:
    """The peers of `--peers` that can load the weights; transformers has those of the folder, in bfloat16."""
    for name, _, python in (each.partition("=") for each in asked):
        peer = Peer(name, python or sys.executable, source if name == "transformers" else file, threads)
        if peer.skipped:
            print(f"{name} is skipped: {peer.skipped}", flush=True)
        else:
            yield peer


def beside(name: str, found: dict) -> str:
    """What a peer made, and how many times as fast Crane was in the same rounds."""
    rates, ratios = found[name], found[f"as {name}"]
    return (
        f"  {name:12} {statistics.median(rates):7.1f} [{min(rates):.1f} - {max(rates):.1f}] "
        f"ratio {statistics.median(ratios):.2f} [{min(ratios):.2f} - {max(ratios):.2f}]"
    )


def told(found: dict[str, list[float]]) -> str:
    """Medians and ranges."""
    return ", ".join(
        f"{name} {statistics.median(values):.2f} [{min(values):.2f} - {max(values):.2f}]"
        for name, values in found.items()
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", choices=sorted(CONFIGS), default=["qwen3-0.6b", "qwen2.5-0.5b"])
    parser.add_argument("--kinds", nargs="+", default=["Q4_0", "Q8_0", "Q4_K_M", "BF16"])
    parser.add_argument("--rounds", type=int, default=5, help="of the short cases; the long ones have half as many")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--llama-bench", default=shutil.which("llama-bench"))
    parser.add_argument("--peers", nargs="+", default=[], metavar="NAME=PYTHON", help=PEERS)
    parser.add_argument("--folder", type=Path, help="where the files of weights are made and kept")
    parser.add_argument("--kv-cache-dtype", choices=("auto", "int8"), default="auto", help="int8: against auto, alone")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if native.library() is None:
        print("Crane's kernels are not built here.")
        return 1
    if not args.llama_bench and args.kv_cache_dtype == "auto":
        print("llama-bench is not in PATH: llama.cpp is skipped (--llama-bench PATH)")
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        for name in args.models:
            for kind in args.kinds:
                file = file_of(name, kind, folder, args.llama_bench)
                if file is None:
                    print(f"{name} {kind}: skipped, llama-quantize is not beside llama-bench", flush=True)
                    continue
                ours = Ours(file, args.threads)
                print(f"{name} {kind}: {native.kernels()}, loaded in {ours.seconds:.1f} s", flush=True)
                if args.kv_cache_dtype == "int8":
                    for case in CASES:
                        print(
                            f"{name:13} {kind:5} {case!s:23} {told(beside_full(ours, case, args.rounds))}", flush=True
                        )
                    continue
                peers = list(others(args.peers, random_weights(name, folder), file, args.threads))
                for case in CASES:
                    if kind not in case.wanted:
                        continue
                    rounds = args.rounds if case.context == 128 and case.batch == 1 else max(args.rounds // 2, 1)
                    found = measure(ours, args.llama_bench, file, case, rounds, peers)
                    print(line(name, kind, case, found), flush=True)
                    for peer in peers:
                        if peer.name in found:
                            print(beside(peer.name, found), flush=True)
                for peer in peers:
                    peer.close()
                kept = beside_others(ours, max(args.rounds // 2, 1))
                print(
                    f"{name:13} {kind:6} beside a busy process on each core it keeps {statistics.median(kept):.0%} "
                    f"[{min(kept):.0%} - {max(kept):.0%}] of its speed; wanted 35%",
                    flush=True,
                )
                del ours
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The engine's own time a step, without a model: scheduling, penalties' histories, text, stop texts and events.

    python -m benchmarks.engine [--batches 1 8 32 128] [--runs 20] [--steps 2000] [--way sampled]

A NullRunner takes each step's works as a real one does up to the device: spans and checks (host_step), noise, filters
and penalties as arrays (plan_draw). Every row has a stop text, a byte-level tokenizer of Crane's own class, and its
events go to a stream. `sampled` has temperature, top_k, top_p and a repetition penalty over the whole text, `greedy`
none of it. Prints JSON with microseconds a step and a token; `limit` is what a step at batch 8 may take at best.
For instructions, run it once under `valgrind --tool=callgrind` with `--runs 1` and two numbers of steps, and take the
difference.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from typing import Any

import numpy as np

from crane_app.contract import Sampling
from crane_app.engine.null import NullRunner
from crane_app.engine.request import Resolved, Stream
from crane_app.engine.scheduler import Scheduler
from crane_app.engine.sequence import Sequence
from crane_app.engine.tracking import Tracked
from crane_app.media.detokenize import Detokenizer

LIMIT = {8: 100.0}  # microseconds a step, the best run
PROMPT = 100  # tokens
READ = 50  # steps after which the events are read, off the clock: another thread does that
WAYS = {
    "greedy": Sampling(),
    "sampled": Sampling(temperature=0.8, top_k=40, top_p=0.95, repetition_penalty=1.05, seed=7),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--way", choices=sorted(WAYS), default="sampled")
    args = parser.parse_args()
    tokenizer = byte_level()
    found = [measure(tokenizer, WAYS[args.way], batch, args.runs, args.steps) for batch in args.batches]
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    print(json.dumps({"machine": machine, "way": args.way, "steps": args.steps, "runs": found}))


def measure(tokenizer: Any, sampling: Sampling, batch: int, runs: int, steps: int) -> dict[str, Any]:
    """Best and median microseconds a step over the runs."""
    times = [1e6 * once(tokenizer, sampling, batch, steps) / steps for _ in range(runs)]
    found: dict[str, Any] = {"batch": batch, "best_us": round(min(times), 1)}
    found |= {"median_us": round(statistics.median(times), 1), "token_us": round(min(times) / batch, 2)}
    if batch in LIMIT:
        found |= {"limit_us": LIMIT[batch], "within": min(times) <= LIMIT[batch]}
    return found


def once(tokenizer: Any, sampling: Sampling, batch: int, steps: int) -> float:
    """Seconds for `steps` steps of rows that all decode."""
    scheduler = Scheduler(NullRunner(lambda token, position: (token * 31 + position) % 511, 512), most_rows=batch)
    rows, streams = zip(*(row(tokenizer, sampling, i, steps) for i in range(batch)), strict=True)
    for sequence in rows:
        scheduler.add(sequence)
    while not all(sequence.made for sequence in rows):
        scheduler.step()
    seconds = 0.0
    for _ in range(steps // READ):
        start = time.perf_counter()
        for _ in range(READ):
            scheduler.step()
        seconds += time.perf_counter() - start
        for stream in streams:
            while not stream._events.empty():
                stream.get()
    assert all(sequence.made >= steps and sequence.finish is None for sequence in rows)
    return seconds


def row(tokenizer: Any, sampling: Sampling, seed: int, steps: int) -> tuple[Sequence, Stream]:
    tracked = Tracked(f"r{seed}", lambda command: None, lambda: None)
    most = steps + 200
    sequence = Sequence(
        id=tracked.stream.id,
        choice=0,
        prompt=np.random.default_rng(seed).integers(0, 512, PROMPT).astype(np.int32),
        resolved=Resolved(sampling, most, 0, ("\n\nUser:", "<|im_end|>"), frozenset({511}), 0, 1),
        context=PROMPT + most,
        emit=tracked.piece,
        arrived=time.monotonic(),
        words=Detokenizer(tokenizer),
    )
    tracked.sequences = [sequence]
    return sequence, tracked.stream


def byte_level() -> Any:
    """A tokenizer of all bytes and the words of this file, spelled as GPT-2's is."""
    import tempfile
    from pathlib import Path

    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    from crane_app.media.tokenizer import Tokenizer

    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=512, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator([Path(__file__).read_text("utf-8")], trainer)
    with tempfile.TemporaryDirectory() as folder:
        library.save(f"{folder}/tokenizer.json")
        return Tokenizer.open(Path(folder))


if __name__ == "__main__":
    main()

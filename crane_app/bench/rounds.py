"""Measuring in rounds: all sides one after the other within a round, and the order turned from round to round.

A machine's memory speed changes over time, so only what was measured in the same round is compared: ratios and shares
are taken within a round, then their median and range. Each case runs once before it is counted. The sides are loaded
together; only one of them computes at a time.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crane_app.bench import bandwidth, process
from crane_app.bench.process import Lost, Refused, Side
from crane_app.bench.reads import Reads
from crane_app.errors import BadInput, CraneError
from crane_app.media.files.gguf import files_of, holds_gguf

OURS = "crane"
Report = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What to measure. patience: seconds to wait for an answer. threads None: as many as each library takes."""

    folder: Path
    backend: str | None = None
    device: str = "auto"
    dtype: str | None = None
    quantize: str | None = None
    kv_cache: str = "auto"
    threads: int | None = None
    contexts: tuple[int, ...] = (128, 1024)
    batches: tuple[int, ...] = (1, 4)
    prompts: tuple[int, ...] = (128, 512)
    rounds: int = 5
    steps: int = 16
    peers: tuple[str, ...] = ()
    patience: float = 600.0


@dataclass
class Bench:
    """What is running: Crane first, then the peers that are left; `skipped` says why the others are not."""

    sides: dict[str, Side]
    stream: Callable[[], float]
    rounds: int
    skipped: dict[str, str] = field(default_factory=dict)

    def drop(self, name: str, error: CraneError) -> None:
        """Go on without a peer; without Crane there is nothing to go on with."""
        if name == OURS:
            raise error
        self.skipped[name] = str(error)
        self.sides.pop(name).close()


@dataclass
class Case:
    """Seconds of each side and bytes per second around Crane's turn, in the order of the rounds."""

    seconds: dict[str, list[float]]
    limits: list[float]
    refused: dict[str, str]


def run(plan: Plan, say: Callable[[str], object] = lambda _: None) -> Report:
    """The whole report. Raises CraneError where Crane itself cannot be measured; peers may fail."""
    with ExitStack() as stack:
        say("loading")
        side, ready, load = _crane(plan, stack)
        settings = {"folder": str(plan.folder), "device": ready["device"], "dtype": ready["dtype"]}
        host = ready["device"] == "cpu"
        stream = bandwidth.HostStream(plan.threads) if host else (lambda: float(side.ask("stream")["rate"]))
        bench = Bench({OURS: side}, stream, plan.rounds)
        loads, versions = {OURS: load}, {}
        for name in plan.peers:
            say(f"loading {name}")
            try:
                peer = stack.enter_context(process.peer(name, plan.threads, plan.patience))
                if peer.name in bench.sides:
                    raise BadInput(f"{peer.name} is there already.")
                versions[peer.name] = peer.ask("version")["version"]
                loads[peer.name] = {"again_s": _load(peer, settings | {"backend": None, "threads": plan.threads})[1]}
                bench.sides[peer.name] = peer
            except (Lost, Refused, BadInput) as error:
                bench.skipped[Path(name).stem] = str(error)
        report: Report = {"model": _model(plan, ready), "setup": _setup(plan, ready, versions), "load": loads}
        report |= {"prefill": [_prefill(bench, tokens, say) for tokens in plan.prompts]}
        cases = [(context, batch) for context in plan.contexts for batch in plan.batches]
        needs = _reads(ready["reads"])
        report |= {"decode": [_decode(bench, plan, needs, context, batch, say) for context, batch in cases]}
        report |= {"memory": _memory(bench), "skipped": bench.skipped}
        return report


def _crane(plan: Plan, stack: ExitStack) -> tuple[Side, Report, Report]:
    """Crane, loaded; its model's facts; and how long loading took, before and after the files were in memory."""
    given = {"backend": plan.backend, "device": plan.device, "dtype": plan.dtype, "threads": plan.threads}
    given |= {"quantize": plan.quantize, "kv_cache": plan.kv_cache}
    given["folder"] = str(plan.folder)
    try:
        dropped = forget(plan.folder)
        with process.crane(plan.threads, plan.patience) as first:
            _, seconds, _ = _load(first, given)
        side = stack.enter_context(process.crane(plan.threads, plan.patience))
        ready, again, start = _load(side, given)
    except Refused as error:
        raise CraneError(str(error).removeprefix(f"{OURS}: ")) from None
    return side, ready, {"first_s": seconds, "again_s": again, "start_s": start, "files_dropped": dropped}


def _load(side: Side, given: Report) -> tuple[Report, float, float]:
    """What it says of the model, the seconds of its loading, and those since the process was started."""
    answer = side.ask("load", **given)
    return answer["ready"], float(answer["seconds"]), time.perf_counter() - side.started


def forget(folder: Path) -> bool:
    """Ask the system to drop the weights from its page cache, so that the next reading is from the disk.

    False where it cannot be asked; then nobody knows whether they were in it.
    """
    if not hasattr(os, "posix_fadvise"):
        return False
    files = files_of(folder) if holds_gguf(folder) else sorted(folder.glob("*.safetensors"))
    for path in files:
        try:
            file = os.open(path, os.O_RDONLY)
        except OSError:
            return False
        try:
            os.fsync(file)  # pages that are not written yet would stay
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            return False
        finally:
            os.close(file)
    return bool(files)


def measure(bench: Bench, word: str, **given: int) -> Case:
    """One case on all sides. A peer that refuses it sits it out; one that is lost is dropped for good."""
    case = Case({}, [], {})
    for name in list(bench.sides):
        if _ask(bench, case, name, word, given) is not None:
            case.seconds[name] = []
    for number in range(bench.rounds):
        names = list(case.seconds)
        turn = number % len(names) if names else 0
        before = bench.stream() if names else 0.0
        for name in names[turn:] + names[:turn]:
            if name not in bench.sides:
                continue
            seconds = _ask(bench, case, name, word, given)
            after = bench.stream()
            if seconds is not None:
                case.seconds[name].append(seconds)
                if name == OURS:
                    case.limits.append((before + after) / 2)
            before = after
    return case


def _ask(bench: Bench, case: Case, name: str, word: str, given: dict[str, int]) -> float | None:
    """Seconds; None if the side cannot."""
    try:
        return float(bench.sides[name].ask(word, **given)["seconds"])
    except Refused as error:
        case.refused[name] = str(error).removeprefix(f"{name}: ")
    except Lost as error:
        bench.drop(name, error)
    return None


def _prefill(bench: Bench, tokens: int, say: Callable[[str], object]) -> Report:
    say(f"prompt of {tokens} tokens")
    case = measure(bench, "prefill", tokens=tokens)
    return {"tokens": tokens, **_compared(case, tokens), "first_token_s": _spreads(case.seconds)}


def _decode(bench: Bench, plan: Plan, needs: Reads, context: int, batch: int, say: Callable[[str], object]) -> Report:
    say(f"decoding after {context} tokens, batch {batch}")
    case = measure(bench, "decode", context=context, batch=batch, steps=plan.steps)
    nbytes = needs.step(context + (plan.steps + 1) / 2, batch)
    ours = case.seconds.get(OURS, [])
    shares = [nbytes * plan.steps / s / limit for s, limit in zip(ours, case.limits, strict=True)]
    found: Report = {"context": context, "batch": batch, "bytes_per_token": round(nbytes / batch)}
    found |= {"bandwidth": spread(case.limits), "share": spread(shares)}
    return {**found, **_compared(case, batch * plan.steps)}


def _compared(case: Case, tokens: int) -> Report:
    """Tokens per second of each side, and by how much Crane is faster than each other one, round by round."""
    rates = {name: [tokens / s for s in seconds] for name, seconds in case.seconds.items()}
    ours = rates.get(OURS, [])
    ratios = {
        name: spread(a / b for a, b in zip(ours, theirs, strict=False))
        for name, theirs in rates.items()
        if name != OURS and ours
    }
    return {"tokens_per_s": _spreads(rates), "ratio": ratios, "refused": case.refused}


def _spreads(values: dict[str, list[float]]) -> Report:
    return {name: spread(each) for name, each in values.items()}


def spread(values: Iterable[float]) -> Report | None:
    """Median, lowest and highest, and all of them in the order of the rounds; None of none."""
    rounds = list(values)
    if not rounds:
        return None
    return {"median": statistics.median(rounds), "low": min(rounds), "high": max(rounds), "rounds": rounds}


def _memory(bench: Bench) -> Report:
    """Peak bytes of each process since its start, its program and libraries included."""
    found: Report = {}
    for name in list(bench.sides):
        try:
            found[name] = {"peak": bench.sides[name].ask("memory")["peak"]}
        except Refused:
            found[name] = {"peak": None}
        except Lost as error:
            bench.drop(name, error)
    return found


def _model(plan: Plan, ready: Report) -> Report:
    return {"folder": str(plan.folder), **{key: ready[key] for key in ("architecture", "weights", "context", "notes")}}


def _setup(plan: Plan, ready: Report, peers: Report) -> Report:
    return {
        **{key: ready[key] for key in ("backend", "device", "name", "dtype")},
        "quantize": plan.quantize,
        "kv_cache": plan.kv_cache,
        "threads": plan.threads,
        "rounds": plan.rounds,
        "steps": plan.steps,
        "peers": peers,
        "bandwidth_method": bandwidth.METHOD if ready["device"] == "cpu" else bandwidth.DEVICE_METHOD,
    }


def _reads(said: Report) -> Reads:
    return Reads(**said | {"cached": tuple((nbytes, window) for nbytes, window in said["cached"])})

"""A bench's report as a text for people; `rounds` made it, and `--json` prints it whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from crane_app.bench.rounds import OURS, Report, spread

Row = list[str]


def as_text(report: Report) -> str:
    """The report in one screen: each figure a median with its lowest and highest round."""
    setup = report["setup"]
    lines = [*_head(report), ""]
    lines += ["load         " + "; ".join(_loads(report["load"]))]
    lines += ["peak memory  " + ", ".join(f"{name} {_gb(m['peak'])}" for name, m in report["memory"].items())]
    lines += [f"memory reads {_reading(report)}", "", *_prefill(report), *_decode(report)]
    if report["decode"]:
        lines += ["The share is the bytes that a step must read x steps / s, over the reading speed in the same round:"]
        lines += [f"{setup['bandwidth_method']}."]
    lines += [f"Not compared: {sentence}" for sentence in report["skipped"].values()]
    return "\n".join(lines).rstrip() + "\n"


def _head(report: Report) -> Iterator[str]:
    model, setup = report["model"], report["setup"]
    threads = "threads as each library chooses" if setup["threads"] is None else f"threads: {setup['threads']}"
    yield f"{model['architecture']}, {_gb(model['weights'])} of weights: {model['folder']}"
    numbers = f"{setup['quantize']}, {setup['dtype']}" if setup["quantize"] else setup["dtype"]
    numbers += ", keys and values in 8 bits" if setup["kv_cache"] == "int8" else ""
    yield f"{numbers} on {setup['backend']} {setup['device']} ({setup['name'] or 'unknown'}), {threads}"
    for name, versions in setup["peers"].items():
        if name not in report["skipped"]:
            yield f"beside {name}: " + ", ".join(f"{package} {number}" for package, number in versions.items())
    yield f"{setup['rounds']} rounds, after a warm-up, {setup['steps']} steps a decode; median [lowest - highest]"


def _loads(loads: Report) -> Iterator[str]:
    for name, load in loads.items():
        if name == OURS:
            how = "from the disk" if load["files_dropped"] else "cached or not, the system does not say"
            yield f"crane first {load['first_s']:.2f} s ({how}), again {load['again_s']:.2f} s"
            yield f"{load['start_s']:.2f} s from the start of the process"
        else:
            yield f"{name} again {load['again_s']:.2f} s"


def _reading(report: Report) -> str:
    """GB/s over all rounds of all cases."""
    rounds = [x for case in report["decode"] for x in (case["bandwidth"] or {"rounds": []})["rounds"]]
    return _spread(spread(rounds), lambda x: f"{x / 1e9:.1f}") + " GB/s"


def _prefill(report: Report) -> list[str]:
    rows = [["prompt", "first token, ms", "crane tok/s", *_columns(report["prefill"])]]
    for case in report["prefill"]:
        first = _spread(case["first_token_s"].get(OURS), lambda s: f"{1e3 * s:.0f}")
        rows.append([str(case["tokens"]), first, *_speeds(case, report["prefill"])])
    return [*_table(rows), *_refusals(report["prefill"], "tokens"), ""] if len(rows) > 1 else []


def _decode(report: Report) -> list[str]:
    rows = [["context", "batch", "MB/token", "share of memory", "crane tok/s", *_columns(report["decode"])]]
    for case in report["decode"]:
        share = _spread(case["share"], lambda x: f"{x:.0%}")
        need = f"{case['bytes_per_token'] / 1e6:.0f}"
        rows.append([str(case["context"]), str(case["batch"]), need, share, *_speeds(case, report["decode"])])
    return [*_table(rows), *_refusals(report["decode"], "context", "batch"), ""] if len(rows) > 1 else []


def _peers(cases: list[Report]) -> list[str]:
    """All that took part in any of the cases, in their order."""
    return list(dict.fromkeys(name for case in cases for name in case["tokens_per_s"] if name != OURS))


def _columns(cases: list[Report]) -> Row:
    return [title for name in _peers(cases) for title in (f"{name} tok/s", "crane is faster by")]


def _speeds(case: Report, cases: list[Report]) -> Row:
    speed: Callable[[float], str] = lambda x: f"{x:.1f}" if x < 100 else f"{x:.0f}"  # noqa: E731
    row = [_spread(case["tokens_per_s"].get(OURS), speed)]
    for name in _peers(cases):
        row += [_spread(case["tokens_per_s"].get(name), speed)]
        row += [_spread(case["ratio"].get(name), lambda x: f"{x:.2f}x")]
    return row


def _refusals(cases: list[Report], *keys: str) -> list[str]:
    """Each sentence once a side, with the case where it was first said."""
    found: dict[tuple[str, str], str] = {}
    for case in cases:
        where = ", ".join(f"{key} {case[key]}" for key in keys)
        for name, sentence in case["refused"].items():
            found.setdefault((name, sentence), f"{name}, {where}: {sentence}")
    return list(found.values())


def _spread(found: Any, form: Callable[[float], str]) -> str:
    if found is None:
        return "-"
    return f"{form(found['median'])} [{form(found['low'])} - {form(found['high'])}]"


def _table(rows: list[Row]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _gb(nbytes: int | None) -> str:
    return "unknown" if nbytes is None else f"{nbytes / 1e9:.2f} GB"

"""The report as text, to be read in a terminal and copied into a message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NAME, INDENT = 20, 9  # letters: of a name; before it


def text(found: dict[str, Any]) -> str:
    """What `doctor.examine` found, a section for each part of it."""
    parts = [_versions(found["versions"]), _findings(found["findings"])]
    parts += [_phases(found["phases"], found["broken"])]
    parts += [_checks(found["checks"])] if found["checks"] else []
    parts += [_defaults(found["defaults"])]
    parts += [["Crane works here." if found["works"] else "Something essential is broken: see above."]]
    return "\n\n".join("\n".join(part) for part in parts)


def _versions(versions: dict[str, str | None]) -> list[str]:
    return [f"{name:{NAME}} {value}" for name, value in versions.items() if value]


def _findings(findings: list[dict[str, Any]]) -> list[str]:
    lines = ["What this machine has"]
    for one in findings:
        lines.append(_line(one["ok"], one["name"], one["seen"], "missing"))
        below = " ".join(filter(None, (one["costs"], one["mend"])))
        if below:
            lines.append(f"{'':{INDENT + NAME}} {below}")
    return lines


def _phases(phases: dict[str, float | None], broken: dict[str, str]) -> list[str]:
    lines = ["How long a start takes, each in a process of its own"]
    for name, seconds in phases.items():
        lines.append(f"{'':{INDENT}}{name:{NAME}} " + (broken[name] if seconds is None else f"{1000 * seconds:.0f} ms"))
    return lines


def _checks(checks: list[dict[str, Any]]) -> list[str]:
    lines = ["Self-test: against plain arithmetic, and each row alone against the same row in company"]
    return [*lines, *(_line(one["ok"], one["backend"], f"{one['name']}: {one['seen']}", "wrong") for one in checks)]


def _defaults(defaults: dict[str, dict[str, float | int]]) -> list[str]:
    columns = list(next(iter(defaults.values())))
    widths = {column: len(column) for column in columns}
    lines = ["What holds where neither the request nor the model says anything"]
    lines.append(f"{'':{INDENT}}{'':{NAME}} " + "  ".join(columns))
    for name, values in defaults.items():
        cells: Iterator[str] = (f"{values[column]:>{widths[column]}g}" for column in columns)
        lines.append(f"{'':{INDENT}}{name:{NAME}} " + "  ".join(cells))
    return lines


def _line(ok: bool, name: str, seen: str, otherwise: str) -> str:
    return f"{'ok' if ok else otherwise:{INDENT}}{name:{NAME}} {seen}"

"""What this machine has and lacks, whether its tensor libraries compute what they should, and how long a start takes.

Changes nothing. What it prints may be shown to anyone: no conversation, and no path that names a person.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crane_app.doctor.machine import Finding, findings, versions

__all__ = ["examine", "run", "versions"]


def run(as_json: bool = False, quick: bool = False) -> int:
    """Print the report; 1 if something is broken without which Crane can do nothing, else 0. quick: no self-test."""
    from crane_app.doctor import report

    found = examine(quick)
    print(discreet(json.dumps(found, indent=2) if as_json else report.text(found)))
    return 0 if found["works"] else 1


def examine(quick: bool = False) -> dict[str, Any]:
    """versions, findings, phases (seconds), checks and defaults as plain values; works: nothing essential is broken."""
    from crane_app.doctor import phases, selftest
    from crane_app.engine.defaults import ENDPOINTS

    found = findings()
    checks = [] if quick else [check for name in usable(found) for check in selftest.checks(name)]
    started = phases.measured(usable(found))
    return {
        "versions": versions(),
        "works": works(found) and all(check.ok for check in checks),
        "findings": [asdict(finding) for finding in found],
        "phases": {phase.name: phase.seconds for phase in started},
        "broken": {phase.name: phase.problem for phase in started if phase.problem},
        "checks": [asdict(check) for check in checks],
        "defaults": ENDPOINTS,
    }


def usable(found: list[Finding]) -> tuple[str, ...]:
    """The backends that can be used."""
    return tuple(finding.name.split()[-1] for finding in found if finding.ok and finding.name.startswith("backend "))


def works(found: list[Finding]) -> bool:
    """Is there a backend, and everything that no part of Crane can do without?"""
    return bool(usable(found)) and all(finding.ok for finding in found if finding.essential)


def discreet(text: str) -> str:
    """Without the name of the home folder, in which a person's name stands."""
    home = str(Path.home())
    written = json.dumps(home)[1:-1]  # as it stands in JSON, where a backslash is two
    for form in {written, home}:
        text = text.replace(form, "~") if len(form) > 1 else text
    return text

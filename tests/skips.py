"""Holds the skips of a run against tests/skips.txt: a test that silently stops being run proves nothing.

A skip that is not expected on this machine fails the run. So does an expected one that is gone, but only where all
tests were run: of a part nobody can say.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

import pytest

LIST = Path(__file__).with_suffix(".txt")
WINDOWS = sys.platform == "win32"


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


# Each may be said with "no " or "not " before it.
CONDITIONS: dict[str, Callable[[], bool]] = {
    "mlx": lambda: find_spec("mlx") is not None,
    "torch": lambda: find_spec("torch") is not None,
    "kernels": lambda: find_spec("torch") is not None and find_spec("crane_app.backends.torch._native") is not None,
    "triton": lambda: find_spec("triton") is not None,
    "mlx-lm": lambda: find_spec("mlx_lm") is not None,
    "transformers": lambda: find_spec("transformers") is not None,
    "espeak-ng": lambda: shutil.which("espeak-ng") is not None,
    "curl": lambda: shutil.which("curl") is not None,
    "node": lambda: shutil.which("node") is not None,
    "sox": lambda: shutil.which("sox") is not None,
    "cc": lambda: shutil.which("cc") is not None,
    "arm emulator": lambda: all(shutil.which(name) for name in ("aarch64-linux-gnu-gcc", "qemu-aarch64")),
    "pyinstaller": lambda: find_spec("PyInstaller") is not None,
    "desktop-file-validate": lambda: shutil.which("desktop-file-validate") is not None,
    "appstreamcli": lambda: shutil.which("appstreamcli") is not None,
    "screen": lambda: all(shutil.which(name) for name in ("Xvfb", "xdotool", "xclip")),
    "cuda": lambda: find_spec("torch") is not None and _cuda(),
    "root": lambda: not WINDOWS and os.geteuid() == 0,
    "linux": lambda: sys.platform == "linux",
    "windows": lambda: WINDOWS,
}


@dataclass(frozen=True)
class Expected:
    """One line of the list."""

    when: str
    file: str
    reason: str

    def holds(self) -> bool:
        """Whether it is expected on this machine."""
        return all(_holds(condition.strip()) for condition in self.when.split(","))

    def covers(self, file: str, reason: str) -> bool:
        return fnmatchcase(file, self.file) and fnmatchcase(reason, self.reason)


def _holds(condition: str) -> bool:
    name = condition.removeprefix("no ").removeprefix("not ")
    return CONDITIONS[name]() is (name == condition)


def listed(path: Path = LIST) -> list[Expected]:
    lines = [line for line in path.read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]
    return [Expected(*(field.strip() for field in line.split("|"))) for line in lines]


def problems(skips: Iterable[tuple[str, str]], expected: Iterable[Expected], whole: bool) -> list[str]:
    """What is wrong with the skips (file, reason) of a run, as sentences."""
    skips, expected = sorted(set(skips)), [each for each in expected if each.holds()]
    found = [
        f"Skipped unexpectedly: {file}: {reason}"
        for file, reason in skips
        if not any(each.covers(file, reason) for each in expected)
    ]
    gone = [each for each in expected if whole and not any(each.covers(file, reason) for file, reason in skips)]
    return found + [f"No longer skipped ({each.when}): {each.file}: {each.reason}" for each in gone]


class Skips:
    """The plugin: listens to what is skipped, and has the last word."""

    def __init__(self, config: pytest.Config):
        options = config.option
        part = options.keyword or options.markexpr or options.collectonly
        self.whole = config.args == config.getini("testpaths") and not part
        self.expected = listed()  # now, with the tests: a run takes minutes, and files change meanwhile
        self.seen: list[tuple[str, str]] = []
        self.found: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def _note(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            self.seen.append((report.nodeid.split("::")[0], report.longrepr[2].removeprefix("Skipped: ")))

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        over = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        complete = self.whole and over and not session.shouldstop and not session.shouldfail
        self.found = problems(self.seen, self.expected, complete)
        if self.found and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.found:
            terminalreporter.section("skips that tests/skips.txt does not expect", red=True)
            terminalreporter.write_line("\n".join(self.found))

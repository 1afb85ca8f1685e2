"""The scripts of packaging/ as modules, and its spec run without PyInstaller."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "packaging"


@dataclass
class Call:
    """One step of the spec: what it was given, and what the next steps read from it."""

    args: tuple[Any, ...]
    words: dict[str, Any]
    pure: list[Any] = field(default_factory=list)
    scripts: list[Any] = field(default_factory=list)
    datas: list[Any] = field(default_factory=list)
    binaries: list[Any] = field(default_factory=list)


Steps = dict[str, list[Call]]
Evaluate = Callable[..., Steps]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A module of packaging/, by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def recipe(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("recipe")


@pytest.fixture
def evaluate(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Evaluate:
    """The steps that the spec asks PyInstaller for, on a system that calls itself `system`."""

    def run(system: str, backend: str = "") -> Steps:
        made: Steps = {}

        def step(name: str) -> Callable[..., Call]:
            def called(*args: Any, **words: Any) -> Call:
                # What hooks would have found: something to keep, and something to leave out.
                found = [("a/kept.txt", "here", "DATA"), ("PySide6/Qt/translations/qt_de.qm", "here", "DATA")]
                binaries = [("mlx/lib/libmlx.dylib", "here", "BINARY"), ("libmlx.dylib", "mlx/lib", "SYMLINK")]
                call = Call(args, words, datas=found, binaries=binaries)
                made.setdefault(name, []).append(call)
                return call

            return called

        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setenv("CRANE_ICONS", str(tmp_path))
        monkeypatch.setenv("CRANE_BACKEND", backend)
        names = {name: step(name) for name in ("Analysis", "PYZ", "EXE", "COLLECT", "BUNDLE")}
        spec = FOLDER / "crane.spec"
        exec(compile(spec.read_text("utf-8"), str(spec), "exec"), {**names, "SPECPATH": str(FOLDER)})
        return made

    return run

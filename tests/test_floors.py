"""The floors of the house hold: what may import what is in pyproject.toml, import-linter reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from importlinter import configuration
from importlinter.application import use_cases

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_no_module_imports_from_a_floor_above(capsys: pytest.CaptureFixture[str]):
    # Not the command's own function: it reconfigures logging, which silences our loggers in later tests.
    configuration.configure()
    kept = use_cases.lint_imports(str(PROJECT), cache_dir=None, no_logo=True)
    assert kept, f"A contract of pyproject.toml is broken:\n{capsys.readouterr().out}"

"""Names say the thing: no Manager, no Utils."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EMPTY = {"manager", "handler", "helper", "helpers", "util", "utils", "base", "impl", "abstract", "misc"}


def words(name: str) -> set[str]:
    """'TokenUtils' and 'token_utils' -> {'token', 'utils'}."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


@pytest.mark.parametrize("name", ["TokenUtils", "token_utils", "BaseModel", "HTTPHandler", "impl"])
def test_an_empty_word_is_found_wherever_it_stands(name: str):
    assert words(name) & EMPTY


@pytest.mark.parametrize("name", ["Scheduler", "database", "Implied", "Baseline"])
def test_a_word_that_only_contains_one_is_fine(name: str):
    assert not words(name) & EMPTY


def test_no_module_or_class_has_an_empty_name():
    found = []
    for path in sorted((ROOT / "crane_app").rglob("*.py")):
        classes = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.ClassDef)]
        found += [f"{path.relative_to(ROOT)}"] if words(path.stem) & EMPTY else []
        found += [f"{path.relative_to(ROOT)}:{c.lineno} {c.name}" for c in classes if words(c.name) & EMPTY]
    assert not found, "These names do not say what the thing is: " + ", ".join(found)

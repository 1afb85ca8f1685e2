"""Functions and modules stay short enough to be read at once."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "crane_app").rglob("*.py"))
FUNCTION, MODULE = 60, 400  # lines, docstrings and comments included


def longest(found: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Longest first; the first five are printed (`pytest -s` shows them)."""
    found = sorted(found, reverse=True)
    print("\n" + "\n".join(f"{lines:4}  {name}" for lines, name in found[:5]))
    return found


def test_no_function_is_longer_than_a_screen():
    found = longest(
        [
            (node.end_lineno - node.lineno + 1, f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
            for path in MODULES
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
        ]
    )
    assert not [f for f in found if f[0] > FUNCTION], f"more than {FUNCTION} lines"


def test_no_module_is_longer_than_a_file_one_can_know():
    found = longest([(len(path.read_text("utf-8").splitlines()), f"{path.relative_to(ROOT)}") for path in MODULES])
    assert not [f for f in found if f[0] > MODULE], f"more than {MODULE} lines"

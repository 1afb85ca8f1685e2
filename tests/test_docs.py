"""What is written down is there, and what is there is written down: commands, flags, links."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

import crane_app.cli
from crane_app.cli.main import parser

ROOT = Path(__file__).parents[1]
PAGES = [path for path in (ROOT / "README.md", ROOT / "docs" / "cli.md") if path.exists()]
NAMES = sorted(module.name for module in pkgutil.iter_modules(crane_app.cli.__path__))


def verb(name: str) -> ModuleType | None:
    """The module of that name, if it is a verb."""
    module = importlib.import_module(f"crane_app.cli.{name}")
    return module if hasattr(module, "SENTENCE") and hasattr(module, "add_flags") else None


def flags(module: ModuleType) -> set[str]:
    """All spellings of a verb's flags but --help's."""
    parser = argparse.ArgumentParser(add_help=False)
    module.add_flags(parser)
    return {flag for action in parser._actions for flag in action.option_strings}


def names(text: str, words: str) -> bool:
    """Whether `words` stand in the text on their own: '--top-k' is not said by '--top-k-heads'."""
    return re.search(rf"(?<![\w-]){re.escape(words)}(?![\w-])", text) is not None


def test_a_longer_flag_does_not_document_a_shorter_one():
    assert names("`--top` TOKENS", "--top")
    assert not names("--top-k and --no--top", "--top")


def test_the_command_line_has_verbs():
    assert any(map(verb, NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_a_verb_and_its_flags_are_documented(name: str):
    module = verb(name)
    if module is None:
        return
    text = "\n".join(path.read_text("utf-8") for path in PAGES)
    missing = [words for words in (f"crane {name}", *sorted(flags(module))) if not names(text, words)]
    assert not missing, f"Neither README.md nor docs/cli.md says: {', '.join(missing)}"


WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_every_command_that_is_shown_can_be_typed(page: Path):
    lines = re.findall(r"^ {4}crane (.+)$", page.read_text("utf-8"), re.MULTILINE)
    for line in lines:
        parser().parse_args(shlex.split(line.removesuffix("\\")))
    assert lines or page.name != "README.md"


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path):
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        name, _, place = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), target
        titles = re.findall(r"^#+ (.+)$", there.read_text("utf-8"), re.MULTILINE) if place else []
        places = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not place or place in places, target

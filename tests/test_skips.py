"""A run with a skip that nobody expects fails, and a whole run in which an expected one is gone."""

from __future__ import annotations

import pytest

from tests import skips
from tests.skips import CONDITIONS, Expected, listed, problems

ROOT = Expected("root", "tests/test_a.py", "root reads everything")
MLX = Expected("no mlx", "*", "could not import 'mlx.core'*")


KNOWN = CONDITIONS.keys()


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Root on a machine with MLX and without transformers."""
    facts = {"root": True, "mlx": True, "transformers": False}
    monkeypatch.setattr(skips, "CONDITIONS", {name: lambda name=name: facts[name] for name in facts})


def test_expected_skips_are_no_problem():
    assert problems([("tests/test_a.py", "root reads everything")], [ROOT, MLX], whole=True) == []


@pytest.mark.parametrize(
    "skip", [("tests/test_b.py", "root reads everything"), ("tests/test_a.py", "it was slow today")]
)
def test_a_skip_in_another_file_or_for_another_reason_is_one(skip):
    (found,) = problems([skip], [ROOT], whole=False)
    assert found == f"Skipped unexpectedly: {skip[0]}: {skip[1]}"


def test_what_is_expected_elsewhere_is_not_expected_here():
    assert len(problems([("tests/test_c.py", "could not import 'mlx.core': no")], [MLX], whole=False)) == 1


def test_an_expected_skip_that_is_gone_is_told_of_a_whole_run_only():
    assert problems([], [ROOT], whole=False) == []
    assert problems([], [ROOT], whole=True) == ["No longer skipped (root): tests/test_a.py: root reads everything"]


def test_all_conditions_of_a_line_must_hold():
    assert Expected("no transformers, mlx", "*", "*").holds()
    assert not Expected("no transformers, no mlx", "*", "*").holds()


def test_every_line_of_the_list_names_conditions_that_there_are_and_a_file():
    for each in listed():
        names = [name.strip().removeprefix("no ").removeprefix("not ") for name in each.when.split(",")]
        assert set(names) <= KNOWN, each
        assert each.file == "*" or (skips.LIST.parents[1] / each.file).is_file(), each


@pytest.mark.parametrize(
    ("mark", "status", "processes"), [("root reads everything", 0, 0), ("a bad day", 1, 0), ("a bad day", 1, 2)]
)
def test_a_run_ends_with_the_status_that_its_skips_deserve(pytester, monkeypatch, mark, status, processes):
    """In one process or several; what is skipped while tests are collected counts too."""
    pytester.makepyfile(
        test_a=f"import pytest\n@pytest.mark.skip(reason={mark!r})\ndef test_x(): pass\ndef test_y(): pass",
        test_b=f"import pytest\npytest.skip({mark!r}, allow_module_level=True)",
    )
    monkeypatch.setattr(skips, "listed", lambda: [Expected("root", "test_?.py", "root reads everything")])
    pytester.makeconftest(
        "from tests.skips import Skips\n"
        "def pytest_configure(config):\n"
        "    if not hasattr(config, 'workerinput'):\n"
        "        config.pluginmanager.register(Skips(config))"
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly", "-n", str(processes), "test_a.py", "test_b.py")
    assert result.ret == status
    said = [line for line in result.stdout.lines if line.startswith("Skipped unexpectedly")]
    wrong = [f"Skipped unexpectedly: {file}: a bad day" for file in ("test_a.py", "test_b.py")]
    assert said == (wrong if status else [])

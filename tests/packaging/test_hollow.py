"""Libraries that are linked and never called, made hollow: what is linked with them loads all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="ELF libraries are of Linux")
LOAD = "import ctypes, os, sys; made = ctypes.CDLL(sys.argv[1], os.RTLD_NOW); print(made.used()); {}"


@pytest.fixture
def linked(tmp_path: Path, script: Callable[[str], ModuleType]) -> Path:
    """A library beside all those of UNCALLED, the first of which has versions and needs another in turn."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    names = [f"{name}.so.1" for name in script("hollow").UNCALLED]
    libraries = tmp_path / "own.libs"
    libraries.mkdir()
    (tmp_path / "map").write_text("OWN_1 { global: *; };")

    def compiled(code: str, made: Path, *more: str) -> None:
        (tmp_path / "code.c").write_text(code)
        command = [
            "cc",
            "-shared",
            "-fPIC",
            "-w",
            str(tmp_path / "code.c"),
            "-o",
            str(made),
            f"-Wl,-soname,{made.name}",
        ]
        subprocess.run([*command, "-Wl,-rpath,$ORIGIN", "-Wl,-rpath,$ORIGIN/own.libs", *more], check=True)

    compiled("int deep(void) { return 7; }", libraries / "libdeep.so.1")
    for number, name in enumerate(names):
        code = f"int f{number}(void) {{ return {number}; }} int unused{number}(void) {{ return 1; }}"
        if number == 0:
            code += " int deep(void); int deeper(void) { return deep(); }"
            more = [f"-Wl,--version-script,{tmp_path / 'map'}", str(libraries / "libdeep.so.1")]
        compiled(code, libraries / name, *(more if number == 0 else ()))
    asked = " ".join(f"int f{number}(void);" for number in range(len(names)))
    total = " + ".join(f"f{number}()" for number in range(len(names)))
    user = tmp_path / "user.so"
    compiled(
        f"{asked} void *kept = f0; int used(void) {{ return 42; }} int calls(void) {{ return {total}; }}",
        user,
        *(str(libraries / name) for name in names),
    )
    return user


def loaded(user: Path, then: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LOAD.format(then), str(user)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))


@linux
def test_what_is_linked_with_hollow_libraries_loads_and_works(
    linked: Path, script: Callable[[str], ModuleType]
) -> None:
    folder = linked.parent / "own.libs"
    assert loaded(linked, "print(made.calls())").stdout.split() == ["42", "15"]
    dropped = script("hollow").hollow(linked, folder)
    # THEN all symbols are found at once, though those of the first have a version and one is an address in the data
    assert loaded(linked).stdout.split() == ["42"], loaded(linked).stderr
    # AND what only a hollow one needed is gone
    assert [path.name for path in dropped] == ["libdeep.so.1"]
    assert not dropped[0].exists()


@linux
def test_a_hollow_function_ends_the_process(linked: Path, script: Callable[[str], ModuleType]) -> None:
    script("hollow").hollow(linked, linked.parent / "own.libs")
    done = loaded(linked, "sys.stdout.flush(); made.calls()")
    assert done.stdout.split() == ["42"]
    assert done.returncode < 0


@linux
def test_names_for_debuggers_are_left_out_where_that_is_safe(
    linked: Path, script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    inner = tmp_path / "_internal"
    for folder in ("package", "package.libs"):
        (inner / folder).mkdir(parents=True)
        shutil.copy(linked, inner / folder / "made.so")
    script("bundle")._slim_linux(inner)
    told = [subprocess.run(["nm", path], capture_output=True, text=True).stdout for path in inner.rglob("made.so")]
    assert sorted("used" in names for names in told) == [False, True]
    assert "used" in subprocess.run(["nm", inner / "package.libs" / "made.so"], capture_output=True, text=True).stdout
    assert "used" in subprocess.run(["nm", "-D", inner / "package" / "made.so"], capture_output=True, text=True).stdout


@linux
def test_a_bundle_is_not_begun_without_a_compiler(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script("recipe"), "lacking", lambda plan: [])
    monkeypatch.setattr(script("bundle").importlib.metadata, "version", lambda name: "2.13.0+cpu")
    monkeypatch.setattr(script("bundle").shutil, "which", lambda tool: None)
    with pytest.raises(SystemExit, match="needs cc and strip: apt-get install gcc binutils"):
        script("bundle").main([])

"""Keeping the computer awake, with stand-ins for the programs and the library that do it."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from crane_app.platform import wakefulness
from crane_app.platform.wakefulness import awake, execution_state

WHY = "somebody is speaking"
SCRIPTS = pytest.mark.skipif(sys.platform == "win32", reason="stand-ins are scripts with a first line")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH but for `cat`; `install` puts stand-ins there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.delenv("XDG_CURRENT_DESKTOP", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: str(folder / name) if (folder / name).exists() else None)
    return folder


def install(folder: Path, name: str) -> Path:
    """A stand-in that writes down how it was called, runs the command, and writes down its end."""
    book = folder / f"{name}.said"
    script = folder / name
    script.write_text(f'#!/bin/sh\necho "$@" > "{book}"\ncat\necho over >> "{book}"\n')
    script.chmod(0o755)
    return book


def said(book: Path) -> list[str]:
    return book.read_text().splitlines() if book.exists() else []


@SCRIPTS
@pytest.mark.parametrize(
    ("system", "program", "flag"),
    [
        ("darwin", "caffeinate", "-i"),
        ("linux", "systemd-inhibit", "--what=idle"),
        ("freebsd14", "systemd-inhibit", WHY),
    ],
)
def test_the_systems_program_runs_for_as_long_as_the_context_lasts(programs, system, program, flag):
    book = install(programs, program)
    with awake(WHY, system):
        pass
    assert flag in said(book)[0]
    assert said(book)[0].endswith(" cat")
    assert said(book)[-1] == "over"  # it ended by itself: its input was closed


@SCRIPTS
def test_on_gnome_its_session_is_asked_and_nothing_else(programs, monkeypatch):
    gnome, logind = install(programs, "gnome-session-inhibit"), install(programs, "systemd-inhibit")
    monkeypatch.setenv("XDG_CURRENT_DESKTOP", "ubuntu:GNOME")
    with awake(WHY, "linux"):
        pass
    assert "idle:suspend" in said(gnome)[0]
    assert said(logind) == []


@SCRIPTS
def test_on_another_desktop_the_program_of_gnome_is_passed_over(programs, monkeypatch):
    gnome, logind = install(programs, "gnome-session-inhibit"), install(programs, "systemd-inhibit")
    monkeypatch.setenv("XDG_CURRENT_DESKTOP", "KDE")
    with awake(WHY, "linux"):
        pass
    assert (said(gnome), said(logind)[-1]) == ([], "over")


def test_where_nothing_can_see_to_it_the_work_is_done_all_the_same(programs):
    done = []
    with awake(WHY, "linux"):
        done.append("work")
    assert done == ["work"]


@SCRIPTS
def test_a_program_that_cannot_be_started_is_no_reason_to_fail(programs):
    (programs / "systemd-inhibit").write_text("not a program")
    with awake(WHY, "linux"):
        pass


@SCRIPTS
def test_a_program_that_has_ended_already_is_no_reason_to_fail(programs):
    script = programs / "systemd-inhibit"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    with awake(WHY, "linux"):
        pass


@SCRIPTS
def test_after_an_error_sleep_may_come_again(programs):
    book = install(programs, "caffeinate")
    with pytest.raises(RuntimeError), awake(WHY, "darwin"):
        raise RuntimeError("the microphone is gone")
    assert said(book)[-1] == "over"


def test_windows_is_told_and_told_again_by_the_same_thread(monkeypatch):
    told: list[tuple[int, int]] = []

    def set_state(flags: ctypes.c_uint) -> None:
        told.append((flags.value, threading.get_ident()))

    kernel = SimpleNamespace(SetThreadExecutionState=set_state)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    with awake(WHY, "win32"):
        pass
    # ES_CONTINUOUS | ES_SYSTEM_REQUIRED, then ES_CONTINUOUS alone (winbase.h)
    assert [flags for flags, _ in told] == [0x80000001, 0x80000000]
    assert len({thread for _, thread in told}) == 1
    assert threading.get_ident() not in {thread for _, thread in told}


@pytest.mark.parametrize("names", [*wakefulness.ORDER.values(), wakefulness.ELSEWHERE])
def test_every_module_of_the_order_is_there(names):
    for name in names:
        module = __import__(f"crane_app.platform.wakefulness.{name}", fromlist=["hold"])
        assert callable(module.hold)
    assert callable(execution_state.hold)

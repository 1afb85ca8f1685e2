"""A place of its own for each test, and nobody left in it afterwards."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crane_app.engine.process.client import Client, connect
from crane_app.engine.process.place import Place
from crane_app.engine.process.reach import Start, tidy

ECHO = Path(__file__).with_name("echo.py")
COMMAND = (sys.executable, "-P", str(ECHO))
Connect = Callable[..., Client]


def alive(pid: int) -> bool:
    """Whether any of its threads is; what has ended and waits for its parent to hear of it is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if sys.platform != "linux":
        return True
    threads: list[Path] = []
    with contextlib.suppress(OSError):
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    states = []
    for thread in threads:
        with contextlib.suppress(OSError):
            states.append((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return any(state not in "ZX" for state in states)


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether it comes true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture
def place() -> Iterator[Place]:
    """A place with a short path; afterwards no address, key or private folder may be in it."""
    with tempfile.TemporaryDirectory(prefix="crane-") as folder:
        place = Place(Path(folder, "run"))
        yield place
        if place.folder.exists():
            tidy(place)
            left = [path.name for path in place.folder.iterdir() if path.suffix != ".lock"]
            assert left == []


@pytest.fixture
def how(place: Place) -> Start:
    """The echo engine; it ends with its last client."""
    return Start(COMMAND, linger=0.0, log=place.folder.parent / "engine.log")


@pytest.fixture
def join(place: Place, how: Start) -> Iterator[Connect]:
    """`connect` to the test's place; all clients are closed, and their engines gone, at the end."""
    clients: list[Client] = []
    pids: set[int] = set()

    def joined(how: Start = how, place: Place = place, **options: bool) -> Client:
        client = connect(place=place, how=how, **options)
        clients.append(client)
        pids.add(client.peer.pid)
        return client

    yield joined
    for client in clients:
        pids.add(client.peer.pid)
        with contextlib.suppress(Exception):
            client.close(drain=False)
    assert wait_for(lambda: not any(alive(pid) for pid in pids)), "an engine was left behind"

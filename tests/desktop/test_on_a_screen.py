"""The program as a person has it: a real display without a window manager, a real engine, a tiny real model."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from tests.chat_checkpoint import SIZE as SIZE_OF_WORDS
from tests.chat_checkpoint import dump, write_chat
from tests.desktop.screen import Screen, drag, missing, screen, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"needs Xvfb, xdotool and xclip; missing: {missing()}"),
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs an X server"),
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    with screen(tmp_path_factory.mktemp("home 🐦")) as made:
        yield made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Talks noise for as long as it is let: what would end it is a token that it does not have."""
    folder = write_chat(tmp_path_factory.mktemp("models") / "tiny chat", context=65536, eos_token_id=[SIZE_OF_WORDS])
    config = json.loads((folder / "config.json").read_text("utf-8"))
    dump(folder / "config.json", {**config, "eos_token_id": SIZE_OF_WORDS})
    return str(folder)


@pytest.fixture
def window(desk: Screen, model: str) -> Iterator[str]:
    """The program's window, ready for keys; gone afterwards."""
    program = desk.crane("app", CRANE_MODEL=model, CRANE_BACKEND="torch", CRANE_WELCOMED="yes")
    yield desk.window()
    program.send_signal(signal.SIGTERM)
    program.wait(20)


def turns(desk: Screen) -> list[tuple[str, str, str]]:
    """Role, text and state of all that is in the history, oldest first."""
    path = Path(desk.env["XDG_DATA_HOME"]) / "crane" / "chats.db"
    if not path.exists():
        return []
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as history:
        try:
            return history.execute("select role, text, state from turns order by id").fetchall()
        except sqlite3.OperationalError:
            return []


def test_ask_stop_copy_paste_and_drop(desk: Screen, window: str, tmp_path: Path):
    # WHEN a question is typed before the engine can be there, and sent
    desk.type(window, "Why do cranes dance?")
    desk.press(window, "Return")
    # THEN it is answered
    until(lambda: len(turns(desk)) == 2 and len(turns(desk)[1][1]) > 20, "an answer that grows")
    assert turns(desk)[0][:2] == ("user", "Why do cranes dance?")
    # WHEN Esc is pressed
    desk.press(window, "Escape")
    # THEN it is stopped, and what came is kept
    until(lambda: turns(desk)[1][2] == "stopped", "a stopped answer")
    # WHEN it is copied
    desk.press(window, "ctrl+shift+c")
    # THEN another program can paste it
    until(lambda: desk.copied().strip(), "an answer on the clipboard")
    # WHEN a text of another program is pasted, and a file dropped
    desk.copy("pasted words 🐦")
    desk.press(window, "ctrl+v")
    notes = tmp_path / "my notes 🐦.txt"
    notes.write_text("of cranes", "utf-8")
    drag(desk, [notes], window)
    desk.press(window, "Return")
    # THEN both are in the next question
    until(lambda: len(turns(desk)) >= 3, "a second question")
    assert turns(desk)[2][1] == "pasted words 🐦"
    desk.press(window, "Escape")


def test_a_second_start_brings_the_first_forward_and_ends(desk: Screen, window: str, tmp_path: Path):
    second = desk.crane("app")
    assert second.wait(20) == 0
    assert desk.do("search", "--onlyvisible", "--name", "Crane$").split() == [window]


def test_after_kill_9_in_mid_answer_everything_up_to_the_last_second_is_there(desk: Screen, model: str):
    # GIVEN an answer under way
    program = desk.crane("app", CRANE_MODEL=model, CRANE_BACKEND="torch", CRANE_WELCOMED="yes")
    window, before = desk.window(), len(turns(desk))
    desk.type(window, "Go on for ever")
    desk.press(window, "Return")
    until(lambda: len(turns(desk)) == before + 2 and len(turns(desk)[-1][1]) > 50, "an answer that grows")
    # WHEN the window's process is killed
    os.killpg(program.pid, signal.SIGKILL)
    program.wait(10)
    kept = turns(desk)[-1]
    # THEN what was written is there, and after a new start it is shown as interrupted
    assert len(kept[1]) > 50
    again = desk.crane("app", CRANE_MODEL=model, CRANE_BACKEND="torch", CRANE_WELCOMED="yes")
    desk.window()
    until(lambda: turns(desk)[-1][2] == "interrupted", "an answer marked as interrupted")
    assert turns(desk)[-1][1] == kept[1]
    again.send_signal(signal.SIGTERM)
    assert again.wait(20) == 0


# The server of the window

SWITCH = (1073, 152)  # where it is in a window of SIZE
SIZE = (1180, 760)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serving(desk: Screen, model: str, port: int) -> tuple[subprocess.Popen[bytes], OpenAI]:
    """The program with its server switched on by the mouse, and a client of it."""
    about = {"CRANE_MODEL": model, "CRANE_BACKEND": "torch", "CRANE_WELCOMED": "yes", "CRANE_PORT": str(port)}
    program = desk.crane("app", **about)
    window = desk.window()
    desk.do("windowsize", "--sync", window, *map(str, SIZE))
    desk.press(window, "ctrl+6")
    place = desk.geometry(window)
    desk.do("mousemove", "--sync", str(place["X"] + SWITCH[0]), str(place["Y"] + SWITCH[1]))
    # The view may still be on its way; but a second click on one that is there would switch it off again.
    until(lambda: desk.do("click", "1") == "" and is_begun(program.pid), "a server that is begun", seconds=60)
    until(lambda: is_there(port), "a server", seconds=90)
    return program, OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=30)


def is_begun(window: int) -> bool:
    """Whether the window's process starts a server within a while."""

    def started() -> bool:
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                command = status.with_name("cmdline").read_bytes().split(b"\0")
                if b"--tied" in command and f"PPid:\t{window}\n" in status.read_text():
                    return True
        return False

    with contextlib.suppress(AssertionError):
        return bool(until(started, "a process", seconds=10))
    return False


def figures(port: int) -> dict:
    return httpx.get(f"http://127.0.0.1:{port}/v1/stats").json()


def is_there(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def test_the_server_is_switched_on_used_and_goes_with_the_window(desk: Screen, model: str, tmp_path: Path):
    # GIVEN the server, switched on by a click
    port = free_port()
    program, client = serving(desk, model, port)
    # WHEN another program asks it
    said = [{"role": "user", "content": "Why do cranes dance?"}]
    name = client.models.list().data[0].id
    stream = client.chat.completions.create(model=name, messages=said, stream=True, max_tokens=2000)
    pieces = [next(stream) for _ in range(5)]
    # THEN it is answered, and while it is, the server counts it
    assert any(piece.choices[0].delta.content for piece in pieces)
    began = figures(port)
    assert began["active_sequences"] == 1
    until(lambda: figures(port)["uptime_s"] > began["uptime_s"] + 1.5, "a look of the page, which comes every second")
    desk.picture(Path(os.environ.get("CRANE_PICTURES", tmp_path)) / "server.png")
    stream.close()
    # WHEN the window closes THEN nobody serves any more
    program.send_signal(signal.SIGTERM)
    assert program.wait(20) == 0
    until(lambda: not is_there(port), "an end of the server")


def test_the_server_does_not_outlive_a_window_that_is_killed(desk: Screen, model: str):
    port = free_port()
    program, _ = serving(desk, model, port)
    program.kill()
    program.wait(10)
    until(lambda: not is_there(port), "an end of the server")

"""crane chat: over a pipe with an engine in this process, and on a terminal with the engine's own process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crane_app.cli import engines, terminal
from crane_app.cli.main import main
from crane_app.engine.engine import Engine
from crane_app.errors import DeviceLost
from tests.chat_checkpoint import write_chat

ROOT = Path(__file__).parents[2]
FLAGS = ("--cpu", "--dtype", "float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_chat(tmp_path_factory.mktemp("chat") / "tiny", context=2**16)


@pytest.fixture
def engine(monkeypatch) -> Iterator[Engine]:
    """The shared engine is one in this process."""
    engine = Engine()

    @contextlib.contextmanager
    def shared(args: Any) -> Iterator[Any]:
        yield engine, "An engine of the test."

    monkeypatch.setattr(engines, "shared", shared)
    yield engine
    engine.close(drain=False)


def chat(monkeypatch, folder: Path, typed: str, *argv: str) -> int:
    """Over a pipe: each line of `typed` is a turn."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode("utf-8", "surrogateescape"))))
    return main(["chat", "--model", str(folder), *FLAGS, "--max-tokens", "8", "--ignore-eos", *argv])


# Over a pipe


def test_each_line_is_a_turn_and_only_answers_are_on_stdout(monkeypatch, capsys, engine, folder):
    assert chat(monkeypatch, folder, "hello\n\n   \nand then?") == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) >= 2
    assert "An engine of the test." in said.err
    assert "cut: as many tokens as were allowed" in said.err
    assert engine.stats().tokens == 16


def test_the_conversation_is_told_again_with_each_turn(monkeypatch, capsys, engine, folder, tmp_path):
    requests: list[Any] = []
    submit = engine.submit
    monkeypatch.setattr(engine, "submit", lambda request: requests.append(request) or submit(request))
    path = tmp_path / "talk.json"
    typed = f"one\ntwo\n/system Be kind.\n/retry\n/save {path}\n/clear\nthree\n"
    assert chat(monkeypatch, folder, typed, "--system", "Be brief.", "--seed", "7", "--temperature", "0.9") == 0
    said = [[(m["role"], m["content"]) for m in r.messages if m["role"] != "assistant"] for r in requests]
    assert said == [
        [("system", "Be brief."), ("user", "one")],
        [("system", "Be brief."), ("user", "one"), ("user", "two")],
        [("system", "Be kind."), ("user", "one"), ("user", "two")],
        [("system", "Be kind."), ("user", "three")],
    ]
    assert [r.asked.seed for r in requests] == [7, 7, 8, 8]
    saved = json.loads(path.read_text("utf-8"))
    assert [m["role"] for m in saved] == ["system", "user", "assistant", "user", "assistant"]
    assert main(["generate", "-m", str(folder), "--cpu", "--max-tokens", "1", "--messages", str(path)]) == 0
    capsys.readouterr()


def test_commands(monkeypatch, capsys, engine, folder, tmp_path):
    typed = (
        "/help\n/stats\n/save\n/save x\n/retry\n/nonsense\nhello\n/stats\n/save /none/x.json\n/system\n/exit\nnever\n"
    )
    assert chat(monkeypatch, folder, typed) == 0
    said = capsys.readouterr().err
    for sentence in (
        "Ctrl-C stops an answer",
        "context  0 of 65536 tokens in 0 messages",
        "Name a file",
        "no conversation yet",
        "nothing to answer yet",
        "There is no command /nonsense",
        "8 made",
        "/none/x.json cannot be written",
        "told nothing first",
    ):
        assert sentence in said
    assert engine.stats().tokens == 8


def test_bytes_that_are_no_text_are_replaced(monkeypatch, capsys, engine, folder):
    assert chat(monkeypatch, folder, "a\udcff\x00b\n") == 0
    assert "Traceback" not in capsys.readouterr().err


def test_an_answer_that_fails_is_a_sentence_and_the_next_one_comes(monkeypatch, capsys, engine, folder):
    submit = engine.submit

    def failing(request: Any) -> Any:
        stream = submit(request)
        get, monkey = stream.get, iter([True])

        def once(timeout: float | None = None) -> Any:
            event = get(timeout)
            if getattr(event, "text", "") and next(monkey, False):
                return event
            raise DeviceLost("The engine stopped.")

        if request.messages[-1]["content"] == "fail":
            stream.get = once
        return stream

    monkeypatch.setattr(engine, "submit", failing)
    assert chat(monkeypatch, folder, "fail\nhello\n/stats\n") == 1
    said = capsys.readouterr()
    assert "crane: The engine stopped." in said.err
    assert "in 4 messages" in said.err  # the text so far stays in the conversation
    assert len(said.out.splitlines()) >= 2


def test_a_prompt_that_is_too_long_is_a_sentence(monkeypatch, capsys, engine, folder):
    assert chat(monkeypatch, folder, "word " * 70_000 + "\nhello\n") == 1
    said = capsys.readouterr()
    assert "context holds 65536" in said.err
    assert said.out.strip()


def test_a_model_without_a_template_is_sent_to_generate(monkeypatch, capsys, engine, tmp_path):
    assert chat(monkeypatch, write_chat(tmp_path / "bare", template=None), "hello\n") == 1
    assert "crane generate --model" in capsys.readouterr().err


def test_a_loaded_model_by_name_and_what_does_not_fit(monkeypatch, capsys, engine, folder):
    for _ in engine.load(str(folder), "parrot", None, "cpu", "float32"):
        pass
    assert chat(monkeypatch, Path("parrot"), "hello\n") == 0
    assert chat(monkeypatch, folder, "hello\n") == 0
    assert [card.name for card in engine.models()] == ["parrot"]
    capsys.readouterr()
    assert chat(monkeypatch, folder, "hello\n", "--dtype", "bfloat16") == 1
    assert "--new-engine" in capsys.readouterr().err
    assert chat(monkeypatch, Path("cockatoo"), "hello\n") == 1
    assert "cockatoo" in capsys.readouterr().err


def test_no_model_is_named(capsys):
    assert main(["chat"]) == 1
    assert "--model" in capsys.readouterr().err


# Ctrl-C, where it strikes


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to send")
def test_the_first_ctrl_c_stops_and_the_second_interrupts():
    stopped: list[float] = []
    before = signal.getsignal(signal.SIGINT)

    def press_twice() -> None:
        with terminal.stoppable(lambda: stopped.append(time.monotonic())):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            assert len(stopped) == 1
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        press_twice()
    assert signal.getsignal(signal.SIGINT) is before
    with terminal.stoppable(lambda: stopped.append(0.0)):
        pass
    time.sleep(0.05)
    assert len(stopped) == 1


# On a terminal


class Terminal:
    """`crane chat` on a terminal of its own, with the engine as a process."""

    def __init__(self, home: Path, *argv: str, **changed: str) -> None:
        import pty

        self.state = home / "state"
        run = home / "run"
        run.mkdir(mode=0o700, exist_ok=True)
        names = ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "HOME")
        env = {
            **os.environ,
            **dict(zip(names, map(str, (self.state, run, home)), strict=True)),
            "TERM": "xterm",
            **changed,
        }
        self._fd, theirs = pty.openpty()
        command = [sys.executable, "-m", "crane_app", "chat", *argv]
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            env=env,
            start_new_session=True,
            preexec_fn=self._control,
        )
        os.close(theirs)
        self.shown = ""

    @staticmethod
    def _control() -> None:
        """Make it the terminal of the session, so that its Ctrl-C is a signal."""
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait(self, pattern: str, seconds: float = 40.0) -> str:
        """Read until the pattern is shown; what was shown up to its end is then forgotten, and returned."""
        until = time.monotonic() + seconds
        while not (found := re.search(pattern, self.shown)):
            left = until - time.monotonic()
            assert left > 0, f"{pattern!r} did not come: {self.shown[-2000:]!r}"
            if select.select([self._fd], [], [], left)[0]:
                try:
                    self.shown += os.read(self._fd, 65536).decode("utf-8", "replace")
                except OSError:
                    raise AssertionError(f"it ended before {pattern!r}: {self.shown[-2000:]!r}") from None
        seen, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return seen

    def ended(self) -> int:
        """The exit status; what is still shown is read meanwhile."""
        until = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < until:
            if select.select([self._fd], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    os.read(self._fd, 65536)
        return self.process.wait(1)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._fd)


@pytest.fixture
def home(tmp_path_factory) -> Path:
    """Short, since a socket's address lies in it."""
    return tmp_path_factory.mktemp("h")


@pytest.fixture
def opened(home) -> Iterator[Any]:
    started: list[Terminal] = []

    def start(*argv: str, **changed: str) -> Terminal:
        started.append(Terminal(home, *argv, **changed))
        return started[-1]

    yield start
    for one in started:
        one.close()


ENDLESS = (*FLAGS, "--ignore-eos", "--max-tokens", "1000000")


@pytest.mark.skipif(os.name == "nt", reason="needs a terminal of POSIX")
def test_a_conversation_on_a_terminal(opened, folder):
    crane = opened("-m", str(folder), *ENDLESS)
    crane.wait("Started an engine.")
    crane.wait(r"tiny on cpu in float32, 65536 tokens of context")
    crane.wait("> ")
    crane.type("hello\r")
    crane.wait("hello\r\n")
    crane.wait(".{20}")
    crane.type("\x03")  # stops the answer, not the program
    crane.wait(r"\(stopped\)")
    crane.wait("> ")
    crane.type("/stats\r")
    assert "2 messages" in crane.wait("pid ([0-9]+)")
    other = opened("-m", str(folder), *ENDLESS)
    other.wait(r"Using the running engine \(pid [0-9]+\)")
    other.wait("> ")
    other.type("\x04")
    assert other.ended() == 0
    crane.wait("> ")
    crane.type("\x1b[200~two\nlines\x1b[201~")
    time.sleep(0.3)
    crane.type("\r")
    crane.wait(".{30}")
    crane.type("\x03")
    crane.wait(r"\(stopped\)")
    crane.wait("> ")
    try:
        crane.type("\x03")
        crane.wait("Ctrl-C again leaves", 10)
    except AssertionError:  # readline drops a press that comes while it takes the terminal over
        crane.type("\x03")
        crane.wait("Ctrl-C again leaves")
    crane.wait("> ")
    crane.type("\x03")
    assert crane.ended() == 0
    history = crane.state / "crane" / "chat_history"
    assert history.read_text().splitlines() == ["hello", "/stats", "two lines"]
    assert history.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name == "nt", reason="needs a terminal of POSIX")
def test_an_engine_that_dies_costs_a_sentence(opened, folder):
    crane = opened("-m", str(folder), *ENDLESS, "--new-engine", "--think")
    crane.wait("Started an engine.")
    crane.wait("> ")
    crane.type("/stats\r")
    pid = int(re.findall(r"pid (\d+)", crane.wait(r"pid \d+,"))[0])
    crane.wait("> ")
    crane.type("hello\r")
    crane.wait(r"\x1b\[2m.{20}")  # a thought is dim
    os.kill(pid, signal.SIGKILL)
    seen = crane.wait(r"crane: [^\r]*\r\n")
    assert "Traceback" not in seen
    assert "Crash(" not in seen
    crane.wait("> ")
    crane.type("/retry\r")
    crane.wait(r"\x1b\[2m.{20}")
    crane.type("\x03")
    crane.wait(r"\(stopped\)")
    crane.wait("> ")
    crane.type("/exit\r")
    assert crane.ended() == 0


@pytest.mark.skipif(os.name == "nt", reason="needs a terminal of POSIX")
def test_no_colour_where_none_is_wanted_and_no_escapes_from_a_model(opened, folder):
    argv = (*FLAGS, "--max-tokens", "20", "--think", "--ignore-eos", "--new-engine")
    crane = opened("-m", str(folder), *argv, NO_COLOR="1")
    crane.wait("> ")
    crane.type("hello\r")
    seen = crane.wait(r"\(cut: ")
    assert "\x1b[2m" not in seen
    crane.wait("> ")
    crane.type("\x04")
    assert crane.ended() == 0

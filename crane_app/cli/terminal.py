"""The terminal: lines with a history, dim text, and a Ctrl-C that stops what is under way instead of the program.

Everything works without a terminal too: then there is no colour, no prompt and no history.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import platformdirs

HISTORY = 1000  # lines
PASTE = 0.02  # seconds in which the next line of a paste is there
DIM, PLAIN = "\x1b[2m", "\x1b[0m"
# A model's text may not move the cursor or change the terminal's title.
CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), 127, *range(128, 160)) if code not in (9, 10)}


def any_text() -> None:
    """Let standard input and output cope with every character: what one cannot be is replaced by a sign."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def unicode() -> bool:
    """Whether stdout can hold every character."""
    return (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16", "utf32")


def colourful() -> bool:
    """Whether stdout is a terminal that may be written on in more than one shade (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@contextlib.contextmanager
def stoppable(stop: Callable[[], object]) -> Iterator[None]:
    """Within it the first Ctrl-C calls `stop`, the second raises KeyboardInterrupt.

    `stop` runs on a thread of its own: an exception could strike this one while it holds a lock.
    """
    asked: queue.SimpleQueue[bool] = queue.SimpleQueue()  # its `put` may be called by a signal's handler
    presses = 0

    def watch() -> None:
        if asked.get():
            stop()

    def pressed(number: int, frame: FrameType | None) -> None:
        nonlocal presses
        presses += 1
        if presses > 1:
            raise KeyboardInterrupt
        asked.put(True)

    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread
        yield
        return
    threading.Thread(target=watch, name="crane-stop", daemon=True).start()
    before = signal.signal(signal.SIGINT, pressed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        asked.put(False)


class Lines:
    """What a person types, line by line. A paste of several lines is one."""

    def __init__(self, prompt: str, name: str) -> None:
        """`name`: of the history's file."""
        self._prompt = prompt
        self._readline: Any = None
        self._file = Path(platformdirs.user_state_dir("crane"), name)
        self.typed = sys.stdin.isatty()
        self._marked = False  # whether the terminal says where a paste begins and ends
        if self.typed and sys.stdout.isatty():
            self._open()

    def read(self) -> str:
        """The next one; EOFError at the end of the input."""
        if not self.typed:
            line = sys.stdin.readline()
            if not line:
                raise EOFError
            return line.rstrip("\r\n")
        text = self._ask(self._prompt)
        while not self._marked and _waiting():
            try:
                text += "\n" + self._ask("")
            except EOFError:
                break
        self._remember(text)
        return text

    def close(self) -> None:
        """Keep the history for the next time, for this user alone."""
        if self._readline is None:
            return
        self._readline.set_history_length(HISTORY)
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._file, os.O_CREAT | os.O_WRONLY, 0o600))
            self._file.chmod(0o600)
            self._readline.write_history_file(str(self._file))

    def _open(self) -> None:
        try:
            import readline
        except ImportError:  # Windows: the console has a history of its own
            return
        self._readline = readline
        readline.set_auto_history(False)
        readline.parse_and_bind("set enable-bracketed-paste on")
        self._marked = "libedit" not in (readline.__doc__ or "") and os.environ.get("TERM") != "dumb"
        readline.clear_history()
        with contextlib.suppress(OSError):
            readline.read_history_file(str(self._file))

    def _ask(self, prompt: str) -> str:
        if sys.stdout.isatty():
            return input(prompt)
        print(prompt, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\r\n")

    def _remember(self, text: str) -> None:
        line = " ".join(text.splitlines())
        if self._readline is None or not line.strip():
            return
        count = self._readline.get_current_history_length()
        if line != self._readline.get_history_item(count):
            self._readline.add_history(line)


def _waiting() -> bool:
    """Whether more has been typed already than one line."""
    if sys.platform == "win32":
        import msvcrt

        return msvcrt.kbhit()
    return bool(select.select([sys.stdin], [], [], PASTE)[0])

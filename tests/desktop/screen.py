"""A screen without a window manager, and hands on it: Xvfb, xdotool, xclip and ImageMagick's import."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

TOOLS = ("Xvfb", "xdotool", "xclip")
ROOT = Path(__file__).parents[2]
DRAGGER = Path(__file__).with_name("dragger.py")
PATIENCE_S = 30.0


def missing() -> str:
    """Which tools are not installed, for the reason of a skip."""
    return ", ".join(tool for tool in TOOLS if shutil.which(tool) is None)


class Screen:
    """One Xvfb; `env` is what programs on it need."""

    def __init__(self, home: Path, size: str = "1280x800"):
        read, write = os.pipe()
        self.server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{size}x24", "-nolisten", "tcp", "-noreset"],
            pass_fds=[write],
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        with os.fdopen(read) as pipe:
            self.display = f":{pipe.readline().strip()}"
        folders = {name: str(home / name.lower()) for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")}
        runtime = home / "run"
        runtime.mkdir(mode=0o700, exist_ok=True)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("QT_", "CRANE_"))},
            **folders,
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_RUNTIME_DIR": str(runtime),
            "DISPLAY": self.display,
            "PYTHONPATH": str(ROOT),
        }
        self.programs: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, **more: str) -> subprocess.Popen[bytes]:
        """A program on this screen; more: variables."""
        made = subprocess.Popen(command, env={**self.env, **more}, cwd=ROOT, start_new_session=True)
        self.programs.append(made)
        return made

    def crane(self, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        return self.start(sys.executable, "-m", "crane_app", *arguments, **more)

    def do(self, *words: str) -> str:
        """xdotool's answer."""
        done = subprocess.run(["xdotool", *words], env=self.env, capture_output=True, text=True, timeout=PATIENCE_S)
        return done.stdout.strip()

    def window(self, title: str = "Crane$") -> str:
        """The id of the window of that title once it is on the screen."""
        return until(lambda: self.do("search", "--onlyvisible", "--name", title).split("\n")[-1], f"window {title}")

    def geometry(self, window: str) -> dict[str, int]:
        words = dict(line.split("=") for line in self.do("getwindowgeometry", "--shell", window).splitlines())
        return {name: int(words[name]) for name in ("X", "Y", "WIDTH", "HEIGHT")}

    def type(self, window: str, text: str) -> None:
        self.do("windowfocus", "--sync", window)
        self.do("type", "--delay", "5", text)

    def press(self, window: str, *keys: str) -> None:
        self.do("windowfocus", "--sync", window)
        self.do("key", *keys)

    def copy(self, text: str) -> None:
        """Put a text on the clipboard, as another program would."""
        subprocess.run(["xclip", "-selection", "clipboard", "-i"], input=text.encode(), env=self.env, check=True)

    def copied(self) -> str:
        """What is on the clipboard."""
        done = subprocess.run(
            ["xclip", "-selection", "clipboard", "-o"], env=self.env, capture_output=True, timeout=PATIENCE_S
        )
        return done.stdout.decode()

    def picture(self, path: Path) -> None:
        """What is seen, where ImageMagick is there to take it."""
        if shutil.which("import"):
            subprocess.run(["import", "-window", "root", str(path)], env=self.env, check=False)

    def close(self) -> None:
        for program in self.programs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait(10)
        self.server.terminate()
        self.server.wait(10)


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> str:
    """Wait for something to be so; returns what the condition gave."""
    end = time.monotonic() + seconds
    while True:
        if found := condition():
            return str(found)
        if time.monotonic() > end:
            raise AssertionError(f"This did not come about: {what}")
        time.sleep(0.02)


@contextlib.contextmanager
def screen(home: Path) -> Iterator[Screen]:
    made = Screen(home)
    try:
        yield made
    finally:
        made.close()


def drag(on: Screen, paths: Sequence[Path], window: str) -> None:
    """Drag files from another program's window and drop them in the middle of this one."""
    on.start(sys.executable, str(DRAGGER), *map(str, paths))
    source = on.window("Crane test drag source")
    start, end = on.geometry(source), on.geometry(window)
    on.do("mousemove", str(start["X"] + 20), str(start["Y"] + 20), "mousedown", "1")
    x, y = end["X"] + end["WIDTH"] // 2, end["Y"] + end["HEIGHT"] // 2
    for step in range(1, 11):
        across = start["X"] + 20 + (x - start["X"] - 20) * step // 10
        down = start["Y"] + 20 + (y - start["Y"] - 20) * step // 10
        on.do("mousemove", str(across), str(down))
        time.sleep(0.05)  # XDND is a conversation of three programs; the pointer rests as a hand would
    time.sleep(0.2)
    on.do("mouseup", "1")

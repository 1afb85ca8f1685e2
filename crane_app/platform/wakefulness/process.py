"""Programs that keep the computer awake while another one runs: the other is `cat`, which ends when we close its input.

So nothing stays behind when we die: the system closes the input for us.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Sequence

END_S = 2.0


class HeldByProcess:
    """The program runs from now until `release`."""

    def __init__(self, command: Sequence[str]):
        self._process = subprocess.Popen(
            [*command, "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in a terminal is for us alone
        )

    def release(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def started(program: str, *flags: str) -> HeldByProcess | None:
    """None where the program is not installed."""
    found = shutil.which(program)
    return None if found is None else HeldByProcess([found, *flags])
